/* Which kernel set runs: one atomic pointer, found at first use, set by name. */
#include "kernels.h"
#include "vpe/vpe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* best first */
static const vpe_kernels *const tables[] = {
#if defined(__x86_64__)
    &vpe_kernels_avx512,
#endif
#if defined(__x86_64__) || defined(__i386__)
    &vpe_kernels_avx2,
    &vpe_kernels_sse41,
#endif
#if defined(__aarch64__)
    &vpe_kernels_neon,
#endif
    &vpe_kernels_scalar,
};
#define TABLES (sizeof tables / sizeof tables[0])

static _Atomic(const vpe_kernels *) current;

static const vpe_kernels *find(const char *name) {
    for (size_t i = 0; i < TABLES; i++)
        if (strcmp(tables[i]->name, name) == 0 && tables[i]->supported())
            return tables[i];
    return NULL;
}

const vpe_kernels *vpe_kernels_now(void) {
    const vpe_kernels *k = atomic_load_explicit(&current, memory_order_acquire);
    if (k)
        return k;
    /* An unknown name in the environment is no reason to fail: the best set runs and the name can be asked for. */
    const char *name = getenv("VIDPRISM_EDGE_SIMD");
    k = name ? find(name) : NULL;
    for (size_t i = 0; !k && i < TABLES; i++)
        if (tables[i]->supported())
            k = tables[i];
    const vpe_kernels *none = NULL;
    atomic_compare_exchange_strong(&current, &none, k);
    return atomic_load_explicit(&current, memory_order_acquire);
}

const char *vpe_simd_available(int index) {
    for (size_t i = 0; i < TABLES; i++)
        if (tables[i]->supported() && index-- == 0)
            return tables[i]->name;
    return NULL;
}

const char *vpe_simd_selected(void) {
    return vpe_kernels_now()->name;
}

vpe_status vpe_simd_select(const char *name) {
    const vpe_kernels *k = name ? find(name) : NULL;
    if (!k)
        return VPE_ERR_KERNEL;
    atomic_store_explicit(&current, k, memory_order_release);
    return VPE_OK;
}
