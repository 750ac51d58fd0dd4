/* One crop on its way through the bands: column sums, output rows, normalised floats or bytes. */
#include "internal.h"

#include <string.h>

void vpe_scratch_take(vpe_scratch *scratch, vpe_arena *arena, int32_t width, int32_t out_width) {
    const size_t out = (size_t)out_width + 16, widest = (size_t)(width > out_width ? width : out_width);
    scratch->step = ((size_t)width + VPE_PAD + 31) / 32 * 32;
    for (int c = 0; c < 3; c++) {
        scratch->v[c] = vpe_take(arena, scratch->step * VPE_VROWS * sizeof(uint16_t));
        scratch->acc[c] = vpe_take(arena, out * sizeof(int32_t));
        scratch->levels[c] = vpe_take(arena, out * sizeof(float));
    }
    scratch->mixed = vpe_take(arena, 2 * scratch->step * VPE_VROWS * sizeof(uint16_t));
    scratch->row = vpe_take(arena, 3 * widest);
}

void vpe_job_take(vpe_job *job, vpe_arena *arena, int32_t resample, int32_t n, int32_t out_height, int32_t width,
                  int32_t height) {
    const int32_t longest = width > height ? width : height;
    if (resample == VPE_BICUBIC) {
        vpe_cubic_take(&job->cx, arena, n, longest);
        vpe_cubic_take(&job->cy, arena, out_height, longest);
        job->cubic_rows = vpe_take(arena, (size_t)height * (size_t)n * 3);
        return;
    }
    vpe_haxis_take(&job->hx, arena, n, longest);
    vpe_haxis_take(&job->hc, arena, n, longest);
    vpe_vaxis_take(&job->vy, arena, out_height);
    vpe_vaxis_take(&job->vc, arena, out_height);
}

static int too_steep(int32_t source, int32_t n) {
    return source > (int64_t)n * VPE_MAX_SCALE;
}

int vpe_scale_ok(const vpe_box *box, const vpe_fit *fit) {
    vpe_box content;
    vpe_content(box, fit->size, fit->letterbox, &content);
    return !too_steep(box->w, content.w) && !too_steep(box->h, content.h);
}

static void plan_axes(vpe_job *job) {
    const vpe_box *b = &job->box;
    const int32_t w = job->content.w, h = job->content.h;
    if (job->resample == VPE_BICUBIC) {
        vpe_cubic_plan(&job->cx, b->w, w);
        vpe_cubic_plan(&job->cy, b->h, h);
        return;
    }
    vpe_haxis_area(&job->hx, (vpe_source){0, b->w, 1}, w);
    vpe_vaxis_area(&job->vy, (vpe_source){0, b->h, 1}, h);
    if (!vpe_is_yuv(job->format))
        return;
    const int32_t dx = vpe_chroma_across(job->format), dy = vpe_chroma_down(job->format);
    vpe_haxis_area(&job->hc, (vpe_source){b->x % dx, b->w, dx}, w);
    vpe_vaxis_area(&job->vc, (vpe_source){b->y % dy, b->h, dy}, h);
}

vpe_status vpe_job_plan(vpe_job *job, int32_t format, const vpe_box *box, const vpe_fit *fit) {
    if (!vpe_scale_ok(box, fit))
        return VPE_ERR_SCALE;
    vpe_content(box, fit->size, fit->letterbox, &job->content);
    job->box = *box;
    job->format = format;
    job->resample = fit->resample;
    job->size = fit->size;
    plan_axes(job);
    /* from the sums where one factor will do, else from levels */
    const int sums = fit->resample == VPE_AREA && !vpe_is_yuv(format);
    const double scale = sums ? job->hx.scale * job->vy.scale : 1.0;
    for (int c = 0; c < 3; c++) {
        job->mul[c] = (float)(1.0 / (scale * 255.0 * (double)fit->std[c]));
        job->sub[c] = (float)((double)fit->mean[c] / (double)fit->std[c]);
    }
    job->bytes = NULL;
    return VPE_OK;
}

vpe_status vpe_job_plan_bytes(vpe_job *job, int32_t format, int32_t resample, const vpe_box *box, int32_t out_width,
                              int32_t out_height) {
    if (too_steep(box->w, out_width) || too_steep(box->h, out_height))
        return VPE_ERR_SCALE;
    job->box = *box;
    job->content = (vpe_box){0, 0, out_width, out_height};
    job->format = format;
    job->resample = resample;
    plan_axes(job);
    if (resample == VPE_AREA)
        job->mul[0] = (float)(1.0 / (job->hx.scale * job->vy.scale));
    job->out = job->copy = NULL;
    return VPE_OK;
}

