/* Any bytes at all as frames, boxes, sizes, strides and timestamps: no crash, no read outside, no point uncounted.
 * A libFuzzer target (clang: make fuzz CC=clang FUZZER=1); without libFuzzer the program makes its own random inputs for
 * the seconds that it is given, or runs the files that it is given. */
#include "check.h"

#include <time.h>

typedef struct input {
    const uint8_t *data;
    size_t size, at;
} input;

static uint32_t take(input *in, int bytes) { /* 0 behind the end */
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | (in->at < in->size ? in->data[in->at++] : 0);
    return v;
}

static int32_t within(input *in, int32_t low, int32_t high) {
    return low + (int32_t)(take(in, 2) % (uint32_t)(high - low + 1));
}

typedef struct picture_any {
    vpe_frame frame;
    uint8_t *memory[3];
} picture_any;

/* A frame in buffers that end with its last byte; sometimes with a stride that is too short, which must be refused. */
static picture_any any_frame(input *in, int *bad) {
    static const int channels[] = {3, 3, 1, 1, 1, 2};
    picture_any p = {.frame = {.format = within(in, 0, 5), .width = within(in, 1, 160), .height = within(in, 1, 120),
                               .matrix = within(in, 0, 1), .full_range = within(in, 0, 1)}};
    vpe_frame *f = &p.frame;
    *bad = f->format == VPE_YUYV && f->width % 2;
    const int32_t half = (f->width + 1) / 2;
    const int32_t bytes[3] = {f->width * channels[f->format], f->format == VPE_NV12 ? 2 * half : half, half};
    const int count = f->format == VPE_NV12 ? 2 : f->format == VPE_I420 ? 3 : 1;
    for (int i = 0; i < count; i++) {
        const int32_t rows = i ? (f->height + 1) / 2 : f->height, padding = within(in, -1, 40);
        const ptrdiff_t stride = bytes[i] + (take(in, 1) % 8 ? (padding < 0 ? 0 : padding) : padding);
        *bad |= stride < bytes[i] && rows > 1;
        const size_t size = (size_t)(stride * (rows - 1)) + (size_t)bytes[i];
        p.memory[i] = room(size);
        const uint32_t seed = take(in, 2);
        for (size_t j = 0; j < size; j++)
            p.memory[i][j] = (uint8_t)(j * (seed | 1) >> 3);
        const int flip = take(in, 1) & 1;
        f->plane[i] = p.memory[i] + (flip ? stride * (rows - 1) : 0);
        f->stride[i] = flip ? -stride : stride;
    }
    return p;
}

/* Any int64: at the ends of the range time wraps, which only unsigned arithmetic may. */
static int64_t any_time(input *in, int64_t last) {
    const uint64_t t = (uint64_t)last;
    switch (take(in, 1) % 8) {
    case 0:
        return last;
    case 1:
        return (int64_t)(t - take(in, 4));
    case 2:
        return (int64_t)(t + ((uint64_t)take(in, 4) << 8));
    case 3:
        return (int64_t)((uint64_t)take(in, 4) << 32 | take(in, 4));
    default:
        return (int64_t)(t + 20000000 + take(in, 3));
    }
}

static vpe_box any_box(input *in, const vpe_frame *f) {
    if (take(in, 1) % 8 == 0)
        return (vpe_box){(int32_t)take(in, 4), (int32_t)take(in, 4), (int32_t)take(in, 4), (int32_t)take(in, 4)};
    const int32_t w = within(in, 1, f->width), h = within(in, 1, f->height);
    return (vpe_box){within(in, 0, f->width - w), within(in, 0, f->height - h), w, h};
}

