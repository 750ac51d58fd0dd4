/* vpe.h: the frame sampler of VidPrism Edge. C11, usable from C and C++ without Python.
 *
 * One pass over a frame gives block statistics (motion, energy, mean luma of 16x16 blocks) and, for every stream
 * whose grid point is due, an area-averaged crop as planar normalised float, written into the caller's ring.
 *
 * Conventions: times are int64 nanoseconds; boxes are whole pixels of the frame they crop; strides are bytes from
 * one row to the next and may be negative. A sampler allocates when it is created and when the size of the frames
 * changes, never else; it starts no thread and keeps no global state but the choice of kernels. Different samplers
 * may be used from different threads at once; one sampler is for one thread at a time, and a call that meets
 * another in progress on the same sampler returns VPE_ERR_BUSY and does nothing.
 */
#ifndef VPE_VPE_H
#define VPE_VPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define VPE_API
#else
#define VPE_API __attribute__((visibility("default")))
#endif

#define VPE_BLOCK 16         /* side of a block of the statistics, pixels */
#define VPE_MAX_SIDE 16384   /* longest side of a frame, pixels */
#define VPE_MAX_SCALE 128    /* most source pixels to one output pixel along a side */
#define VPE_MAX_STREAMS 32
#define VPE_MAX_REGIONS 64
#define VPE_MAX_RATE_MHZ 1000000
#define VPE_SMALL_STREAM (-1) /* the number of the ring of small whole frames in events */

typedef enum vpe_status {
    VPE_OK = 0,
    VPE_ERR_ARGUMENT = -1, /* a null pointer or a number outside its range */
    VPE_ERR_FRAME = -2,    /* a frame without pixels, too large, or with a stride shorter than a row */
    VPE_ERR_BOX = -3,      /* a box that is empty or not inside its frame */
    VPE_ERR_SCALE = -4,    /* more than VPE_MAX_SCALE source pixels to one output pixel */
    VPE_ERR_TIME = -5,     /* a timestamp outside +-2^60 ns */
    VPE_ERR_MEMORY = -6,
    VPE_ERR_BUSY = -7,     /* another thread is inside a call on the same sampler */
    VPE_ERR_GONE = -8,     /* the small frame asked for is no longer, or not yet, in the ring */
    VPE_ERR_KERNEL = -9    /* no kernel set of this name on this machine */
} vpe_status;

VPE_API const char *vpe_status_text(vpe_status status);

/* ---- kernels -------------------------------------------------------------------------------------------------- */

/* Name of the i-th kernel set that this machine can run, NULL behind the last; "scalar" is always there. */
VPE_API const char *vpe_simd_available(int i);
VPE_API const char *vpe_simd_selected(void);
/* Pin a kernel set for the whole process. The environment variable VIDPRISM_EDGE_SIMD does it at first use. */
VPE_API vpe_status vpe_simd_select(const char *name);

/* ---- frames and boxes ----------------------------------------------------------------------------------------- */

typedef enum vpe_format {
    VPE_BGR24 = 0, /* B, G, R bytes */
    VPE_RGB24 = 1,
    VPE_GRAY8 = 2,
    VPE_NV12 = 3, /* Y; U and V in turn, one pair for 2 x 2 pixels (sides of half the frame's, rounded up) */
    VPE_I420 = 4, /* Y; U; V */
    VPE_YUYV = 5  /* Y, U, Y, V bytes for two pixels; the width is even */
} vpe_format;

typedef enum vpe_matrix { VPE_BT601 = 0, VPE_BT709 = 1 } vpe_matrix;

/* In the YUV formats and GRAY8 the luma of the statistics is Y as it stands. A crop averages Y, U and V, a chroma sample
 * standing for its pixels, then makes R, G, B of the averages and limits them to 0 .. 255. */
