/* The single functions: the same pass with one job, in the caller's scratch memory. */
#include "internal.h"

#include <string.h>

int vpe_fit_ok(const vpe_fit *fit) {
    if (fit->size < 1 || fit->size > VPE_MAX_SIDE || (fit->resample != VPE_AREA && fit->resample != VPE_BICUBIC))
        return 0;
    for (int c = 0; c < 3; c++)
        if (!(fit->std[c] > 0 && fit->std[c] < 1e6f && fit->mean[c] > -1e6f && fit->mean[c] < 1e6f))
            return 0;
    return 1;
}

/* A picture may be asked for by either resampler: room for both. */
static void lay_out(vpe_arena *arena, vpe_job *job, vpe_scratch *scratch, int32_t width, int32_t height,
                    int32_t out_width, int32_t out_height) {
    vpe_scratch_take(scratch, arena, width, out_width);
    vpe_job_take(job, arena, VPE_AREA, out_width, out_height, width, height);
    vpe_job_take(job, arena, VPE_BICUBIC, out_width, out_height, width, height);
}

size_t vpe_resize_scratch(int32_t width, int32_t height, int32_t out_width, int32_t out_height) {
    vpe_arena arena = {NULL, 0};
    vpe_job job;
    vpe_scratch scratch;
    lay_out(&arena, &job, &scratch, width, height, out_width, out_height);
    return arena.used + VPE_ALIGN;
}

static vpe_status check(const vpe_frame *frame, const vpe_box *box) {
    const vpe_status status = vpe_frame_check(frame);
    return status == VPE_OK ? vpe_box_check(box, frame->width, frame->height) : status;
}

vpe_status vpe_resize(const vpe_frame *frame, const vpe_box *box, const vpe_fit *fit, float *out, void *scratch_memory) {
    if (!fit || !out || !scratch_memory || !vpe_fit_ok(fit))
        return VPE_ERR_ARGUMENT;
    vpe_status status = check(frame, box);
    if (status != VPE_OK)
        return status;
    vpe_arena arena = {vpe_aligned(scratch_memory), 0};
    vpe_job job = {.out = out};
    vpe_scratch scratch;
    lay_out(&arena, &job, &scratch, frame->width, frame->height, fit->size, fit->size);
    status = vpe_job_plan(&job, frame->format, box, fit);
    if (status == VPE_OK) {
        vpe_job_begin(&job, frame->height);
        vpe_job_run(&job, frame, frame->height, vpe_kernels_now(), &scratch);
    }
    return status;
}

vpe_status vpe_resize_u8(const vpe_frame *frame, const vpe_box *box, int32_t resample, int32_t out_width,
                         int32_t out_height, uint8_t *out, void *scratch_memory) {
    if (!out || !scratch_memory || out_width < 1 || out_height < 1 || out_width > VPE_MAX_SIDE ||
        out_height > VPE_MAX_SIDE || (resample != VPE_AREA && resample != VPE_BICUBIC))
        return VPE_ERR_ARGUMENT;
    vpe_status status = check(frame, box);
    if (status != VPE_OK)
        return status;
    vpe_arena arena = {vpe_aligned(scratch_memory), 0};
    vpe_job job = {.bytes = out};
    vpe_scratch scratch;
    lay_out(&arena, &job, &scratch, frame->width, frame->height, out_width, out_height);
    status = vpe_job_plan_bytes(&job, frame->format, resample, box, out_width, out_height);
    if (status == VPE_OK) {
        vpe_job_begin(&job, frame->height);
        vpe_job_run(&job, frame, frame->height, vpe_kernels_now(), &scratch);
    }
    return status;
}

size_t vpe_stats_scratch(int32_t width, int32_t height) {
    vpe_arena arena = {NULL, 0};
    vpe_luma luma;
    vpe_luma_take(&luma, &arena, width, height);
    vpe_luma_take(&luma, &arena, width, height);
    vpe_take(&arena, vpe_blocks(width) * 3 * sizeof(uint32_t));
    vpe_take(&arena, (size_t)width * 3);
    return arena.used + VPE_ALIGN;
}

vpe_status vpe_block_stats(const vpe_frame *frame, int32_t motion, const uint8_t *previous, uint8_t *luma_out,
                           float *stats, void *scratch_memory) {
    if (!luma_out || !stats || !scratch_memory || (motion != VPE_MOTION_EXACT && motion != VPE_MOTION_AVERAGED))
        return VPE_ERR_ARGUMENT;
    const vpe_status status = vpe_frame_check(frame);
    if (status != VPE_OK)
        return status;
    const size_t width = (size_t)frame->width;
    vpe_arena arena = {vpe_aligned(scratch_memory), 0};
    const size_t rows = motion == VPE_MOTION_AVERAGED ? ((size_t)frame->height + 3) / 4 : (size_t)frame->height;
    vpe_luma luma, before;
    vpe_luma_take(&luma, &arena, frame->width, frame->height);
    vpe_luma_take(&before, &arena, frame->width, frame->height);
    for (size_t y = 0; previous && y < rows; y++)
        memcpy(before.rows + y * before.stride, previous + y * width, width);
    const vpe_pass pass = {
        .frame = frame,
        .motion = motion,
        .luma = &luma,
        .previous = previous ? &before : NULL,
        .sums = vpe_take(&arena, vpe_blocks(frame->width) * 3 * sizeof(uint32_t)),
        .average = vpe_take(&arena, width * 3),
        .stats = stats,
    };
    vpe_pass_run(&pass, vpe_kernels_now());
    for (size_t y = 0; y < rows; y++)
        memcpy(luma_out + y * width, luma.rows + y * luma.stride, width);
    return VPE_OK;
}
