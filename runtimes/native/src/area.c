/* Area averaging: output i of n is the mean over [i * source / n, (i + 1) * source / n). */
#include "internal.h"

#include <math.h>
#include <string.h>

void vpe_content(const vpe_box *box, int32_t size, int letterbox, vpe_box *content) {
    *content = (vpe_box){0, 0, size, size};
    if (!letterbox)
        return;
    const int64_t m = box->w > box->h ? box->w : box->h;
    const int64_t w = (2 * (int64_t)box->w * size + m) / (2 * m), h = (2 * (int64_t)box->h * size + m) / (2 * m);
    content->w = w > 1 ? (int32_t)w : 1;
    content->h = h > 1 ? (int32_t)h : 1;
    content->x = (size - content->w) / 2;
    content->y = (size - content->h) / 2;
}

void vpe_small_size(int32_t width, int32_t height, int32_t longest, int32_t *w, int32_t *h) {
    const int32_t m = width > height ? width : height;
    if (longest >= m) {
        *w = width, *h = height;
        return;
    }
    const vpe_box box = {0, 0, width, height};
    vpe_box content;
    vpe_content(&box, longest, 1, &content);
    *w = content.w, *h = content.h;
}

/* The taps of n' <= n outputs of w pixels, padded to 16, are at most n' * (w / n' + 2 + 15). */
void vpe_haxis_take(vpe_haxis *axis, vpe_arena *arena, int32_t n, int32_t longest) {
    axis->first = vpe_take(arena, (size_t)n * sizeof *axis->first);
    axis->count = vpe_take(arena, (size_t)n * sizeof *axis->count);
    axis->weight = vpe_take(arena, ((size_t)longest + 17 * (size_t)n) * sizeof *axis->weight);
}

void vpe_vaxis_take(vpe_vaxis *axis, vpe_arena *arena, int32_t n) {
    axis->tap = vpe_take(arena, (size_t)n * sizeof *axis->tap);
}

/* Output i covers source pixels first .. first + count - 1, the outer two by parts a and b of 1 / n. count == 1: a. */
typedef struct span {
    int32_t first, count;
    int64_t a, b;
} span;

static span span_of(int32_t i, int32_t source, int32_t n) {
    const int64_t begin = (int64_t)i * source, end = begin + source;
    span s;
    s.first = (int32_t)(begin / n);
    const int32_t last = (int32_t)((end - 1) / n);
    s.count = last - s.first + 1;
    s.a = s.count == 1 ? end - begin : ((int64_t)s.first + 1) * n - begin;
    s.b = s.count == 1 ? 0 : end - (int64_t)last * n;
    return s;
}

void vpe_haxis_area(vpe_haxis *axis, int32_t source, int32_t n) {
    const double scale = (double)source / n;
    /* The whole pixels' weight is a whole number and exact; only the two outer ones are rounded. */
    const double one = scale > 1 ? floor(32767 / scale) : 32767;
    int32_t most = 1;
    for (int32_t i = 0; i < n; i++) {
        const span s = span_of(i, source, n);
        most = s.count > most ? s.count : most;
    }
    axis->n = n;
    axis->taps = (most + 15) / 16 * 16;
    axis->scale = scale > 1 ? one * scale : one;
    memset(axis->weight, 0, (size_t)n * (size_t)axis->taps * sizeof *axis->weight);
    for (int32_t i = 0; i < n; i++) {
        const span s = span_of(i, source, n);
        int16_t *w = axis->weight + (size_t)i * (size_t)axis->taps;
        const double part = scale > 1 ? n : source; /* enlarging, the parts are parts of the output pixel */
        axis->first[i] = s.first;
        axis->count[i] = s.count;
        for (int32_t t = 0; t < s.count; t++)
            w[t] = (int16_t)one;
        w[0] = (int16_t)floor((double)s.a / part * one + 0.5);
        if (s.count > 1)
            w[s.count - 1] = (int16_t)floor((double)s.b / part * one + 0.5);
    }
}

void vpe_vaxis_area(vpe_vaxis *axis, int32_t source, int32_t n) {
    const double scale = (double)source / n;
    const double unit = scale > 1 ? scale : 1;
    int32_t shift = 7;
    while (shift > 0 && unit * 255 * (1 << shift) > 32760)
        shift--;
    axis->n = n;
    axis->shift = shift;
    axis->scale = unit * (1 << shift);
    const double part = scale > 1 ? n : source;
    const double one = (double)(1 << (shift + 8));
    for (int32_t i = 0; i < n; i++) {
        const span s = span_of(i, source, n);
        vpe_vtap *tap = &axis->tap[i];
        tap->first = s.first;
        tap->last = s.first + s.count - 1;
        const int split = s.count > 1 && (double)s.b != part;
        tap->full = split ? s.count - 1 : s.count;
        tap->take = (uint16_t)floor((part - (double)s.a) / part * one + 0.5);
        tap->b = split ? (uint16_t)floor((double)s.b / part * one + 0.5) : 0;
    }
}
