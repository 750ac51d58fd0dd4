/* AVX2: 32 bytes at a time. Rows end with a vector that overlaps the one before; shorter ones go to plain C. */
#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)

#if defined(__GNUC__) && !defined(__clang__)
/* gcc 12 turns loops over rows so that each sum is copied once a row; a third of the column sums' instructions */
#pragma GCC optimize("no-tree-ch", "unroll-loops")
#endif

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) AVX2

static int supported(void) {
    return __builtin_cpu_supports("avx2");
}

INLINE __m256i load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE void store(void *p, __m256i v) {
    _mm256_storeu_si256((__m256i *)p, v);
}

INLINE __m256i widen(const uint8_t *p) { /* 16 bytes to 16 u16 */
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}

/* ---- luma ------------------------------------------------------------------------------------------------------- */

/* Pixels as B G G R, so that no pair of products passes 128 * 255: 29 + 99 and 51 + 77. Lane 0 has pixels i .. i + 3
 * at p, lane 1 pixels i + 16 .. i + 19 at p + 44, four bytes early: nothing behind the 32 pixels is read. */
INLINE __m256i four_and_four(const uint8_t *p, __m256i order, __m256i weights) {
    const __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)),
                                              _mm_loadu_si128((const __m128i *)(p + 44)), 1);
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(v, order), weights);
}

INLINE __m256i luma_of_32(const uint8_t *p, __m256i order, __m256i weights, __m256i half) {
    const __m256i a = _mm256_hadd_epi16(four_and_four(p, order, weights), four_and_four(p + 12, order, weights));
    const __m256i b = _mm256_hadd_epi16(four_and_four(p + 24, order, weights), four_and_four(p + 36, order, weights));
    return _mm256_packus_epi16(_mm256_srli_epi16(_mm256_add_epi16(a, half), 8),
                               _mm256_srli_epi16(_mm256_add_epi16(b, half), 8));
}

AVX2 static void luma3(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round) {
    if (n < 32) {
        vpe_kernels_scalar.luma3(y, src, n, rgb, round);
        return;
    }
    const __m256i order = _mm256_setr_epi8(0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, 4, 5, 5, 6, 7, 8, 8, 9,
                                           10, 11, 11, 12, 13, 14, 14, 15);
    const __m256i weights = _mm256_set1_epi32(rgb ? 0x1D63334D : 0x4D33631D);
    const __m256i half = _mm256_set1_epi16((short)round);
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        store(y + i, luma_of_32(src + 3 * i, order, weights, half));
    if (i < n)
        store(y + n - 32, luma_of_32(src + 3 * (n - 32), order, weights, half));
}

/* ---- statistics --------------------------------------------------------------------------------------------------- */

INLINE void put_sums(uint32_t *sums, __m256i v) {
    const __m256i s = _mm256_add_epi64(v, _mm256_srli_si256(v, 8));
    sums[0] = (uint32_t)_mm_cvtsi128_si32(_mm256_castsi256_si128(s));
    sums[1] = (uint32_t)_mm_cvtsi128_si32(_mm256_extracti128_si256(s, 1));
}

/* Two blocks of `rows` rows. */
INLINE void two_blocks(uint32_t *sums, size_t across, const uint8_t *p, ptrdiff_t previous, ptrdiff_t stride, int rows,
                       int top) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i motion = zero, luma = zero, energy = top ? zero : _mm256_sad_epu8(load(p), load(p - stride));
    for (int r = 0; r < rows; r++) {
        const __m256i v = load(p);
        if (r)
            energy = _mm256_add_epi64(energy, _mm256_sad_epu8(v, load(p - stride)));
        motion = _mm256_add_epi64(motion, _mm256_sad_epu8(v, load(p + previous)));
        energy = _mm256_add_epi64(energy, _mm256_sad_epu8(v, load(p - 1)));
        luma = _mm256_add_epi64(luma, _mm256_sad_epu8(v, zero));
        p += stride;
    }
    put_sums(sums, motion);
    put_sums(sums + across, energy);
    put_sums(sums + 2 * across, luma);
}

