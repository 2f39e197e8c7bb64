/* weights.c: the weights section. Decoder and encoder are one text (see range.h). */
#include "weights.h"

#include <string.h>

#include "fit.h"

enum { KEPT = 24 }; /* how many bits' worth of certainty a model takes along to the next tensor */

/* ---- One weight ------------------------------------------------------------------------------ */

/* Whether it is 0; its sign; the length of its magnitude in bits, counted from the tensor's shortest or
 * longest, whichever is nearer to most; the bit below the leading one; then the rest. */
SQZ_INLINE int32_t code_weight(range_coder *c, const int decoding, weight_model *m, int32_t predicted,
                               int32_t expected, const int downwards, uint32_t longest, int32_t weight,
                               const learning_rates *rates, const level_table *levels) {
    const uint32_t level = level_of(levels, predicted), magnitude = (uint32_t)size_of(weight);
    if (!code_wide_bit(c, decoding, &m->zero[level], weight != 0, rates)) return 0;

    const int expect_negative = expected < 0;
    const int negative = code_wide_free_bit(c, decoding, &m->sign[level_of(levels, size_of(expected))],
                                            (weight < 0) != expect_negative, rates) != expect_negative;

    const uint32_t given = decoding ? 0 : top_bit(magnitude | (magnitude == 0)) + 1;
    uint32_t length;
    if (downwards) {
        for (length = longest; length > 1; length--)
            if (!code_wide_bit(c, decoding, &m->length[1][length][level], given < length, rates)) break;
    } else {
        for (length = 1; length < longest; length++)
            if (!code_wide_bit(c, decoding, &m->length[0][length][level], given > length, rates)) break;
    }

    uint32_t value = 1;
    if (length > 1) {
        int place = (int)length - 2;
        value = 2 | (uint32_t)code_wide_free_bit(c, decoding, &m->second[length][level],
                                                 (int)(magnitude >> place & 1), rates);
        while (place-- > 0) {
            wide_model *model = &m->rest[negative][(value << (place + 1) | 1u << place) & 255];
            value = value << 1 |
                    (uint32_t)code_wide_free_bit(c, decoding, model, (int)(magnitude >> place & 1), rates);
        }
    }
    return ((int32_t)value ^ -negative) + negative; /* without a branch: nobody could foresee it */
}

/* ---- One tensor of weights, range coded ------------------------------------------------------ */

typedef struct weight_range { /* what a tensor's numbers may be */
    int32_t lowest, highest;
} weight_range;

/* Codes one position of one filter. What is used for every weight is copied, so that it can stay in
 * registers. */
SQZ_INLINE void code_row(sqz_weights *w, const int decoding, const predictor *p, const int downwards,
                         uint32_t longest, int16_t *restrict row) {
    const uint32_t inputs = w->context.shape.inputs;
    const int32_t *restrict magnitude = w->context.magnitude, *restrict expected = w->context.expected;
    weight_model *restrict model = &w->model;
    const learning_rates *restrict rates = &w->slow_rates;
    const level_table *restrict levels = &w->levels;
    range_coder coder = w->body;
    recent r = recent_start(&w->context, p);
    for (uint32_t i = 0; i < inputs; i++) {
        const int32_t weight = code_weight(&coder, decoding, model, predict(&r, magnitude[i]), expected[i],
                                           downwards, longest, decoding ? 0 : row[i], rates, levels);
        remember(&r, weight);
        if (decoding) row[i] = (int16_t)weight;
    }
    w->context.slow = r.slow;
    w->body = coder;
}

/* Codes all filters: those of `source` when encoding, into `out` when decoding. Returns 0 where a decoded
 * weight is out of range. */
