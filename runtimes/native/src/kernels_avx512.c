/* AVX-512 with byte permutes (VBMI) and byte dot products (VNNI): 64 bytes at a time. Rows end with masked loads and
 * stores, which touch nothing outside the mask. */
#include "kernels.h"

#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-ch", "unroll-loops") /* as in kernels_avx2.c */
#endif

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) AVX512

static int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

INLINE __mmask64 first64(size_t n) {
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

INLINE __mmask32 first32(ptrdiff_t n) {
    return n >= 32 ? ~(__mmask32)0 : n <= 0 ? 0 : ((__mmask32)1 << n) - 1;
}

INLINE __m512i load(const void *p) {
    return _mm512_loadu_si512(p);
}

/* ---- luma --------------------------------------------------------------------------------------------------------- */

/* 16 pixels as B G G R, weights 29 75 75 77: the sum's second byte is the luma. */
INLINE __m512i luma16(__m512i pixels, __m512i order, __m512i weights, __m512i half) {
    return _mm512_dpbusd_epi32(half, _mm512_permutexvar_epi8(order, pixels), weights);
}

INLINE __m512i bytes_of(const uint8_t *p, size_t n) {
    return _mm512_maskz_loadu_epi8(first64(n), p);
}

#define BGGR(i) 3 * (i), 3 * (i) + 1, 3 * (i) + 1, 3 * (i) + 2
#define SECOND(i) 4 * (i) + 1, 4 * (i) + 5, 4 * (i) + 9, 4 * (i) + 13
static const uint8_t bggr_order[64] = {BGGR(0), BGGR(1), BGGR(2),  BGGR(3),  BGGR(4),  BGGR(5),  BGGR(6),  BGGR(7),
                                       BGGR(8), BGGR(9), BGGR(10), BGGR(11), BGGR(12), BGGR(13), BGGR(14), BGGR(15)};
/* the second byte of each number of two vectors, twice */
static const uint8_t second_order[64] = {SECOND(0),  SECOND(4),  SECOND(8),  SECOND(12), SECOND(16), SECOND(20),
                                         SECOND(24), SECOND(28), SECOND(0),  SECOND(4),  SECOND(8),  SECOND(12),
                                         SECOND(16), SECOND(20), SECOND(24), SECOND(28)};

AVX512 static void luma3(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round) {
    const __m512i weights = _mm512_set1_epi32(rgb ? 0x1D4B4B4D : 0x4D4B4B1D), half = _mm512_set1_epi32(round);
    const __m512i order = load(bggr_order), second = load(second_order);
    size_t i = 0;
    for (; i + 70 <= n; i += 64) { /* the fourth load reads 16 bytes more */
        const uint8_t *p = src + 3 * i;
        const __m512i a = luma16(load(p), order, weights, half), b = luma16(load(p + 48), order, weights, half);
        const __m512i c = luma16(load(p + 96), order, weights, half), d = luma16(load(p + 144), order, weights, half);
        const __m512i low = _mm512_permutex2var_epi8(a, second, b), high = _mm512_permutex2var_epi8(c, second, d);
        _mm512_storeu_si512(y + i, _mm512_mask_blend_epi64(0xF0, low, high));
    }
    for (; i < n; i += 16) {
        const size_t rest = n - i < 16 ? n - i : 16;
        const __m512i a = luma16(bytes_of(src + 3 * i, 3 * rest), order, weights, half);
        _mm_mask_storeu_epi8(y + i, (__mmask16)first32((ptrdiff_t)rest),
                             _mm512_castsi512_si128(_mm512_permutexvar_epi8(second, a)));
    }
}

INLINE __m512i avg(__m512i a, __m512i b) {
    return _mm512_avg_epu8(a, b);
}

AVX512 static void avg4(uint8_t *out, const uint8_t *const row[4], size_t n) {
    const uint8_t *const r0 = row[0], *const r1 = row[1], *const r2 = row[2], *const r3 = row[3];
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(out + i, avg(avg(load(r0 + i), load(r1 + i)), avg(load(r2 + i), load(r3 + i))));
    if (i == n)
        return;
    const __mmask64 m = first64(n - i);
    const __m512i a = avg(_mm512_maskz_loadu_epi8(m, r0 + i), _mm512_maskz_loadu_epi8(m, r1 + i));
    const __m512i b = avg(_mm512_maskz_loadu_epi8(m, r2 + i), _mm512_maskz_loadu_epi8(m, r3 + i));
    _mm512_mask_storeu_epi8(out + i, m, avg(a, b));
}

/* ---- statistics ----------------------------------------------------------------------------------------------------- */

/* Eight sums of eight bytes to four blocks. */
INLINE void put_sums(uint32_t *sums, __m512i v, __mmask8 blocks) {
    const __m512i s = _mm512_add_epi64(v, _mm512_unpackhi_epi64(v, v));
    const __m512i four = _mm512_permutexvar_epi32(_mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12)), s);
    _mm_mask_storeu_epi32(sums, blocks, _mm512_castsi512_si128(four));
}