AVX2 static void stats(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width,
                       int top) {
    const size_t across = (width + 15) / 16;
    size_t x = 0;
    if (rows == 16)
        for (; x + 32 <= width; x += 32)
            two_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, 16, top);
    else if (rows == 4)
        for (; x + 32 <= width; x += 32)
            two_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, 4, top);
    else
        for (; x + 32 <= width; x += 32)
            two_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, rows, top);
    vpe_stats_from(x, sums, y, previous, stride, rows, width, top);
}

INLINE __m256i avg_of_4(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d) {
    return _mm256_avg_epu8(_mm256_avg_epu8(load(a), load(b)), _mm256_avg_epu8(load(c), load(d)));
}

AVX2 static void avg4(uint8_t *out, const uint8_t *const row[4], size_t n) {
    if (n < 32) {
        vpe_kernels_scalar.avg4(out, row, n);
        return;
    }
    const uint8_t *const r0 = row[0], *const r1 = row[1], *const r2 = row[2], *const r3 = row[3];
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        store(out + i, avg_of_4(r0 + i, r1 + i, r2 + i, r3 + i));
    i = n - 32;
    store(out + i, avg_of_4(r0 + i, r1 + i, r2 + i, r3 + i));
}

/* ---- column sums ---------------------------------------------------------------------------------------------------- */

INLINE __m256i part_of(const uint8_t *p, __m256i weight) {
    return _mm256_mulhi_epu16(_mm256_slli_epi16(widen(p), 8), weight);
}

/* The sum's parts of rows: `take` holds what the first row is short of, and on return what the next output's is. */
INLINE void columns(__m256i *sum, __m256i *take, int taken, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                    int shift, int vectors) {
    const uint8_t *row = p + tap->first * stride;
    const uint8_t *const end = row + tap->full * stride;
    const __m128i by = _mm_cvtsi32_si128(shift);
    if (tap->take && !taken) {
        const __m256i weight = _mm256_set1_epi16((short)tap->take);
        for (int i = 0; i < vectors; i++)
            take[i] = part_of(row + 16 * i, weight);
    }
    for (int i = 0; i < vectors; i++)
        sum[i] = widen(row + 16 * i);
    for (row += stride; row != end; row += stride)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm256_add_epi16(sum[i], widen(row + 16 * i));
    for (int i = 0; i < vectors; i++)
        sum[i] = _mm256_sll_epi16(sum[i], by);
    if (tap->take)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm256_sub_epi16(sum[i], take[i]);
    if (tap->b) {
        const __m256i weight = _mm256_set1_epi16((short)tap->b);
        for (int i = 0; i < vectors; i++) {
            take[i] = part_of(end + 16 * i, weight);
            sum[i] = _mm256_add_epi16(sum[i], take[i]);
        }
    }
}

/* Whether output r's part of its first row was just computed as the part b of the output before. */
INLINE int taken(const vpe_vtap *tap, int r) {
    return r && tap[r - 1].b && tap[r - 1].b == tap[r].take && tap[r - 1].last == tap[r].first;
}

INLINE void sum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int rows, int shift,
                 int vectors) {
    __m256i take[4], sum[4];
    for (int i = 0; i < vectors; i++)
        take[i] = _mm256_setzero_si256();
    for (int r = 0; r < rows; r++, v += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, vectors);
        for (int i = 0; i < vectors; i++)
            store(v + 16 * i, sum[i]);
    }
}

AVX2 static void vsum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                       int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum1(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    size_t x = 0;
    for (; x + 64 <= n; x += 64) {
        sum1(v + x, step, p + x, stride, tap, rows, shift, 4);
    }
    for (; x + 16 <= n; x += 16)
        sum1(v + x, step, p + x, stride, tap, rows, shift, 1);
    if (x < n)
        sum1(v + n - 16, step, p + n - 16, stride, tap, rows, shift, 1);
}

/* 16 packed pixels of u16 in three vectors to three planes. Lane 0 gets pixels 0 .. 7, lane 1 pixels 8 .. 15; in each
 * the 24 numbers lie in a, b, c one after the other. */