/* ---- output rows ---------------------------------------------------------------------------------------------------- */

static void zero_rows(float *out, int32_t size, int32_t from, int32_t to) {
    for (int c = 0; c < 3; c++)
        memset(out + ((size_t)c * (size_t)size + (size_t)from) * (size_t)size, 0,
               (size_t)(to - from) * (size_t)size * sizeof *out);
}

static void zero_margins(float *out, const vpe_job *job) {
    zero_rows(out, job->size, 0, job->content.y);
    zero_rows(out, job->size, job->content.y + job->content.h, job->size);
}

/* Row job->next of plane c, with the margins of a letterbox cleared; the content's first number. */
static float *row_of(vpe_job *job, size_t c) {
    const size_t size = (size_t)job->size, x = (size_t)job->content.x, w = (size_t)job->content.w;
    float *row = job->out + (c * size + (size_t)(job->content.y + job->next)) * size;
    if (w < size) {
        memset(row, 0, x * sizeof *row);
        memset(row + x + w, 0, (size - x - w) * sizeof *row);
    }
    return row + x;
}

static void copy_row(const vpe_job *job, const float *row) {
    if (job->copy)
        memcpy(job->copy + (row - job->out) - job->content.x, row - job->content.x, (size_t)job->size * sizeof *row);
}

/* Packed pixels: each channel's sums become a plane. */
static void emit_packed(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    for (size_t c = 0; c < 3; c++)
        k->hsum(scratch->acc[c], scratch->v[c] + r * scratch->step, &job->hx);
    if (!job->out) {
        int32_t *const *a = scratch->acc;
        int32_t *const bgr[3] = {job->format == VPE_RGB24 ? a[2] : a[0], a[1], job->format == VPE_RGB24 ? a[0] : a[2]};
        k->pack3(job->bytes + (size_t)job->next * w * 3, bgr, w, job->mul[0]);
        return;
    }
    for (size_t c = 0; c < 3; c++) {
        const size_t plane = job->format == VPE_RGB24 ? c : 2 - c;
        float *row = row_of(job, plane);
        k->norm(row, scratch->acc[c], w, job->mul[plane], job->sub[plane]);
        copy_row(job, row);
    }
}

static void emit_gray(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    int32_t *acc = scratch->acc[0];
    k->hsum(acc, scratch->v[0] + r * scratch->step, &job->hx);
    if (!job->out) {
        int32_t *const bgr[3] = {acc, acc, acc};
        k->pack3(job->bytes + (size_t)job->next * w * 3, bgr, w, job->mul[0]);
        return;
    }
    for (size_t c = 0; c < 3; c++) {
        float *row = row_of(job, c);
        k->norm(row, acc, w, job->mul[c], job->sub[c]);
        copy_row(job, row);
    }
}

static void emit_yuv(vpe_job *job, const vpe_frame *frame, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    for (size_t c = 0; c < 3; c++)
        k->hsum(scratch->acc[c], scratch->v[c] + r * scratch->step, c ? &job->hc : &job->hx);
    const vpe_yuv yuv =
        vpe_yuv_for(frame, job->hx.scale * job->vy.scale, job->hc.scale * job->vc.scale);
    k->yuv_levels(scratch->levels, scratch->acc, w, &yuv);
    if (!job->out) {
        uint8_t *out = job->bytes + (size_t)job->next * w * 3;
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++)
                out[3 * x + 2 - c] = (uint8_t)(scratch->levels[c][x] + 0.5f);
        return;
    }
    for (size_t c = 0; c < 3; c++) {
        float *row = row_of(job, c);
        const float *levels = scratch->levels[c], mul = job->mul[c], sub = job->sub[c];
        for (size_t x = 0; x < w; x++)
            row[x] = levels[x] * mul - sub;
        copy_row(job, row);
    }
}

/* ---- column sums ------------------------------------------------------------------------------------------------------ */

