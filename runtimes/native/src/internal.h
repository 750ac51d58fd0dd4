/* What the files of the library share and no user sees. */
#ifndef VPE_INTERNAL_H
#define VPE_INTERNAL_H

#include "kernels.h"
#include "vpe/vpe.h"

/* ---- arena: one block of memory cut up; with base == NULL it only counts --------------------------------------- */

#define VPE_ALIGN 64

typedef struct vpe_arena {
    unsigned char *base;
    size_t used;
} vpe_arena;

static inline void *vpe_take(vpe_arena *arena, size_t bytes) {
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += (bytes + VPE_ALIGN - 1) / VPE_ALIGN * VPE_ALIGN;
    return p;
}

/* The start of a caller's scratch memory, aligned: the sizes given out hold VPE_ALIGN bytes more for it. */
static inline unsigned char *vpe_aligned(void *p) {
    return (unsigned char *)(((uintptr_t)p + VPE_ALIGN - 1) & ~(uintptr_t)(VPE_ALIGN - 1));
}

/* ---- frames ---------------------------------------------------------------------------------------------------- */

vpe_status vpe_frame_check(const vpe_frame *frame);
vpe_status vpe_box_check(const vpe_box *box, int32_t width, int32_t height);

static inline size_t vpe_blocks(int32_t pixels) {
    return ((size_t)pixels + VPE_BLOCK - 1) / VPE_BLOCK;
}

/* Bytes of a row of plane p, 0 where the format has no such plane. */
ptrdiff_t vpe_plane_bytes(const vpe_frame *frame, int p);

/* ---- ahead.c: the next band, fetched while this one is worked on --------------------------------------------------- */

/* A few lines of the cache at a time between pieces of work: of too many requests at once some are dropped, and with none
 * the memory does nothing meanwhile. */
typedef struct vpe_ahead {
    const uint8_t *row;
    ptrdiff_t stride;
    int32_t rows, lines, line; /* rows left; lines of a row; the next one */
    int64_t step, due;         /* lines for a unit of work; lines that are due: 32 binary places */
} vpe_ahead;

/* Units of work, about as long as each other: a pixel of a row of luma; a column of column sums; an output number. */
#define VPE_WORK_LUMA 1
#define VPE_WORK_SUM 4
#define VPE_WORK_OUTPUT 4

/* The band from row `end` on, in steps of `work`; nothing where work is 0. */
vpe_ahead vpe_ahead_of(const vpe_frame *frame, int32_t end, int32_t work);
/* `work` has been done: asks for what is due. */
void vpe_fetch(vpe_ahead *ahead, int32_t work);

/* ---- area.c: where each output pixel comes from ----------------------------------------------------------------- */

typedef struct vpe_vaxis {
    int32_t n, shift;
    double scale;
    vpe_vtap *tap;
} vpe_vaxis;

/* The axes have room for n outputs of sources up to `longest` pixels. */
void vpe_haxis_take(vpe_haxis *axis, vpe_arena *arena, int32_t n, int32_t longest);
void vpe_vaxis_take(vpe_vaxis *axis, vpe_arena *arena, int32_t n);
/* A source of `length` pixels from pixel `start` on, in samples that stand for `each` pixels (start < each). */
typedef struct vpe_source {
    int32_t start, length, each;
} vpe_source;
void vpe_haxis_area(vpe_haxis *axis, vpe_source source, int32_t n);
void vpe_vaxis_area(vpe_vaxis *axis, vpe_source source, int32_t n);
int vpe_fit_ok(const vpe_fit *fit);
int vpe_scale_ok(const vpe_box *box, const vpe_fit *fit);
/* The part of a size x size picture that the box fills. */
void vpe_content(const vpe_box *box, int32_t size, int letterbox, vpe_box *content);
/* The small whole frame for a frame: longer side at most `longest`. */
void vpe_small_size(int32_t width, int32_t height, int32_t longest, int32_t *w, int32_t *h);

/* ---- crop.c: one crop on its way through the bands ---------------------------------------------------------------- */

/* Pillow's weights for one axis: output i is the sum of count[i] bytes from first[i] on, 22 binary places. */
typedef struct vpe_cubic {
    int32_t n, taps;
    int32_t *first, *count, *weight;
} vpe_cubic;

typedef struct vpe_job {
    vpe_box box, content;
    int32_t format;        /* vpe_format, what it was planned for */
    int32_t resample;      /* vpe_resample */
    int32_t size;          /* float pictures: size x size; bytes: the content is all */
    float mul[3], sub[3];  /* R, G, B of 0 .. 255 to what goes out */
    vpe_haxis hx, hc;      /* c: chroma of the YUV formats */
    vpe_vaxis vy, vc;
    vpe_cubic cx, cy;      /* bicubic only */
    uint8_t *cubic_rows;   /* bicubic only: the box's rows, resized horizontally */
    int32_t cubic_next;
    float *out, *copy;     /* planar floats; copy, where not NULL, gets the same */
    uint8_t *bytes;        /* packed B, G, R instead */
    int32_t next;          /* next output row */
    int32_t ready, summed; /* output rows of which column sums are being made; up to which sample */
} vpe_job;

