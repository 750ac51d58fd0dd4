/* Eight samplers on eight threads give what one thread gives; `make tsan` runs this under the thread sanitizer. One
 * sampler that two threads use at once refuses one of them. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 8

typedef struct work {
    const vpe_frame *frames;
    uint64_t sum;
} work;

static void *camera(void *argument) {
    work *w = argument;
    const vpe_fit fit = {24, 1, {0, 0, 0}, {1, 1, 1}, VPE_AREA};
    float *ring = room(2 * 3 * 3 * 24 * 24 * sizeof *ring), stats[3 * 5 * 7];
    const vpe_stream_config stream = {fit, 15000, 1, 3, ring};
    const vpe_sampler_config config = {&stream, 1, 40, 15000, 6, 500000000, 0, VPE_MOTION_AVERAGED};
    vpe_sampler *s;
    CHECK(vpe_sampler_create(&config, &s) == VPE_OK, "create");
    vpe_event *events = room(vpe_sampler_max_events(s) * sizeof *events);
    memset(ring, 0, 2 * 3 * 3 * 24 * 24 * sizeof *ring);
    w->sum = 0;
    for (int64_t i = 0; i < 200; i++) {
        int32_t push;
        size_t n;
        CHECK(vpe_sampler_push(s, &w->frames[i % 4], i * 33333333, stats, &push, events, &n) == VPE_OK, "push");
        for (size_t j = 0; j < sizeof stats / sizeof stats[0]; j++)
            w->sum = w->sum * 31 + (uint64_t)(stats[j] * 256);
    }
    for (size_t j = 0; j < 2 * 3 * 3 * 24 * 24; j++)
        w->sum = w->sum * 31 + (uint64_t)(ring[j] * 65536);
    vpe_sampler_destroy(s);
    free(events);
    free(ring);
    return NULL;
}

typedef struct shared {
    vpe_sampler *sampler;
    const vpe_frame *frame;
    atomic_int busy, done;
} shared;

static void *poke(void *argument) {
    shared *s = argument;
    while (!atomic_load(&s->done))
        if (vpe_sampler_set_interval(s->sampler, 0, 1) == VPE_ERR_BUSY)
            atomic_store(&s->busy, 1);
    return NULL;
}

static void one_for_two(const vpe_frame *frame) {
    const vpe_fit fit = {64, 0, {0, 0, 0}, {1, 1, 1}, VPE_AREA};
    float *ring = room(2 * 3 * 64 * 64 * sizeof *ring);
    const vpe_stream_config stream = {fit, 1000000, 1, 1, ring};
    const vpe_sampler_config config = {&stream, 1, 0, 0, 0, 500000000, 0, VPE_MOTION_EXACT};
    shared s = {.frame = frame};
    CHECK(vpe_sampler_create(&config, &s.sampler) == VPE_OK, "create");
    vpe_event *events = room(vpe_sampler_max_events(s.sampler) * sizeof *events);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, poke, &s) == 0, "thread");
    for (int64_t i = 0; i < 100000 && !atomic_load(&s.busy); i++) {
        int32_t push;
        size_t n;
        const vpe_status status = vpe_sampler_push(s.sampler, frame, i * 1000000, NULL, &push, events, &n);
        CHECK(status == VPE_OK || status == VPE_ERR_BUSY, "%s", vpe_status_text(status));
        if (status == VPE_ERR_BUSY)
            atomic_store(&s.busy, 1);
    }
    atomic_store(&s.done, 1);
    pthread_join(other, NULL);
    CHECK(atomic_load(&s.busy), "nobody was refused");
    vpe_sampler_destroy(s.sampler);
    free(events);
    free(ring);
}

int main(void) {
    picture p[4];
    vpe_frame frames[4];
    for (int i = 0; i < 4; i++) {
        p[i] = picture_make(110, 75, i, i & 1);
        frames[i] = p[i].frame;
    }
    work alone = {.frames = frames}, together[THREADS];
    camera(&alone);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        together[i] = (work){.frames = frames};
        CHECK(pthread_create(&threads[i], NULL, camera, &together[i]) == 0, "thread");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++)
        CHECK(together[i].sum == alone.sum, "thread %d saw something else", i);
    one_for_two(&frames[0]);
    for (int i = 0; i < 4; i++)
        free(p[i].memory);
    puts("threads: ok");
    return 0;
}