INLINE void split3(const __m256i *s, uint16_t *const v[3], size_t x) {
    const __m256i a = _mm256_permute2x128_si256(s[0], s[1], 0x30);
    const __m256i b = _mm256_permute2x128_si256(s[0], s[2], 0x21);
    const __m256i c = _mm256_permute2x128_si256(s[1], s[2], 0x30);
    const __m256i p0 = _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x92), c, 0x24);
    const __m256i p1 = _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x24), c, 0x49);
    const __m256i p2 = _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x49), c, 0x92);
    const __m256i o0 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15, 4, 5, 10, 11));
    const __m256i o1 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(2, 3, 8, 9, 14, 15, 4, 5, 10, 11, 0, 1, 6, 7, 12, 13));
    const __m256i o2 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(4, 5, 10, 11, 0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15));
    store(v[0] + x, _mm256_shuffle_epi8(p0, o0));
    store(v[1] + x, _mm256_shuffle_epi8(p1, o1));
    store(v[2] + x, _mm256_shuffle_epi8(p2, o2));
}

INLINE void sum3(uint16_t *const v[3], size_t x, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                 int rows, int shift, int vectors) {
    __m256i take[6], sum[6];
    for (int i = 0; i < vectors; i++)
        take[i] = _mm256_setzero_si256();
    for (int r = 0; r < rows; r++, x += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, vectors);
        split3(sum, v, x);
        if (vectors == 6)
            split3(sum + 3, v, x + 16);
    }
}

AVX2 static void vsum3(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n,
                       const vpe_vtap *tap, int rows, int shift) {
    if (n < 16) {
        vpe_kernels_scalar.vsum3(v, step, p, stride, n, tap, rows, shift);
        return;
    }
    size_t x = 0;
    for (; x + 32 <= n; x += 32) {
        sum3(v, x, step, p + 3 * x, stride, tap, rows, shift, 6);
    }
    for (; x + 16 <= n; x += 16)
        sum3(v, x, step, p + 3 * x, stride, tap, rows, shift, 3);
    if (x < n)
        sum3(v, n - 16, step, p + 3 * (n - 16), stride, tap, rows, shift, 3);
}

/* 16 pairs: the lower and the upper halves of 32-bit numbers, packed lane by lane and put in order. */
AVX2 static void split2(uint16_t *a, uint16_t *b, const uint16_t *v, size_t n) {
    const __m256i low = _mm256_set1_epi32(0xFFFF);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i x = load(v + 2 * i), y = load(v + 2 * i + 16);
        const __m256i first = _mm256_packus_epi32(_mm256_and_si256(x, low), _mm256_and_si256(y, low));
        const __m256i second = _mm256_packus_epi32(_mm256_srli_epi32(x, 16), _mm256_srli_epi32(y, 16));
        store(a + i, _mm256_permute4x64_epi64(first, 0xD8));
        store(b + i, _mm256_permute4x64_epi64(second, 0xD8));
    }
    vpe_split2(a + i, b + i, v + 2 * i, n - i);
}

/* ---- output rows ----------------------------------------------------------------------------------------------------- */

INLINE __m256i products(const uint16_t *v, const int16_t *w, int32_t taps) {
    __m256i sum = _mm256_madd_epi16(load(v), load(w));
    for (int32_t t = 16; t < taps; t += 16)
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(load(v + t), load(w + t)));
    return sum;
}

INLINE __m128i four_sums(__m256i a, __m256i b, __m256i c, __m256i d) {
    const __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

INLINE void outputs(int32_t *acc, const uint16_t *v, const vpe_haxis *axis, int32_t taps) {
    const int32_t *first = axis->first;
    const int16_t *w = axis->weight;
    int32_t i = 0;
    for (; i + 4 <= axis->n; i += 4, w += 4 * taps)
        _mm_storeu_si128((__m128i *)(acc + i),
                         four_sums(products(v + first[i], w, taps), products(v + first[i + 1], w + taps, taps),
                                   products(v + first[i + 2], w + 2 * taps, taps),
                                   products(v + first[i + 3], w + 3 * taps, taps)));
    for (; i < axis->n; i++, w += taps) {
        const __m256i s = products(v + first[i], w, taps);
        acc[i] = _mm_cvtsi128_si32(four_sums(s, s, s, s));
    }
}

AVX2 static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    if (axis->taps == 16)
        outputs(acc, v, axis, 16);
    else
        outputs(acc, v, axis, axis->taps);
}

