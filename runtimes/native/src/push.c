/* A frame arrives: the clock's rules, the grids, one pass. */
#include "sampler.h"

#include <string.h>

/* Median of the last deltas since the reset; the mean of the middle two where their number is even. */
static int64_t period_now(const vpe_sampler *s) {
    if (s->period_ns)
        return s->period_ns;
    const int32_t n = s->delta_count;
    if (n == 0)
        return VPE_FIRST_PERIOD_NS;
    int64_t sorted[VPE_DELTAS];
    for (int32_t i = 0; i < n; i++) {
        int32_t j = i;
        for (; j > 0 && sorted[j - 1] > s->deltas[i]; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = s->deltas[i];
    }
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

int64_t vpe_sampler_period_ns(const vpe_sampler *s) {
    return period_now(s);
}

static vpe_grid *grid_of(vpe_sampler *s, int32_t i) {
    return i < s->stream_count ? &s->streams[i].grid : &s->small.grid;
}

static int32_t grid_count(const vpe_sampler *s) {
    return s->stream_count + (s->small.px ? 1 : 0);
}

static size_t drop_points(vpe_sampler *s, int64_t t, vpe_event *events) {
    size_t n = 0;
    for (int32_t i = 0; i < grid_count(s); i++)
        if (vpe_grid_drop(grid_of(s, i), t, &events[n]))
            events[n++].stream = i < s->stream_count ? i : VPE_SMALL_STREAM;
    return n;
}

static void forget(vpe_sampler *s) {
    s->started = s->has_previous = 0;
    s->delta_count = s->delta_next = 0;
}

static int same_shape(const vpe_sampler *s, const vpe_frame *frame) {
    const vpe_layout *l = &s->layout;
    return frame->width == l->width && frame->height == l->height && frame->format == l->format;
}

static int32_t judge(const vpe_sampler *s, const vpe_frame *frame, int64_t t) {
    if (s->started && t <= s->last_ns)
        return s->last_ns - t <= s->repeat_ns ? VPE_PUSH_DROPPED_TIMESTAMP : VPE_PUSH_RESET_BACKWARD;
    if (s->started && t - s->last_ns > s->repeat_ns)
        return VPE_PUSH_RESET_GAP;
    if (s->layout.width && !same_shape(s, frame))
        return VPE_PUSH_RESET_SIZE;
    return s->started ? VPE_PUSH_OK : VPE_PUSH_RESET_START;
}

static void keep_delta(vpe_sampler *s, int64_t delta) {
    s->deltas[s->delta_next] = delta;
    s->delta_next = (s->delta_next + 1) % VPE_DELTAS;
    s->delta_count += s->delta_count < VPE_DELTAS;
}

/* The sample's place in the ring, and its jobs into the list of this pass. */
static void add_sample(vpe_sampler *s, vpe_stream *stream) {
    const vpe_stream_config *c = &stream->config;
    const size_t picture = (size_t)c->fit.size * (size_t)c->fit.size * 3, sample = picture * (size_t)c->regions;
    stream->row = (stream->row + 1) % c->rows;
    float *low = c->ring + (size_t)stream->row * sample, *high = low + (size_t)c->rows * sample;
    for (int32_t r = 0; r < c->regions; r++) {
        if (r >= stream->boxes) {
            memset(low + (size_t)r * picture, 0, picture * sizeof *low);
            memset(high + (size_t)r * picture, 0, picture * sizeof *high);
            continue;
        }
        vpe_job *job = &stream->jobs[r];
        job->out = low + (size_t)r * picture;
        job->copy = high + (size_t)r * picture;
        vpe_job_start(job);
        s->due[s->due_count++] = job;
    }
}

static size_t step_stream(vpe_sampler *s, int32_t i, int64_t t, int64_t period, vpe_event *events) {
    vpe_stream *stream = &s->streams[i];
    size_t n = 0;
    int used = 0, kind;
    while ((kind = vpe_grid_step(&stream->grid, t, period, &used, &events[n])) >= 0) {
        if (kind == VPE_SAMPLED)
            add_sample(s, stream);
        events[n].stream = i;
        events[n].row = kind == VPE_HELD ? -1 : stream->row + stream->config.rows;
        n++;
    }
    return n;
}

static size_t step_small(vpe_sampler *s, int64_t t, int64_t period, vpe_event *events) {
    vpe_small *small = &s->small;
    const size_t bytes = (size_t)s->layout.small_width * (size_t)s->layout.small_height * 3;
    size_t n = 0;
    int used = 0, kind;
    while ((kind = vpe_grid_step(&small->grid, t, period, &used, &events[n])) >= 0) {
        if (kind == VPE_SAMPLED) {
            small->row = (small->row + 1) % small->rows;
            small->job->bytes = s->layout.small_frames + (size_t)small->row * bytes;
            vpe_job_start(small->job);
            s->due[s->due_count++] = small->job;
        }
        small->row_of[events[n].k % small->rows] = small->row;
        events[n++].stream = VPE_SMALL_STREAM;
    }
    return n;
}

static void run_pass(vpe_sampler *s, const vpe_frame *frame, float *stats) {
    const int next = !s->now;
    const vpe_pass pass = {
        .frame = frame,
        .motion = s->motion,
        .luma = &s->layout.luma[next],
        .previous = s->has_previous ? &s->layout.luma[s->now] : NULL,
        .sums = s->layout.sums,
        .average = s->layout.average,
        .stats = stats,
        .jobs = s->due,
        .job_count = s->due_count,
        .scratch = &s->layout.scratch,
    };
    vpe_pass_run(&pass, vpe_kernels_now());
    s->now = next;
    s->has_previous = 1;
}

static vpe_status push(vpe_sampler *s, const vpe_frame *frame, int64_t t, float *stats, int32_t *result,
                       vpe_event *events, size_t *event_count) {
    const int32_t verdict = judge(s, frame, t);
    if (verdict == VPE_PUSH_DROPPED_TIMESTAMP) {
        *result = verdict;
        return VPE_OK;
    }
    if (!same_shape(s, frame)) {
        const vpe_status status = vpe_sampler_fit(s, frame->format, frame->width, frame->height);
        if (status != VPE_OK)
            return status;
    }
    size_t n = 0;
    if (verdict == VPE_PUSH_OK) {
        keep_delta(s, t - s->last_ns);
    } else {
        if (s->started)
            n = drop_points(s, t, events);
        forget(s);
        for (int32_t i = 0; i < grid_count(s); i++)
            vpe_grid_start(grid_of(s, i), t);
        s->started = 1;
    }
    s->last_ns = t;
    const int64_t period = period_now(s);
    s->due_count = 0;
    for (int32_t i = 0; i < s->stream_count; i++)
        n += step_stream(s, i, t, period, events + n);
    if (s->small.px)
        n += step_small(s, t, period, events + n);
    run_pass(s, frame, stats);
    *result = verdict;
    *event_count = n;
    return VPE_OK;
}

vpe_status vpe_sampler_push(vpe_sampler *s, const vpe_frame *frame, int64_t t_ns, float *stats, int32_t *result,
                            vpe_event *events, size_t *event_count) {
    if (!s || !result || !events || !event_count)
        return VPE_ERR_ARGUMENT;
    const vpe_status status = vpe_frame_check(frame);
    if (status != VPE_OK)
        return status;
    if (t_ns > VPE_TIME_LIMIT || t_ns < -VPE_TIME_LIMIT)
        return VPE_ERR_TIME;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    *event_count = 0;
    return vpe_leave(s, push(s, frame, t_ns, stats, result, events, event_count));
}

vpe_status vpe_sampler_reset(vpe_sampler *s, int known, int64_t t_ns, vpe_event *events, size_t *event_count) {
    if (!s || !events || !event_count)
        return VPE_ERR_ARGUMENT;
    if (known && (t_ns > VPE_TIME_LIMIT || t_ns < -VPE_TIME_LIMIT))
        return VPE_ERR_TIME;
    if (!vpe_enter(s))
        return VPE_ERR_BUSY;
    *event_count = known && s->started ? drop_points(s, t_ns, events) : 0;
    forget(s);
    return vpe_leave(s, VPE_OK);
}
