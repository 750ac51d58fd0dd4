/* NEON (AArch64): 16 pixels at a time, packed pixels taken apart as they are loaded. Rows end with a vector that overlaps
 * the one before; shorter ones go to plain C. */
#include "kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

static int supported(void) {
    return 1; /* part of AArch64 */
}

/* ---- luma ---------------------------------------------------------------------------------------------------------- */

static inline uint8x8_t luma_of(uint8x8_t a, uint8x8_t b, uint8x8_t c, uint8x8_t wa, uint8x8_t wc, uint16x8_t half) {
    uint16x8_t sum = vmlal_u8(half, a, wa);
    sum = vmlal_u8(sum, b, vdup_n_u8(150));
    return vshrn_n_u16(vmlal_u8(sum, c, wc), 8);
}

static void luma3(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round) {
    if (n < 16) {
        vpe_kernels_scalar.luma3(y, src, n, rgb, round);
        return;
    }
    const uint8x8_t wa = vdup_n_u8(rgb ? 77 : 29), wc = vdup_n_u8(rgb ? 29 : 77);
    const uint16x8_t half = vdupq_n_u16((uint16_t)round);
    for (size_t i = 0;; i += 16) {
        i = i + 16 > n ? n - 16 : i;
        const uint8x16x3_t p = vld3q_u8(src + 3 * i);
        const uint8x8_t low = luma_of(vget_low_u8(p.val[0]), vget_low_u8(p.val[1]), vget_low_u8(p.val[2]), wa, wc, half);
        const uint8x8_t high =
            luma_of(vget_high_u8(p.val[0]), vget_high_u8(p.val[1]), vget_high_u8(p.val[2]), wa, wc, half);
        vst1q_u8(y + i, vcombine_u8(low, high));
        if (i + 16 >= n)
            return;
    }
}

static void avg4(uint8_t *out, const uint8_t *const row[4], size_t n) {
    if (n < 16) {
        vpe_kernels_scalar.avg4(out, row, n);
        return;
    }
    for (size_t i = 0;; i += 16) {
        i = i + 16 > n ? n - 16 : i;
        const uint8x16_t a = vrhaddq_u8(vld1q_u8(row[0] + i), vld1q_u8(row[1] + i));
        const uint8x16_t b = vrhaddq_u8(vld1q_u8(row[2] + i), vld1q_u8(row[3] + i));
        vst1q_u8(out + i, vrhaddq_u8(a, b));
        if (i + 16 >= n)
            return;
    }
}

/* ---- statistics: a block is 16 wide, its sums of 16 rows stay below 2^16 --------------------------------------------- */

static void stats(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width, int top) {
    const size_t across = (width + 15) / 16;
    size_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const uint8_t *p = y + x;
        uint16x8_t motion = vdupq_n_u16(0), energy = motion, luma = motion;
        uint8x16_t up = vld1q_u8(top ? p : p - stride);
        for (int r = 0; r < rows; r++, p += stride) {
            const uint8x16_t v = vld1q_u8(p);
            motion = vpadalq_u8(motion, vabdq_u8(v, vld1q_u8(p + previous)));
            energy = vpadalq_u8(energy, vabdq_u8(v, vld1q_u8(p - 1)));
            energy = vpadalq_u8(energy, vabdq_u8(v, up));
            luma = vpadalq_u8(luma, v);
            up = v;
        }
        sums[x / 16] = vaddlvq_u16(motion);
        sums[across + x / 16] = vaddlvq_u16(energy);
        sums[2 * across + x / 16] = vaddlvq_u16(luma);
    }
    vpe_stats_from(x, sums, y, previous, stride, rows, width, top);
}

/* ---- column sums --------------------------------------------------------------------------------------------------------- */

static inline uint16x8_t part_of(uint8x8_t p, uint16_t weight) {
    const uint16x8_t v = vmovl_u8(p);
    return vcombine_u16(vshrn_n_u32(vmull_n_u16(vget_low_u16(v), weight), 8),
                        vshrn_n_u32(vmull_n_u16(vget_high_u16(v), weight), 8));
}

