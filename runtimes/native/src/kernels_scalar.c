/* The reference: plain C, one loop a kernel. Every other set must give the same. */
#include "kernels.h"

#include <stdlib.h>

static int always(void) {
    return 1;
}

static void luma3(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round) {
    const unsigned c0 = rgb ? 77 : 29, c2 = rgb ? 29 : 77;
    for (size_t i = 0; i < n; i++)
        y[i] = (uint8_t)((c0 * src[3 * i] + 150u * src[3 * i + 1] + c2 * src[3 * i + 2] + (unsigned)round) >> 8);
}

static void avg4(uint8_t *out, const uint8_t *const row[4], size_t n) {
    for (size_t i = 0; i < n; i++) {
        const unsigned a = (row[0][i] + row[1][i] + 1u) >> 1, b = (row[2][i] + row[3][i] + 1u) >> 1;
        out[i] = (uint8_t)((a + b + 1) >> 1);
    }
}

void vpe_stats_from(size_t from, uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows,
                    size_t width, int top) {
    const size_t across = (width + 15) / 16;
    for (size_t x0 = from; x0 < width; x0 += 16) {
        const size_t x1 = x0 + 16 < width ? x0 + 16 : width;
        uint32_t motion = 0, energy = 0, luma = 0;
        for (int r = 0; r < rows; r++) {
            const uint8_t *row = y + (size_t)r * stride;
            const uint8_t *up = r || !top ? row - stride : row;
            for (size_t x = x0; x < x1; x++) {
                const int left = row[x ? x - 1 : 0];
                motion += (uint32_t)abs(row[x] - row[(ptrdiff_t)x + previous]);
                energy += (uint32_t)(abs(row[x] - left) + abs(row[x] - up[x]));
                luma += row[x];
            }
        }
        sums[x0 / 16] = motion, sums[across + x0 / 16] = energy, sums[2 * across + x0 / 16] = luma;
    }
}

static void stats(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width, int top) {
    vpe_stats_from(0, sums, y, previous, stride, rows, width, top);
}

static inline uint16_t column(const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int shift) {
    p += tap->first * stride;
    uint32_t sum = 0;
    for (int32_t r = 0; r < tap->full; r++)
        sum += p[r * stride];
    sum <<= shift;
    if (tap->take)
        sum -= (uint32_t)*p * tap->take >> 8;
    if (tap->b)
        sum += (uint32_t)p[tap->full * stride] * tap->b >> 8;
    return (uint16_t)sum;
}

static void vsum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                  int rows, int shift) {
    for (int r = 0; r < rows; r++, v += step)
        for (size_t x = 0; x < n; x++)
            v[x] = column(p + x, stride, &tap[r], shift);
}

static void vsum3(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                  int rows, int shift) {
    for (int r = 0; r < rows; r++)
        for (size_t x = 0; x < n; x++)
            for (size_t c = 0; c < 3; c++)
                v[c][(size_t)r * step + x] = column(p + 3 * x + c, stride, &tap[r], shift);
}

void vpe_split2(uint16_t *restrict a, uint16_t *restrict b, const uint16_t *restrict v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        a[i] = v[2 * i];
        b[i] = v[2 * i + 1];
    }
}

void vpe_split_yuyv(uint16_t *restrict y, uint16_t *restrict u, uint16_t *restrict v, const uint16_t *restrict mixed,
                    size_t n, int skip) {
    const size_t s = (size_t)skip;
    for (size_t i = s; i < 2 * n; i++)
        y[i - s] = mixed[2 * i];
    for (size_t i = 0; i < n; i++) {
        u[i] = mixed[4 * i + 1];
        v[i] = mixed[4 * i + 3];
    }
}

static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    for (int32_t i = 0; i < axis->n; i++) {
        const uint16_t *p = v + axis->first[i];
        const int16_t *w = axis->weight + (size_t)i * (size_t)axis->taps;
        int32_t sum = 0;
        for (int32_t t = 0; t < axis->count[i]; t++)
            sum += (int32_t)p[t] * w[t];
        acc[i] = sum;
    }
}

static void norm(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub) {
    for (size_t i = 0; i < n; i++)
        out[i] = copy[i] = (float)acc[i] * mul - sub;
}

void vpe_pack3(uint8_t *out, int32_t *const acc[3], size_t n, float mul) {
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = (uint8_t)((float)acc[c][i] * mul + 0.5f);
}

const vpe_kernels vpe_kernels_scalar = {
    .name = "scalar",
    .supported = always,
    .luma3 = luma3,
    .avg4 = avg4,
    .stats = stats,
    .vsum1 = vsum1,
    .vsum3 = vsum3,
    .split2 = vpe_split2,
    .split_yuyv = vpe_split_yuyv,
    .hsum = hsum,
    .norm = norm,
    .yuv_levels = vpe_yuv_levels,
    .pack3 = vpe_pack3,
};