static void single(input *in, const vpe_frame *f, int bad) {
    const vpe_box box = any_box(in, f);
    const vpe_fit fit = {within(in, 1, 64), within(in, 0, 1), {0, 0, 0}, {1, 1, 1}, within(in, 0, 1)};
    const size_t size = (size_t)fit.size;
    float *out = room(size * size * 3 * sizeof *out);
    uint8_t *bytes = room(size * size * 3);
    void *scratch = room(vpe_resize_scratch(f->width, f->height, fit.size, fit.size));
    const vpe_status a = vpe_resize(f, &box, &fit, out, scratch);
    const vpe_status b = vpe_resize_u8(f, &box, fit.resample, fit.size, fit.size, bytes, scratch);
    CHECK(!bad || (a == VPE_ERR_FRAME && b == VPE_ERR_FRAME), "a bad frame was taken");
    free(out);
    free(bytes);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size, 0};
    int sets = 0;
    while (vpe_simd_available(sets))
        sets++;
    CHECK(vpe_simd_select(vpe_simd_available((int)(take(&in, 1) % (uint32_t)sets))) == VPE_OK, "select");
    const vpe_fit fit = {within(&in, 1, 40), within(&in, 0, 1), {0, 0, 0}, {1, 1, 1}, within(&in, 0, 1)};
    const int32_t rows = within(&in, 1, 4), regions = within(&in, 1, 3);
    float *ring = room(2 * (size_t)rows * (size_t)regions * 3 * (size_t)fit.size * (size_t)fit.size * sizeof *ring);
    const vpe_stream_config stream = {fit, within(&in, 1, 60000), regions, rows, ring};
    const vpe_sampler_config config = {&stream, 1, within(&in, 0, 64), within(&in, 1, 30000), within(&in, 1, 8),
                                       500000000, take(&in, 1) % 2 ? 0 : within(&in, 1, 60000) * 1000,
                                       within(&in, 0, 1)};
    vpe_sampler *s;
    CHECK(vpe_sampler_create(&config, &s) == VPE_OK, "create");
    vpe_event *events = room(vpe_sampler_max_events(s) * sizeof *events);
    int64_t t = 0, points = 0;
    while (in.at < in.size) {
        int bad;
        picture_any p = any_frame(&in, &bad);
        const vpe_frame *f = &p.frame;
        if (take(&in, 1) % 4 == 0)
            single(&in, f, bad);
        const vpe_box boxes[3] = {any_box(&in, f), any_box(&in, f), any_box(&in, f)};
        if (take(&in, 1) % 2)
            vpe_sampler_set_boxes(s, 0, boxes, within(&in, 0, 4));
        if (take(&in, 1) % 4 == 0)
            vpe_sampler_set_interval(s, 0, within(&in, 0, 4));
        float *stats = room(((size_t)f->width + 15) / 16 * (((size_t)f->height + 15) / 16) * 3 * sizeof *stats);
        const int times = within(&in, 1, 4);
        for (int i = 0; i < times; i++) {
            size_t n = 0;
            int32_t push;
            t = any_time(&in, t);
            const vpe_status status = vpe_sampler_push(s, f, t, stats, &push, events, &n);
            CHECK(!bad || status == VPE_ERR_FRAME, "a bad frame was taken");
            CHECK(n <= vpe_sampler_max_events(s), "too many events");
            for (size_t e = 0; status == VPE_OK && e < n; e++)
                if (events[e].stream == 0)
                    points += events[e].kind == VPE_RESET ? events[e].row : 1;
        }
        vpe_counts c;
        CHECK(vpe_sampler_counts(s, 0, &c) == VPE_OK && c.points == points, "points");
        CHECK(c.points == c.sampled + c.repeated + c.held + c.reset, "counts");
        free(stats);
        for (int i = 0; i < 3; i++)
            free(p.memory[i]);
    }
    vpe_sampler_destroy(s);
    free(events);
    free(ring);
    return 0;
}

#ifndef VPE_LIBFUZZER
static uint8_t bytes[4096];

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            continue;
        LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof bytes, file));
        fclose(file);
    }
    const long seconds = argc > 1 ? atol(argv[1]) : 10;
    const uint64_t seed = getenv("VPE_TEST_SEED") ? strtoull(getenv("VPE_TEST_SEED"), NULL, 0) : (uint64_t)time(NULL);
    random_state = seed ? seed : 1;
    printf("fuzz: VPE_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    long runs = 0;
    for (const time_t end = time(NULL) + seconds; time(NULL) < end; runs++) {
        const size_t n = (size_t)random_int(1, (int32_t)sizeof bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)random_bits();
        LLVMFuzzerTestOneInput(bytes, n);
    }
    printf("fuzz: %ld inputs without a finding\n", runs);
    return 0;
}
#endif
