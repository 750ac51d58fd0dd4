/* The memory of a sampler that depends on the size of its frames: one block, cut up. */
#include "sampler.h"

#include <stdlib.h>
#include <string.h>

static int32_t widest_output(const vpe_sampler *s, const vpe_layout *layout) {
    int32_t widest = layout->small_width;
    for (int32_t i = 0; i < s->stream_count; i++)
        widest = s->streams[i].config.fit.size > widest ? s->streams[i].config.fit.size : widest;
    return widest;
}

/* jobs == NULL: only count. */
static void lay_out(const vpe_sampler *s, vpe_arena *arena, vpe_layout *layout, vpe_job *jobs) {
    const int32_t width = layout->width, height = layout->height;
    vpe_job none;
    layout->small_width = layout->small_height = 0;
    if (s->small.px) {
        vpe_small_size(width, height, s->small.px, &layout->small_width, &layout->small_height);
        layout->small_frames =
            vpe_take(arena, (size_t)s->small.rows * (size_t)layout->small_width * (size_t)layout->small_height * 3);
        vpe_job_take(jobs ? s->small.job : &none, arena, VPE_AREA, layout->small_width, layout->small_height, width, height);
    }
    vpe_luma_take(&layout->luma[0], arena, width, height);
    vpe_luma_take(&layout->luma[1], arena, width, height);
    layout->sums = vpe_take(arena, vpe_blocks(width) * 3 * sizeof *layout->sums);
    layout->average = vpe_take(arena, (size_t)width * 3);
    vpe_scratch_take(&layout->scratch, arena, width, widest_output(s, layout));
    for (int32_t i = 0; i < s->stream_count; i++) {
        const int32_t size = s->streams[i].config.fit.size;
        for (int32_t r = 0; r < s->streams[i].config.regions; r++)
            vpe_job_take(jobs ? jobs++ : &none, arena, s->streams[i].config.fit.resample, size, size, width, height);
    }
}

/* Whether whole frames of this size can be brought to the sizes of all streams. */
static int scales_ok(const vpe_sampler *s, int32_t width, int32_t height) {
    const vpe_box box = {0, 0, width, height};
    for (int32_t i = 0; i < s->stream_count; i++)
        if (!vpe_scale_ok(&box, &s->streams[i].config.fit))
            return 0;
    if (!s->small.px)
        return 1;
    int32_t w, h;
    vpe_small_size(width, height, s->small.px, &w, &h);
    return width <= (int64_t)w * VPE_MAX_SCALE && height <= (int64_t)h * VPE_MAX_SCALE;
}

/* Boxes that were set before the first frame, checked against it. */
static vpe_status early_boxes_ok(const vpe_sampler *s, int32_t width, int32_t height) {
    if (s->layout.width)
        return VPE_OK;
    for (int32_t i = 0; i < s->stream_count; i++)
        for (int32_t r = 0; r < s->streams[i].boxes; r++)
            if (vpe_box_check(&s->streams[i].jobs[r].box, width, height) != VPE_OK)
                return VPE_ERR_BOX;
    return VPE_OK;
}

static void plan_stream(vpe_stream *stream, int first, int32_t format, int32_t width, int32_t height) {
    if (!first || !stream->boxes) {
        stream->jobs[0].box = (vpe_box){0, 0, width, height};
        stream->boxes = 1;
    }
    for (int32_t r = 0; r < stream->boxes; r++) {
        const vpe_box box = stream->jobs[r].box;
        vpe_job_plan(&stream->jobs[r], format, &box, &stream->config.fit);
    }
}

vpe_status vpe_sampler_fit(vpe_sampler *s, int32_t format, int32_t width, int32_t height) {
    if (!scales_ok(s, width, height))
        return VPE_ERR_SCALE;
    if (early_boxes_ok(s, width, height) != VPE_OK)
        return VPE_ERR_BOX;
    const int first = !s->layout.width;
    vpe_layout layout = {.format = format, .width = width, .height = height};
    vpe_arena arena = {NULL, 0};
    lay_out(s, &arena, &layout, NULL);
    void *memory = calloc(1, arena.used + VPE_ALIGN);
    if (!memory)
        return VPE_ERR_MEMORY;
    arena = (vpe_arena){vpe_aligned(memory), 0};
    lay_out(s, &arena, &layout, s->jobs);
    free(s->memory);
    s->memory = memory;
    s->layout = layout;
    for (int32_t i = 0; i < s->stream_count; i++)
        plan_stream(&s->streams[i], first, format, width, height);
    if (s->small.px)
        vpe_job_plan_bytes(s->small.job, format, VPE_AREA, &(vpe_box){0, 0, width, height}, layout.small_width,
                           layout.small_height);
    return VPE_OK;
}