SQZ_INLINE int code_filters(sqz_weights *w, const int decoding, const predictor *p, const int downwards,
                            uint32_t longest, const tensor_source *source, uint8_t *out,
                            weight_range allowed) {
    context *const c = &w->context;
    const uint32_t inputs = c->shape.inputs, positions = c->shape.height * c->shape.width;
    int16_t lowest = 0, highest = 0;
    context_start(c, p);
    for (uint32_t filter = 0; filter < c->shape.filters; filter++) {
        const size_t own = (size_t)filter * inputs * positions, size = (size_t)inputs * positions;
        const int empty = code_wide_bit(&w->body, decoding, &w->model.empty,
                                        !decoding && is_empty(source, own, size), &w->slow_rates);
        if (empty) {
            if (decoding) memset(out + own, (uint8_t)source->origin, size);
            continue;
        }
        for (uint32_t position = 0; position < positions; position++) {
            int16_t *row = c->filter + (size_t)position * inputs;
            for (uint32_t i = 0; !decoding && i < inputs; i++)
                row[i] = weight_at(source, own + (size_t)i * positions + position);
            context_position(c, p, position);
            code_row(w, decoding, p, downwards, longest, row);
            context_learn(c, position, filter);
        }
        if (!decoding) continue;
        for (size_t i = 0; i < size; i++) { /* apart from the copying, so that compilers do it by the dozen */
            lowest = c->filter[i] < lowest ? c->filter[i] : lowest;
            highest = c->filter[i] > highest ? c->filter[i] : highest;
        }
        for (uint32_t position = 0; position < positions; position++) {
            const int16_t *row = c->filter + (size_t)position * inputs;
            uint8_t *to = out + own + position;
            for (uint32_t i = 0; i < inputs; i++)
                to[(size_t)i * positions] = (uint8_t)(row[i] + source->origin);
        }
    }
    return lowest >= allowed.lowest && highest <= allowed.highest;
}

/* Two copies of each, so that the direction is a constant in them. */
static int decode_upwards(sqz_weights *w, const predictor *p, uint32_t longest, const tensor_source *source,
                          uint8_t *out, weight_range allowed) {
    return code_filters(w, 1, p, 0, longest, source, out, allowed);
}
static int decode_downwards(sqz_weights *w, const predictor *p, uint32_t longest, const tensor_source *source,
                            uint8_t *out, weight_range allowed) {
    return code_filters(w, 1, p, 1, longest, source, out, allowed);
}
static void encode_filters(sqz_weights *w, const predictor *p, int downwards, uint32_t longest,
                           const tensor_source *source) {
    const weight_range any = {INT32_MIN, INT32_MAX};
    (void)(downwards ? code_filters(w, 0, p, 1, longest, source, NULL, any)
                     : code_filters(w, 0, p, 0, longest, source, NULL, any));
}

static void model_reset(weight_model *m) {
    static const wide_model even = {1u << 21, 0};
    wide_model *model = (wide_model *)m;
    for (size_t i = 0; i < sizeof *m / sizeof *model; i++) model[i] = even;
}

static void model_age(weight_model *m) {
    wide_model *model = (wide_model *)m;
    for (size_t i = 0; i < sizeof *m / sizeof *model; i++)
        if (model[i].seen > KEPT) model[i].seen = KEPT;
}

/* A tensor's head: the longest magnitude in bits (0: all weights are 0 and nothing follows), from which end
 * lengths are counted, and the predictor. Returns 0 where it cannot be. */
SQZ_INLINE int code_head(sqz_weights *w, const int decoding, predictor *p, uint32_t *longest,
                         int *downwards) {
    range_coder *c = &w->numbers;
    *longest = code_number(c, decoding, &w->head, *longest, &w->rates);
    if (*longest > 8) return 0;
    if (*longest == 0) return 1;
    *downwards = (int)code_raw(c, decoding, (uint32_t)*downwards, 1);
    p->mean = (int32_t)code_number(c, decoding, &w->head, (uint32_t)p->mean, &w->rates);
    if (p->mean < 0 || p->mean > 255 * 256) return 0;
    for (int i = 0; i < SIGNED_TERMS + MAGNITUDE_TERMS; i++) {
        int8_t *term = i < SIGNED_TERMS ? &p->signed_term[i] : &p->magnitude_term[i - SIGNED_TERMS];
        const int32_t value = code_signed(c, decoding, &w->head, *term, &w->rates);
        if (value < -127 || value > 127) return 0;
        *term = (int8_t)value;
    }
    return 1;
}

