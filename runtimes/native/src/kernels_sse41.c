/* SSE4.1: 16 bytes at a time, for processors without AVX2. Rows end with a vector that overlaps the one before; shorter
 * ones go to plain C. */
#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

#define SSE41 __attribute__((target("sse4.1")))
#define INLINE static inline __attribute__((always_inline)) SSE41

static int supported(void) {
    return __builtin_cpu_supports("sse4.1");
}

INLINE __m128i load(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}

INLINE void store(void *p, __m128i v) {
    _mm_storeu_si128((__m128i *)p, v);
}

INLINE __m128i widen(const uint8_t *p) { /* 8 bytes to 8 u16 */
    return _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
}

/* ---- luma: as in kernels_avx2.c, pixels as B G G R ------------------------------------------------------------------ */

INLINE __m128i four(__m128i v, __m128i order, __m128i weights) {
    return _mm_maddubs_epi16(_mm_shuffle_epi8(v, order), weights);
}

INLINE __m128i luma_of_16(const uint8_t *p, __m128i order, __m128i weights, __m128i half) {
    const __m128i last = _mm_srli_si128(load(p + 32), 4); /* four bytes early: nothing behind the pixels is read */
    const __m128i a = _mm_hadd_epi16(four(load(p), order, weights), four(load(p + 12), order, weights));
    const __m128i b = _mm_hadd_epi16(four(load(p + 24), order, weights), four(last, order, weights));
    return _mm_packus_epi16(_mm_srli_epi16(_mm_add_epi16(a, half), 8), _mm_srli_epi16(_mm_add_epi16(b, half), 8));
}

SSE41 static void luma3(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round) {
    if (n < 16) {
        vpe_kernels_scalar.luma3(y, src, n, rgb, round);
        return;
    }
    const __m128i order = _mm_setr_epi8(0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11);
    const __m128i weights = _mm_set1_epi32(rgb ? 0x1D63334D : 0x4D33631D), half = _mm_set1_epi16((short)round);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        store(y + i, luma_of_16(src + 3 * i, order, weights, half));
    if (i < n)
        store(y + n - 16, luma_of_16(src + 3 * (n - 16), order, weights, half));
}

SSE41 static void avg4(uint8_t *out, const uint8_t *const row[4], size_t n) {
    if (n < 16) {
        vpe_kernels_scalar.avg4(out, row, n);
        return;
    }
    const uint8_t *const r0 = row[0], *const r1 = row[1], *const r2 = row[2], *const r3 = row[3];
    for (size_t i = 0;; i += 16) {
        i = i + 16 > n ? n - 16 : i;
        const __m128i a = _mm_avg_epu8(load(r0 + i), load(r1 + i)), b = _mm_avg_epu8(load(r2 + i), load(r3 + i));
        store(out + i, _mm_avg_epu8(a, b));
        if (i + 16 >= n)
            return;
    }
}

/* ---- statistics -------------------------------------------------------------------------------------------------------- */

INLINE uint32_t sum_of(__m128i v) {
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi64(v, _mm_srli_si128(v, 8)));
}

SSE41 static void stats(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width,
                        int top) {
    const size_t across = (width + 15) / 16;
    const __m128i zero = _mm_setzero_si128();
    size_t x = 0;
    for (; x + 16 <= width; x += 16) {
        const uint8_t *p = y + x;
        __m128i motion = zero, energy = zero, luma = zero, up = load(top ? p : p - stride);
        for (int r = 0; r < rows; r++, p += stride) {
            const __m128i v = load(p);
            motion = _mm_add_epi64(motion, _mm_sad_epu8(v, load(p + previous)));
            energy = _mm_add_epi64(energy, _mm_sad_epu8(v, load(p - 1)));
            energy = _mm_add_epi64(energy, _mm_sad_epu8(v, up));
            luma = _mm_add_epi64(luma, _mm_sad_epu8(v, zero));
            up = v;
        }
        sums[x / 16] = sum_of(motion);
        sums[across + x / 16] = sum_of(energy);
        sums[2 * across + x / 16] = sum_of(luma);
    }
    vpe_stats_from(x, sums, y, previous, stride, rows, width, top);
}

/* ---- column sums --------------------------------------------------------------------------------------------------------- */

INLINE __m128i part_of(const uint8_t *p, __m128i weight) {
    return _mm_mulhi_epu16(_mm_slli_epi16(widen(p), 8), weight);
}

