/* YUV to R, G, B, after averaging: linear, so the mean of the converted is the converted mean, up to the limits. */
#include "internal.h"

int vpe_is_yuv(int32_t format) {
    return format == VPE_NV12 || format == VPE_I420 || format == VPE_YUYV;
}

int32_t vpe_chroma_across(int32_t format) {
    return vpe_is_yuv(format) ? 2 : 1;
}

int32_t vpe_chroma_down(int32_t format) {
    return format == VPE_NV12 || format == VPE_I420 ? 2 : 1;
}

vpe_yuv vpe_yuv_for(const vpe_frame *frame, double y_scale, double c_scale) {
    const double kr = frame->matrix == VPE_BT709 ? 0.2126 : 0.299, kb = frame->matrix == VPE_BT709 ? 0.0722 : 0.114;
    const double kg = 1 - kr - kb;
    const double y = frame->full_range ? 1 : 255.0 / 219, c = frame->full_range ? 1 : 255.0 / 224;
    const double black = frame->full_range ? 0 : 16 * y;
    const double rv = 2 * (1 - kr) * c, bu = 2 * (1 - kb) * c;
    const double gu = -bu * kb / kg, gv = -rv * kr / kg;
    return (vpe_yuv){
        .y = (float)(y / y_scale),
        .rv = (float)(rv / c_scale),
        .gu = (float)(gu / c_scale),
        .gv = (float)(gv / c_scale),
        .bu = (float)(bu / c_scale),
        .r = (float)(-black - 128 * rv),
        .g = (float)(-black - 128 * (gu + gv)),
        .b = (float)(-black - 128 * bu),
    };
}

static inline float limited(float v) {
    return v > 0 ? v < 255 ? v : 255 : 0;
}

void vpe_yuv_levels(float *const rgb[3], int32_t *const acc[3], size_t n, const vpe_yuv *m) {
    for (size_t i = 0; i < n; i++) {
        const float y = (float)acc[0][i] * m->y, u = (float)acc[1][i], v = (float)acc[2][i];
        rgb[0][i] = limited(y + v * m->rv + m->r);
        rgb[1][i] = limited(y + u * m->gu + v * m->gv + m->g);
        rgb[2][i] = limited(y + u * m->bu + m->b);
    }
}

/* The bytes of pixel x of a row: Y, U, V. */
static void yuv_at(const vpe_frame *frame, int32_t x, int32_t y, int32_t yuv[3]) {
    const uint8_t *first = frame->plane[0] + y * frame->stride[0];
    const ptrdiff_t c = x / 2;
    if (frame->format == VPE_YUYV) {
        yuv[0] = first[2 * (ptrdiff_t)x], yuv[1] = first[4 * c + 1], yuv[2] = first[4 * c + 3];
        return;
    }
    const uint8_t *second = frame->plane[1] + y / 2 * frame->stride[1];
    yuv[0] = first[x];
    if (frame->format == VPE_NV12)
        yuv[1] = second[2 * c], yuv[2] = second[2 * c + 1];
    else
        yuv[1] = second[c], yuv[2] = (frame->plane[2] + y / 2 * frame->stride[2])[c];
}

void vpe_row_bgr(uint8_t *out, const vpe_frame *frame, int32_t x, int32_t y, int32_t n) {
    const uint8_t *src = frame->plane[0] + y * frame->stride[0];
    const vpe_yuv m = vpe_yuv_for(frame, 1, 1);
    for (int32_t i = 0; i < n; i++, out += 3, x++) {
        if (frame->format == VPE_BGR24 || frame->format == VPE_RGB24) {
            const int swap = frame->format == VPE_RGB24 ? 2 : 0;
            out[0] = src[3 * x + swap], out[1] = src[3 * x + 1], out[2] = src[3 * x + 2 - swap];
        } else if (frame->format == VPE_GRAY8) {
            out[0] = out[1] = out[2] = src[x];
        } else {
            int32_t v[3];
            float level[3];
            yuv_at(frame, x, y, v);
            int32_t *const acc[3] = {&v[0], &v[1], &v[2]};
            float *const rgb[3] = {&level[0], &level[1], &level[2]};
            vpe_yuv_levels(rgb, acc, 1, &m);
            for (int c = 0; c < 3; c++)
                out[2 - c] = (uint8_t)(level[c] + 0.5f);
        }
    }
}
