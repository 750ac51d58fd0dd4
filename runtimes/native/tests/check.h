/* The least a C test needs: checks with a place, a repeatable random source, buffers without room behind them. */
#ifndef VPE_CHECK_H
#define VPE_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vpe/vpe.h"

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                            \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t random_state = UINT64_C(0x9E3779B97F4A7C15);

static inline uint32_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static inline int32_t random_int(int32_t low, int32_t high) { /* low .. high */
    return low + (int32_t)(random_bits() % (uint32_t)(high - low + 1));
}

static inline void *room(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    CHECK(p, "out of memory");
    return p;
}

/* A frame of random pixels in a buffer that ends with the last pixel; padding, and upside down if asked for. */
typedef struct picture {
    vpe_frame frame;
    uint8_t *memory;
} picture;

static inline picture picture_make(int32_t width, int32_t height, int32_t padding, int flip) {
    const ptrdiff_t stride = (ptrdiff_t)width * 3 + padding;
    const size_t bytes = (size_t)(stride * (height - 1)) + (size_t)width * 3;
    picture p = {.memory = room(bytes)};
    const int smooth = random_int(0, 1);
    for (size_t i = 0; i < bytes; i++)
        p.memory[i] = (uint8_t)(smooth ? i / 7 + i % 5 : random_bits() % 3 ? random_bits() : random_bits() % 2 * 255);
    p.frame = (vpe_frame){
        .format = VPE_BGR24,
        .width = width,
        .height = height,
        .plane = {flip ? p.memory + stride * (height - 1) : p.memory},
        .stride = {flip ? -stride : stride},
    };
    return p;
}

static inline uint8_t picture_at(const picture *p, int32_t x, int32_t y, int c) {
    return p->frame.plane[0][y * p->frame.stride[0] + 3 * x + c];
}

#endif
