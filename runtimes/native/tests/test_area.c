/* Crops against the definition in doubles; block statistics against plain sums; every kernel set by itself. */
#include "check.h"

#include <math.h>

/* Mean of channel c over the real rectangle, straight from the definition. */
static double mean_over(const picture *p, double x0, double x1, double y0, double y1, int c) {
    double sum = 0;
    for (int32_t y = (int32_t)floor(y0); y < y1 && y < p->frame.height; y++)
        for (int32_t x = (int32_t)floor(x0); x < x1 && x < p->frame.width; x++) {
            const double w = fmin(x1, x + 1.0) - fmax(x0, x), h = fmin(y1, y + 1.0) - fmax(y0, y);
            sum += w * h * picture_at(p, x, y, c);
        }
    return sum / ((x1 - x0) * (y1 - y0));
}

static void check_crop(const picture *p, vpe_box box, int32_t size, int letterbox) {
    const vpe_fit fit = {size, letterbox, {0.5f, 0.25f, 0.125f}, {0.25f, 0.5f, 0.75f}, VPE_AREA};
    const int32_t width = p->frame.width, height = p->frame.height;
    float *out = room((size_t)size * (size_t)size * 3 * sizeof *out);
    void *scratch = room(vpe_resize_scratch(width, height, size, size));
    const vpe_status status = vpe_resize(&p->frame, &box, &fit, out, scratch);
    CHECK(status == VPE_OK, "%s", vpe_status_text(status));
    const int32_t m = box.w > box.h ? box.w : box.h;
    int32_t w = size, h = size;
    if (letterbox) {
        w = (int32_t)fmax(1, floor((double)box.w * size / m + 0.5));
        h = (int32_t)fmax(1, floor((double)box.h * size / m + 0.5));
    }
    const int32_t ox = (size - w) / 2, oy = (size - h) / 2;
    for (int c = 0; c < 3; c++)
        for (int32_t y = 0; y < size; y++)
            for (int32_t x = 0; x < size; x++) {
                const float got = out[((size_t)c * (size_t)size + (size_t)y) * (size_t)size + (size_t)x];
                if (x < ox || x >= ox + w || y < oy || y >= oy + h) {
                    CHECK(got == 0, "padding at %d, %d is %g", x, y, (double)got);
                    continue;
                }
                const double sx = (double)box.w / w, sy = (double)box.h / h;
                const double want = mean_over(p, box.x + (x - ox) * sx, box.x + (x - ox + 1) * sx,
                                              box.y + (y - oy) * sy, box.y + (y - oy + 1) * sy, 2 - c);
                const double level = ((double)got * (double)fit.std[c] + (double)fit.mean[c]) * 255;
                CHECK(fabs(level - want) < 0.1, "%d x %d, box %d %d %d %d to %d: %g, not %g", width, height, box.x,
                      box.y, box.w, box.h, size, level, want);
            }
    free(out);
    free(scratch);
}

static void crops(void) {
    for (int i = 0; i < 250; i++) {
        const int32_t width = random_int(1, 90), height = random_int(1, 90);
        picture p = picture_make(width, height, random_int(0, 9), random_int(0, 1));
        vpe_box box = {0, 0, random_int(1, width), random_int(1, height)};
        const int corner = random_int(0, 4);
        box.x = corner & 1 ? width - box.w : corner == 4 ? random_int(0, width - box.w) : 0;
        box.y = corner & 2 ? height - box.h : corner == 4 ? random_int(0, height - box.h) : 0;
        check_crop(&p, box, random_int(1, 60), random_int(0, 1));
        free(p.memory);
    }
    static const int32_t sides[] = {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        picture p = picture_make(sides[i], 40, 0, 0);
        for (int32_t size = 1; size < 40; size += 6)
            check_crop(&p, (vpe_box){0, 0, sides[i], 40}, size, 0);
        free(p.memory);
    }
    picture wide = picture_make(1024, 300, 3, 1); /* 128 pixels to one, the most */
    check_crop(&wide, (vpe_box){0, 0, 1024, 300}, 8, 0);
    const vpe_fit fit = {7, 0, {0, 0, 0}, {1, 1, 1}, VPE_AREA};
    float out[3 * 49];
    void *scratch = room(vpe_resize_scratch(1024, 300, 7, 7));
    CHECK(vpe_resize(&wide.frame, &(vpe_box){0, 0, 1024, 300}, &fit, out, scratch) == VPE_ERR_SCALE, "129 to one");
    CHECK(vpe_resize(&wide.frame, &(vpe_box){1, 0, 1024, 300}, &fit, out, scratch) == VPE_ERR_BOX, "outside");
    CHECK(vpe_resize(&wide.frame, &(vpe_box){INT32_MAX, 0, 2, 2}, &fit, out, scratch) == VPE_ERR_BOX, "far out");
    free(scratch);
    free(wide.memory);
}

