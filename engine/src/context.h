/* context.h: what is known about a weight before it is decoded.
 *
 * A tensor is a list of filters (its first dimension), each of `inputs` kernels of height x width numbers. Filters are
 * coded one after the other; in a filter, all inputs at the kernel's first position, then at the next.
 *
 * Two numbers are predicted for every weight, as weighted sums whose weights the encoder has fitted and stored:
 *
 *   the weight itself,   from its neighbours in the kernel and the mean of earlier filters at the same place;
 *   its magnitude,       from the magnitudes of the same, the recent ones of this filter, and the first prediction.
 *
 * The predicted magnitude, on a logarithmic scale, is the context in which the magnitude is coded; the prediction of
 * the weight is the context of its sign. Everything counts in 256ths and is exact.
 */
#ifndef SQZ_CONTEXT_H
#define SQZ_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "range.h"

enum {
    NEIGHBOURS = 12,
    /* Weights of the prediction of a weight, in 64ths: its neighbours, then the mean of earlier filters. */
    SIGNED_TERMS = NEIGHBOURS + 1,
    /* Of its magnitude: the neighbours; mean of earlier filters; this filter so far, slow and fast; the predicted
     * weight's magnitude; a constant. */
    MAGNITUDE_TERMS = NEIGHBOURS + 5,
    LEVELS = 48
};

typedef struct predictor {
    int32_t mean; /* of all magnitudes: what is expected at first */
    int8_t signed_term[SIGNED_TERMS];
    int8_t magnitude_term[MAGNITUDE_TERMS];
} predictor;

typedef struct kernel_shape {
    uint32_t filters, inputs, height, width;
} kernel_shape;

/* The state of one pass over a tensor. The arrays have one number a place of a filter, position by position. */
typedef struct context {
    kernel_shape shape;
    int32_t *mean_magnitude, *mean_signed; /* of earlier filters, moving averages */
    int16_t *filter;                       /* this filter, so far */
    int32_t *magnitude, *expected;         /* of one position: what is known before any of it is decoded */
    int32_t slow;                          /* the slow average of this filter's magnitudes */
} context;

/* Where the neighbours lie: rows and columns before the weight's own. */
static const int8_t neighbour[NEIGHBOURS][2] = {{0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2},  {-2, 0},
                                                {-2, -1}, {-2, 1}, {-1, -2}, {-1, 2}, {-2, -2}, {-2, 2}};

SQZ_INLINE int32_t size_of(int32_t x) { return x < 0 ? -x : x; }

SQZ_INLINE uint32_t top_bit(uint32_t x) { /* of x >= 1: 0 for 1, 1 for 2 and 3 ... */
#if defined(__GNUC__)
    return 31u - (uint32_t)__builtin_clz(x);
#else
    uint32_t bit = 0;
    while (x >>= 1) bit++;
    return bit;
#endif
}

/* Four levels an octave, from 0. */
SQZ_INLINE uint32_t level_of(int32_t magnitude) {
    const uint32_t x = (magnitude < 0 ? 0u : (uint32_t)magnitude) + 16;
    const uint32_t octave = top_bit(x), level = (octave - 4) * 4 + (x >> (octave - 2) & 3);
    return level < LEVELS ? level : LEVELS - 1;
}

static inline void context_start(context *c, const predictor *p) {
    const size_t places = (size_t)c->shape.inputs * c->shape.height * c->shape.width;
    for (size_t i = 0; i < places; i++) {
        c->mean_magnitude[i] = p->mean;
        c->mean_signed[i] = 0;
    }
    c->slow = p->mean;
}

/* The neighbour's numbers at all inputs, or NULL where it lies outside of the kernel. */
static inline const int16_t *neighbour_of(const context *c, uint32_t position, int which) {
    const int row = (int)(position / c->shape.width) + neighbour[which][0];
    const int column = (int)(position % c->shape.width) + neighbour[which][1];
    if (row < 0 || column < 0 || column >= (int)c->shape.width) return NULL;
    return c->filter + ((size_t)row * c->shape.width + (size_t)column) * c->shape.inputs;
}