AVX2 static void norm(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub) {
    const __m256 m = _mm256_set1_ps(mul), s = _mm256_set1_ps(sub);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_sub_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(load(acc + i)), m), s);
        _mm256_storeu_ps(out + i, v);
        _mm256_storeu_ps(copy + i, v);
    }
    for (; i < n; i++)
        out[i] = copy[i] = (float)acc[i] * mul - sub;
}

INLINE __m256 limited(__m256 v) {
    return _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(255));
}

INLINE __m256 times(__m256 v, float k) {
    return _mm256_mul_ps(v, _mm256_set1_ps(k));
}

AVX2 static void yuv_levels(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *m) {
    float *const r = rgb[0], *const g = rgb[1], *const b = rgb[2];
    const vpe_yuv k = *m;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 y = times(_mm256_cvtepi32_ps(load(acc[0] + i)), k.y);
        const __m256 u = _mm256_cvtepi32_ps(load(acc[1] + i)), v = _mm256_cvtepi32_ps(load(acc[2] + i));
        const __m256 red = _mm256_add_ps(y, times(v, k.rv)), blue = _mm256_add_ps(y, times(u, k.bu));
        const __m256 green = _mm256_add_ps(_mm256_add_ps(y, times(u, k.gu)), times(v, k.gv));
        _mm256_storeu_ps(r + i, limited(_mm256_add_ps(red, _mm256_set1_ps(k.r))));
        _mm256_storeu_ps(g + i, limited(_mm256_add_ps(green, _mm256_set1_ps(k.g))));
        _mm256_storeu_ps(b + i, limited(_mm256_add_ps(blue, _mm256_set1_ps(k.b))));
    }
    float *const rest[3] = {r + i, g + i, b + i};
    int32_t *const sums[3] = {acc[0] + i, acc[1] + i, acc[2] + i};
    vpe_yuv_levels(rest, sums, n - i, m);
}

INLINE __m256i rounded(const int32_t *acc, __m256 mul) {
    return _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(load(acc)), mul), _mm256_set1_ps(0.5f)));
}

/* Eight pixels are 24 bytes in two stores of 16: the second writes four bytes of the pixels that come next. */
AVX2 static void pack3(uint8_t *out, int32_t *const acc[3], size_t n, float mul) {
    const __m256 m = _mm256_set1_ps(mul);
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1));
    size_t i = 0;
    for (; i + 10 <= n; i += 8) {
        const __m256i c2 = rounded(acc[2] + i, m);
        const __m256i bg = _mm256_packus_epi32(rounded(acc[0] + i, m), rounded(acc[1] + i, m));
        const __m256i bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(bg, _mm256_packus_epi32(c2, c2)), order);
        _mm_storeu_si128((__m128i *)(out + 3 * i), _mm256_castsi256_si128(bytes));
        _mm_storeu_si128((__m128i *)(out + 3 * i + 12), _mm256_extracti128_si256(bytes, 1));
    }
    int32_t *const rest[3] = {acc[0] + i, acc[1] + i, acc[2] + i};
    vpe_kernels_scalar.pack3(out + 3 * i, rest, n - i, mul);
}

const vpe_kernels vpe_kernels_avx2 = {
    .name = "avx2",
    .supported = supported,
    .luma3 = luma3,
    .avg4 = avg4,
    .stats = stats,
    .vsum1 = vsum1,
    .vsum3 = vsum3,
    .split2 = split2,
    .split_yuyv = vpe_split_yuyv,
    .hsum = hsum,
    .norm = norm,
    .yuv_levels = yuv_levels,
    .pack3 = pack3,
};

#endif
