/* elementwise.h: what pooling, pairs and maps need to know of shapes, whatever the instruction set. */
#ifndef SQZ_ELEMENTWISE_H
#define SQZ_ELEMENTWISE_H

#include "kernels.h"

/* Values that are worked on byte by byte: from row first to last, `columns` runs of `bytes` bytes. */
typedef struct sqz_runs {
    uint32_t first, last, columns;
    size_t bytes;
} sqz_runs;

/* The runs of a part. Where nothing lies between the pixels of any of the values, a row is one run; where
 * nothing lies between the rows either, all is. */
static inline sqz_runs sqz_runs_of(const sqz_area *const *areas, int count, uint32_t part, uint32_t parts) {
    const sqz_area *shape = areas[0];
    sqz_runs runs = {0, 0, shape->width, shape->channels};
    sqz_share(shape->height, part, parts, &runs.first, &runs.last);
    int pixels = 1, rows = 1; /* whether they follow each other */
    for (int i = 0; i < count; i++) {
        pixels &= areas[i]->pitch == shape->channels;
        rows &= areas[i]->row == (size_t)shape->width * shape->channels;
    }
    if (!pixels) return runs;
    runs.bytes *= runs.columns;
    runs.columns = 1;
    if (!rows || runs.first == runs.last) return runs;
    runs.bytes *= runs.last - runs.first;
    runs.last = runs.first + 1;
    return runs;
}

/* The part of a window that lies in the picture, along one axis. */
static inline void sqz_window(const sqz_pool *p, int axis, uint32_t at, uint32_t *begin, uint32_t *end) {
    const int64_t from = (int64_t)at * p->stride[axis] - p->padding[axis], to = from + p->kernel[axis];
    const uint32_t size = axis ? p->in.width : p->in.height;
    *begin = from < 0 ? 0 : (uint32_t)from;
    *end = to > size ? size : (uint32_t)to;
}

/* The functions of one instruction set, as sqz_kernels wants them. */
#define SQZ_ELEMENTWISE(set)                                                                                 \
    void sqz_max_pool_##set(const sqz_pool *, const uint8_t *, uint8_t *, uint32_t, uint32_t);               \
    void sqz_avg_pool_##set(const sqz_pool *, const uint8_t *, uint8_t *, uint32_t, uint32_t);               \
    void sqz_global_avg_pool_##set(const sqz_pool *, const uint8_t *, void *, uint32_t, uint32_t);           \
    void sqz_add_##set(const sqz_pair *, const uint8_t *, const uint8_t *, uint8_t *, uint32_t, uint32_t);   \
    void sqz_mul_##set(const sqz_pair *, const uint8_t *, const uint8_t *, uint8_t *, uint32_t, uint32_t);   \
    void sqz_map_##set(const sqz_map *, const uint8_t *, uint8_t *, uint32_t, uint32_t)

#ifdef SQZ_X86
SQZ_ELEMENTWISE(avx2);
SQZ_ELEMENTWISE(avx512);
#endif

#endif
