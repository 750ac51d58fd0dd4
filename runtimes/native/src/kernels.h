/* The functions that touch pixels, one table a kernel set. Integers are the same, bit for bit, in every set. */
#ifndef VPE_KERNELS_H
#define VPE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* One output row: `full` source rows from `first`, less a part of the first (take, 0: nothing), and a part b of the row
 * behind them (0: none): (rows << shift) - (first row * take >> 8) + (row behind * b >> 8), modulo 2^16.
 * take and b carry shift + 8 binary places. Where two outputs share a row, one's b is the other's take. */
typedef struct vpe_vtap {
    int32_t first, full, last; /* last: the last source row touched */
    uint16_t take, b;
} vpe_vtap;

/* Output column i: `taps` products of v[first[i] ..] and weight[i * taps ..] (padded with 0 to a multiple of 16). */
typedef struct vpe_haxis {
    int32_t n, taps;
    double scale; /* what one grey level becomes */
    int32_t *first, *count;
    int16_t *weight;
} vpe_haxis;

/* R = y Y + rv V + r, G = y Y + gu U + gv V + g, B = y Y + bu U + b, added from the left, limited to 0 .. 255. */
typedef struct vpe_yuv {
    float y, rv, gu, gv, bu, r, g, b;
} vpe_yuv;

#define VPE_VROWS 4 /* output rows at a time */
#define VPE_PAD 64 /* elements that may be read, though they count nothing, behind a row of column sums */

typedef struct vpe_kernels {
    const char *name;
    int (*supported)(void);
    /* Y of n packed pixels: (c0 p0 + c1 p1 + c2 p2 + round) >> 8, the weights 29, 150, 77, or the reverse for RGB */
    void (*luma3)(uint8_t *y, const uint8_t *src, size_t n, int rgb, int round);
    /* the mean of four rows of bytes: avg(avg(row 0, row 1), avg(row 2, row 3)), avg(a, b) = (a + b + 1) >> 1 */
    void (*avg4)(uint8_t *out, const uint8_t *const row[4], size_t n);
    /* the sums of one row of blocks: [motion, energy, luma][ceil(width / 16)]; y is `rows` rows, the previous frame's
     * are `previous` bytes further (0: no motion). y[-1] is readable; the row above y is y - stride, and counts nothing
     * where `top` */
    void (*stats)(uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows, size_t width, int top);
    /* column sums for `rows` successive output rows, `step` numbers apart: of n samples, or of n packed pixels in three
     * planes */
    void (*vsum1)(uint16_t *v, size_t step, const uint8_t *p, ptrdiff_t stride, size_t n, const vpe_vtap *tap,
                  int rows, int shift);
    void (*vsum3)(uint16_t *const v[3], size_t step, const uint8_t *p, ptrdiff_t stride, size_t n,
                  const vpe_vtap *tap, int rows, int shift);
    /* n pairs to two planes; n times Y U Y V to planes of 2 n - skip (the first `skip` Y left out), n and n */
    void (*split2)(uint16_t *a, uint16_t *b, const uint16_t *v, size_t n);
    void (*split_yuyv)(uint16_t *y, uint16_t *u, uint16_t *v, const uint16_t *mixed, size_t n, int skip);
    void (*hsum)(int32_t *acc, const uint16_t *v, const vpe_haxis *axis);
    /* acc * mul - sub, to two places, which may be one */
    void (*norm)(float *out, float *copy, const int32_t *acc, size_t n, float mul, float sub);
    void (*yuv_levels)(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *yuv);
    /* three planes to packed bytes, acc * mul + 0.5 cut off */
    void (*pack3)(uint8_t *out, int32_t *const acc[3], size_t n, float mul);
} vpe_kernels;

extern const vpe_kernels vpe_kernels_scalar;
extern const vpe_kernels vpe_kernels_avx512;
extern const vpe_kernels vpe_kernels_avx2;
extern const vpe_kernels vpe_kernels_sse41;
extern const vpe_kernels vpe_kernels_neon;

/* The scalar `stats` for the blocks from column x on. */
void vpe_stats_from(size_t x, uint32_t *sums, const uint8_t *y, ptrdiff_t previous, size_t stride, int rows,
                    size_t width, int top);

/* Scalar functions that other sets take as they are. */
void vpe_pack3(uint8_t *out, int32_t *const acc[3], size_t n, float mul);
void vpe_yuv_levels(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *yuv);
void vpe_split2(uint16_t *a, uint16_t *b, const uint16_t *v, size_t n);
void vpe_split_yuyv(uint16_t *y, uint16_t *u, uint16_t *v, const uint16_t *mixed, size_t n, int skip);

const vpe_kernels *vpe_kernels_now(void);

#endif
