/* The sampler: grids, rings, resets, counters, bad arguments, timestamps from anywhere. */
#include "check.h"

#define W 37
#define H 29

typedef struct rig {
    vpe_sampler *sampler;
    float *rings[2];
    vpe_event *events;
    size_t count;
    int32_t push;
} rig;

static const vpe_fit fit = {12, 1, {0, 0, 0}, {1, 1, 1}, VPE_AREA};

static rig rig_make(int64_t period_ns) {
    rig r;
    memset(&r, 0, sizeof r);
    vpe_stream_config streams[2] = {{fit, 15000, 1, 4, NULL}, {fit, 5000, 2, 3, NULL}};
    for (int i = 0; i < 2; i++) {
        const size_t n = 2 * (size_t)streams[i].rows * (size_t)streams[i].regions * 3 * 12 * 12;
        r.rings[i] = room(n * sizeof(float));
        streams[i].ring = r.rings[i];
    }
    const vpe_sampler_config config = {streams, 2, 20, 15000, 6, 500000000, period_ns, VPE_MOTION_EXACT};
    CHECK(vpe_sampler_create(&config, &r.sampler) == VPE_OK, "create");
    r.events = room(vpe_sampler_max_events(r.sampler) * sizeof *r.events);
    return r;
}

static void rig_free(rig *r) {
    vpe_sampler_destroy(r->sampler);
    free(r->rings[0]);
    free(r->rings[1]);
    free(r->events);
}

static void push(rig *r, const picture *p, int64_t t) {
    const size_t blocks = ((size_t)p->frame.width + 15) / 16 * (((size_t)p->frame.height + 15) / 16);
    float *stats = room(3 * blocks * sizeof *stats);
    const vpe_status status = vpe_sampler_push(r->sampler, &p->frame, t, stats, &r->push, r->events, &r->count);
    CHECK(status == VPE_OK, "%s", vpe_status_text(status));
    CHECK(r->count <= vpe_sampler_max_events(r->sampler), "%zu events", r->count);
    free(stats);
}

static void check_counts(const rig *r) {
    for (int32_t i = -1; i < 2; i++) {
        vpe_counts c;
        CHECK(vpe_sampler_counts(r->sampler, i, &c) == VPE_OK, "counts");
        CHECK(c.points == c.sampled + c.repeated + c.held + c.reset, "stream %d", i);
    }
}

static const vpe_event *find(const rig *r, int32_t stream, int64_t k) {
    for (size_t i = 0; i < r->count; i++)
        if (r->events[i].stream == stream && r->events[i].k == k)
            return &r->events[i];
    return NULL;
}

static void steady(void) {
    rig r = rig_make(0);
    picture p = picture_make(W, H, 2, 0);
    for (int64_t i = 0; i < 300; i++) {
        push(&r, &p, 7000000000 + i * 1000000000 / 15);
        CHECK(r.push == (i ? VPE_PUSH_OK : VPE_PUSH_RESET_START), "push %d", r.push);
        const vpe_event *e = find(&r, 0, i);
        CHECK(e && e->kind == VPE_SAMPLED && e->row == 4 + i % 4, "point %lld", (long long)i);
        e = find(&r, 1, i / 3);
        CHECK(i % 3 ? !e : e && e->kind == VPE_SAMPLED, "every third, at %lld", (long long)i);
    }
    /* a ring's two halves hold the same */
    CHECK(memcmp(r.rings[0], r.rings[0] + 4 * 3 * 144, 4 * 3 * 144 * sizeof(float)) == 0, "rows twice");
    /* region 1 of stream 1 has no box */
    for (int j = 0; j < 3 * 144; j++)
        CHECK(r.rings[1][3 * 144 + j] == 0, "a region without a box");
    check_counts(&r);
    free(p.memory);
    rig_free(&r);
}

