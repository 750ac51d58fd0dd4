/* One crop on its way through the bands: column sums, output rows, normalised floats or bytes. */
#include "internal.h"

#include <string.h>

#define PIECE_BYTES 192 /* of a row, summed between two fetches: whole pixels and whole vectors */

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
    scratch->ahead = (vpe_ahead){.rows = 0};
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

static void zero_sides(float *row, const vpe_job *job) {
    const size_t size = (size_t)job->size, x = (size_t)job->content.x, w = (size_t)job->content.w;
    memset(row, 0, x * sizeof *row);
    memset(row + x + w, 0, (size - x - w) * sizeof *row);
}

/* Row job->next of plane c, with the margins of a letterbox cleared, of the copy too; the content's first number. */
static float *row_of(vpe_job *job, size_t c) {
    const size_t at = (c * (size_t)job->size + (size_t)(job->content.y + job->next)) * (size_t)job->size;
    if (job->content.w < job->size) {
        zero_sides(job->out + at, job);
        if (job->copy)
            zero_sides(job->copy + at, job);
    }
    return job->out + at + job->content.x;
}

/* Where the copy of a row goes; onto the row itself where none is wanted. */
static float *copy_of(const vpe_job *job, float *row) {
    return job->copy ? job->copy + (row - job->out) : row;
}

/* The next row's place, for a ring that no cache holds any more. */
static void fetch_row(const float *row, int32_t n) {
    for (int32_t i = 0; i < n; i += 16)
        __builtin_prefetch(row + i, 1, 3);
}

/* Row job->next of plane c in both its places, from sums. */
static void put_row(vpe_job *job, size_t c, const int32_t *acc, const vpe_kernels *k, vpe_scratch *scratch) {
    float *row = row_of(job, c), *copy = copy_of(job, row);
    fetch_row(row + job->size, job->size);
    fetch_row(copy + job->size, job->size);
    k->norm(row, copy, acc, (size_t)job->content.w, job->mul[c], job->sub[c]);
    vpe_fetch(&scratch->ahead, job->content.w * VPE_WORK_OUTPUT / 2);
}

static void sum_across(int32_t *acc, const uint16_t *v, const vpe_haxis *axis, const vpe_kernels *k, vpe_scratch *scratch) {
    k->hsum(acc, v, axis);
    vpe_fetch(&scratch->ahead, axis->n * VPE_WORK_OUTPUT / 2);
}

/* Packed pixels: each channel's sums become a plane. */
static void emit_packed(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    for (size_t c = 0; c < 3; c++)
        sum_across(scratch->acc[c], scratch->v[c] + r * scratch->step, &job->hx, k, scratch);
    if (!job->out) {
        int32_t *const *a = scratch->acc;
        int32_t *const bgr[3] = {job->format == VPE_RGB24 ? a[2] : a[0], a[1], job->format == VPE_RGB24 ? a[0] : a[2]};
        k->pack3(job->bytes + (size_t)job->next * w * 3, bgr, w, job->mul[0]);
        return;
    }
    for (size_t c = 0; c < 3; c++)
        put_row(job, job->format == VPE_RGB24 ? c : 2 - c, scratch->acc[c], k, scratch);
}

static void emit_gray(vpe_job *job, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    int32_t *acc = scratch->acc[0];
    sum_across(acc, scratch->v[0] + r * scratch->step, &job->hx, k, scratch);
    if (!job->out) {
        int32_t *const bgr[3] = {acc, acc, acc};
        k->pack3(job->bytes + (size_t)job->next * w * 3, bgr, w, job->mul[0]);
        return;
    }
    for (size_t c = 0; c < 3; c++)
        put_row(job, c, acc, k, scratch);
}

static void emit_yuv(vpe_job *job, const vpe_frame *frame, size_t r, const vpe_kernels *k, vpe_scratch *scratch) {
    const size_t w = (size_t)job->content.w;
    for (size_t c = 0; c < 3; c++)
        sum_across(scratch->acc[c], scratch->v[c] + r * scratch->step, c ? &job->hc : &job->hx, k, scratch);
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
        float *row = row_of(job, c), *copy = copy_of(job, row);
        const float *levels = scratch->levels[c], mul = job->mul[c], sub = job->sub[c];
        for (size_t x = 0; x < w; x++)
            row[x] = levels[x] * mul - sub;
        if (copy != row)
            memcpy(copy, row, w * sizeof *row);
        vpe_fetch(&scratch->ahead, (int32_t)w * VPE_WORK_OUTPUT / 2);
    }
}

/* ---- column sums ------------------------------------------------------------------------------------------------------ */

/* How many of the next output rows have all their source rows before `end`, as far as the scratch memory goes. */
static int rows_ready(const vpe_job *job, int32_t end) {
    int rows = 0;
    while (rows < VPE_VROWS && job->next + rows < job->vy.n &&
           job->box.y + job->vy.tap[job->next + rows].last < end)
        rows++;
    return rows;
}