static kernel_shape shape_of(const sqz_tensor *t) {
    const kernel_shape one_filter = {1, t->shape[0], 1, 1};
    const kernel_shape filters = {t->shape[0], t->shape[1], t->shape[2], t->shape[3]};
    return t->dimensions == 1 ? one_filter : filters;
}

static size_t tensor_size(const sqz_tensor *t) {
    return (size_t)t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
}

static sqz_error decode_range(sqz_weights *w, const sqz_tensor *t, uint8_t *out, int32_t origin,
                              weight_range allowed) {
    predictor p = {0};
    uint32_t longest = 0;
    int downwards = 0;
    const tensor_source source = {NULL, t->type == SQZ_INT8, origin};
    if (!code_head(w, 1, &p, &longest, &downwards)) return SQZ_CORRUPT;
    if (longest == 0) {
        if (allowed.lowest > 0 || allowed.highest < 0) return SQZ_CORRUPT;
        memset(out, (uint8_t)origin, tensor_size(t));
        return SQZ_OK;
    }
    w->context.shape = shape_of(t);
    model_age(&w->model);
    return (downwards ? decode_downwards : decode_upwards)(w, &p, longest, &source, out, allowed)
               ? SQZ_OK
               : SQZ_CORRUPT;
}

static void encode_range(sqz_weights *w, const sqz_tensor *t, const uint8_t *data, int32_t origin) {
    const tensor_source source = {data, t->type == SQZ_INT8, origin};
    const size_t size = tensor_size(t);
    predictor p = {0};
    uint32_t longest = 0;
    uint64_t lengths = 0, many = 0;
    for (size_t i = 0; i < size; i++) {
        const uint32_t length = bit_length((uint32_t)size_of(weight_at(&source, i)));
        longest = length > longest ? length : longest;
        lengths += length;
        many += length > 0;
    }
    int downwards = 2 * lengths > many * (longest + 1);
    w->context.shape = shape_of(t);
    if (longest > 0) fit_predictor(&p, &source, &w->context);
    (void)code_head(w, 0, &p, &longest, &downwards);
    if (longest == 0) return;
    model_age(&w->model);
    encode_filters(w, &p, downwards, longest, &source);
}

/* ---- One tensor of weights, in Huffman codes ------------------------------------------------- */

static sqz_error decode_huffman(sqz_weights *w, const sqz_tensor *t, uint8_t *out, int32_t origin,
                                weight_range allowed) {
    const size_t size = tensor_size(t);
    for (int i = 0; i < 256; i++)
        w->huffman.length[i] = (uint8_t)code_tree(&w->numbers, 1, w->code_length, 0, 4, &w->rates);
    if (!huffman_codes(&w->huffman) || !huffman_get(&w->huffman, out, size)) return SQZ_CORRUPT;
    if (t->type == SQZ_INT8) return SQZ_OK;
    for (size_t i = 0; i < size; i++)
        if (out[i] - origin > allowed.highest) return SQZ_CORRUPT;
    return SQZ_OK;
}

static void encode_huffman(sqz_weights *w, const sqz_tensor *t, const uint8_t *data) {
    const size_t size = tensor_size(t);
    uint64_t count[256] = {0};
    for (size_t i = 0; i < size; i++) count[data[i]]++;
    huffman_fit(&w->huffman, count);
    (void)huffman_codes(&w->huffman);
    for (int i = 0; i < 256; i++)
        (void)code_tree(&w->numbers, 0, w->code_length, w->huffman.length[i], 4, &w->rates);
    huffman_put(&w->huffman, data, size);
}

/* ---- Everything else ------------------------------------------------------------------------- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static int is_finite(uint32_t bits) { return (bits >> 23 & 255) != 255; }

/* The bits of a float32 in an order that is that of the numbers. */
static uint32_t rising(uint32_t bits) { return bits >> 31 ? ~bits : bits | 1u << 31; }
static uint32_t from_rising(uint32_t key) { return key >> 31 ? key & ~(1u << 31) : ~key; }

/* The shared values of a codebook, rising: the first as it is, then how many float32 numbers further each
 * next is. */
