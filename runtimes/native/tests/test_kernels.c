/* Every kernel set against the scalar one, bit for bit, in every format, at sizes around the vectors' widths, in buffers
 * with a page behind (or before) them that nobody may touch. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "check.h"

#include <sys/mman.h>
#include <unistd.h>

typedef struct guarded {
    uint8_t *pages, *data;
    size_t bytes;
} guarded;

/* Bytes that end where a forbidden page begins, or start where one ends. */
static guarded guard(size_t bytes, int before) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    guarded g = {.bytes = whole + 2 * page};
    g.pages = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(g.pages != MAP_FAILED, "mmap");
    CHECK(mprotect(g.pages, page, PROT_NONE) == 0, "mprotect");
    CHECK(mprotect(g.pages + page + whole, page, PROT_NONE) == 0, "mprotect");
    g.data = g.pages + page + (before ? 0 : whole - bytes);
    return g;
}

static void unguard(guarded *g) {
    munmap(g->pages, g->bytes);
}

typedef struct planes {
    vpe_frame frame;
    guarded memory[3];
} planes;

static planes planes_make(int32_t format, int32_t width, int32_t height, int32_t padding, int flip) {
    static const int channels[] = {3, 3, 1, 1, 1, 2};
    planes p = {.frame = {.format = format, .width = width, .height = height, .matrix = random_int(0, 1),
                          .full_range = random_int(0, 1)}};
    const int32_t half = (width + 1) / 2;
    const int32_t bytes[3] = {width * channels[format], format == VPE_NV12 ? 2 * half : half, half};
    const int count = format == VPE_NV12 ? 2 : format == VPE_I420 ? 3 : 1;
    for (int i = 0; i < count; i++) {
        const int32_t rows = i ? (height + 1) / 2 : height;
        const ptrdiff_t stride = bytes[i] + padding;
        const size_t size = (size_t)(stride * (rows - 1) + bytes[i]);
        p.memory[i] = guard(size, flip);
        for (size_t j = 0; j < size; j++)
            p.memory[i].data[j] = (uint8_t)(random_bits() % 4 ? random_bits() : random_bits() % 2 * 255);
        p.frame.plane[i] = p.memory[i].data + (flip ? stride * (rows - 1) : 0);
        p.frame.stride[i] = flip ? -stride : stride;
    }
    return p;
}

static void planes_free(planes *p) {
    for (int i = 0; i < 3; i++)
        if (p->memory[i].pages)
            unguard(&p->memory[i]);
}

/* What the selected set makes of the frame: a crop as floats, one as bytes, statistics of both kinds. */
typedef struct results {
    guarded floats, bytes, luma[2], stats[2];
    size_t float_bytes, byte_bytes, luma_bytes[2], stats_bytes;
} results;

typedef struct job {
    vpe_box box;
    int32_t size, w, h, letterbox;
} job;

static results run(const planes *p, const job *j, const uint8_t *before) {
    const int32_t width = p->frame.width, height = p->frame.height;
    const int32_t most = j->w > j->size ? j->w : j->size, tall = j->h > j->size ? j->h : j->size;
    const vpe_fit fit = {j->size, j->letterbox, {0.4f, 0.5f, 0.6f}, {0.2f, 0.3f, 0.4f}, VPE_AREA};
    results r = {
        .float_bytes = (size_t)j->size * (size_t)j->size * 3 * sizeof(float),
        .byte_bytes = (size_t)j->w * (size_t)j->h * 3,
        .stats_bytes = ((size_t)width + 15) / 16 * (((size_t)height + 15) / 16) * 3 * sizeof(float),
    };
    r.floats = guard(r.float_bytes, 0);
    r.bytes = guard(r.byte_bytes, 0);
    guarded scratch = guard(vpe_resize_scratch(width, height, most, tall), 0);
    vpe_status status = vpe_resize(&p->frame, &j->box, &fit, (float *)(void *)r.floats.data, scratch.data);
    CHECK(status == VPE_OK, "%s", vpe_status_text(status));
    status = vpe_resize_u8(&p->frame, &j->box, VPE_AREA, j->w, j->h, r.bytes.data, scratch.data);
    CHECK(status == VPE_OK, "%s", vpe_status_text(status));
    unguard(&scratch);
    scratch = guard(vpe_stats_scratch(width, height), 0);
    for (int m = 0; m < 2; m++) {
        r.luma_bytes[m] = (size_t)width * (size_t)(m ? (height + 3) / 4 : height);
        r.luma[m] = guard(r.luma_bytes[m], 0);
        r.stats[m] = guard(r.stats_bytes, 0);
        status = vpe_block_stats(&p->frame, m, before, r.luma[m].data, (float *)(void *)r.stats[m].data, scratch.data);
        CHECK(status == VPE_OK, "%s", vpe_status_text(status));
    }
    unguard(&scratch);
    return r;
}

