/* Making a sampler, its settings, and what can be asked of it. */
#include "sampler.h"

#include <stdlib.h>

#define MOST_EVENTS 100000
#define MOST_REPEAT_NS INT64_C(60000000000)
#define MOST_PERIOD_NS INT64_C(10000000000)

static int rate_ok(int32_t rate_mhz) {
    return rate_mhz > 0 && rate_mhz <= VPE_MAX_RATE_MHZ;
}

static int stream_ok(const vpe_stream_config *c) {
    return vpe_fit_ok(&c->fit) && rate_ok(c->rate_mhz) && c->regions > 0 && c->regions <= VPE_MAX_REGIONS &&
           c->rows > 0 && c->rows <= (1 << 20) && c->ring;
}

static int config_ok(const vpe_sampler_config *c) {
    if (c->stream_count < 0 || c->stream_count > VPE_MAX_STREAMS || (c->stream_count && !c->streams))
        return 0;
    for (int32_t i = 0; i < c->stream_count; i++)
        if (!stream_ok(&c->streams[i]))
            return 0;
    if (c->small_px < 0 || c->small_px > VPE_MAX_SIDE)
        return 0;
    if (c->small_px && (!rate_ok(c->small_rate_mhz) || c->small_rows < 1 || c->small_rows > (1 << 20)))
        return 0;
    if (c->motion != VPE_MOTION_EXACT && c->motion != VPE_MOTION_AVERAGED)
        return 0;
    return c->repeat_ns > 0 && c->repeat_ns <= MOST_REPEAT_NS && c->period_ns >= 0 && c->period_ns <= MOST_PERIOD_NS;
}

/* Two frames lie at most repeat_ns apart, and a point is resolved at most half a period ahead; once for a reset. */
static size_t events_of(const vpe_sampler *s, int64_t rate_mhz) {
    const int64_t guess = s->repeat_ns > VPE_FIRST_PERIOD_NS ? s->repeat_ns : VPE_FIRST_PERIOD_NS;
    const int64_t ms = (s->repeat_ns + (s->period_ns ? s->period_ns : guess)) / 1000000 + 2;
    return (size_t)(ms * rate_mhz / 1000000) + 4;
}

static vpe_status set_up(vpe_sampler *s, const vpe_sampler_config *config) {
    size_t regions = 0;
    s->motion = config->motion;
    s->repeat_ns = config->repeat_ns;
    s->period_ns = config->period_ns;
    s->small.px = config->small_px;
    if (s->small.px) {
        s->small.rows = config->small_rows;
        s->small.grid = (vpe_grid){.rate_mhz = config->small_rate_mhz, .interval = 1};
        s->max_events += events_of(s, config->small_rate_mhz);
    }
    s->small.row = -1;
    s->stream_count = config->stream_count;
    for (int32_t i = 0; i < s->stream_count; i++) {
        s->streams[i].config = config->streams[i];
        s->streams[i].grid = (vpe_grid){.rate_mhz = config->streams[i].rate_mhz, .interval = 1};
        s->streams[i].row = -1;
        s->max_events += events_of(s, config->streams[i].rate_mhz);
        regions += (size_t)config->streams[i].regions;
    }
    if (s->max_events > MOST_EVENTS)
        return VPE_ERR_ARGUMENT;
    s->jobs = calloc(regions + 1, sizeof *s->jobs);
    s->due = calloc(regions + 1, sizeof *s->due);
    s->small.row_of = calloc((size_t)s->small.rows + 1, sizeof *s->small.row_of);
    if (!s->jobs || !s->due || !s->small.row_of)
        return VPE_ERR_MEMORY;
    vpe_job *job = s->jobs;
    for (int32_t i = 0; i < s->stream_count; i++) {
        s->streams[i].jobs = job;
        job += s->streams[i].config.regions;
    }
    s->small.job = job;
    atomic_flag_clear(&s->busy);
    return VPE_OK;
}