SQZ_INLINE int code_values(sqz_weights *w, const int decoding, float *values, uint32_t *count,
                           uint32_t *origin) {
    range_coder *c = &w->numbers;
    uint32_t key = 0;
    *count = code_raw(c, decoding, *count - 1, 8) + 1;
    *origin = code_raw(c, decoding, *origin, 8);
    for (uint32_t i = 0; i < *count; i++) {
        const uint32_t given = decoding ? 0 : rising(bits_of(values[i]));
        if (i == 0) {
            key = code_raw(c, decoding, given, 32);
        } else {
            const uint32_t step = code_number(c, decoding, &w->shared, given - key - 1, &w->rates);
            if (step >= UINT32_MAX - key) return 0;
            key += step + 1;
        }
        if (!is_finite(from_rising(key))) return 0;
        if (decoding) values[i] = float_of(from_rising(key));
    }
    return *origin < *count;
}

static uint32_t zeros_below(uint32_t bits) { /* of a number: how many of its lowest bits are 0 */
    uint32_t zeros = 0;
    while (zeros < 31 && (bits >> zeros & 1) == 0) zeros++;
    return zeros;
}

int sqz_bias_shift(float multiplier) {
    const int exponent = (int)(bits_of(multiplier) >> 23 & 255) - 127, shift = -3 - exponent;
    return shift < 0 ? 0 : shift > 30 ? 30 : shift;
}

/* int32: whether each lacks the bits that its multiplier allows; how many of the lowest bits are 0 in all
 * besides; then each without these. */
SQZ_INLINE int code_integers(sqz_weights *w, const int decoding, int32_t *values, size_t size,
                             const float *multipliers) {
    range_coder *c = &w->numbers;
    uint32_t together = 0, by_multiplier = multipliers != NULL;
    for (size_t i = 0; !decoding && multipliers != NULL && i < size; i++)
        by_multiplier &= (values[i] & ((1 << sqz_bias_shift(multipliers[i])) - 1)) == 0;
    by_multiplier = code_raw(c, decoding, by_multiplier, 1);
    if (by_multiplier && multipliers == NULL) return 0;
    for (size_t i = 0; !decoding && i < size; i++)
        together |= (uint32_t)values[i] >> (by_multiplier ? sqz_bias_shift(multipliers[i]) : 0);
    const uint32_t shared = code_raw(c, decoding, zeros_below(together), 5);
    for (size_t i = 0; i < size; i++) {
        const uint32_t shift = shared + (by_multiplier ? (uint32_t)sqz_bias_shift(multipliers[i]) : 0);
        const int64_t unit = (int64_t)1 << (shift < 32 ? shift : 31);
        const int32_t given = decoding ? 0 : (int32_t)(values[i] / unit);
        const int64_t value = code_signed(c, decoding, &w->integer, given, &w->rates) * unit;
        if (value < INT32_MIN || value > INT32_MAX) return 0;
        if (decoding) values[i] = (int32_t)value;
    }
    return 1;
}

/* float32 that need not lie on a grid: sign, exponent and mantissa, without the bits that are 0 in all. */
SQZ_INLINE int code_reals(sqz_weights *w, const int decoding, float *values, size_t size) {
    range_coder *c = &w->numbers;
    uint32_t together = 1u << 21;
    if (!decoding)
        for (size_t i = 0; i < size; i++) together |= bits_of(values[i]);
    const uint32_t shift = code_raw(c, decoding, zeros_below(together), 5);
    if (shift > 21) return 0;
    for (size_t i = 0; i < size; i++) {
        const uint32_t given = decoding ? 0 : bits_of(values[i]);
        uint32_t bits = (uint32_t)code_free_bit(c, decoding, &w->sign, (int)(given >> 31), &w->rates) << 31;
        bits |= code_tree(c, decoding, w->exponent, given >> 23 & 255, 8, &w->rates) << 23;
        bits |= code_tree(c, decoding, w->mantissa, given >> 21 & 3, 2, &w->rates) << 21;
        bits |= code_raw(c, decoding, (given & ((1u << 21) - 1)) >> shift, 21 - (int)shift) << shift;
        if (!is_finite(bits)) return 0;
        if (decoding) values[i] = float_of(bits);
    }
    return 1;
}