typedef struct vpe_frame {
    int32_t format; /* vpe_format */
    int32_t width, height;
    const uint8_t *plane[3]; /* first pixel of the first row */
    ptrdiff_t stride[3];
    int32_t matrix;     /* vpe_matrix; YUV only */
    int32_t full_range; /* 0: Y is 16 .. 235, U and V 16 .. 240; YUV only */
} vpe_frame;

typedef struct vpe_box {
    int32_t x, y, w, h;
} vpe_box;

/* ---- single functions ----------------------------------------------------------------------------------------- */

/* How a crop becomes the input of a network: planar R, G, B floats (v / 255 - mean) / std, size x size.
 * letterbox: the box keeps its shape, centred, and the rest is 0; otherwise it is stretched. */
typedef struct vpe_fit {
    int32_t size;
    int32_t letterbox;
    float mean[3], std[3]; /* in the order R, G, B */
    int32_t resample;      /* vpe_resample */
} vpe_fit;

/* VPE_BICUBIC: antialiased, bit for bit what Pillow's resize(BICUBIC) makes of the crop's bytes, before normalisation,
 * horizontally first (as all Pillows before 13 did, which the image encoders were trained with). YUV is made B, G, R
 * bytes first. */
typedef enum vpe_resample { VPE_AREA = 0, VPE_BICUBIC = 1 } vpe_resample;

/* VPE_MOTION_EXACT: every row's luma. VPE_MOTION_AVERAGED: the luma of four averaged rows, a quarter of the work and
 * half of the sensor's noise; the energy's dy is then from one average to the next. */
typedef enum vpe_motion { VPE_MOTION_EXACT = 0, VPE_MOTION_AVERAGED = 1 } vpe_motion;

/* Bytes of scratch memory that vpe_resize and vpe_resize_u8 need for a frame of this size. */
VPE_API size_t vpe_resize_scratch(int32_t width, int32_t height, int32_t out_width, int32_t out_height);
VPE_API vpe_status vpe_resize(const vpe_frame *frame, const vpe_box *box, const vpe_fit *fit, float *out, void *scratch);
/* The box to out [out_height, out_width, 3] B, G, R bytes, rounded half up, rows without padding. */
VPE_API vpe_status vpe_resize_u8(const vpe_frame *frame, const vpe_box *box, int32_t resample, int32_t out_width,
                                 int32_t out_height, uint8_t *out, void *scratch);

/* Block statistics: stats [3][ceil(H/16)][ceil(W/16)] of means in grey levels over each block's real area:
 * |Y - previous Y| (0 without a previous), |dx| + |dy| to the left and upper neighbour (0 at the frame's edge), Y.
 * exact: Y = (29 B + 150 G + 77 R + 128) >> 8 of each pixel. averaged: (29 B + 150 G + 77 R) >> 8 of the rows
 * a(a(0, 1), a(2, 3)), a(p, q) = (p + q + 1) >> 1, of four (at the lower edge the last row stands for the missing ones);
 * the averages' upward half level on the mean is what the missing 128 takes off.
 * previous (or NULL) and luma are [H][W], averaged [ceil(H/4)][W], without padding. */
VPE_API size_t vpe_stats_scratch(int32_t width, int32_t height);
VPE_API vpe_status vpe_block_stats(const vpe_frame *frame, int32_t motion, const uint8_t *previous, uint8_t *luma,
                                   float *stats, void *scratch);

/* ---- the sampler ---------------------------------------------------------------------------------------------- */

typedef struct vpe_stream_config {
    vpe_fit fit;
    int32_t rate_mhz; /* grid points in 1000 seconds */
    int32_t regions;  /* boxes a sample */
    int32_t rows;     /* samples in the ring */
    float *ring;      /* [2 * rows][regions][3][size][size], the caller's, as long as the sampler lives */
} vpe_stream_config;

