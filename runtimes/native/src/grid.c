/* The timestamp grid of one stream: t_k = t0 + k * 10^12 / rate, each point resolved by one frame. */
#include "internal.h"

#define TERA INT64_C(1000000000000)

/* Whole multiples of 1000 s apart, so that nothing overflows in a stream of any length. */
int64_t vpe_grid_time(const vpe_grid *grid, int64_t k) {
    const int64_t q = k / grid->rate_mhz, r = k % grid->rate_mhz;
    return grid->t0 + q * TERA + r * TERA / grid->rate_mhz;
}

void vpe_grid_start(vpe_grid *grid, int64_t t0) {
    grid->t0 = t0;
    grid->next = 0;
    grid->due_before = grid->sampled_before = 0;
}

int vpe_grid_drop(vpe_grid *grid, int64_t t, vpe_event *event) {
    const int64_t d = t - grid->t0;
    if (d <= 0)
        return 0;
    const int64_t q = d / TERA, r = d % TERA;
    const int64_t end = q * grid->rate_mhz + (r * grid->rate_mhz + TERA - 1) / TERA; /* first k with t_k >= t */
    const int64_t n = end - grid->next;
    if (n <= 0)
        return 0;
    event->kind = VPE_RESET;
    event->k = grid->next;
    event->t_ns = vpe_grid_time(grid, grid->next);
    event->row = n;
    grid->next = end;
    grid->counts.points += n;
    grid->counts.reset += n;
    return 1;
}

int vpe_grid_step(vpe_grid *grid, int64_t s, int64_t period, int *used, vpe_event *event) {
    const int64_t k = grid->next, t = vpe_grid_time(grid, k);
    if (2 * t >= 2 * s + period)
        return -1;
    const int64_t own = TERA / grid->rate_mhz, reach = period > own ? period : own;
    int kind = VPE_HELD;
    if (grid->interval > 0 && (!grid->due_before || k - grid->last_due >= grid->interval)) {
        if (!*used && 2 * (s - t) <= reach)
            kind = VPE_SAMPLED;
        else if (grid->sampled_before)
            kind = VPE_REPEATED;
        /* else nothing can stand in yet: the point is held and the next one is due */
    }
    if (kind == VPE_SAMPLED)
        *used = grid->sampled_before = 1;
    if (kind != VPE_HELD) {
        grid->due_before = 1;
        grid->last_due = k;
    }
    grid->next++;
    grid->counts.points++;
    grid->counts.sampled += kind == VPE_SAMPLED;
    grid->counts.repeated += kind == VPE_REPEATED;
    grid->counts.held += kind == VPE_HELD;
    event->kind = kind;
    event->k = k;
    event->t_ns = t;
    event->row = -1;
    return kind;
}