static vpe_rows plane_of(const vpe_frame *frame, int p, ptrdiff_t column, int32_t y, int32_t end, int ahead) {
    const int32_t rest = frame->height - end, fetch = rest < VPE_BLOCK ? rest : VPE_BLOCK;
    const uint8_t *first = frame->plane[p] + column;
    return (vpe_rows){
        .p = first + y * frame->stride[p],
        .stride = frame->stride[p],
        .ahead = first + (rest > 0 ? end : 0) * frame->stride[p],
        .ahead_rows = ahead && rest > 0 ? fetch : 0,
    };
}

/* Of the Y, U and V of the next `rows` output rows. */
static void sum_yuv(vpe_job *job, const vpe_frame *frame, int rows, int32_t end, int ahead, const vpe_kernels *k,
                    vpe_scratch *scratch) {
    const vpe_box *b = &job->box;
    const vpe_vtap *ty = &job->vy.tap[job->next], *tc = &job->vc.tap[job->next];
    const int32_t cx = b->x / 2, cy = b->y / 2;
    const size_t w = (size_t)b->w, cw = ((size_t)(b->x % 2) + w + 1) / 2, step = scratch->step;
    if (job->format == VPE_YUYV) { /* pairs from an even pixel on; Y of the first may be left out */
        const vpe_rows src = plane_of(frame, 0, 4 * (ptrdiff_t)cx, b->y, end, ahead);
        k->vsum1(scratch->mixed, 2 * step, &src, 4 * cw, ty, rows, job->vy.shift);
        for (size_t r = 0; r < (size_t)rows; r++)
            k->split_yuyv(scratch->v[0] + r * step, scratch->v[1] + r * step, scratch->v[2] + r * step,
                          scratch->mixed + 2 * r * step, cw, b->x % 2);
        return;
    }
    const vpe_rows luma = plane_of(frame, 0, b->x, b->y, end, ahead);
    k->vsum1(scratch->v[0], step, &luma, w, ty, rows, job->vy.shift);
    if (job->format == VPE_NV12) {
        const vpe_rows src = plane_of(frame, 1, 2 * (ptrdiff_t)cx, cy, end, 0);
        k->vsum1(scratch->mixed, 2 * step, &src, 2 * cw, tc, rows, job->vc.shift);
        for (size_t r = 0; r < (size_t)rows; r++)
            k->split2(scratch->v[1] + r * step, scratch->v[2] + r * step, scratch->mixed + 2 * r * step, cw);
        return;
    }
    for (int p = 1; p < 3; p++) {
        const vpe_rows src = plane_of(frame, p, cx, cy, end, 0);
        k->vsum1(scratch->v[p], step, &src, cw, tc, rows, job->vc.shift);
    }
}

static void sum_rows(vpe_job *job, const vpe_frame *frame, int rows, int32_t end, int ahead, const vpe_kernels *k,
                     vpe_scratch *scratch) {
    const vpe_box *b = &job->box;
    const vpe_vtap *tap = &job->vy.tap[job->next];
    if (vpe_is_yuv(job->format)) {
        sum_yuv(job, frame, rows, end, ahead, k, scratch);
    } else if (job->format == VPE_GRAY8) {
        const vpe_rows src = plane_of(frame, 0, b->x, b->y, end, ahead);
        k->vsum1(scratch->v[0], scratch->step, &src, (size_t)b->w, tap, rows, job->vy.shift);
    } else {
        const vpe_rows src = plane_of(frame, 0, 3 * (ptrdiff_t)b->x, b->y, end, ahead);
        k->vsum3(scratch->v, scratch->step, &src, (size_t)b->w, tap, rows, job->vy.shift);
    }
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
    if (job->next == 0 && job->out && job->content.h < job->size) {
        zero_margins(job->out, job);
        if (job->copy)
            zero_margins(job->copy, job);
    }
    if (job->resample == VPE_BICUBIC) {
        vpe_cubic_run(job, frame, end, scratch);
        return;
    }
    for (int rows; (rows = rows_ready(job, end)) > 0; ahead = 0) {
        sum_rows(job, frame, rows, end, ahead, k, scratch);
        for (size_t r = 0; r < (size_t)rows; r++, job->next++) {
            if (vpe_is_yuv(job->format))
                emit_yuv(job, frame, r, k, scratch);
            else if (job->format == VPE_GRAY8)
                emit_gray(job, r, k, scratch);
            else
                emit_packed(job, r, k, scratch);
        }
    }
}