static void clock_rules(void) {
    rig r = rig_make(0);
    picture p = picture_make(W, H, 0, 0), other = picture_make(50, 20, 0, 1);
    push(&r, &p, 0);
    push(&r, &p, 40000000);
    push(&r, &p, 40000000);
    CHECK(r.push == VPE_PUSH_DROPPED_TIMESTAMP && r.count == 0, "the same time");
    push(&r, &p, 1);
    CHECK(r.push == VPE_PUSH_DROPPED_TIMESTAMP, "a little back");
    push(&r, &p, 2000000000);
    CHECK(r.push == VPE_PUSH_RESET_GAP, "a gap");
    const vpe_event *e = find(&r, 0, 1); /* t_1 = 66.7 ms, and so on to t_29 = 1933.3 ms */
    CHECK(e && e->kind == VPE_RESET && e->row == 29, "points of the gap");
    CHECK(find(&r, 0, 0) && find(&r, 0, 0)->kind == VPE_SAMPLED, "the frame behind the gap");
    push(&r, &p, -9000000000);
    CHECK(r.push == VPE_PUSH_RESET_BACKWARD, "far back");
    push(&r, &other, -8990000000);
    CHECK(r.push == VPE_PUSH_RESET_SIZE, "another size");
    CHECK(vpe_sampler_reset(r.sampler, 1, -8000000000, r.events, &r.count) == VPE_OK && r.count == 3, "reset");
    CHECK(find(&r, 0, 1) && find(&r, 0, 1)->row == 14, "points until the reset");
    push(&r, &other, -7990000000);
    CHECK(r.push == VPE_PUSH_RESET_START, "after a reset");
    check_counts(&r);
    free(p.memory);
    free(other.memory);
    rig_free(&r);
}

static void intervals(void) {
    rig r = rig_make(0);
    picture p = picture_make(W, H, 0, 0);
    CHECK(vpe_sampler_set_interval(r.sampler, 0, 0) == VPE_OK, "closed");
    push(&r, &p, 0);
    CHECK(find(&r, 0, 0)->kind == VPE_HELD && find(&r, 0, 0)->row == -1, "held");
    CHECK(vpe_sampler_set_interval(r.sampler, 0, 2) == VPE_OK, "every second");
    for (int64_t k = 1; k < 9; k++) {
        push(&r, &p, k * 1000000000 / 15);
        const vpe_event *e = find(&r, 0, k);
        CHECK(e && e->kind == (k % 2 ? VPE_SAMPLED : VPE_HELD), "point %lld", (long long)k);
    }
    check_counts(&r);
    free(p.memory);
    rig_free(&r);
}

static void small_frames(void) {
    rig r = rig_make(0);
    int32_t w, h;
    float *out = room(3 * 144 * sizeof *out);
    void *scratch = room(vpe_resize_scratch(20, 16, 12, 12));
    const vpe_box box = {0, 0, 20, 16};
    CHECK(vpe_sampler_crop_small(r.sampler, 0, &box, &fit, out, scratch) == VPE_ERR_GONE, "no frame yet");
    for (int64_t i = 0; i < 10; i++) {
        picture p = picture_make(W, H, 0, 0);
        memset(p.memory, (int)i, (size_t)W * H * 3);
        push(&r, &p, i * 1000000000 / 15);
        free(p.memory);
    }
    vpe_sampler_small_size(r.sampler, &w, &h);
    CHECK(w == 20 && h == 16, "small frames of %d x %d", w, h);
    for (int64_t k = -1; k < 12; k++) {
        const vpe_status status = vpe_sampler_crop_small(r.sampler, k, &box, &fit, out, scratch);
        CHECK(status == (k >= 4 && k < 10 ? VPE_OK : VPE_ERR_GONE), "point %lld", (long long)k);
        if (status == VPE_OK)
            CHECK(out[6 * 12 + 6] > (float)k / 255 - 1e-4f && out[6 * 12 + 6] < (float)k / 255 + 1e-4f, "its pixels");
    }
    free(out);
    free(scratch);
    rig_free(&r);
}