static void bytes(void) {
    for (int i = 0; i < 60; i++) {
        const int32_t width = random_int(1, 80), height = random_int(1, 80);
        const int same = i % 4 == 0;
        const int32_t w = same ? width : random_int(1, 50), h = same ? height : random_int(1, 50);
        picture p = picture_make(width, height, random_int(0, 5), i & 1);
        uint8_t *out = room((size_t)w * (size_t)h * 3);
        void *scratch = room(vpe_resize_scratch(width, height, w, h));
        CHECK(vpe_resize_u8(&p.frame, &(vpe_box){0, 0, width, height}, VPE_AREA, w, h, out, scratch) == VPE_OK, "resize to bytes");
        for (int32_t y = 0; y < h; y++)
            for (int32_t x = 0; x < w; x++)
                for (int c = 0; c < 3; c++) {
                    const double sx = (double)width / w, sy = (double)height / h;
                    const double want = mean_over(&p, x * sx, (x + 1) * sx, y * sy, (y + 1) * sy, c);
                    const double got = out[((size_t)y * (size_t)w + (size_t)x) * 3 + (size_t)c];
                    CHECK(fabs(got - want) <= (same ? 0 : 0.6), "%d x %d to %d x %d: %g, not %g", width, height, w, h,
                          got, want);
                }
        free(out);
        free(scratch);
        free(p.memory);
    }
}

/* The luma of row y, averaged: of the group y of four rows. */
static int luma_at(const picture *p, int32_t x, int32_t y, int averaged) {
    int v[3];
    for (int c = 0; c < 3; c++) {
        int four[4];
        for (int32_t r = 0; r < 4; r++)
            four[r] = picture_at(p, x, averaged ? (4 * y + r < p->frame.height ? 4 * y + r : p->frame.height - 1) : y, c);
        v[c] = (((four[0] + four[1] + 1) >> 1) + ((four[2] + four[3] + 1) >> 1) + 1) >> 1;
    }
    return (29 * v[0] + 150 * v[1] + 77 * v[2] + (averaged ? 0 : 128)) >> 8;
}

static void check_block(const uint8_t *luma, const uint8_t *before, const float *stats, size_t b, int32_t width,
                        int32_t rows, int32_t side) {
    const size_t bw = ((size_t)width + 15) / 16, blocks = bw * (((size_t)rows + (size_t)side - 1) / (size_t)side);
    const int32_t y0 = (int32_t)(b / bw) * side, x0 = (int32_t)(b % bw) * 16;
    double sum[3] = {0, 0, 0}, n = 0;
    for (int32_t y = y0; y < rows && y < y0 + side; y++)
        for (int32_t x = x0; x < width && x < x0 + 16; x++) {
            const size_t at = (size_t)y * (size_t)width + (size_t)x;
            const int v = luma[at];
            sum[0] += before ? abs(v - before[at]) : 0;
            sum[1] += (x ? abs(v - luma[at - 1]) : 0) + (y ? abs(v - luma[at - (size_t)width]) : 0);
            sum[2] += v;
            n++;
        }
    for (size_t c = 0; c < 3; c++)
        CHECK(stats[c * blocks + b] == (float)sum[c] / (float)n, "statistic %zu of block %zu", c, b);
}

static void statistics(void) {
    for (int i = 0; i < 120; i++) {
        const int averaged = i % 4 > 1;
        const int32_t width = random_int(1, 100), height = random_int(1, 70), rows = averaged ? (height + 3) / 4 : height;
        const size_t blocks = ((size_t)width + 15) / 16 * (((size_t)height + 15) / 16);
        const size_t pixels = (size_t)width * (size_t)rows;
        picture p = picture_make(width, height, random_int(0, 5), i & 1);
        uint8_t *before = room(pixels), *luma = room(pixels);
        float *stats = room(3 * blocks * sizeof *stats);
        for (size_t j = 0; j < pixels; j++)
            before[j] = (uint8_t)random_bits();
        void *scratch = room(vpe_stats_scratch(width, height));
        CHECK(vpe_block_stats(&p.frame, averaged, i % 3 ? before : NULL, luma, stats, scratch) == VPE_OK, "statistics");
        for (int32_t y = 0; y < rows; y++)
            for (int32_t x = 0; x < width; x++)
                CHECK(luma[(size_t)y * (size_t)width + (size_t)x] == luma_at(&p, x, y, averaged), "luma");
        for (size_t b = 0; b < blocks; b++)
            check_block(luma, i % 3 ? before : NULL, stats, b, width, rows, averaged ? 4 : 16);
        free(before);
        free(luma);
        free(stats);
        free(scratch);
        free(p.memory);
    }
}

int main(void) {
    for (int i = 0; vpe_simd_available(i); i++) {
        CHECK(vpe_simd_select(vpe_simd_available(i)) == VPE_OK, "select");
        crops();
        bytes();
        statistics();
        printf("area: %s ok\n", vpe_simd_selected());
    }
    CHECK(vpe_simd_select("none such") == VPE_ERR_KERNEL, "an unknown name");
    return 0;
}
