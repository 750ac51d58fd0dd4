/* Reads raw frames from stdin and prints, for each, its motion and the streams that are due. No Python.
 *
 *   ffmpeg -i clip.mp4 -f rawvideo -pix_fmt nv12 - | build/raw_frames 1280 720 30 nv12
 *
 * Formats: bgr24, rgb24, gray8, nv12, i420, yuyv. Exit codes: 0 the input ended, 1 an error, 2 wrong usage. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vpe/vpe.h"

#define STREAMS 3

static const char *const names[] = {"bgr24", "rgb24", "gray8", "nv12", "i420", "yuyv"};

/* Points the frame's planes into one buffer without padding; returns the bytes that it takes. */
static size_t lay_out(vpe_frame *f, uint8_t *buffer) {
    const size_t w = (size_t)f->width, h = (size_t)f->height, cw = (w + 1) / 2, ch = (h + 1) / 2;
    const size_t row = f->format == VPE_BGR24 || f->format == VPE_RGB24 ? 3 * w : f->format == VPE_YUYV ? 2 * w : w;
    f->plane[0] = buffer;
    f->stride[0] = (ptrdiff_t)row;
    if (f->format != VPE_NV12 && f->format != VPE_I420)
        return row * h;
    f->plane[1] = buffer + row * h;
    f->stride[1] = (ptrdiff_t)(f->format == VPE_NV12 ? 2 * cw : cw);
    f->plane[2] = f->plane[1] + cw * ch;
    f->stride[2] = (ptrdiff_t)cw;
    return row * h + 2 * cw * ch;
}

static void print_frame(long i, int32_t push, const float *stats, size_t blocks, const vpe_event *events, size_t n) {
    double motion = 0, most = 0;
    for (size_t b = 0; b < blocks; b++) {
        motion += (double)stats[b] / (double)blocks;
        most = (double)stats[b] > most ? (double)stats[b] : most;
    }
    printf("frame %ld%s motion %.2f most %.2f due", i, push > 0 ? " (reset)" : "", motion, most);
    for (size_t e = 0; e < n; e++)
        if (events[e].kind == VPE_SAMPLED)
            printf(" %d@%.3fs", events[e].stream, (double)events[e].t_ns / 1e9);
    putchar('\n');
}

static int fail(const char *what, vpe_status status) {
    fprintf(stderr, "raw_frames: %s: %s\n", what, vpe_status_text(status));
    return 1;
}

int main(int argc, char **argv) {
    int32_t format = 0;
    while (argc == 5 && format < 6 && strcmp(argv[4], names[format]))
        format++;
    vpe_frame frame = {.format = format};
    const double fps = argc == 5 ? atof(argv[3]) : 0;
    if (argc == 5)
        frame.width = atoi(argv[1]), frame.height = atoi(argv[2]);
    if (argc != 5 || format == 6 || !(fps > 0) || frame.width < 1 || frame.width > VPE_MAX_SIDE || frame.height < 1 ||
        frame.height > VPE_MAX_SIDE) {
        fprintf(stderr, "usage: raw_frames WIDTH HEIGHT FPS bgr24|rgb24|gray8|nv12|i420|yuyv < raw frames\n");
        return 2;
    }
    static const int32_t sizes[STREAMS] = {112, 160, 224}, rates[STREAMS] = {15000, 5000, 2000};
    vpe_stream_config streams[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        const int32_t rows = 4;
        streams[i] = (vpe_stream_config){
            .fit = {.size = sizes[i], .letterbox = 1, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}},
            .rate_mhz = rates[i],
            .regions = 1,
            .rows = rows,
            .ring = calloc((size_t)(2 * rows * 3 * sizes[i] * sizes[i]), sizeof(float)),
        };
    }
    const vpe_sampler_config config = {.streams = streams, .stream_count = STREAMS, .repeat_ns = 500000000,
                                       .motion = VPE_MOTION_AVERAGED};
    vpe_sampler *sampler;
    vpe_status status = vpe_sampler_create(&config, &sampler);
    if (status != VPE_OK)
        return fail("sampler", status);
    const size_t bytes = lay_out(&frame, NULL);
    const size_t blocks = (size_t)((frame.width + 15) / 16) * (size_t)((frame.height + 15) / 16);
    uint8_t *buffer = malloc(bytes);
    float *stats = malloc(3 * blocks * sizeof *stats);
    vpe_event *events = malloc(vpe_sampler_max_events(sampler) * sizeof *events);
    if (!buffer || !stats || !events)
        return fail("memory", VPE_ERR_MEMORY);
    lay_out(&frame, buffer);
    size_t got;
    for (long i = 0; (got = fread(buffer, 1, bytes, stdin)) == bytes; i++) {
        int32_t push;
        size_t n;
        status = vpe_sampler_push(sampler, &frame, (int64_t)((double)i * 1e9 / fps), stats, &push, events, &n);
        if (status != VPE_OK)
            return fail("push", status);
        print_frame(i, push, stats, blocks, events, n);
    }
    if (got)
        fprintf(stderr, "raw_frames: the last frame has %zu of %zu bytes and was left out\n", got, bytes);
    vpe_sampler_destroy(sampler);
    for (int i = 0; i < STREAMS; i++)
        free(streams[i].ring);
    free(buffer);
    free(stats);
    free(events);
    return 0;
}
