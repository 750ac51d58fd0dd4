/* One pass over a frame in bands of 16 rows: luma, statistics, then every output row whose source rows are there. */
#include "internal.h"

#include <string.h>

/* Bytes of a row of plane p, 0 where the format has no such plane. */
static ptrdiff_t row_bytes(const vpe_frame *frame, int p) {
    const ptrdiff_t width = frame->width, half = (width + 1) / 2;
    switch (frame->format) {
    case VPE_BGR24:
    case VPE_RGB24:
        return p == 0 ? 3 * width : 0;
    case VPE_GRAY8:
        return p == 0 ? width : 0;
    case VPE_YUYV:
        return p == 0 ? 2 * width : 0;
    case VPE_NV12:
        return p == 0 ? width : p == 1 ? 2 * half : 0;
    default:
        return p == 0 ? width : half;
    }
}

vpe_status vpe_frame_check(const vpe_frame *frame) {
    if (!frame || frame->format < VPE_BGR24 || frame->format > VPE_YUYV)
        return VPE_ERR_ARGUMENT;
    if (frame->width < 1 || frame->height < 1 || frame->width > VPE_MAX_SIDE || frame->height > VPE_MAX_SIDE)
        return VPE_ERR_FRAME;
    if (frame->format == VPE_YUYV && frame->width % 2)
        return VPE_ERR_FRAME;
    for (int p = 0; p < 3 && row_bytes(frame, p); p++) {
        const ptrdiff_t stride = frame->stride[p] < 0 ? -frame->stride[p] : frame->stride[p];
        const int32_t rows = p ? (frame->height + 1) / 2 : frame->height;
        if (!frame->plane[p])
            return VPE_ERR_ARGUMENT;
        if (rows > 1 && stride < row_bytes(frame, p))
            return VPE_ERR_FRAME;
    }
    return VPE_OK;
}

vpe_status vpe_box_check(const vpe_box *box, int32_t width, int32_t height) {
    if (!box)
        return VPE_ERR_ARGUMENT;
    if (box->x < 0 || box->y < 0 || box->w < 1 || box->h < 1 || box->w > width || box->h > height ||
        box->x > width - box->w || box->y > height - box->h)
        return VPE_ERR_BOX;
    return VPE_OK;
}

/* ---- luma and statistics ------------------------------------------------------------------------------------------ */

void vpe_luma_take(vpe_luma *luma, vpe_arena *arena, int32_t width, int32_t height) {
    luma->stride = ((size_t)width + 64 + 63) / 64 * 64;
    uint8_t *p = vpe_take(arena, luma->stride * (size_t)height + 64);
    luma->rows = p ? p + 64 : NULL;
}

/* Sums to means; the last block may be narrower. Sums stay far below 2^31. */
static void write_stats(float *restrict stats, const uint32_t *restrict sums, int32_t width, int32_t rows, size_t plane) {
    const size_t n = vpe_blocks(width);
    const int32_t last = width - (int32_t)(n - 1) * VPE_BLOCK;
    const float area = (float)(rows * VPE_BLOCK), last_area = (float)(rows * last);
    for (size_t c = 0; c < 3; c++, stats += plane, sums += n) {
        for (size_t b = 0; b < n; b++)
            stats[b] = (float)(int32_t)sums[b] / area;
        stats[n - 1] = (float)(int32_t)sums[n - 1] / last_area;
    }
}

/* Luma of a row of the first plane, or of the average of four. */
static void luma_row(uint8_t *out, const uint8_t *src, const vpe_frame *frame, int round, const vpe_kernels *k) {
    const size_t width = (size_t)frame->width;
    if (frame->format == VPE_BGR24 || frame->format == VPE_RGB24)
        k->luma3(out, src, width, frame->format == VPE_RGB24, round);
    else if (frame->format == VPE_YUYV)
        for (size_t x = 0; x < width; x++)
            out[x] = src[2 * x];
    else
        memcpy(out, src, width);
}

/* The luma of the band's rows; returns how many there are. */
static int32_t luma_band(const vpe_pass *pass, int32_t y0, int32_t rows, const vpe_kernels *k) {
    const vpe_frame *frame = pass->frame;
    const size_t stride = pass->luma->stride;
    const int32_t step = pass->motion == VPE_MOTION_AVERAGED ? 4 : 1, last = frame->height - 1;
    uint8_t *row = pass->luma->rows + (size_t)(y0 / step) * stride;
    for (int32_t y = y0; y < y0 + rows; y += step, row += stride) {
        const uint8_t *src = frame->plane[0] + y * frame->stride[0];
        if (step == 4) {
            const uint8_t *four[4];
            for (int32_t r = 0; r < 4; r++)
                four[r] = frame->plane[0] + (y + r < last ? y + r : last) * frame->stride[0];
            k->avg4(pass->average, four, (size_t)row_bytes(frame, 0));
            src = pass->average;
        }
        luma_row(row, src, frame, step == 4 ? 0 : 128, k);
        row[-1] = row[0];
    }
    return (rows + step - 1) / step;
}

static void stats_band(const vpe_pass *pass, int32_t y0, int32_t rows, const vpe_kernels *k) {
    const int32_t width = pass->frame->width;
    const size_t across = vpe_blocks(width);
    const int32_t count = luma_band(pass, y0, rows, k);
    const size_t first = (size_t)(pass->motion == VPE_MOTION_AVERAGED ? y0 / 4 : y0);
    if (!pass->stats)
        return;
    const uint8_t *y = pass->luma->rows + first * pass->luma->stride;
    const ptrdiff_t previous = pass->previous ? pass->previous->rows - pass->luma->rows : 0;
    k->stats(pass->sums, y, previous, pass->luma->stride, count, (size_t)width, y0 == 0);
    write_stats(pass->stats + (size_t)(y0 / VPE_BLOCK) * across, pass->sums, width, count,
                across * vpe_blocks(pass->frame->height));
}

void vpe_pass_run(const vpe_pass *pass, const vpe_kernels *k) {
    const int32_t height = pass->frame->height;
    for (int32_t y0 = 0; y0 < height; y0 += VPE_BLOCK) {
        const int32_t rows = height - y0 < VPE_BLOCK ? height - y0 : VPE_BLOCK;
        stats_band(pass, y0, rows, k);
        for (size_t j = 0; j < pass->job_count; j++)
            vpe_job_run(pass->jobs[j], pass->frame, y0 + rows, j == 0, k, pass->scratch);
    }
}