typedef struct vpe_sampler_config {
    const vpe_stream_config *streams;
    int32_t stream_count;
    int32_t small_px;       /* longer side of the small whole frames; 0: none are kept */
    int32_t small_rate_mhz;
    int32_t small_rows;
    int64_t repeat_ns;      /* longest time a frame stands in for the next; a longer gap is a reset */
    int64_t period_ns;      /* period of the source where it is known; 0: the median of the last nine */
    int32_t motion;         /* vpe_motion */
} vpe_sampler_config;

typedef enum vpe_kind { VPE_SAMPLED = 0, VPE_REPEATED = 1, VPE_HELD = 2, VPE_RESET = 3 } vpe_kind;

typedef enum vpe_push {
    VPE_PUSH_DROPPED_TIMESTAMP = -1,
    VPE_PUSH_OK = 0,
    VPE_PUSH_RESET_START = 1, /* the first frame of all, or after vpe_sampler_reset */
    VPE_PUSH_RESET_GAP = 2,
    VPE_PUSH_RESET_BACKWARD = 3,
    VPE_PUSH_RESET_SIZE = 4 /* another size or format */
} vpe_push;

typedef struct vpe_event {
    int32_t stream; /* VPE_SMALL_STREAM for the small frames */
    int32_t kind;   /* vpe_kind */
    int64_t k;      /* grid point; VPE_RESET: the first of `row` points */
    int64_t t_ns;   /* its time on the grid */
    int64_t row;    /* upper row in the ring (rows .. 2 rows - 1), -1 without pixels; VPE_RESET: number of points */
} vpe_event;

typedef struct vpe_counts {
    int64_t points, sampled, repeated, held, reset; /* points == sampled + repeated + held + reset */
} vpe_counts;

typedef struct vpe_sampler vpe_sampler;

VPE_API vpe_status vpe_sampler_create(const vpe_sampler_config *config, vpe_sampler **sampler);
VPE_API void vpe_sampler_destroy(vpe_sampler *sampler);

/* 1 .. regions boxes, used from the next push on; regions without a box are filled with 0. Before the first call,
 * and after a change of the frame's size, the first region is the whole frame. */
VPE_API vpe_status vpe_sampler_set_boxes(vpe_sampler *sampler, int32_t stream, const vpe_box *boxes, int32_t count);
/* n > 0: a point is due when n points have passed since the last due one; 0: closed, every point is held. */
VPE_API vpe_status vpe_sampler_set_interval(vpe_sampler *sampler, int32_t stream, int64_t n);

/* Most events that one push or reset can give: the length of the caller's array. */
VPE_API size_t vpe_sampler_max_events(const vpe_sampler *sampler);
/* stats: [3][ceil(H/16)][ceil(W/16)] or NULL. push: a vpe_push. On an error nothing has changed. */
VPE_API vpe_status vpe_sampler_push(vpe_sampler *sampler, const vpe_frame *frame, int64_t t_ns, float *stats,
                                    int32_t *push, vpe_event *events, size_t *event_count);
/* The next frame starts a new grid; points before t_ns are counted as reset (none where known is 0). */
VPE_API vpe_status vpe_sampler_reset(vpe_sampler *sampler, int known, int64_t t_ns, vpe_event *events,
                                     size_t *event_count);

VPE_API vpe_status vpe_sampler_counts(const vpe_sampler *sampler, int32_t stream, vpe_counts *counts);
VPE_API int64_t vpe_sampler_period_ns(const vpe_sampler *sampler);
VPE_API void vpe_sampler_frame_size(const vpe_sampler *sampler, int32_t *width, int32_t *height); /* 0, 0 before */
VPE_API void vpe_sampler_small_size(const vpe_sampler *sampler, int32_t *width, int32_t *height);
/* One of the last small_rows points of the small ring, cropped (box in pixels of the small frame). */
VPE_API vpe_status vpe_sampler_crop_small(vpe_sampler *sampler, int64_t k, const vpe_box *box, const vpe_fit *fit,
                                          float *out, void *scratch);

#ifdef __cplusplus
}
#endif
#endif
