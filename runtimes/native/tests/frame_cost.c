/* Pushes frames, for callgrind to count: frame_cost WIDTH HEIGHT exact|averaged closed|second FRAMES [nv12]
 * closed: one stream of 112 at 30 Hz; second: 112 at 30 Hz, 160 at 10 Hz, 224 at 2 Hz. Frames at 30 a second. */
#include "check.h"

int main(int argc, char **argv) {
    CHECK(argc == 6 || argc == 7, "usage: frame_cost WIDTH HEIGHT exact|averaged closed|second FRAMES [nv12]");
    const int count = strcmp(argv[4], "second") == 0 ? 3 : 1, frames = atoi(argv[5]);
    static const int32_t sizes[] = {112, 160, 224}, rates[] = {30000, 10000, 2000};
    vpe_stream_config streams[3];
    for (int i = 0; i < count; i++) {
        const size_t n = (size_t)sizes[i] * (size_t)sizes[i] * 3 * 8;
        streams[i] = (vpe_stream_config){{sizes[i], 0, {0.4f, 0.4f, 0.4f}, {0.2f, 0.2f, 0.2f}, VPE_AREA}, rates[i], 1, 4, NULL};
        streams[i].ring = room(n * sizeof(float));
    }
    const vpe_sampler_config config = {
        .streams = streams,
        .stream_count = count,
        .repeat_ns = 500000000,
        .period_ns = 33333333,
        .motion = strcmp(argv[3], "averaged") == 0 ? VPE_MOTION_AVERAGED : VPE_MOTION_EXACT,
    };
    vpe_sampler *sampler;
    CHECK(vpe_sampler_create(&config, &sampler) == VPE_OK, "create");
    vpe_event *events = room(vpe_sampler_max_events(sampler) * sizeof *events);
    picture p[2] = {picture_make(atoi(argv[1]), atoi(argv[2]), 0, 0), picture_make(atoi(argv[1]), atoi(argv[2]), 0, 0)};
    for (int i = 0; i < 2 && argc == 7; i++) { /* the same bytes, read as Y and UV */
        vpe_frame *f = &p[i].frame;
        f->format = VPE_NV12;
        f->stride[0] = f->stride[1] = f->width;
        f->plane[1] = f->plane[0] + (ptrdiff_t)f->width * f->height;
    }
    const size_t blocks = ((size_t)p->frame.width + 15) / 16 * (((size_t)p->frame.height + 15) / 16);
    float *stats = room(3 * blocks * sizeof *stats);
    for (int64_t i = 0; i < frames; i++) {
        int32_t push;
        size_t n;
        CHECK(vpe_sampler_push(sampler, &p[i % 2].frame, i * 1000000000 / 30, stats, &push, events, &n) == VPE_OK,
              "push");
    }
    printf("%s %d frames\n", vpe_simd_selected(), frames);
    vpe_sampler_destroy(sampler);
    for (int i = 0; i < count; i++)
        free(streams[i].ring);
    free(events);
    free(stats);
    free(p[0].memory);
    free(p[1].memory);
    return 0;
}
