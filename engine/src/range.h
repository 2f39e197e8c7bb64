/* range.h: adaptive binary range coding, both ways.
 *
 * A coder keeps an interval [low, low + range) of 64-bit numbers. Each bit splits it in proportion to its
 * probability; when the interval is narrower than 2^32 the upper 32 bits of `low` are settled, are written,
 * and both are shifted.
 *
 * Encoder and decoder are one text: every function takes `decoding`, which is a constant wherever it is
 * called, takes the bit to write, and returns the bit written or read. So a model that is written once cannot
 * differ between the two.
 */
#ifndef SQZ_RANGE_H
#define SQZ_RANGE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SQZ_INLINE static inline __attribute__((always_inline))
#define SQZ_RARELY(condition) __builtin_expect(!!(condition), 0)
#else
#define SQZ_INLINE static inline
#define SQZ_RARELY(condition) (condition)
#endif

typedef struct range_coder {
    uint64_t low;   /* decoding: how far the file's number lies above the interval's lower end */
    uint64_t range; /* at least 2^32 between calls */
    const uint8_t *from, *at, *end; /* decoding: past `end` the file continues with zeros */
    uint8_t *out, *out_at, *out_end;
    int overflow; /* encoding: there was no room */
} range_coder;

/* The probability of a 1 in the upper 22 bits, in the lower 10 how many bits were seen, up to MOST_SEEN. */
typedef uint32_t bit_model;

enum { MOST_SEEN = 1000 };
#define EVEN ((bit_model)(1u << 21) << 10) /* nothing known */

/* The same in two words, which is quicker: how fast it learns is known before the last bit is. */
typedef struct wide_model {
    uint32_t chance, seen;
} wide_model;

/* The most and least probable that a model can become, as 22-bit fractions; the split is never empty. */
enum { SUREST = 4194304 - 2049, UNLIKELIEST = 2048 };

/* How fast a model learns: 1 / (n + 1.5) of the way to the bit just seen, in 65536ths, until n is `slowest`.
 */
typedef struct learning_rates {
    uint16_t rate[MOST_SEEN + 1];
} learning_rates;

static inline void set_learning_rates(learning_rates *rates, uint32_t slowest) {
    for (uint32_t n = 0; n <= MOST_SEEN; n++)
        rates->rate[n] = (uint16_t)(131072u / (2 * (n < slowest ? n : slowest) + 3));
}

/* x / 2^n, rounded down: what >> of a negative number does on all machines, but C does not promise. */
SQZ_INLINE int32_t floor_shift(int32_t x, int n) { return x < 0 ? ~(~x >> n) : x >> n; }
SQZ_INLINE int64_t floor_shift64(int64_t x, int n) { return x < 0 ? ~(~x >> n) : x >> n; }

static inline void encoder_start(range_coder *c, void *out, size_t capacity) {
    c->low = 0;
    c->range = UINT64_MAX;
    c->from = c->at = c->end = NULL;
    c->out = c->out_at = (uint8_t *)out;
    c->out_end = c->out + capacity;
    c->overflow = 0;
}

static inline void decoder_start(range_coder *c, const void *data, size_t size) {
    c->low = 0;
    c->range = UINT64_MAX;
    c->from = c->at = (const uint8_t *)data;
    c->end = c->from + size;
    c->out = c->out_at = c->out_end = NULL;
    c->overflow = 0;
    for (int i = 0; i < 8; i++) c->low = c->low << 8 | (c->at < c->end ? *c->at++ : 0u);
}

/* Adds to `low`; what runs over is carried into the bytes already written. */
static inline void encoder_add(range_coder *c, uint64_t add) {
    c->low += add;
    if (c->low < add) {
        uint8_t *byte = c->out_at;
        while (byte > c->out && ++*--byte == 0) {
        }
    }
}

static inline void encoder_put(range_coder *c, int bytes) {
    for (int i = 0; i < bytes; i++) {
        if (c->out_at == c->out_end) c->overflow = 1;
        else *c->out_at++ = (uint8_t)(c->low >> 56);
        c->low <<= 8;
    }
}

static inline uint32_t decoder_take(range_coder *c) {
    uint32_t word = 0;
    if (c->end - c->at >= 4) {
        word = (uint32_t)c->at[0] << 24 | (uint32_t)c->at[1] << 16 | (uint32_t)c->at[2] << 8 | c->at[3];
        c->at += 4;
    } else {
        for (int i = 0; i < 4; i++) word = word << 8 | (c->at < c->end ? *c->at++ : 0u);
    }
    return word;
}

SQZ_INLINE void settle(range_coder *c, const int decoding) {
    if (SQZ_RARELY(c->range < (uint64_t)1 << 32)) {
        if (decoding) c->low = c->low << 32 | decoder_take(c);
        else encoder_put(c, 4);
        c->range <<= 32;
    }
}

