/* The state of a sampler, shared by sampler.c (making, settings), layout.c (memory) and push.c (the frames). */
#ifndef VPE_SAMPLER_H
#define VPE_SAMPLER_H

#include "internal.h"

#include <stdatomic.h>

#define VPE_TIME_LIMIT (INT64_C(1) << 60)
#define VPE_DELTAS 9
#define VPE_FIRST_PERIOD_NS 33333333

typedef struct vpe_stream {
    vpe_stream_config config;
    vpe_grid grid;
    int32_t boxes; /* 0: the whole frame */
    int32_t row;   /* newest sample, 0 .. rows - 1; -1: none */
    vpe_job *jobs; /* one a region */
} vpe_stream;

typedef struct vpe_small {
    int32_t px, rows; /* px == 0: none are kept */
    vpe_grid grid;
    int32_t row;
    int32_t *row_of; /* [rows]: row of point k at k % rows */
    vpe_job *job;
} vpe_small;

/* What depends on the size of the frames: one block of memory. */
typedef struct vpe_layout {
    int32_t format, width, height;
    int32_t small_width, small_height;
    uint8_t *small_frames;
    vpe_luma luma[2];
    uint32_t *sums;
    uint8_t *average;
    vpe_scratch scratch;
} vpe_layout;

struct vpe_sampler {
    atomic_flag busy;
    int32_t stream_count, motion;
    int64_t repeat_ns, period_ns;
    size_t max_events;
    vpe_stream streams[VPE_MAX_STREAMS];
    vpe_small small;
    vpe_job *jobs, **due;
    size_t due_count;
    void *memory;
    vpe_layout layout;
    int now;          /* which luma is the newest */
    int has_previous; /* a frame since the last reset */
    int started;      /* a grid is running */
    int64_t last_ns;
    int64_t deltas[VPE_DELTAS];
    int32_t delta_count, delta_next;
};

/* Takes memory for frames of another size or format and lays out every job again. On an error nothing has changed. */
vpe_status vpe_sampler_fit(vpe_sampler *sampler, int32_t format, int32_t width, int32_t height);

static inline int vpe_enter(const vpe_sampler *sampler) {
    return !atomic_flag_test_and_set_explicit(&((vpe_sampler *)(uintptr_t)sampler)->busy, memory_order_acquire);
}

static inline vpe_status vpe_leave(const vpe_sampler *sampler, vpe_status status) {
    atomic_flag_clear_explicit(&((vpe_sampler *)(uintptr_t)sampler)->busy, memory_order_release);
    return status;
}

#endif