/* Of the first plane's samples from job->summed to `to`; three a pixel count as one, Y U Y V as two a pixel. */
static void sum_samples(vpe_job *job, const vpe_frame *frame, int32_t to, const vpe_kernels *k, vpe_scratch *scratch) {
    const vpe_box *b = &job->box;
    const size_t at = (size_t)job->summed, n = (size_t)(to - job->summed), step = scratch->step;
    const vpe_vtap *tap = &job->vy.tap[job->next];
    const uint8_t *row = frame->plane[0] + b->y * frame->stride[0];
    if (job->format == VPE_BGR24 || job->format == VPE_RGB24) {
        uint16_t *const v[3] = {scratch->v[0] + at, scratch->v[1] + at, scratch->v[2] + at};
        k->vsum3(v, step, row + 3 * ((size_t)b->x + at), frame->stride[0], n, tap, job->ready, job->vy.shift);
    } else if (job->format == VPE_YUYV) {
        k->vsum1(scratch->mixed + at, 2 * step, row + 4 * (ptrdiff_t)(b->x / 2) + at, frame->stride[0], n, tap, job->ready,
                 job->vy.shift);
    } else {
        k->vsum1(scratch->v[0] + at, step, row + b->x + at, frame->stride[0], n, tap, job->ready, job->vy.shift);
    }
    job->summed = to;
}

int32_t vpe_job_begin(vpe_job *job, int32_t end) {
    job->ready = job->resample == VPE_AREA ? rows_ready(job, end) : 0;
    job->summed = 0;
    return job->ready ? job->box.w * VPE_WORK_SUM + job->ready * 3 * job->content.w * VPE_WORK_OUTPUT : 0;
}

void vpe_job_sum(vpe_job *job, const vpe_frame *frame, int32_t x, const vpe_kernels *k, vpe_scratch *scratch) {
    const vpe_box *b = &job->box;
    const int pairs = job->format == VPE_YUYV; /* from an even pixel on, to an even one */
    const int32_t first = pairs ? b->x / 2 * 2 : b->x;
    const int32_t all = pairs ? 2 * ((b->x + b->w + 1) / 2 * 2 - first) : b->w;
    const int32_t there = x < first ? 0 : pairs ? 2 * (x - first) : x - first;
    const int32_t piece = PIECE_BYTES / (job->format == VPE_BGR24 || job->format == VPE_RGB24 ? 3 : 1);
    const int32_t until = there >= all ? all : there / piece * piece;
    while (job->ready && job->summed < until) {
        const int32_t to = until - job->summed < 2 * piece ? until : job->summed + piece;
        vpe_fetch(&scratch->ahead, (to - job->summed) * VPE_WORK_SUM);
        sum_samples(job, frame, to, k, scratch);
    }
}

/* Of the chroma. */
static void sum_chroma(vpe_job *job, const vpe_frame *frame, const vpe_kernels *k, vpe_scratch *scratch) {
    const vpe_box *b = &job->box;
    const vpe_vtap *tap = &job->vc.tap[job->next];
    const int32_t cx = b->x / 2, cy = b->y / 2;
    const size_t w = ((size_t)(b->x % 2) + (size_t)b->w + 1) / 2, step = scratch->step, rows = (size_t)job->ready;
    uint16_t *const *v = scratch->v;
    if (job->format == VPE_YUYV) { /* Y of the first pair may be left out */
        for (size_t r = 0; r < rows * step; r += step)
            k->split_yuyv(v[0] + r, v[1] + r, v[2] + r, scratch->mixed + 2 * r, w, b->x % 2);
    } else if (job->format == VPE_NV12) {
        const uint8_t *p = frame->plane[1] + cy * frame->stride[1] + 2 * (ptrdiff_t)cx;
        k->vsum1(scratch->mixed, 2 * step, p, frame->stride[1], 2 * w, tap, job->ready, job->vc.shift);
        for (size_t r = 0; r < rows * step; r += step)
            k->split2(v[1] + r, v[2] + r, scratch->mixed + 2 * r, w);
    } else {
        for (int i = 1; i < 3; i++)
            k->vsum1(v[i], step, frame->plane[i] + cy * frame->stride[i] + cx, frame->stride[i], w, tap, job->ready,
                     job->vc.shift);
    }
}

void vpe_job_run(vpe_job *job, const vpe_frame *frame, int32_t end, const vpe_kernels *k, vpe_scratch *scratch) {
    if (job->next == 0 && job->out && job->content.h < job->size) {
        zero_margins(job->out, job);
        if (job->copy)
            zero_margins(job->copy, job);
    }
    if (job->resample == VPE_BICUBIC) {
        vpe_cubic_run(job, frame, end, scratch);
        return;
    }
    for (; job->ready; vpe_job_begin(job, end)) {
        vpe_job_sum(job, frame, frame->width, k, scratch);
        if (vpe_is_yuv(job->format))
            sum_chroma(job, frame, k, scratch);
        for (size_t r = 0; r < (size_t)job->ready; r++, job->next++) {
            if (vpe_is_yuv(job->format))
                emit_yuv(job, frame, r, k, scratch);
            else if (job->format == VPE_GRAY8)
                emit_gray(job, r, k, scratch);
            else
                emit_packed(job, r, k, scratch);
        }
    }
}