/* 2^(j / 16) as float32. */
static const uint32_t sixteenth[16] = {0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532,
                                       0x3fa5fed7, 0x3fad583f, 0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c,
                                       0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d};

float sqz_grid(float base, int32_t k) {
    const int32_t octave = floor_shift(k, 4);
    float x = base * float_of(sixteenth[k & 15]);
    /* Doubling and halving are exact, down to float32's smallest normal number. */
    for (int32_t i = 0; i < octave && i < 256; i++) x = x * 2.0f;
    for (int32_t i = 0; i > octave && i > -256; i--) x = x * 0.5f;
    return x;
}

typedef struct grid {
    float base;
    int32_t lowest;
    uint32_t step; /* every number is lowest + step * n */
} grid;

static int32_t exponent_of(float x) { return (int32_t)(bits_of(x) >> 23 & 255); }

/* Which number of the grid x is; 0 where it is none. */
static int on_grid(float base, float x, int32_t *k) {
    const int32_t near = (exponent_of(x) - exponent_of(base)) * 16;
    for (int32_t i = near - 16; i < near + 32; i++) {
        if (bits_of(sqz_grid(base, i)) == bits_of(x)) {
            *k = i;
            return 1;
        }
    }
    return 0;
}

/* Finds a grid on which all values lie. The base is so chosen that the first value is one of its first
 * sixteen. */
static int find_grid(const float *values, size_t size, grid *found) {
    int32_t k = 0;
    for (size_t i = 0; i < size; i++)
        if (!(values[i] > 0) || exponent_of(values[i]) < 32 || exponent_of(values[i]) > 222) return 0;
    for (int j = 0; j < 16; j++) {
        const uint32_t about = bits_of(values[0] / float_of(sixteenth[j]));
        for (uint32_t bits = about - 1; bits <= about + 1; bits++) {
            const float base = float_of(bits);
            size_t i = 0;
            if (bits_of(base * float_of(sixteenth[j])) != bits_of(values[0])) continue;
            while (i < size && on_grid(base, values[i], &k)) i++;
            if (i < size) continue;
            uint32_t step = 0;
            int32_t lowest = 0;
            for (i = 0; i < size; i++) {
                (void)on_grid(base, values[i], &k);
                if (i == 0 || k < lowest) lowest = k;
            }
            for (i = 0; i < size; i++) {
                (void)on_grid(base, values[i], &k);
                uint32_t a = (uint32_t)(k - lowest), b = step; /* greatest common divisor */
                while (b) {
                    const uint32_t r = a % b;
                    a = b;
                    b = r;
                }
                step = a;
            }
            const grid it = {base, lowest, step};
            *found = it;
            return 1;
        }
    }
    return 0;
}

SQZ_INLINE int code_grid(sqz_weights *w, const int decoding, float *values, size_t size, grid g) {
    range_coder *c = &w->numbers;
    g.base = float_of(code_raw(c, decoding, bits_of(g.base), 32));
    g.lowest = (int32_t)code_raw(c, decoding, (uint32_t)(g.lowest + 4096), 13) - 4096;
    g.step = code_raw(c, decoding, g.step, 13);
    if (!is_finite(bits_of(g.base))) return 0;
    for (size_t i = 0; i < size; i++) {
        int32_t k = 0;
        if (!decoding) (void)on_grid(g.base, values[i], &k);
        const uint32_t given = decoding || g.step == 0 ? 0 : (uint32_t)(k - g.lowest) / g.step;
        const uint32_t n = g.step == 0 ? 0 : code_number(c, decoding, &w->grid, given, &w->rates);
        if (n > 8192) return 0;
        const float x = sqz_grid(g.base, g.lowest + (int32_t)(n * g.step));
        if (!is_finite(bits_of(x))) return 0;
        if (decoding) values[i] = x;
    }
    return 1;
}