/* Any clock at all: nothing crashes, nothing is sampled twice, and every point is counted. */
static void wild_clocks(void) {
    static const int64_t steps[] = {0, 1, -1, 33333333, 66666667, 499999999, 500000000, 500000001, -500000000,
                                    -500000001, INT64_C(1) << 58, -(INT64_C(1) << 58), 1000, 999999999999};
    for (int round = 0; round < 60; round++) {
        rig r = rig_make(random_int(0, 1) ? 0 : random_int(1, 1000000000));
        picture p[2] = {picture_make(W, H, 1, 0), picture_make(1, 1, 0, 0)};
        int64_t t = (int64_t)random_bits() << random_int(0, 27), points = 0;
        int64_t sampled = 0, pushed = 0;
        for (int i = 0; i < 120; i++) {
            t += steps[random_int(0, (int32_t)(sizeof steps / sizeof steps[0]) - 1)];
            if (t > INT64_C(1) << 60 || t < -(INT64_C(1) << 60))
                t = random_int(-5, 5);
            if (random_int(0, 9) == 0)
                CHECK(vpe_sampler_set_interval(r.sampler, 0, random_int(0, 3)) == VPE_OK, "interval");
            push(&r, &p[random_int(0, 9) == 0], t);
            pushed++;
            int fresh = 0;
            for (size_t e = 0; e < r.count; e++)
                if (r.events[e].stream == 0) {
                    fresh += r.events[e].kind == VPE_SAMPLED;
                    points += r.events[e].kind == VPE_RESET ? r.events[e].row : 1;
                }
            CHECK(fresh <= 1, "one frame twice");
            sampled += fresh;
        }
        vpe_counts c;
        CHECK(vpe_sampler_counts(r.sampler, 0, &c) == VPE_OK && c.points == points && c.sampled == sampled, "counts");
        CHECK(sampled <= pushed, "frames");
        check_counts(&r);
        free(p[0].memory);
        free(p[1].memory);
        rig_free(&r);
    }
}

static void bad_arguments(void) {
    rig r = rig_make(0);
    picture p = picture_make(W, H, 0, 0);
    vpe_frame f = p.frame;
    f.stride[0] = 5;
    CHECK(vpe_sampler_push(r.sampler, &f, 0, NULL, &r.push, r.events, &r.count) == VPE_ERR_FRAME, "short stride");
    f.width = 0;
    CHECK(vpe_sampler_push(r.sampler, &f, 0, NULL, &r.push, r.events, &r.count) == VPE_ERR_FRAME, "no pixels");
    CHECK(vpe_sampler_push(r.sampler, &p.frame, INT64_MAX, NULL, &r.push, r.events, &r.count) == VPE_ERR_TIME, "time");
    const vpe_box early = {0, 0, W + 1, H}, inside = {W - 1, H - 1, 1, 1};
    CHECK(vpe_sampler_set_boxes(r.sampler, 0, &early, 1) == VPE_OK, "before the first frame");
    CHECK(vpe_sampler_push(r.sampler, &p.frame, 0, NULL, &r.push, r.events, &r.count) == VPE_ERR_BOX, "too wide");
    CHECK(vpe_sampler_set_boxes(r.sampler, 0, &inside, 1) == VPE_OK, "inside");
    CHECK(vpe_sampler_push(r.sampler, &p.frame, 0, NULL, &r.push, r.events, &r.count) == VPE_OK, "without statistics");
    CHECK(vpe_sampler_set_boxes(r.sampler, 0, &early, 1) == VPE_ERR_BOX, "outside");
    CHECK(vpe_sampler_set_boxes(r.sampler, 0, &inside, 2) == VPE_ERR_ARGUMENT, "too many");
    CHECK(vpe_sampler_set_boxes(r.sampler, 2, &inside, 1) == VPE_ERR_ARGUMENT, "no such stream");
    CHECK(vpe_sampler_set_interval(r.sampler, 0, -1) == VPE_ERR_ARGUMENT, "interval");
    vpe_sampler *none = NULL;
    vpe_stream_config stream = {fit, 15000, 1, 4, r.rings[0]};
    vpe_sampler_config config = {&stream, 1, 20, 15000, 6, 500000000, 0, VPE_MOTION_EXACT};
    stream.fit.std[1] = 0;
    CHECK(vpe_sampler_create(&config, &none) == VPE_ERR_ARGUMENT && !none, "a standard deviation of 0");
    stream.fit.std[1] = 1;
    config.repeat_ns = 0;
    CHECK(vpe_sampler_create(&config, &none) == VPE_ERR_ARGUMENT, "repeat_ns");
    vpe_sampler_destroy(NULL);
    free(p.memory);
    rig_free(&r);
}

int main(void) {
    steady();
    clock_rules();
    intervals();
    small_frames();
    wild_clocks();
    bad_arguments();
    puts("sampler: ok");
    return 0;
}