INLINE void four_blocks(uint32_t *sums, size_t across, const uint8_t *p, ptrdiff_t previous, ptrdiff_t stride, int rows,
                        int top, size_t n) {
    const __mmask64 m = first64(n);
    const __mmask8 blocks = (__mmask8)((1u << (n >= 64 ? 4 : (n + 15) / 16)) - 1);
    const __m512i zero = _mm512_setzero_si512();
#define LOAD(q) (n >= 64 ? load(q) : _mm512_maskz_loadu_epi8(m, q))
    __m512i motion = zero, luma = zero, energy = top ? zero : _mm512_sad_epu8(LOAD(p), LOAD(p - stride));
    for (int r = 0; r < rows; r++, p += stride) {
        const __m512i v = LOAD(p);
        if (r)
            energy = _mm512_add_epi64(energy, _mm512_sad_epu8(v, LOAD(p - stride)));
        motion = _mm512_add_epi64(motion, _mm512_sad_epu8(v, LOAD(p + previous)));
        energy = _mm512_add_epi64(energy, _mm512_sad_epu8(v, LOAD(p - 1)));
        luma = _mm512_add_epi64(luma, _mm512_sad_epu8(v, zero));
    }
#undef LOAD
    put_sums(sums, motion, blocks);
    put_sums(sums + across, energy, blocks);
    put_sums(sums + 2 * across, luma, blocks);
}

AVX512 static void stats(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width,
                         int top) {
    const size_t across = (width + 15) / 16;
    size_t x = 0;
    if (rows == 16)
        for (; x + 64 <= width; x += 64)
            four_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, 16, top, 64);
    else if (rows == 4)
        for (; x + 64 <= width; x += 64)
            four_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, 4, top, 64);
    for (; x < width; x += 64)
        four_blocks(sums + x / 16, across, y + x, previous, (ptrdiff_t)stride, rows, top, width - x);
}

/* The same bytes of the rows that come next, to the second-level cache. */
INLINE void fetch(const vpe_rows *src, size_t at, int bytes) {
    const uint8_t *p = src->ahead + at;
    for (int32_t r = 0; r < src->ahead_rows; r++, p += src->stride)
        for (int i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)(p + i), _MM_HINT_T1);
}

/* ---- column sums ------------------------------------------------------------------------------------------------------ */

INLINE __m512i widen(const uint8_t *p, __mmask32 m) { /* 32 bytes to 32 u16 */
    return _mm512_cvtepu8_epi16(m == ~(__mmask32)0 ? _mm256_loadu_si256((const __m256i *)p)
                                                   : _mm256_maskz_loadu_epi8(m, p));
}

INLINE __m512i part_of(const uint8_t *p, __mmask32 m, __m512i weight) {
    return _mm512_mulhi_epu16(_mm512_slli_epi16(widen(p, m), 8), weight);
}

/* As in kernels_avx2.c: `take` goes from one output row to the next. */
INLINE void columns(__m512i *sum, __m512i *take, int taken, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                    int shift, int vectors, const __mmask32 *m) {
    const uint8_t *row = p + tap->first * stride;
    const uint8_t *const end = row + tap->full * stride;
    const __m128i by = _mm_cvtsi32_si128(shift);
    if (tap->take && !taken) {
        const __m512i weight = _mm512_set1_epi16((short)tap->take);
        for (int i = 0; i < vectors; i++)
            take[i] = part_of(row + 32 * i, m[i], weight);
    }
    for (int i = 0; i < vectors; i++)
        sum[i] = widen(row + 32 * i, m[i]);
    for (row += stride; row != end; row += stride)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm512_add_epi16(sum[i], widen(row + 32 * i, m[i]));
    for (int i = 0; i < vectors; i++)
        sum[i] = _mm512_sll_epi16(sum[i], by);
    if (tap->take)
        for (int i = 0; i < vectors; i++)
            sum[i] = _mm512_sub_epi16(sum[i], take[i]);
    if (tap->b) {
        const __m512i weight = _mm512_set1_epi16((short)tap->b);
        for (int i = 0; i < vectors; i++) {
            take[i] = part_of(end + 32 * i, m[i], weight);
            sum[i] = _mm512_add_epi16(sum[i], take[i]);
        }
    }
}

INLINE int taken(const vpe_vtap *tap, int r) {
    return r && tap[r - 1].b && tap[r - 1].b == tap[r].take && tap[r - 1].last == tap[r].first;
}

INLINE void sum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int rows, int shift,
                 int vectors, const __mmask32 *m) {
    __m512i take[6], sum[6];
    for (int i = 0; i < vectors; i++)
        take[i] = _mm512_setzero_si512();
    for (int r = 0; r < rows; r++, v += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, vectors, m);
        for (int i = 0; i < vectors; i++)
            _mm512_mask_storeu_epi16(v + 32 * i, m[i], sum[i]);
    }
}

