/* numbers.h: the few numbers beside the weights, adaptively coded: biases, multipliers, shared values,
 * tables.
 *
 * A whole number is coded as its length in bits (a binary tree, in the context of the previous number's
 * length), then the two bits below its leading one in the context of the length, then the rest as they are.
 */
#ifndef SQZ_NUMBERS_H
#define SQZ_NUMBERS_H

#include "range.h"

typedef struct number_model {
    bit_model length[34][64]; /* [length of the previous number] */
    bit_model upper[33][4];
    bit_model sign;
    uint32_t previous;
} number_model;

static inline void set_even(bit_model *models, size_t count) {
    for (size_t i = 0; i < count; i++) models[i] = EVEN;
}

static inline void number_reset(number_model *m) {
    set_even(&m->length[0][0], 34 * 64);
    set_even(&m->upper[0][0], 33 * 4);
    m->sign = EVEN;
    m->previous = 33;
}

static inline uint32_t bit_length(uint32_t x) {
    uint32_t length = 0;
    while (x) {
        x >>= 1;
        length++;
    }
    return length;
}

/* `bits` bits from the top, each in the context of those before it; `tree` has 2^bits models. */
static inline uint32_t code_tree(range_coder *c, const int decoding, bit_model *tree, uint32_t value,
                                 int bits, const learning_rates *rates) {
    uint32_t node = 1;
    for (int i = bits - 1; i >= 0; i--)
        node = node << 1 | (uint32_t)code_free_bit(c, decoding, &tree[node], (int)(value >> i & 1), rates);
    return node - (1u << bits);
}

static inline uint32_t code_number(range_coder *c, const int decoding, number_model *m, uint32_t value,
                                   const learning_rates *rates) {
    uint32_t length = code_tree(c, decoding, m->length[m->previous], bit_length(value), 6, rates);
    if (length > 32) length = 32; /* only a damaged file says so */
    m->previous = length;
    if (length < 2) return length;
    int rest = (int)length - 1;
    const int upper = rest < 2 ? rest : 2;
    rest -= upper;
    uint32_t top =
        code_tree(c, decoding, m->upper[length], value >> rest & ((1u << upper) - 1), upper, rates);
    top |= 1u << upper;
    const uint32_t mask = (uint32_t)(((uint64_t)1 << rest) - 1);
    return (uint32_t)((uint64_t)top << rest) | code_raw(c, decoding, value & mask, rest);
}

/* The magnitude, then the sign of what is not 0. */
static inline int32_t code_signed(range_coder *c, const int decoding, number_model *m, int32_t value,
                                  const learning_rates *rates) {
    const uint32_t given = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    const uint32_t size = code_number(c, decoding, m, given, rates);
    if (size == 0) return 0;
    if (!code_free_bit(c, decoding, &m->sign, value < 0, rates))
        return size > INT32_MAX ? INT32_MAX : (int32_t)size;
    return size > INT32_MAX ? INT32_MIN : -(int32_t)size;
}

#endif
