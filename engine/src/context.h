/* context.h: what is known about a weight before it is decoded.
 *
 * A tensor is a list of filters (its first dimension), each of `inputs` kernels of height x width numbers.
 * Filters are coded one after the other; in a filter, all inputs at the kernel's first position, then at the
 * next.
 *
 * Two numbers are predicted for every weight, as weighted sums whose weights the encoder has fitted and
 * stored:
 *
 *   the weight itself,   from its neighbours in the kernel and the mean of earlier filters at the same place;
 *   its magnitude,       from the magnitudes of the same, the recent ones of this filter, and the first
 * prediction.
 *
 * The predicted magnitude, on a logarithmic scale, is the context in which the magnitude is coded; the
 * prediction of the weight is the context of its sign. Everything counts in 256ths and is exact.
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
    /* Of its magnitude: the neighbours; mean of earlier filters; this filter so far, slow and fast; the
     * predicted weight's magnitude; a constant. */
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

/* The state of one pass over a tensor. The arrays have one number a place of a filter, position by position.
 */
typedef struct context {
    kernel_shape shape;
    int32_t *mean_magnitude, *mean_signed; /* of earlier filters, moving averages */
    int16_t *filter;                       /* this filter, so far */
    int32_t *magnitude, *expected;         /* of one position: what is known before any of it is decoded */
    int32_t slow;                          /* the slow average of this filter's magnitudes */
} context;

/* Where the neighbours lie: rows and columns before the weight's own. */
static const int8_t neighbour[NEIGHBOURS][2] = {{0, -1},  {-1, 0}, {-1, -1}, {-1, 1}, {0, -2},  {-2, 0},
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

/* Four levels an octave, of a magnitude of x / 256 - 1 / 16. */
static inline uint32_t level_at(uint32_t x) {
    const uint32_t octave = top_bit(x), level = (octave - 4) * 4 + (x >> (octave - 2) & 3);
    return level < LEVELS ? level : LEVELS - 1;
}

/* The levels of almost all that occurs. They change at multiples of four only. */
typedef struct level_table {
    uint8_t level[2048];
} level_table;

static inline void set_levels(level_table *table) {
    for (uint32_t i = 0; i < 2048; i++) table->level[i] = (uint8_t)(i < 4 ? 0 : level_at(4 * i));
}

SQZ_INLINE uint32_t level_of(const level_table *table, int32_t magnitude) {
    const uint32_t x = (uint32_t)(magnitude < 0 ? 0 : magnitude) + 16;
    return SQZ_RARELY(x >= 4 * 2048) ? level_at(x) : table->level[x / 4];
}

static inline void context_start(context *c, const predictor *p) {
    const size_t places = (size_t)c->shape.inputs * c->shape.height * c->shape.width;
    for (size_t i = 0; i < places; i++) {
        c->mean_magnitude[i] = p->mean;
        c->mean_signed[i] = 0;
    }
    c->slow = p->mean;
}

/* Finds the neighbours' numbers at all inputs: NULL for those that lie outside of the kernel. */
static inline void find_neighbours(const context *c, uint32_t position, const int16_t *near[NEIGHBOURS]) {
    const int row = (int)(position / c->shape.width), column = (int)(position % c->shape.width);
    for (int which = 0; which < NEIGHBOURS; which++) {
        const int y = row + neighbour[which][0], x = column + neighbour[which][1];
        const int inside = y >= 0 && x >= 0 && x < (int)c->shape.width;
        near[which] = inside ? c->filter + ((size_t)y * c->shape.width + (size_t)x) * c->shape.inputs : NULL;
    }
}

/* Adds one neighbour's share to both sums. Each product fits 16 bits times 16 bits, which compilers do by the
 * dozen. */
static inline void add_neighbour(int32_t *restrict magnitude, int32_t *restrict expected,
                                 const int16_t *restrict near, int16_t by, int16_t by_signed,
                                 uint32_t inputs) {
    for (uint32_t i = 0; i < inputs; i++) {
        const int16_t x = near[i], size = (int16_t)(x < 0 ? -x : x);
        magnitude[i] += (int32_t)by * size;
        expected[i] += (int32_t)by_signed * x;
    }
}

/* Everything of the prediction that does not depend on this position's own weights. */
static inline void context_position(context *c, const predictor *p, uint32_t position) {
    const uint32_t inputs = c->shape.inputs;
    const int32_t *restrict mean_magnitude = c->mean_magnitude + (size_t)position * inputs;
    const int32_t *restrict mean_signed = c->mean_signed + (size_t)position * inputs;
    int32_t *restrict magnitude = c->magnitude, *restrict expected = c->expected;
    const int32_t from_mean = p->magnitude_term[NEIGHBOURS], constant = 4 * p->magnitude_term[NEIGHBOURS + 4];
    const int32_t from_mean_signed = p->signed_term[NEIGHBOURS],
                  from_expected = p->magnitude_term[NEIGHBOURS + 3];
    const int16_t *near[NEIGHBOURS];
    find_neighbours(c, position, near);
    for (uint32_t i = 0; i < inputs; i++) magnitude[i] = expected[i] = 0;
    for (int which = 0; which < NEIGHBOURS; which++)
        if (near[which] != NULL && (p->magnitude_term[which] != 0 || p->signed_term[which] != 0))
            add_neighbour(magnitude, expected, near[which], p->magnitude_term[which], p->signed_term[which],
                          inputs);
    for (uint32_t i = 0; i < inputs; i++) {
        const int32_t likely = (256 * expected[i] + from_mean_signed * mean_signed[i]) / 64;
        expected[i] = likely;
        magnitude[i] =
            256 * magnitude[i] + from_mean * mean_magnitude[i] + from_expected * size_of(likely) + constant;
    }
}

/* The averages over this filter that move with every weight, and their terms of the prediction. */
typedef struct recent {
    int32_t slow, fast, last;
    int32_t from_slow, from_fast;
} recent;

static inline recent recent_start(const context *c, const predictor *p) {
    const recent r = {c->slow, c->slow, c->slow, p->magnitude_term[NEIGHBOURS + 1],
                      p->magnitude_term[NEIGHBOURS + 2]};
    return r;
}

/* The predicted magnitude at an input, from all that came before it but the very last (so that the last need
 * not be known yet when the next is predicted). */
SQZ_INLINE int32_t predict(recent *r, int32_t known) {
    const int32_t sum = known + r->from_slow * r->slow + r->from_fast * r->fast;
    r->fast += floor_shift(r->last - r->fast, 2);
    r->slow += floor_shift(r->last - r->slow, 6);
    return floor_shift(sum, 6);
}

SQZ_INLINE void remember(recent *r, int32_t weight) { r->last = 256 * size_of(weight); }

/* After a position: the averages over filters move towards it, by 1 / (n + 2) at filter n, and 1 / 32 later.
 */
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
