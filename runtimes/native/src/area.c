/* Area averaging: output i of n is the mean over [i * length / n, (i + 1) * length / n) of the source. */
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

/* Output i covers samples first .. first + count - 1, the outer two by a and b, in units of 1 / n pixel. count == 1: a. */
typedef struct span {
    int32_t first, count;
    int64_t a, b;
} span;

static span span_of(int32_t i, vpe_source source, int32_t n) {
    const int64_t begin = (int64_t)source.start * n + (int64_t)i * source.length, end = begin + source.length;
    const int64_t each = (int64_t)source.each * n;
    span s;
    s.first = (int32_t)(begin / each);
    const int32_t last = (int32_t)((end - 1) / each);
    s.count = last - s.first + 1;
    s.a = s.count == 1 ? end - begin : ((int64_t)s.first + 1) * each - begin;
    s.b = s.count == 1 ? 0 : end - (int64_t)last * each;
    return s;
}

/* What a whole sample is where it is smaller than an output pixel; enlarging, parts are parts of the output pixel. */
static double whole_of(vpe_source source, int32_t n) {
    const int64_t each = (int64_t)source.each * n;
    return (double)(source.length < each ? source.length : each);
}

static double scale_of(vpe_source source, int32_t n) {
    return (double)source.length / ((double)source.each * n);
}

void vpe_haxis_area(vpe_haxis *axis, vpe_source source, int32_t n) {
    const double scale = scale_of(source, n), whole = whole_of(source, n);
    /* The whole samples' weight is a whole number and exact; only the two outer ones are rounded. */
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
        axis->first[i] = s.first;
        axis->count[i] = s.count;
        for (int32_t t = 0; t < s.count; t++)
            w[t] = (int16_t)one;
        w[0] = (int16_t)floor((double)s.a / whole * one + 0.5);
        if (s.count > 1)
            w[s.count - 1] = (int16_t)floor((double)s.b / whole * one + 0.5);
    }
}

void vpe_vaxis_area(vpe_vaxis *axis, vpe_source source, int32_t n) {
    const double scale = scale_of(source, n), whole = whole_of(source, n);
    const double unit = scale > 1 ? scale : 1;
    int32_t shift = 7;
    while (shift > 0 && unit * 255 * (1 << shift) > 32760)
        shift--;
    axis->n = n;
    axis->shift = shift;
    axis->scale = unit * (1 << shift);
    const double one = (double)(1 << (shift + 8));
    for (int32_t i = 0; i < n; i++) {
        const span s = span_of(i, source, n);
        vpe_vtap *tap = &axis->tap[i];
        tap->first = s.first;
        tap->last = s.first + s.count - 1;
        const int split = s.count > 1 && (double)s.b != whole;
        tap->full = split ? s.count - 1 : s.count;
        tap->take = (uint16_t)floor((whole - (double)s.a) / whole * one + 0.5);
        tap->b = split ? (uint16_t)floor((double)s.b / whole * one + 0.5) : 0;
    }
}