AVX512 static void vsum1(uint16_t *v, size_t step, const vpe_rows *src, size_t n, const vpe_vtap *tap, int rows,
                         int shift) {
    const uint8_t *const from = src->p;
    const ptrdiff_t stride = src->stride;
    static const __mmask32 all[4] = {~0u, ~0u, ~0u, ~0u};
    size_t x = 0;
    for (; x + 128 <= n; x += 128) {
        fetch(src, x, 128);
        sum1(v + x, step, from + x, stride, tap, rows, shift, 4, all);
    }
    for (; x < n; x += 32) {
        const __mmask32 m = first32((ptrdiff_t)(n - x));
        sum1(v + x, step, from + x, stride, tap, rows, shift, 1, &m);
    }
}

/* Number 3 i + c of 96 is the c-th channel of pixel i of 32: from the first two vectors, then what the third has. */
#define EIGHT(f, i, c) f(i, c), f(i + 1, c), f(i + 2, c), f(i + 3, c), f(i + 4, c), f(i + 5, c), f(i + 6, c), f(i + 7, c)
#define ALL(f, c) {EIGHT(f, 0, c), EIGHT(f, 8, c), EIGHT(f, 16, c), EIGHT(f, 24, c)}
#define LOW(i, c) (3 * (i) + (c) < 64 ? 3 * (i) + (c) : 0)
#define HIGH(i, c) (3 * (i) + (c) < 64 ? (i) : 3 * (i) + (c) - 32)

static const uint16_t low_order[3][32] = {ALL(LOW, 0), ALL(LOW, 1), ALL(LOW, 2)};
static const uint16_t high_order[3][32] = {ALL(HIGH, 0), ALL(HIGH, 1), ALL(HIGH, 2)};

typedef struct split {
    __m512i low[3], high[3];
} split;

INLINE split split_order(void) {
    split s;
    for (int c = 0; c < 3; c++) {
        s.low[c] = load(low_order[c]);
        s.high[c] = load(high_order[c]);
    }
    return s;
}

INLINE void split3(const __m512i *s, uint16_t *const v[3], size_t x, const split *order, __mmask32 m) {
    for (int c = 0; c < 3; c++) {
        const __m512i two = _mm512_permutex2var_epi16(s[0], order->low[c], s[1]);
        const __m512i three = _mm512_permutex2var_epi16(two, order->high[c], s[2]);
        if (m == ~(__mmask32)0)
            _mm512_storeu_si512(v[c] + x, three);
        else
            _mm512_mask_storeu_epi16(v[c] + x, m, three);
    }
}

INLINE void sum3(uint16_t *const v[3], size_t x, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                 int rows, int shift, int vectors, const __mmask32 *m, __mmask32 out, const split *order) {
    __m512i take[6], sum[6];
    for (int i = 0; i < vectors; i++)
        take[i] = _mm512_setzero_si512();
    for (int r = 0; r < rows; r++, x += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, vectors, m);
        split3(sum, v, x, order, out);
        if (vectors == 6)
            split3(sum + 3, v, x + 32, order, out);
    }
}

AVX512 static void vsum3(uint16_t *const v[3], size_t step, const vpe_rows *src, size_t n, const vpe_vtap *tap, int rows,
                         int shift) {
    const uint8_t *const from = src->p;
    const ptrdiff_t stride = src->stride;
    uint16_t *const planes[3] = {v[0], v[1], v[2]};
    const __mmask32 all[6] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    const split order = split_order();
    size_t x = 0;
    for (; x + 64 <= n; x += 64) {
        fetch(src, 3 * x, 192);
        sum3(planes, x, step, from + 3 * x, stride, tap, rows, shift, 6, all, ~0u, &order);
    }
    for (; x < n; x += 32) {
        const ptrdiff_t bytes = 3 * (ptrdiff_t)(n - x);
        const __mmask32 m[3] = {first32(bytes), first32(bytes - 32), first32(bytes - 64)};
        sum3(planes, x, step, from + 3 * x, stride, tap, rows, shift, 3, m, first32((ptrdiff_t)(n - x)), &order);
    }
}

/* ---- output rows: 16 numbers a product are no more than AVX2 holds ------------------------------------------------------ */

static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    vpe_kernels_avx2.hsum(acc, v, axis);
}

static void split2(uint16_t *a, uint16_t *b, const uint16_t *v, size_t n) {
    vpe_kernels_avx2.split2(a, b, v, n);
}

static void yuv_levels(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *yuv) {
    vpe_kernels_avx2.yuv_levels(rgb, acc, n, yuv);
}

static void norm(float *out, const int32_t *acc, size_t n, float mul, float sub) {
    vpe_kernels_avx2.norm(out, acc, n, mul, sub);
}

static void pack3(uint8_t *out, int32_t *const acc[3], size_t n, float mul) {
    vpe_kernels_avx2.pack3(out, acc, n, mul);
}

const vpe_kernels vpe_kernels_avx512 = {
    .name = "avx512",
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
