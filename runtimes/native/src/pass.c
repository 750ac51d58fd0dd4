/* One pass over a frame in bands of 16 rows: luma, statistics, then every output row whose source rows are there. */
#include "internal.h"

#include <string.h>

vpe_status vpe_frame_check(const vpe_frame *frame) {
    if (!frame || frame->format != VPE_BGR24)
        return VPE_ERR_ARGUMENT;
    if (frame->width < 1 || frame->height < 1 || frame->width > VPE_MAX_SIDE || frame->height > VPE_MAX_SIDE)
        return VPE_ERR_FRAME;
    if (!frame->plane[0])
        return VPE_ERR_ARGUMENT;
    const ptrdiff_t stride = frame->stride[0] < 0 ? -frame->stride[0] : frame->stride[0];
    if (frame->height > 1 && stride < (ptrdiff_t)frame->width * 3)
        return VPE_ERR_FRAME;
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

/* ---- crops ------------------------------------------------------------------------------------------------------ */

void vpe_scratch_take(vpe_scratch *scratch, vpe_arena *arena, int32_t width, int32_t out_width) {
    scratch->step = ((size_t)width + VPE_PAD + 31) / 32 * 32;
    for (int c = 0; c < 3; c++) {
        scratch->v[c] = vpe_take(arena, scratch->step * VPE_VROWS * sizeof(uint16_t));
        scratch->acc[c] = vpe_take(arena, ((size_t)out_width + 16) * sizeof(int32_t));
    }
}

void vpe_job_take(vpe_job *job, vpe_arena *arena, int32_t n, int32_t out_height, int32_t width, int32_t height) {
    const int32_t longest = width > height ? width : height;
    vpe_haxis_take(&job->hx, arena, n, longest > n ? longest : n);
    vpe_vaxis_take(&job->vy, arena, out_height);
}

static int too_steep(int32_t source, int32_t n) {
    return source > (int64_t)n * VPE_MAX_SCALE;
}

int vpe_scale_ok(const vpe_box *box, const vpe_fit *fit) {
    vpe_box content;
    vpe_content(box, fit->size, fit->letterbox, &content);
    return !too_steep(box->w, content.w) && !too_steep(box->h, content.h);
}

vpe_status vpe_job_plan(vpe_job *job, const vpe_box *box, const vpe_fit *fit) {
    vpe_box content;
    if (!vpe_scale_ok(box, fit))
        return VPE_ERR_SCALE;
    vpe_content(box, fit->size, fit->letterbox, &content);
    job->box = *box;
    job->content = content;
    job->size = fit->size;
    vpe_haxis_area(&job->hx, box->w, content.w);
    vpe_vaxis_area(&job->vy, box->h, content.h);
    for (int c = 0; c < 3; c++) {
        job->mul[c] = (float)(1.0 / (job->hx.scale * job->vy.scale * 255.0 * (double)fit->std[c]));
        job->sub[c] = (float)((double)fit->mean[c] / (double)fit->std[c]);
    }
    job->bytes = NULL;
    return VPE_OK;
}

vpe_status vpe_job_plan_bytes(vpe_job *job, int32_t width, int32_t height, int32_t out_width, int32_t out_height) {
    if (too_steep(width, out_width) || too_steep(height, out_height))
        return VPE_ERR_SCALE;
    job->box = (vpe_box){0, 0, width, height};
    job->content = (vpe_box){0, 0, out_width, out_height};
    vpe_haxis_area(&job->hx, width, out_width);
    vpe_vaxis_area(&job->vy, height, out_height);
    job->mul[0] = (float)(1.0 / (job->hx.scale * job->vy.scale));
    job->out = job->copy = NULL;
    return VPE_OK;
}

static void zero_rows(float *out, int32_t size, int32_t from, int32_t to) {
    for (int c = 0; c < 3; c++)
        memset(out + ((size_t)c * (size_t)size + (size_t)from) * (size_t)size, 0,
               (size_t)(to - from) * (size_t)size * sizeof *out);
}

/* Output row job->next from row r of the column sums. */
static void emit_floats(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t size = (size_t)job->size, x = (size_t)job->content.x, w = (size_t)job->content.w;
    const size_t y = (size_t)(job->content.y + job->next);
    for (size_t c = 0; c < 3; c++) {
        const size_t plane = 2 - c; /* B, G, R in, R, G, B out */
        k->hsum(scratch->acc[c], scratch->v[c] + r * scratch->step, &job->hx);
        float *row = job->out + (plane * size + y) * size;
        memset(row, 0, x * sizeof *row);
        k->norm(row + x, scratch->acc[c], w, job->mul[plane], job->sub[plane]);
        memset(row + x + w, 0, (size - x - w) * sizeof *row);
        if (job->copy)
            memcpy(job->copy + (plane * size + y) * size, row, size * sizeof *row);
    }
}

static void emit_bytes(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    for (size_t c = 0; c < 3; c++)
        k->hsum(scratch->acc[c], scratch->v[c] + r * scratch->step, &job->hx);
    k->pack3(job->bytes + (size_t)job->next * w * 3, scratch->acc, w, job->mul[0]);
}

/* How many of the next output rows have all their source rows before `end`, as far as the scratch memory goes. */
static int rows_ready(const vpe_job *job, int32_t end) {
    int rows = 0;
    while (rows < VPE_VROWS && job->next + rows < job->vy.n &&
           job->box.y + job->vy.tap[job->next + rows].last < end)
        rows++;
    return rows;
}

void vpe_job_run(vpe_job *job, const vpe_frame *frame, int32_t end, int ahead, const vpe_kernels *k,
                 vpe_scratch *scratch) {
    const uint8_t *column = frame->plane[0] + (ptrdiff_t)job->box.x * 3;
    const int32_t rest = frame->height - end;
    vpe_rows src = {
        .p = column + job->box.y * frame->stride[0],
        .stride = frame->stride[0],
        .ahead = rest > 0 ? column + end * frame->stride[0] : column,
        .ahead_rows = !ahead || rest < 0 ? 0 : rest < VPE_BLOCK ? rest : VPE_BLOCK,
    };
    if (job->next == 0 && job->out) {
        zero_rows(job->out, job->size, 0, job->content.y);
        zero_rows(job->out, job->size, job->content.y + job->content.h, job->size);
        if (job->copy) {
            zero_rows(job->copy, job->size, 0, job->content.y);
            zero_rows(job->copy, job->size, job->content.y + job->content.h, job->size);
        }
    }
    int rows;
    while ((rows = rows_ready(job, end)) > 0) {
        const vpe_vtap *tap = &job->vy.tap[job->next];
        k->vsum3(scratch->v, scratch->step, &src, (size_t)job->box.w, tap, rows, job->vy.shift);
        src.ahead_rows = 0;
        for (size_t r = 0; r < (size_t)rows; r++, job->next++)
            if (job->out)
                emit_floats(job, r, k, scratch);
            else
                emit_bytes(job, r, k, scratch);
    }
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

/* The luma of the band's rows; returns how many there are. */
static int32_t luma_band(const vpe_pass *pass, int32_t y0, int32_t rows, const vpe_kernels *k) {
    const vpe_frame *frame = pass->frame;
    const size_t width = (size_t)frame->width, stride = pass->luma->stride;
    const int32_t step = pass->motion == VPE_MOTION_AVERAGED ? 4 : 1, last = frame->height - 1;
    uint8_t *row = pass->luma->rows + (size_t)(y0 / step) * stride;
    for (int32_t y = y0; y < y0 + rows; y += step, row += stride) {
        const uint8_t *src = frame->plane[0] + y * frame->stride[0];
        if (step == 4) {
            const uint8_t *four[4];
            for (int32_t r = 0; r < 4; r++)
                four[r] = frame->plane[0] + (y + r < last ? y + r : last) * frame->stride[0];
            k->avg4(pass->average, four, 3 * width);
            src = pass->average;
        }
        k->luma3(row, src, width, 0, step == 4 ? 0 : 128);
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