/* Writes the shortest end: decoders read zeros behind it. Returns the stream's length. */
static inline size_t encoder_finish(range_coder *c) {
    /* Of all numbers in the interval, the one with the most zeros at its end. */
    for (int bits = 63; bits >= 0; bits--) {
        const uint64_t ones = ((uint64_t)1 << bits) - 1;
        const uint64_t up = ones - ((c->low + ones) & ones); /* what rounding up to a multiple adds */
        if (up < c->range) {
            encoder_add(c, up);
            break;
        }
    }
    encoder_put(c, 8);
    while (c->out_at > c->out && c->out_at[-1] == 0) c->out_at--;
    return (size_t)(c->out_at - c->out);
}

/* How many bits the stream has taken so far. */
static inline uint64_t coder_position(const range_coder *c) {
    uint64_t bits = 8 * (uint64_t)((c->out ? c->out_at - c->out : c->at - c->from));
    uint64_t open = 0; /* bits of the current 64 that are settled */
    while (open < 63 && c->range >> (63 - open) == 0) open++;
    bits += open;
    return c->out ? bits : bits < 64 ? 0 : bits - 64;
}

/* Moves a model towards a bit: SUREST for a 1, UNLIKELIEST for a 0. */
SQZ_INLINE bit_model learn(bit_model model, int32_t goal, const learning_rates *rates) {
    const uint32_t seen = model & 1023;
    const int64_t step = (int64_t)(goal - (int32_t)(model >> 10)) * rates->rate[seen];
    return model + ((uint32_t)floor_shift64(step, 6) & ~(uint32_t)1023) + (seen < MOST_SEEN);
}

/* Splits the range for a bit whose chance of being 1 is `p` of 65536; the branch is the split itself. */
SQZ_INLINE int code_split(range_coder *c, const int decoding, uint32_t p, int bit) {
    const uint64_t ones = (c->range >> 16) * p;
    if (decoding) bit = c->low < ones;
    if (bit) {
        c->range = ones;
    } else {
        if (decoding) c->low -= ones;
        else encoder_add(c, ones);
        c->range -= ones;
    }
    settle(c, decoding);
    return bit;
}

/* The same without a branch, for a bit that is only kept, such as a sign: nobody could foresee it. */
SQZ_INLINE int code_free_split(range_coder *c, const int decoding, uint32_t p, int bit) {
    if (!decoding) return code_split(c, 0, p, bit);
    const uint64_t ones = (c->range >> 16) * p, zeros = c->range - ones;
    const uint64_t mask = (uint64_t)0 - (uint64_t)(c->low < ones);
    c->range = zeros ^ ((zeros ^ ones) & mask);
    c->low -= ones & ~mask;
    settle(c, 1);
    return (int)(mask & 1);
}

/* Where a bit moves a model to, also without a branch. */
SQZ_INLINE int32_t goal_of(int bit) { return UNLIKELIEST + ((SUREST - UNLIKELIEST) & -bit); }

SQZ_INLINE int code_free_bit(range_coder *c, const int decoding, bit_model *model, int bit,
                             const learning_rates *rates) {
    bit = code_free_split(c, decoding, *model >> 16, bit);
    *model = learn(*model, goal_of(bit), rates);
    return bit;
}

SQZ_INLINE void learn_wide(wide_model *model, int64_t goal, const learning_rates *rates) {
    const uint32_t seen = model->seen;
    const int64_t chance = model->chance;
    model->chance = (uint32_t)(chance + floor_shift64((goal - chance) * rates->rate[seen], 16));
    model->seen = seen + (seen < MOST_SEEN);
}

/* A bit that decides where the program goes next. */
SQZ_INLINE int code_wide_bit(range_coder *c, const int decoding, wide_model *model, int bit,
                             const learning_rates *rates) {
    bit = code_split(c, decoding, model->chance >> 6, bit);
    learn_wide(model, bit ? SUREST : UNLIKELIEST, rates);
    return bit;
}

SQZ_INLINE int code_wide_free_bit(range_coder *c, const int decoding, wide_model *model, int bit,
                                  const learning_rates *rates) {
    bit = code_free_split(c, decoding, model->chance >> 6, bit);
    learn_wide(model, goal_of(bit), rates);
    return bit;
}

/* `bits` bits (0 to 32) of which nothing is known. */
static inline uint32_t code_raw(range_coder *c, const int decoding, uint32_t value, int bits) {
    uint32_t result = 0;
    while (bits > 0) {
        const int now = bits > 16 ? 16 : bits;
        uint32_t part = value >> (bits - now) & ((1u << now) - 1);
        c->range >>= now;
        if (decoding) {
            const uint64_t quotient = c->low / c->range;
            part = quotient >> now ? (1u << now) - 1 : (uint32_t)quotient;
            c->low -= part * c->range;
        } else {
            encoder_add(c, part * c->range);
        }
        settle(c, decoding);
        result = result << now | part;
        bits -= now;
    }
    return result;
}

#endif