/* Sums of 16 bytes a channel: sum[2 c] and sum[2 c + 1]. */
static inline void add_row(uint16x8_t *sum, const uint8_t *p, int channels) {
    if (channels == 1) {
        const uint8x16_t v = vld1q_u8(p);
        sum[0] = vaddw_u8(sum[0], vget_low_u8(v));
        sum[1] = vaddw_u8(sum[1], vget_high_u8(v));
        return;
    }
    const uint8x16x3_t v = vld3q_u8(p);
    for (int c = 0; c < 3; c++) {
        sum[2 * c] = vaddw_u8(sum[2 * c], vget_low_u8(v.val[c]));
        sum[2 * c + 1] = vaddw_u8(sum[2 * c + 1], vget_high_u8(v.val[c]));
    }
}

static inline void add_part(uint16x8_t *sum, const uint8_t *p, int channels, uint16_t weight, int minus) {
    uint8x16_t v[3];
    if (channels == 1) {
        v[0] = vld1q_u8(p);
    } else {
        const uint8x16x3_t three = vld3q_u8(p);
        for (int c = 0; c < 3; c++)
            v[c] = three.val[c];
    }
    for (int c = 0; c < channels; c++) {
        const uint16x8_t low = part_of(vget_low_u8(v[c]), weight), high = part_of(vget_high_u8(v[c]), weight);
        sum[2 * c] = minus ? vsubq_u16(sum[2 * c], low) : vaddq_u16(sum[2 * c], low);
        sum[2 * c + 1] = minus ? vsubq_u16(sum[2 * c + 1], high) : vaddq_u16(sum[2 * c + 1], high);
    }
}

static inline void columns(uint16x8_t *sum, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int shift,
                           int channels) {
    const uint8_t *row = p + tap->first * stride;
    const uint8_t *const end = row + tap->full * stride, *const first = row;
    const int16x8_t by = vdupq_n_s16((int16_t)shift);
    for (int i = 0; i < 2 * channels; i++)
        sum[i] = vdupq_n_u16(0);
    for (; row != end; row += stride)
        add_row(sum, row, channels);
    for (int i = 0; i < 2 * channels; i++)
        sum[i] = vshlq_u16(sum[i], by);
    if (tap->take)
        add_part(sum, first, channels, tap->take, 1);
    if (tap->b)
        add_part(sum, end, channels, tap->b, 0);
}

static void vsum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                  int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum1(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    for (size_t x = 0;; x += 16) {
        x = x + 16 > n ? n - 16 : x;
        for (int r = 0; r < rows; r++) {
            uint16x8_t sum[2];
            columns(sum, p + x, stride, &tap[r], shift, 1);
            vst1q_u16(v + (size_t)r * step + x, sum[0]);
            vst1q_u16(v + (size_t)r * step + x + 8, sum[1]);
        }
        if (x + 16 >= n)
            return;
    }
}

static void vsum3(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                  int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum3(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    for (size_t x = 0;; x += 16) {
        x = x + 16 > n ? n - 16 : x;
        for (int r = 0; r < rows; r++) {
            uint16x8_t sum[6];
            columns(sum, p + 3 * x, stride, &tap[r], shift, 3);
            for (int c = 0; c < 3; c++) {
                vst1q_u16(v[c] + (size_t)r * step + x, sum[2 * c]);
                vst1q_u16(v[c] + (size_t)r * step + x + 8, sum[2 * c + 1]);
            }
        }
        if (x + 16 >= n)
            return;
    }
}

/* ---- output rows ----------------------------------------------------------------------------------------------------------- */

static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    const int16_t *w = axis->weight;
    for (int32_t i = 0; i < axis->n; i++, w += axis->taps) {
        const int16_t *p = (const int16_t *)v + axis->first[i]; /* sums stay below 2^15 */
        int32x4_t sum = vdupq_n_s32(0);
        for (int32_t t = 0; t < axis->count[i]; t += 8) {
            const int16x8_t a = vld1q_s16(p + t), b = vld1q_s16(w + t);
            sum = vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b));
            sum = vmlal_s16(sum, vget_high_s16(a), vget_high_s16(b));
        }
        acc[i] = vaddvq_s32(sum);
    }
}

static void norm(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = vsubq_f32(vmulq_n_f32(vcvtq_f32_s32(vld1q_s32(acc + i)), mul), vdupq_n_f32(sub));
        vst1q_f32(out + i, v);
        vst1q_f32(copy + i, v);
    }
    for (; i < n; i++)
        out[i] = copy[i] = (float)acc[i] * mul - sub;
}

const vpe_kernels vpe_kernels_neon = {
    .name = "neon",
    .supported = supported,
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

#endif
