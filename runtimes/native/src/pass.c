/* One pass over a frame in bands of 16 rows: luma, statistics, then every output row whose source rows are there. */
#include "internal.h"

#include <string.h>

#define PART_BYTES 960 /* of a row: 16 rows of them stay in the nearest cache */

/* Bytes of n pixels of the first plane. */
static ptrdiff_t row_bytes(int32_t format, ptrdiff_t n) {
    return format == VPE_BGR24 || format == VPE_RGB24 ? 3 * n : format == VPE_YUYV ? 2 * n : n;
}

ptrdiff_t vpe_plane_bytes(const vpe_frame *frame, int p) {
    const ptrdiff_t half = (frame->width + 1) / 2;
    if (p == 0)
        return row_bytes(frame->format, frame->width);
    if (frame->format == VPE_NV12)
        return p == 1 ? 2 * half : 0;
    return frame->format == VPE_I420 ? half : 0;
}

vpe_status vpe_frame_check(const vpe_frame *frame) {
    if (!frame || frame->format < VPE_BGR24 || frame->format > VPE_YUYV)
        return VPE_ERR_ARGUMENT;
    if (frame->width < 1 || frame->height < 1 || frame->width > VPE_MAX_SIDE || frame->height > VPE_MAX_SIDE)
        return VPE_ERR_FRAME;
    if (frame->format == VPE_YUYV && frame->width % 2)
        return VPE_ERR_FRAME;
    for (int p = 0; p < 3 && vpe_plane_bytes(frame, p); p++) {
        const ptrdiff_t stride = frame->stride[p] < 0 ? -frame->stride[p] : frame->stride[p];
        const int32_t rows = p ? (frame->height + 1) / 2 : frame->height;
        if (!frame->plane[p])
            return VPE_ERR_ARGUMENT;
        if (rows > 1 && stride < vpe_plane_bytes(frame, p))
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

/* Luma of n pixels of the first plane, or of the average of four rows. */
static void luma_row(uint8_t *out, const uint8_t *src, int32_t format, size_t n, int round, const vpe_kernels *k) {
    if (format == VPE_BGR24 || format == VPE_RGB24)
        k->luma3(out, src, n, format == VPE_RGB24, round);
    else if (format == VPE_YUYV)
        for (size_t x = 0; x < n; x++)
            out[x] = src[2 * x];
    else
        memcpy(out, src, n);
}

/* Rows that become one row of luma. */
static int32_t step_of(const vpe_pass *pass) {
    return pass->motion == VPE_MOTION_AVERAGED ? 4 : 1;
}

/* The luma of pixels x .. x + n of the band's rows. */
static void luma_part(const vpe_pass *pass, int32_t y0, int32_t rows, int32_t x, int32_t n, const vpe_kernels *k) {
    const vpe_frame *frame = pass->frame;
    const int32_t step = step_of(pass), last = frame->height - 1;
    const ptrdiff_t stride = frame->stride[0], at = row_bytes(frame->format, x);
    uint8_t *row = pass->luma->rows + (size_t)(y0 / step) * pass->luma->stride + x;
    for (int32_t y = y0; y < y0 + rows; y += step, row += pass->luma->stride) {
        const uint8_t *src = frame->plane[0] + y * stride + at;
        if (step == 4) {
            const uint8_t *four[4];
            for (int32_t r = 0; r < 4; r++)
                four[r] = src + ((y + r < last ? y + r : last) - y) * stride;
            k->avg4(pass->average, four, (size_t)row_bytes(frame->format, n));
            src = pass->average;
        }
        luma_row(row, src, frame->format, (size_t)n, step == 4 ? 0 : 128, k);
        if (x == 0)
            row[-1] = row[0];
        if (pass->job_count)
            vpe_fetch(&pass->scratch->ahead, n * VPE_WORK_LUMA);
    }
}

static void stats_band(const vpe_pass *pass, int32_t y0, int32_t rows, const vpe_kernels *k) {
    const int32_t width = pass->frame->width, step = step_of(pass), count = (rows + step - 1) / step;
    const size_t across = vpe_blocks(width);
    const uint8_t *y = pass->luma->rows + (size_t)(y0 / step) * pass->luma->stride;
    const ptrdiff_t previous = pass->previous ? pass->previous->rows - pass->luma->rows : 0;
    k->stats(pass->sums, y, previous, pass->luma->stride, count, (size_t)width, y0 == 0);
    write_stats(pass->stats + (size_t)(y0 / VPE_BLOCK) * across, pass->sums, width, count,
                across * vpe_blocks(pass->frame->height));
}

/* The luma and, while the pixels are in the nearest cache, the first job's column sums. */
static void read_band(const vpe_pass *pass, int32_t y0, int32_t rows, const vpe_kernels *k) {
    const int32_t width = pass->frame->width;
    vpe_job *job = pass->job_count ? pass->jobs[0] : NULL;
    const int32_t work = job ? vpe_job_begin(job, y0 + rows) : 0;
    const int32_t part = work ? PART_BYTES / (int32_t)row_bytes(pass->frame->format, 1) : width;
    if (job)
        pass->scratch->ahead =
            vpe_ahead_of(pass->frame, y0 + rows, work ? work + VPE_WORK_LUMA * width * rows / step_of(pass) : 0);
    for (int32_t x = 0, n; x < width; x += n) {
        n = width - x < part + part / 2 ? width - x : part;
        luma_part(pass, y0, rows, x, n, k);
        if (job)
            vpe_job_sum(job, pass->frame, x + n, k, pass->scratch);
    }
}

void vpe_pass_run(const vpe_pass *pass, const vpe_kernels *k) {
    const int32_t height = pass->frame->height;
    for (int32_t y0 = 0; y0 < height; y0 += VPE_BLOCK) {
        const int32_t rows = height - y0 < VPE_BLOCK ? height - y0 : VPE_BLOCK;
        read_band(pass, y0, rows, k);
        if (pass->stats)
            stats_band(pass, y0, rows, k);
        for (size_t j = 0; j < pass->job_count; j++) {
            if (j)
                vpe_job_begin(pass->jobs[j], y0 + rows);
            vpe_job_run(pass->jobs[j], pass->frame, y0 + rows, k, pass->scratch);
        }
    }
}