INLINE void columns(__m128i *sum, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int shift, int vectors) {
    const uint8_t *const first = p + tap->first * stride;
    const uint8_t *const end = first + tap->full * stride;
    const __m128i take = _mm_set1_epi16((short)tap->take), b = _mm_set1_epi16((short)tap->b);
    const __m128i by = _mm_cvtsi32_si128(shift);
    for (int i = 0; i < vectors; i++)
        sum[i] = widen(first + 8 * i);
    for (const uint8_t *row = first + stride; row != end; row += stride)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm_add_epi16(sum[i], widen(row + 8 * i));
    for (int i = 0; i < vectors; i++)
        sum[i] = _mm_sll_epi16(sum[i], by);
    if (tap->take)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm_sub_epi16(sum[i], part_of(first + 8 * i, take));
    if (tap->b)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm_add_epi16(sum[i], part_of(end + 8 * i, b));
}

SSE41 static void vsum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                        int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum1(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    for (size_t x = 0;; x += 16) {
        x = x + 16 > n ? n - 16 : x;
        for (int r = 0; r < rows; r++) {
            __m128i sum[2];
            columns(sum, p + x, stride, &tap[r], shift, 2);
            store(v + (size_t)r * step + x, sum[0]);
            store(v + (size_t)r * step + x + 8, sum[1]);
        }
        if (x + 16 >= n)
            return;
    }
}

/* 8 packed pixels of u16 in three vectors to three planes. */
INLINE void split3(const __m128i *s, uint16_t *const v[3], size_t x) {
    const __m128i p0 = _mm_blend_epi16(_mm_blend_epi16(s[0], s[1], 0x92), s[2], 0x24);
    const __m128i p1 = _mm_blend_epi16(_mm_blend_epi16(s[0], s[1], 0x24), s[2], 0x49);
    const __m128i p2 = _mm_blend_epi16(_mm_blend_epi16(s[0], s[1], 0x49), s[2], 0x92);
    const __m128i o0 = _mm_setr_epi8(0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15, 4, 5, 10, 11);
    const __m128i o1 = _mm_setr_epi8(2, 3, 8, 9, 14, 15, 4, 5, 10, 11, 0, 1, 6, 7, 12, 13);
    const __m128i o2 = _mm_setr_epi8(4, 5, 10, 11, 0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15);
    store(v[0] + x, _mm_shuffle_epi8(p0, o0));
    store(v[1] + x, _mm_shuffle_epi8(p1, o1));
    store(v[2] + x, _mm_shuffle_epi8(p2, o2));
}

SSE41 static void vsum3(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n,
                        const vpe_vtap *tap, int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum3(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    for (size_t x = 0;; x += 16) {
        x = x + 16 > n ? n - 16 : x;
        for (int r = 0; r < rows; r++) {
            __m128i sum[6];
            columns(sum, p + 3 * x, stride, &tap[r], shift, 6);
            split3(sum, v, (size_t)r * step + x);
            split3(sum + 3, v, (size_t)r * step + x + 8);
        }
        if (x + 16 >= n)
            return;
    }
}

/* ---- output rows ------------------------------------------------------------------------------------------------------------ */

INLINE __m128i products(const uint16_t *v, const int16_t *w, int32_t taps) {
    __m128i sum = _mm_setzero_si128();
    for (int32_t t = 0; t < taps; t += 8)
        sum = _mm_add_epi32(sum, _mm_madd_epi16(load(v + t), load(w + t)));
    return sum;
}

SSE41 static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    const int32_t taps = axis->taps, *first = axis->first;
    const int16_t *w = axis->weight;
    int32_t i = 0;
    for (; i + 4 <= axis->n; i += 4, w += 4 * taps) {
        const __m128i a = products(v + first[i], w, taps), b = products(v + first[i + 1], w + taps, taps);
        const __m128i c = products(v + first[i + 2], w + 2 * taps, taps);
        const __m128i d = products(v + first[i + 3], w + 3 * taps, taps);
        store(acc + i, _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d)));
    }
    for (; i < axis->n; i++, w += taps) {
        const __m128i s = products(v + first[i], w, taps), t = _mm_hadd_epi32(s, s);
        acc[i] = _mm_cvtsi128_si32(_mm_hadd_epi32(t, t));
    }
}

SSE41 static void norm(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub) {
    const __m128 m = _mm_set1_ps(mul), s = _mm_set1_ps(sub);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m128 v = _mm_sub_ps(_mm_mul_ps(_mm_cvtepi32_ps(load(acc + i)), m), s);
        _mm_storeu_ps(out + i, v);
        _mm_storeu_ps(copy + i, v);
    }
    for (; i < n; i++)
        out[i] = copy[i] = (float)acc[i] * mul - sub;
}

const vpe_kernels vpe_kernels_sse41 = {
    .name = "sse41",
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
