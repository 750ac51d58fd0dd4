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
        _mm_mask_storeu_epi8(y + i, (__mmask16)first64(rest),
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

/* ---- column sums ------------------------------------------------------------------------------------------------------ */

/* Sums of 64 columns: those of the even bytes and those of the odd ones. Bytes come as 16-bit numbers that hold two, so
 * that a row costs two additions and a shift, and no byte is moved until the sums are there. */
typedef struct sums {
    __m512i even, odd;
} sums;

INLINE __m512i bytes_at(const uint8_t *p, __mmask64 m) {
    return m == ~(__mmask64)0 ? load(p) : _mm512_maskz_loadu_epi8(m, p);
}

INLINE sums part_of(__m512i v, __m512i weight) {
    const __m512i high = _mm512_set1_epi16((short)0xFF00);
    return (sums){_mm512_mulhi_epu16(_mm512_slli_epi16(v, 8), weight),
                  _mm512_mulhi_epu16(_mm512_and_si512(v, high), weight)};
}

/* The sum's parts of rows: `take` holds what the first row is short of, and on return what the next output's is. */
INLINE void columns(sums *sum, sums *take, int taken, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                    int shift, int vectors, const __mmask64 *m) {
    const uint8_t *row = p + tap->first * stride;
    const uint8_t *const end = row + tap->full * stride;
    const __m128i by = _mm_cvtsi32_si128(shift);
    __m512i all[3], odd[3];
    for (int i = 0; i < vectors; i++) {
        all[i] = bytes_at(row + 64 * i, m[i]);
        odd[i] = _mm512_srli_epi16(all[i], 8);
    }
    if (tap->take && !taken)
        for (int i = 0; i < vectors; i++)
            take[i] = part_of(all[i], _mm512_set1_epi16((short)tap->take));
    for (row += stride; row != end; row += stride)
        for (int i = 0; i < vectors; i++) {
            const __m512i v = bytes_at(row + 64 * i, m[i]);
            all[i] = _mm512_add_epi16(all[i], v);
            odd[i] = _mm512_add_epi16(odd[i], _mm512_srli_epi16(v, 8));
        }
    for (int i = 0; i < vectors; i++) {
        sum[i].even = _mm512_sll_epi16(_mm512_sub_epi16(all[i], _mm512_slli_epi16(odd[i], 8)), by);
        sum[i].odd = _mm512_sll_epi16(odd[i], by);
    }
    if (tap->take)
        for (int i = 0; i < vectors; i++) {
            sum[i].even = _mm512_sub_epi16(sum[i].even, take[i].even);
            sum[i].odd = _mm512_sub_epi16(sum[i].odd, take[i].odd);
        }
    if (tap->b)
        for (int i = 0; i < vectors; i++) {
            take[i] = part_of(bytes_at(end + 64 * i, m[i]), _mm512_set1_epi16((short)tap->b));
            sum[i].even = _mm512_add_epi16(sum[i].even, take[i].even);
            sum[i].odd = _mm512_add_epi16(sum[i].odd, take[i].odd);
        }
}

/* Whether output r's part of its first row was just computed as the part b of the output before. */
INLINE int taken(const vpe_vtap *tap, int r) {
    return r && tap[r - 1].b && tap[r - 1].b == tap[r].take && tap[r - 1].last == tap[r].first;
}

INLINE void put(uint16_t *v, __m512i sum, __mmask32 m) {
    if (m == ~(__mmask32)0)
        _mm512_storeu_si512(v, sum);
    else
        _mm512_mask_storeu_epi16(v, m, sum);
}

#define EIGHT(f, i, c) f(i, c), f(i + 1, c), f(i + 2, c), f(i + 3, c), f(i + 4, c), f(i + 5, c), f(i + 6, c), f(i + 7, c)
#define ALL(f, c) {EIGHT(f, 0, c), EIGHT(f, 8, c), EIGHT(f, 16, c), EIGHT(f, 24, c)}
/* where byte b of 64 is among the even sums and the odd ones behind them */
#define AT(b) ((b) % 64 / 2 + (b) % 2 * 32)
#define IN_ORDER(i, half) AT(32 * (half) + (i))
static const uint16_t order1[2][32] = {ALL(IN_ORDER, 0), ALL(IN_ORDER, 1)};

INLINE void sum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap, int rows, int shift,
                 int vectors, const __mmask64 *m) {
    sums take[3], sum[3];
    for (int i = 0; i < vectors; i++)
        take[i] = (sums){_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int r = 0; r < rows; r++, v += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, vectors, m);
        for (int i = 0; i < vectors; i++) {
            uint16_t *to = v + 64 * i;
            put(to, _mm512_permutex2var_epi16(sum[i].even, load(order1[0]), sum[i].odd), (__mmask32)m[i]);
            put(to + 32, _mm512_permutex2var_epi16(sum[i].even, load(order1[1]), sum[i].odd), (__mmask32)(m[i] >> 32));
        }
    }
}

AVX512 static void vsum1(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                         int rows, int shift) {
    const __mmask64 whole = ~(__mmask64)0, all[3] = {whole, whole, whole};
    size_t x = 0;
    for (; x + 192 <= n; x += 192)
        sum1(v + x, step, p + x, stride, tap, rows, shift, 3, all);
    for (; x < n; x += 64) {
        const __mmask64 m = first64(n - x);
        sum1(v + x, step, p + x, stride, tap, rows, shift, 1, &m);
    }
}

/* Channel c of 32 pixels, 96 bytes: from a vector's sums or, where the bit is set, the next vector's. The second 32
 * pixels of 64 begin at byte 32 of the second vector. */