vpe_status vpe_sampler_create(const vpe_sampler_config *config, vpe_sampler **sampler) {
    if (!config || !sampler || !config_ok(config))
        return VPE_ERR_ARGUMENT;
    vpe_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return VPE_ERR_MEMORY;
    const vpe_status status = set_up(s, config);
    if (status != VPE_OK) {
        vpe_sampler_destroy(s);
        return status;
    }
    *sampler = s;
    return VPE_OK;
}

void vpe_sampler_destroy(vpe_sampler *s) {
    if (!s)
        return;
    free(s->memory);
    free(s->jobs);
    free(s->due);
    free(s->small.row_of);
    free(s);
}

/* Before the first frame nobody knows what fits: its size decides (vpe_sampler_fit). */
static vpe_status set_boxes(vpe_sampler *s, vpe_stream *stream, const vpe_box *boxes, int32_t count) {
    const int32_t width = s->layout.width ? s->layout.width : VPE_MAX_SIDE;
    const int32_t height = s->layout.width ? s->layout.height : VPE_MAX_SIDE;
    for (int32_t i = 0; i < count; i++) {
        const vpe_status status = vpe_box_check(&boxes[i], width, height);
        if (status != VPE_OK)
            return status;
        if (!vpe_scale_ok(&boxes[i], &stream->config.fit))
            return VPE_ERR_SCALE;
    }
    for (int32_t i = 0; i < count; i++)
        if (s->layout.width)
            vpe_job_plan(&stream->jobs[i], s->layout.format, &boxes[i], &stream->config.fit);
        else
            stream->jobs[i].box = boxes[i];
    stream->boxes = count;
    return VPE_OK;
}

vpe_status vpe_sampler_set_boxes(vpe_sampler *s, int32_t stream, const vpe_box *boxes, int32_t count) {
    if (!s || !boxes || stream < 0 || stream >= s->stream_count || count < 1 ||
        count > s->streams[stream].config.regions)
        return VPE_ERR_ARGUMENT;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    return vpe_leave(s, set_boxes(s, &s->streams[stream], boxes, count));
}

vpe_status vpe_sampler_set_interval(vpe_sampler *s, int32_t stream, int64_t n) {
    if (!s || stream < 0 || stream >= s->stream_count || n < 0)
        return VPE_ERR_ARGUMENT;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    s->streams[stream].grid.interval = n;
    return vpe_leave(s, VPE_OK);
}

size_t vpe_sampler_max_events(const vpe_sampler *s) {
    return s ? s->max_events : 0;
}

vpe_status vpe_sampler_counts(const vpe_sampler *s, int32_t stream, vpe_counts *counts) {
    const int small = stream == VPE_SMALL_STREAM;
    if (!s || !counts || (small ? !s->small.px : stream < 0 || stream >= s->stream_count))
        return VPE_ERR_ARGUMENT;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    *counts = small ? s->small.grid.counts : s->streams[stream].grid.counts;
    return vpe_leave(s, VPE_OK);
}

void vpe_sampler_frame_size(const vpe_sampler *s, int32_t *width, int32_t *height) {
    *width = s->layout.width, *height = s->layout.height;
}

void vpe_sampler_small_size(const vpe_sampler *s, int32_t *width, int32_t *height) {
    *width = s->layout.small_width, *height = s->layout.small_height;
}

vpe_status vpe_sampler_crop_small(vpe_sampler *s, int64_t k, const vpe_box *box, const vpe_fit *fit, float *out,
                                  void *scratch) {
    if (!s || !box || !fit || !out || !scratch || !s->small.px)
        return VPE_ERR_ARGUMENT;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    const vpe_layout *layout = &s->layout;
    if (!s->started || k < 0 || k >= s->small.grid.next || k < s->small.grid.next - s->small.rows)
        return vpe_leave(s, VPE_ERR_GONE);
    const size_t bytes = (size_t)layout->small_width * (size_t)layout->small_height * 3;
    const vpe_frame frame = {
        .format = VPE_BGR24,
        .width = layout->small_width,
        .height = layout->small_height,
        .plane = {layout->small_frames + (size_t)s->small.row_of[k % s->small.rows] * bytes},
        .stride = {(ptrdiff_t)layout->small_width * 3},
    };
    return vpe_leave(s, vpe_resize(&frame, box, fit, out, scratch));
}
