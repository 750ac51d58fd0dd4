#include "vpe/vpe.h"

const char *vpe_status_text(vpe_status status) {
    switch (status) {
    case VPE_OK:
        return "ok";
    case VPE_ERR_ARGUMENT:
        return "a null pointer or a number outside its range";
    case VPE_ERR_FRAME:
        return "the frame is empty, longer than 16384 pixels, or its stride is shorter than a row";
    case VPE_ERR_BOX:
        return "the box is empty or not inside the frame";
    case VPE_ERR_SCALE:
        return "more than 128 source pixels to one output pixel";
    case VPE_ERR_TIME:
        return "the timestamp is outside +-2**60 ns";
    case VPE_ERR_MEMORY:
        return "out of memory";
    case VPE_ERR_BUSY:
        return "another thread is inside a call on this sampler";
    case VPE_ERR_GONE:
        return "the small frame is not in the ring";
    case VPE_ERR_KERNEL:
        return "no kernel set of this name on this machine";
    }
    return "unknown status";
}
