/* Antialiased bicubic, bit for bit as Pillow does it: horizontally first, rounded to bytes, then vertically. */
#include "internal.h"

#include <math.h>

#define PLACES 22 /* of the weights: 32 bits less 8 for a byte and 2 for the overshoot */

void vpe_cubic_take(vpe_cubic *axis, vpe_arena *arena, int32_t n, int32_t longest) {
    axis->first = vpe_take(arena, (size_t)n * sizeof *axis->first);
    axis->count = vpe_take(arena, (size_t)n * sizeof *axis->count);
    /* n' <= n outputs of w pixels have at most n' * (2 * ceil(2 w / n') + 1) weights, 5 each where they enlarge */
    axis->weight = vpe_take(arena, (4 * (size_t)longest + 7 * (size_t)n) * sizeof *axis->weight);
}

static double bicubic(double x) {
    const double a = -0.5;
    if (x < 0.0)
        x = -x;
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double weight_at(int32_t x, double center, double inverse) {
    return bicubic((x - center + 0.5) * inverse);
}

void vpe_cubic_plan(vpe_cubic *axis, int32_t source, int32_t n) {
    const double scale = (double)source / n, filter = scale < 1.0 ? 1.0 : scale;
    const double support = 2.0 * filter, inverse = 1.0 / filter;
    axis->n = n;
    axis->taps = (int32_t)ceil(support) * 2 + 1;
    for (int32_t i = 0; i < n; i++) {
        const double center = (i + 0.5) * scale;
        int32_t first = (int32_t)(center - support + 0.5), end = (int32_t)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > source ? source : end;
        double sum = 0;
        for (int32_t x = first; x < end; x++)
            sum += weight_at(x, center, inverse);
        int32_t *w = axis->weight + (size_t)i * (size_t)axis->taps;
        for (int32_t x = first; x < end; x++) {
            double v = weight_at(x, center, inverse);
            if (sum != 0.0)
                v /= sum;
            w[x - first] = (int32_t)((v < 0 ? -0.5 : 0.5) + v * (1 << PLACES));
        }
        axis->first[i] = first;
        axis->count[i] = end - first;
    }
}

static inline uint8_t byte_of(int32_t sum) {
    const int32_t v = sum >> PLACES;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void across(uint8_t *out, const uint8_t *src, const vpe_cubic *axis) {
    for (int32_t i = 0; i < axis->n; i++, out += 3) {
        const uint8_t *p = src + 3 * (ptrdiff_t)axis->first[i];
        const int32_t *w = axis->weight + (size_t)i * (size_t)axis->taps;
        int32_t s0 = 1 << (PLACES - 1), s1 = s0, s2 = s0;
        for (int32_t t = 0; t < axis->count[i]; t++, p += 3)
            s0 += p[0] * w[t], s1 += p[1] * w[t], s2 += p[2] * w[t];
        out[0] = byte_of(s0), out[1] = byte_of(s1), out[2] = byte_of(s2);
    }
}

static void down(uint8_t *restrict out, const uint8_t *restrict rows, size_t bytes, const vpe_cubic *axis, int32_t i) {
    const uint8_t *src = rows + (size_t)axis->first[i] * bytes;
    const int32_t *w = axis->weight + (size_t)i * (size_t)axis->taps;
    for (size_t x = 0; x < bytes; x++) {
        int32_t sum = 1 << (PLACES - 1);
        for (int32_t t = 0; t < axis->count[i]; t++)
            sum += src[(size_t)t * bytes + x] * w[t];
        out[x] = byte_of(sum);
    }
}

static void emit(vpe_job *job, const uint8_t *row) {
    const size_t size = (size_t)job->size, w = (size_t)job->content.w, left = (size_t)job->content.x;
    for (size_t c = 0; c < 3; c++) {
        float *out = job->out + (c * size + (size_t)(job->content.y + job->next)) * size;
        for (size_t x = 0; x < size; x++)
            out[x] = x < left || x >= left + w ? 0 : (float)row[3 * (x - left) + 2 - c] * job->mul[c] - job->sub[c];
        if (job->copy)
            for (size_t x = 0; x < size; x++)
                job->copy[out - job->out + (ptrdiff_t)x] = out[x];
    }
}

void vpe_cubic_run(vpe_job *job, const vpe_frame *frame, int32_t end, vpe_scratch *scratch) {
    const size_t bytes = (size_t)job->content.w * 3;
    for (; job->cubic_next < job->box.h && job->box.y + job->cubic_next < end; job->cubic_next++) {
        const int32_t y = job->box.y + job->cubic_next;
        const uint8_t *src = frame->plane[0] + y * frame->stride[0] + 3 * (ptrdiff_t)job->box.x;
        if (frame->format != VPE_BGR24) {
            vpe_row_bgr(scratch->row, frame, job->box.x, y, job->box.w);
            src = scratch->row;
        }
        across(job->cubic_rows + (size_t)job->cubic_next * bytes, src, &job->cx);
    }
    for (; job->next < job->cy.n; job->next++) {
        if (job->cy.first[job->next] + job->cy.count[job->next] > job->cubic_next)
            return;
        uint8_t *row = job->bytes ? job->bytes + (size_t)job->next * bytes : scratch->row;
        down(row, job->cubic_rows, bytes, &job->cy, job->next);
        if (job->out)
            emit(job, row);
    }
}