#define FROM0(i, c) AT(3 * (i) + (c))
#define FROM32(i, c) AT(32 + 3 * (i) + (c))
static const uint16_t order3[2][3][32] = {{ALL(FROM0, 0), ALL(FROM0, 1), ALL(FROM0, 2)},
                                          {ALL(FROM32, 0), ALL(FROM32, 1), ALL(FROM32, 2)}};
/* pixels from (64 - c) / 3 on, rounded up; from (32 - c) / 3 on */
static const __mmask32 next3[2][3] = {{~0u << 22, ~0u << 21, ~0u << 21}, {~0u << 11, ~0u << 11, ~0u << 10}};

INLINE void split3(uint16_t *const v[3], size_t x, const sums *s, int half, __mmask32 m) {
    for (int c = 0; c < 3; c++) {
        const __m512i order = load(order3[half][c]);
        const __m512i a = _mm512_permutex2var_epi16(s[0].even, order, s[0].odd);
        const __m512i b = _mm512_permutex2var_epi16(s[1].even, order, s[1].odd);
        put(v[c] + x, _mm512_mask_blend_epi16(next3[half][c], a, b), m);
    }
}

INLINE void sum3(uint16_t *const v[3], size_t x, size_t step, const uint8_t *p, ptrdiff_t stride, const vpe_vtap *tap,
                 int rows, int shift, const __mmask64 *m, __mmask64 pixels) {
    sums take[3], sum[3];
    for (int i = 0; i < 3; i++)
        take[i] = (sums){_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int r = 0; r < rows; r++, x += step) {
        columns(sum, take, taken(tap, r), p, stride, &tap[r], shift, 3, m);
        split3(v, x, sum, 0, (__mmask32)pixels);
        split3(v, x + 32, sum + 1, 1, (__mmask32)(pixels >> 32));
    }
}

AVX512 static void vsum3(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n,
                         const vpe_vtap *tap, int rows, int shift) {
    uint16_t *const planes[3] = {v[0], v[1], v[2]};
    const __mmask64 whole = ~(__mmask64)0, all[3] = {whole, whole, whole};
    size_t x = 0;
    for (; x + 64 <= n; x += 64)
        sum3(planes, x, step, p + 3 * x, stride, tap, rows, shift, all, whole);
    if (x == n)
        return;
    const size_t bytes = 3 * (n - x);
    const __mmask64 m[3] = {first64(bytes), bytes > 64 ? first64(bytes - 64) : 0, bytes > 128 ? first64(bytes - 128) : 0};
    sum3(planes, x, step, p + 3 * x, stride, tap, rows, shift, m, first64(n - x));
}

/* ---- output rows -------------------------------------------------------------------------------------------------------- */

/* In each quarter the sums of that quarter of a, b, c and d. */
INLINE __m512i quarters(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* Products of 16 numbers for each of two outputs, whose weights lie one behind the other. */
INLINE __m512i two_outputs(const uint16_t *v, const int32_t *first, const int16_t *w) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)(v + first[0]));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(v + first[1]));
    return _mm512_madd_epi16(_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1), load(w));
}

INLINE int32_t sums_of_16(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    const __m512i order = _mm512_castsi256_si512(_mm256_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11));
    const int32_t *first = axis->first;
    const int16_t *w = axis->weight;
    int32_t i = 0;
    for (; i + 8 <= axis->n; i += 8, first += 8, w += 8 * 16) {
        const __m512i q = quarters(two_outputs(v, first, w), two_outputs(v, first + 2, w + 32),
                                   two_outputs(v, first + 4, w + 64), two_outputs(v, first + 6, w + 96));
        const __m512i s = _mm512_add_epi32(q, _mm512_shuffle_i64x2(q, q, 0xB1));
        _mm256_storeu_si256((__m256i *)(acc + i), _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, s)));
    }
    return i;
}

INLINE int32_t sums_of_32(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    const int32_t *first = axis->first;
    const int16_t *w = axis->weight;
    int32_t i = 0;
    for (; i + 4 <= axis->n; i += 4, first += 4, w += 4 * 32) {
        const __m512i q = quarters(
            _mm512_madd_epi16(load(v + first[0]), load(w)), _mm512_madd_epi16(load(v + first[1]), load(w + 32)),
            _mm512_madd_epi16(load(v + first[2]), load(w + 64)), _mm512_madd_epi16(load(v + first[3]), load(w + 96)));
        const __m256i s = _mm256_add_epi32(_mm512_castsi512_si256(q), _mm512_extracti64x4_epi64(q, 1));
        _mm_storeu_si128((__m128i *)(acc + i), _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
    }
    return i;
}

/* Other lengths, and what is left, as AVX2 does it. */
AVX512 static void hsum(int32_t *acc, const uint16_t *v, const vpe_haxis *axis) {
    const int32_t done = axis->taps == 16 ? sums_of_16(acc, v, axis) : axis->taps == 32 ? sums_of_32(acc, v, axis) : 0;
    vpe_haxis rest = *axis;
    rest.n -= done;
    rest.first += done;
    rest.weight += (ptrdiff_t)done * axis->taps;
    if (rest.n)
        vpe_kernels_avx2.hsum(acc + done, v, &rest);
}

static void split2(uint16_t *a, uint16_t *b, const uint16_t *v, size_t n) {
    vpe_kernels_avx2.split2(a, b, v, n);
}

static void yuv_levels(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *yuv) {
    vpe_kernels_avx2.yuv_levels(rgb, acc, n, yuv);
}

static void norm(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub) {
    vpe_kernels_avx2.norm(out, copy, acc, n, mul, sub);
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