SQZ_INLINE int code_floats(sqz_weights *w, const int decoding, float *values, size_t size) {
    grid g = {0, 0, 0};
    int gridded = decoding || size < 2 ? 0 : find_grid(values, size, &g);
    gridded = (int)code_raw(&w->numbers, decoding, (uint32_t)gridded, 1);
    return gridded ? code_grid(w, decoding, values, size, g) : code_reals(w, decoding, values, size);
}

/* uint8: how much each differs from the one before. */
SQZ_INLINE void code_bytes(sqz_weights *w, const int decoding, uint8_t *values, size_t size) {
    uint32_t before = 0;
    for (size_t i = 0; i < size; i++) {
        const uint32_t given = decoding ? 0 : (values[i] - before) & 255;
        before = (before + code_tree(&w->numbers, decoding, w->byte, given, 8, &w->rates)) & 255;
        if (decoding) values[i] = (uint8_t)before;
    }
}

/* ---- The section ----------------------------------------------------------------------------- */

static size_t aligned(size_t size) { return (size + 15) & ~(size_t)15; }

size_t sqz_weights_workspace(uint32_t columns) {
    return 16 + aligned(sizeof(sqz_weights)) + 4 * aligned((size_t)columns * 4) +
           aligned((size_t)columns * 2);
}

/* Lays the state and its arrays out in the workspace, and resets all models. */
static sqz_weights *lay_out(void *workspace, size_t size) {
    const size_t fixed = sqz_weights_workspace(0);
    if (workspace == NULL || size < fixed) return NULL;
    uint8_t *at = (uint8_t *)workspace + (16 - ((uintptr_t)workspace & 15)) % 16;
    sqz_weights *w = (sqz_weights *)(void *)at;
    memset(w, 0, sizeof *w);
    size_t columns = (size - fixed) / 18;
    while (columns > 0 &&
           sqz_weights_workspace((uint32_t)(columns < UINT32_MAX ? columns : UINT32_MAX)) > size)
        columns--;
    at += aligned(sizeof *w);
    w->columns = columns;
    int32_t **arrays[4] = {&w->context.mean_magnitude, &w->context.mean_signed, &w->context.magnitude,
                           &w->context.expected};
    for (int i = 0; i < 4; i++, at += aligned(columns * 4)) *arrays[i] = (int32_t *)(void *)at;
    w->context.filter = (int16_t *)(void *)at;
    set_learning_rates(&w->rates, 30);
    set_learning_rates(&w->slow_rates, 1000);
    set_levels(&w->levels);
    model_reset(&w->model);
    number_reset(&w->head);
    number_reset(&w->shared);
    number_reset(&w->integer);
    number_reset(&w->grid);
    set_even(w->exponent, 256);
    set_even(&w->sign, 1);
    set_even(w->mantissa, 4);
    set_even(w->byte, 256);
    set_even(w->code_length, 16);
    return w;
}

/* A tensor must be one: up to four dimensions, none of them 0, of a size that fits the limits and the
 * workspace. */