/* Everything of the prediction that does not depend on this position's own weights. */
static inline void context_position(context *c, const predictor *p, uint32_t position) {
    const uint32_t inputs = c->shape.inputs;
    const int32_t *mean_magnitude = c->mean_magnitude + (size_t)position * inputs;
    const int32_t *mean_signed = c->mean_signed + (size_t)position * inputs;
    int32_t *restrict magnitude = c->magnitude, *restrict expected = c->expected;
    const int32_t from_mean = p->magnitude_term[NEIGHBOURS], constant = 4 * p->magnitude_term[NEIGHBOURS + 4];
    const int32_t from_mean_signed = p->signed_term[NEIGHBOURS], from_expected = p->magnitude_term[NEIGHBOURS + 3];
    for (uint32_t i = 0; i < inputs; i++) {
        magnitude[i] = from_mean * mean_magnitude[i] + constant;
        expected[i] = from_mean_signed * mean_signed[i];
    }
    for (int which = 0; which < NEIGHBOURS; which++) {
        const int16_t *restrict near = neighbour_of(c, position, which);
        const int32_t by = 256 * p->magnitude_term[which], by_signed = 256 * p->signed_term[which];
        if (near == NULL || (by == 0 && by_signed == 0)) continue;
        for (uint32_t i = 0; i < inputs; i++) {
            magnitude[i] += by * size_of(near[i]);
            expected[i] += by_signed * near[i];
        }
    }
    for (uint32_t i = 0; i < inputs; i++) {
        expected[i] /= 64;
        magnitude[i] += from_expected * size_of(expected[i]);
    }
}

/* The averages over this filter that move with every weight. */
typedef struct recent {
    int32_t slow, fast, last;
} recent;

/* The predicted magnitude at an input, from all that came before it but the very last (so that the last need not be
 * known yet when the next is predicted). */
SQZ_INLINE int32_t predict(recent *r, const predictor *p, int32_t known) {
    const int32_t sum =
        known + p->magnitude_term[NEIGHBOURS + 1] * r->slow + p->magnitude_term[NEIGHBOURS + 2] * r->fast;
    r->fast += floor_shift(r->last - r->fast, 2);
    r->slow += floor_shift(r->last - r->slow, 6);
    return floor_shift(sum, 6);
}

SQZ_INLINE void remember(recent *r, int32_t weight) { r->last = 256 * size_of(weight); }

/* After a position: the averages over filters move towards it, by 1 / (n + 2) at filter n, and 1 / 32 later. */
static inline void context_learn(context *c, uint32_t position, uint32_t filter) {
    const uint32_t inputs = c->shape.inputs;
    const int16_t *restrict weight = c->filter + (size_t)position * inputs;
    int32_t *restrict mean_magnitude = c->mean_magnitude + (size_t)position * inputs;
    int32_t *restrict mean_signed = c->mean_signed + (size_t)position * inputs;
    if (filter >= 30) { /* the same as below with 128, but quicker */
        for (uint32_t i = 0; i < inputs; i++) {
            const int32_t x = weight[i];
            mean_magnitude[i] += floor_shift(256 * size_of(x) - mean_magnitude[i], 5);
            mean_signed[i] += floor_shift(256 * x - mean_signed[i], 5);
        }
        return;
    }
    const int32_t rate = (int32_t)(4096 / (filter + 2));
    for (uint32_t i = 0; i < inputs; i++) {
        const int32_t x = weight[i];
        mean_magnitude[i] += floor_shift((256 * size_of(x) - mean_magnitude[i]) * rate, 12);
        mean_signed[i] += floor_shift((256 * x - mean_signed[i]) * rate, 12);
    }
}

#endif