static inline void vpe_job_start(vpe_job *job) {
    job->next = job->cubic_next = 0;
}

typedef struct vpe_scratch {
    uint16_t *v[3];    /* column sums: VPE_VROWS rows, `step` apart */
    uint16_t *mixed;   /* the same before they are split, 2 `step` apart */
    size_t step;
    int32_t *acc[3];   /* sums of an output row */
    float *levels[3];  /* R, G, B of an output row */
    uint8_t *row;      /* a source row as B, G, R bytes */
    vpe_ahead ahead;
} vpe_scratch;

void vpe_scratch_take(vpe_scratch *scratch, vpe_arena *arena, int32_t width, int32_t out_width);
void vpe_job_take(vpe_job *job, vpe_arena *arena, int32_t resample, int32_t n, int32_t out_height, int32_t width,
                  int32_t height);
vpe_status vpe_job_plan(vpe_job *job, int32_t format, const vpe_box *box, const vpe_fit *fit);
vpe_status vpe_job_plan_bytes(vpe_job *job, int32_t format, int32_t resample, const vpe_box *box, int32_t out_width,
                              int32_t out_height);
/* For each band: begin; sum, as often as wanted, whatever columns before x can give, while they are in the cache; run,
 * everything that source rows before `end` can give. Between a job's begin and its run nobody else has the scratch.
 * begin returns the work of the column sums and their output rows. */
int32_t vpe_job_begin(vpe_job *job, int32_t end);
void vpe_job_sum(vpe_job *job, const vpe_frame *frame, int32_t x, const vpe_kernels *k, vpe_scratch *scratch);
void vpe_job_run(vpe_job *job, const vpe_frame *frame, int32_t end, const vpe_kernels *k, vpe_scratch *scratch);

/* ---- bicubic.c ---------------------------------------------------------------------------------------------------- */

void vpe_cubic_take(vpe_cubic *axis, vpe_arena *arena, int32_t n, int32_t longest);
void vpe_cubic_plan(vpe_cubic *axis, int32_t source, int32_t n);
void vpe_cubic_run(vpe_job *job, const vpe_frame *frame, int32_t end, vpe_scratch *scratch);

/* ---- yuv.c ---------------------------------------------------------------------------------------------------------- */

int vpe_is_yuv(int32_t format);
/* Pixels that a chroma sample stands for across and down; 1 without chroma. */
int32_t vpe_chroma_across(int32_t format);
int32_t vpe_chroma_down(int32_t format);
/* For sums of Y and of chroma in which one level is y_scale and c_scale. */
vpe_yuv vpe_yuv_for(const vpe_frame *frame, double y_scale, double c_scale);
/* n pixels of row y from x on as B, G, R bytes. */
void vpe_row_bgr(uint8_t *out, const vpe_frame *frame, int32_t x, int32_t y, int32_t n);

/* ---- pass.c --------------------------------------------------------------------------------------------------------- */

/* The luma of a frame, with room to the left of each row. */
typedef struct vpe_luma {
    uint8_t *rows;
    size_t stride;
} vpe_luma;

void vpe_luma_take(vpe_luma *luma, vpe_arena *arena, int32_t width, int32_t height);

typedef struct vpe_pass {
    const vpe_frame *frame;
    int32_t motion; /* vpe_motion */
    const vpe_luma *luma;    /* where this frame's luma goes */
    const vpe_luma *previous; /* the frame before, laid out like luma; NULL: motion is 0 */
    uint32_t *sums;   /* one row of blocks */
    uint8_t *average; /* one row of bytes of the frame, for averaged motion */
    float *stats;   /* NULL: none wanted */
    vpe_job *const *jobs;
    size_t job_count;
    vpe_scratch *scratch;
} vpe_pass;

void vpe_pass_run(const vpe_pass *pass, const vpe_kernels *k);

/* ---- grid.c: which frame stands for which point ------------------------------------------------------------------- */

typedef struct vpe_grid {
    int64_t rate_mhz, interval;
    int64_t t0, next;     /* next: first unresolved point */
    int64_t last_due;
    int due_before, sampled_before;
    vpe_counts counts;
} vpe_grid;

int64_t vpe_grid_time(const vpe_grid *grid, int64_t k);
void vpe_grid_start(vpe_grid *grid, int64_t t0);
/* Counts the unresolved points before t as reset; 1 and an event where there are any. */
int vpe_grid_drop(vpe_grid *grid, int64_t t, vpe_event *event);
/* The kind of the next point for the frame at s, or -1 where it has to wait for a later one. */
int vpe_grid_step(vpe_grid *grid, int64_t s, int64_t period, int *used, vpe_event *event);

#endif