static void results_free(results *r) {
    unguard(&r->floats);
    unguard(&r->bytes);
    for (int m = 0; m < 2; m++) {
        unguard(&r->luma[m]);
        unguard(&r->stats[m]);
    }
}

static void same(const results *a, const results *b, const planes *p, const job *j) {
    const char *name = vpe_simd_selected();
    const vpe_frame *f = &p->frame;
#define SAME(what, field, length)                                                                                      \
    CHECK(memcmp(a->field.data, b->field.data, b->length) == 0,                                                        \
          "%s, %s: format %d, %d x %d, stride %td, box %d %d %d %d to %d or %d x %d", what, name, f->format, f->width,  \
          f->height, f->stride[0], j->box.x, j->box.y, j->box.w, j->box.h, j->size, j->w, j->h)
    SAME("floats", floats, float_bytes);
    SAME("bytes", bytes, byte_bytes);
    SAME("luma", luma[0], luma_bytes[0]);
    SAME("averaged luma", luma[1], luma_bytes[1]);
    SAME("statistics", stats[0], stats_bytes);
    SAME("averaged statistics", stats[1], stats_bytes);
}

static void compare(int32_t format, int32_t width, int32_t height) {
    planes p = planes_make(format, width, height, random_int(0, 1) * random_int(1, 70), random_int(0, 1));
    job j = {{0, 0, random_int(1, width), random_int(1, height)}, random_int(4, 70), random_int(4, 40),
             random_int(4, 40), random_int(0, 1)};
    if (random_int(0, 2) == 0)
        j.box.w = width, j.box.h = height;
    j.box.x = random_int(0, 1) ? width - j.box.w : random_int(0, width - j.box.w);
    j.box.y = random_int(0, 1) ? height - j.box.h : random_int(0, height - j.box.h);
    uint8_t *before = room((size_t)width * (size_t)height);
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++)
        before[i] = (uint8_t)random_bits();
    const uint8_t *previous = random_int(0, 3) ? before : NULL;
    CHECK(vpe_simd_select("scalar") == VPE_OK, "scalar");
    results wanted = run(&p, &j, previous);
    for (int i = 0; vpe_simd_available(i); i++) {
        CHECK(vpe_simd_select(vpe_simd_available(i)) == VPE_OK, "select");
        results got = run(&p, &j, previous);
        same(&got, &wanted, &p, &j);
        results_free(&got);
    }
    results_free(&wanted);
    free(before);
    planes_free(&p);
}

int main(void) {
    static const int32_t sides[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 200};
    const uint64_t seed = getenv("VPE_TEST_SEED") ? strtoull(getenv("VPE_TEST_SEED"), NULL, 0) : random_state;
    random_state = seed ? seed : 1;
    for (int32_t format = VPE_BGR24; format <= VPE_YUYV; format++)
        for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++)
            for (int n = 0; n < 6; n++) {
                const int32_t width = format == VPE_YUYV ? sides[i] + sides[i] % 2 : sides[i];
                compare(format, width, random_int(1, 70));
            }
    for (int n = 0; n < 120; n++)
        compare(VPE_BGR24, random_int(1, 300), random_int(1, 120));
    printf("kernels: ok (VPE_TEST_SEED=%llu)\n", (unsigned long long)seed);
    return 0;
}