static sqz_error check_tensor(const sqz_weights *w, const sqz_tensor *t) {
    uint64_t size = 1;
    if (t->dimensions < 1 || t->dimensions > 4 || t->type > SQZ_CODEBOOK) return SQZ_ARGUMENT;
    for (uint32_t i = 0; i < 4; i++) {
        if (t->shape[i] < 1 || (i >= t->dimensions && t->shape[i] != 1)) return SQZ_ARGUMENT;
        size *= t->shape[i];
        if (size > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
    }
    if (t->type != SQZ_INT8 && t->type != SQZ_CODEBOOK) return SQZ_OK;
    if (size / shape_of(t).filters > w->columns) return SQZ_SPACE;
    return SQZ_OK;
}

enum { SECTION_HEAD = 5 }; /* the coding, and the length of the numbers */

sqz_error sqz_weights_open(sqz_weights **weights, const void *data, size_t size, void *workspace,
                           size_t workspace_size) {
    const uint8_t *bytes = (const uint8_t *)data;
    if (weights == NULL || (data == NULL && size > 0)) return SQZ_ARGUMENT;
    *weights = NULL;
    if (size < SECTION_HEAD) return SQZ_TRUNCATED;
    const uint32_t numbers =
        (uint32_t)bytes[1] | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[3] << 16 | (uint32_t)bytes[4] << 24;
    if (bytes[0] > SQZ_HUFFMAN) return SQZ_CORRUPT;
    if (numbers > size - SECTION_HEAD) return SQZ_TRUNCATED;
    sqz_weights *w = lay_out(workspace, workspace_size);
    if (w == NULL) return SQZ_SPACE;
    const uint8_t *body = bytes + SECTION_HEAD + numbers;
    const size_t body_size = size - SECTION_HEAD - numbers;
    w->coding = (sqz_coding)bytes[0];
    w->left = ((uint64_t)size + 16) * SQZ_MAX_EXPANSION;
    if (w->left > SQZ_MAX_WEIGHTS) w->left = SQZ_MAX_WEIGHTS;
    decoder_start(&w->numbers, bytes + SECTION_HEAD, numbers);
    decoder_start(&w->body, body, body_size);
    w->huffman.from = w->huffman.at = body;
    w->huffman.end = body + body_size;
    *weights = w;
    return SQZ_OK;
}

sqz_error sqz_weights_next(sqz_weights *w, const sqz_tensor *t, void *out, float *values, uint32_t *count) {
    if (w == NULL || t == NULL || out == NULL || w->body.out != NULL) return SQZ_ARGUMENT;
    const sqz_error error = check_tensor(w, t);
    if (error != SQZ_OK) return error;
    const size_t size = tensor_size(t);
    if (size > w->left) return SQZ_LIMIT;
    w->left -= size;
    switch ((sqz_type)t->type) {
    case SQZ_FLOAT32: return code_floats(w, 1, (float *)out, size) ? SQZ_OK : SQZ_CORRUPT;
    case SQZ_INT32:
        if (values != NULL && (count == NULL || *count != size)) return SQZ_ARGUMENT;
        return code_integers(w, 1, (int32_t *)out, size, values) ? SQZ_OK : SQZ_CORRUPT;
    case SQZ_UINT8: code_bytes(w, 1, (uint8_t *)out, size); return SQZ_OK;
    case SQZ_INT8:
    case SQZ_CODEBOOK: break;
    }
    weight_range allowed = {-128, 127};
    uint32_t origin = 0;
    if (t->type == SQZ_CODEBOOK) {
        if (values == NULL || count == NULL) return SQZ_ARGUMENT;
        *count = 1;
        if (!code_values(w, 1, values, count, &origin)) return SQZ_CORRUPT;
        allowed.lowest = -(int32_t)origin;
        allowed.highest = (int32_t)(*count - 1 - origin);
    }
    return (w->coding == SQZ_HUFFMAN ? decode_huffman : decode_range)(w, t, (uint8_t *)out, (int32_t)origin,
                                                                      allowed);
}

uint64_t sqz_weights_position(const sqz_weights *w) {
    const uint64_t numbers = coder_position(&w->numbers);
    if (w->coding == SQZ_RANGE) return numbers + coder_position(&w->body);
    const huffman *h = &w->huffman;
    return numbers + (h->out ? 8 * (uint64_t)(h->out_at - h->out) + h->waiting
                             : 8 * (uint64_t)(h->at - h->from) - (h->waiting < 8 * (uint64_t)(h->at - h->from)
                                                                      ? h->waiting
                                                                      : 8 * (uint64_t)(h->at - h->from)));
}

sqz_coding sqz_weights_coding(const sqz_weights *w) { return w->coding; }

sqz_error sqz_weights_begin(sqz_weights **weights, sqz_coding coding, void *numbers, void *body,
                            size_t capacity, void *workspace, size_t workspace_size) {
    if (weights == NULL || numbers == NULL || body == NULL) return SQZ_ARGUMENT;
    *weights = NULL;
    if (coding != SQZ_RANGE && coding != SQZ_HUFFMAN) return SQZ_ARGUMENT;
    sqz_weights *w = lay_out(workspace, workspace_size);
    if (w == NULL) return SQZ_SPACE;
    w->coding = coding;
    encoder_start(&w->numbers, numbers, capacity);
    encoder_start(&w->body, body, capacity);
    w->huffman.out = w->huffman.out_at = (uint8_t *)body;
    w->huffman.out_end = w->huffman.out + capacity;
    *weights = w;
    return SQZ_OK;
}

/* The index from which others count: that of 0, or the middle one where no weight is 0. */
static uint32_t origin_of(const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (values[i] == 0) return i;
    return count / 2;
}

static sqz_error check_codebook(const uint8_t *indices, size_t size, const float *values, uint32_t count) {
    if (values == NULL || count < 1 || count > 256) return SQZ_ARGUMENT;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_finite(bits_of(values[i]))) return SQZ_ARGUMENT;
        if (i > 0 && !(values[i] > values[i - 1])) return SQZ_ARGUMENT;
    }
    for (size_t i = 0; i < size; i++)
        if (indices[i] >= count) return SQZ_ARGUMENT;
    return SQZ_OK;
}

