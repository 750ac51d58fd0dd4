/* The rows that come next, asked for while there is work to do. */
#include "internal.h"

vpe_ahead vpe_ahead_of(const vpe_frame *frame, int32_t end, int32_t work) {
    const int32_t rest = frame->height - end, rows = rest < VPE_BLOCK ? rest : VPE_BLOCK;
    const int32_t lines = (int32_t)((vpe_plane_bytes(frame, 0) + 63) / 64);
    if (rows < 1 || work < 1)
        return (vpe_ahead){.rows = 0};
    return (vpe_ahead){
        .row = frame->plane[0] + end * frame->stride[0],
        .stride = frame->stride[0],
        .rows = rows,
        .lines = lines,
        .step = ((int64_t)rows * lines << 32) / work + 1,
    };
}

void vpe_fetch(vpe_ahead *ahead, int32_t work) {
    ahead->due += ahead->step * work;
    int32_t n = (int32_t)(ahead->due >> 32);
    ahead->due &= 0xFFFFFFFF;
    while (n > 0 && ahead->rows > 0) {
        const int32_t rest = ahead->lines - ahead->line, now = n < rest ? n : rest;
        const uint8_t *p = ahead->row + 64 * (ptrdiff_t)ahead->line;
        for (int32_t i = 0; i < now; i++) /* unrolled, so many at once, it is slower */
            __builtin_prefetch(p + 64 * (ptrdiff_t)i, 0, 3);
        n -= now;
        ahead->line += now;
        if (ahead->line == ahead->lines) {
            ahead->line = 0;
            ahead->row += ahead->stride;
            ahead->rows--;
        }
    }
}