sqz_error sqz_weights_add(sqz_weights *w, const sqz_tensor *t, const void *data, const float *values,
                          uint32_t count) {
    if (w == NULL || t == NULL || data == NULL || w->body.out == NULL) return SQZ_ARGUMENT;
    sqz_error error = check_tensor(w, t);
    if (error != SQZ_OK) return error;
    const size_t size = tensor_size(t);
    w->left += size;
    uint32_t origin = 0;
    /* The coders take what they could also write to; encoding, they only read it. */
    void *const numbers = (void *)(uintptr_t)data;
    switch ((sqz_type)t->type) {
    case SQZ_FLOAT32:
        if (!code_floats(w, 0, (float *)numbers, size)) return SQZ_ARGUMENT;
        break;
    case SQZ_INT32:
        if (values != NULL && count != size) return SQZ_ARGUMENT;
        (void)code_integers(w, 0, (int32_t *)numbers, size, values);
        break;
    case SQZ_UINT8: code_bytes(w, 0, (uint8_t *)numbers, size); break;
    case SQZ_CODEBOOK:
        error = check_codebook((const uint8_t *)data, size, values, count);
        if (error != SQZ_OK) return error;
        origin = origin_of(values, count);
        (void)code_values(w, 0, (float *)(uintptr_t)values, &count, &origin);
    /* fall through */
    case SQZ_INT8:
        if (w->coding == SQZ_HUFFMAN) encode_huffman(w, t, (const uint8_t *)data);
        else encode_range(w, t, (const uint8_t *)data, (int32_t)origin);
        break;
    }
    return w->numbers.overflow || w->body.overflow || w->huffman.overflow ? SQZ_SPACE : SQZ_OK;
}

sqz_error sqz_weights_end(sqz_weights *w, void *out, size_t capacity, size_t *written) {
    if (w == NULL || out == NULL || written == NULL || w->body.out == NULL) return SQZ_ARGUMENT;
    uint8_t *to = (uint8_t *)out;
    const size_t numbers = encoder_finish(&w->numbers);
    const size_t body = w->coding == SQZ_HUFFMAN ? huffman_finish(&w->huffman) : encoder_finish(&w->body);
    if (w->numbers.overflow || w->huffman.overflow || (w->coding == SQZ_RANGE && w->body.overflow))
        return SQZ_SPACE;
    if (capacity < SECTION_HEAD + numbers + body) return SQZ_SPACE;
    if (numbers > UINT32_MAX) return SQZ_LIMIT;
    to[0] = (uint8_t)w->coding;
    for (int i = 0; i < 4; i++) to[1 + i] = (uint8_t)(numbers >> (8 * i));
    memcpy(to + SECTION_HEAD, w->numbers.out, numbers);
    memcpy(to + SECTION_HEAD + numbers, w->coding == SQZ_HUFFMAN ? w->huffman.out : w->body.out, body);
    *written = SECTION_HEAD + numbers + body;
    /* Zeros at the end say nothing, but make room where almost all weights are 0: see SQZ_MAX_EXPANSION. */
    for (; (uint64_t)(*written + 16) * SQZ_MAX_EXPANSION < w->left; to[(*written)++] = 0)
        if (*written == capacity) return SQZ_SPACE;
    return SQZ_OK;
}
