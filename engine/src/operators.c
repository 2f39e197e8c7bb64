/* operators.c: the table itself, and the names. New operators go to the end: their place is their number in
 * files. */
#include "operators.h"

/* One line an operator: */
/* clang-format off */
#define WINDOW (HAS_KERNEL | HAS_STRIDE | HAS_PADDING)
#define MATRIX(role_length) \
    {ROLE_WEIGHT, role_length, SQZ_FLOAT32, SQZ_INT8}, {ROLE_MULTIPLIER, LENGTH_OUT, ABSENT, SQZ_FLOAT32}, \
    {ROLE_BIAS, LENGTH_OUT, SQZ_FLOAT32, SQZ_INT32}
#define PER_CHANNEL(role) {role, LENGTH_IN, SQZ_FLOAT32, SQZ_FLOAT32}
#define MULTIPLIERS(length) {{ROLE_MULTIPLIER, length, ABSENT, SQZ_FLOAT32}}
#define ELEMENTWISE(name) {name, 0, 1, 1, SHAPE_SAME, 1, 0, 0, 0, {{0, 0, 0, 0}}}

const operator_rule sqz_operators[] = {
    /* name, attributes, inputs, shape, in float32, in int8, keeps, weights */
    {"conv", WINDOW | HAS_DILATION | HAS_GROUPS | HAS_ACTIVATION | HAS_LOGITS, 1, 1, SHAPE_CONV, 1, 1, 0, 4,
     {MATRIX(LENGTH_FILTERS), {ROLE_PAD_VALUE, LENGTH_IN, SQZ_FLOAT32, SQZ_UINT8}}},
    {"linear", HAS_ACTIVATION | HAS_LOGITS, 1, 1, SHAPE_LINEAR, 1, 1, 0, 3, {MATRIX(LENGTH_FILTERS)}},
    {"affine", 0, 1, 1, SHAPE_SAME, 1, 0, 0, 2, {PER_CHANNEL(ROLE_SCALE), PER_CHANNEL(ROLE_SHIFT)}},
    {"batch_norm", HAS_ONE_REAL, 1, 1, SHAPE_SAME, 1, 0, 0, 4,
     {PER_CHANNEL(ROLE_GAMMA), PER_CHANNEL(ROLE_BETA), PER_CHANNEL(ROLE_MEAN), PER_CHANNEL(ROLE_VAR)}},
    {"local_response_norm", HAS_SIZE | HAS_THREE_REALS, 1, 1, SHAPE_SAME_PICTURE, 1, 0, 0, 0, {{0, 0, 0, 0}}},
    ELEMENTWISE("relu"),
    ELEMENTWISE("relu6"),
    ELEMENTWISE("silu"),
    ELEMENTWISE("sigmoid"),
    ELEMENTWISE("hard_swish"),
    ELEMENTWISE("hard_sigmoid"),
    {"add", HAS_ACTIVATION, 2, 2, SHAPE_PAIR, 1, 1, 0, 1, MULTIPLIERS(LENGTH_TWO)},
    {"mul", 0, 2, 2, SHAPE_PAIR, 1, 1, 0, 1, MULTIPLIERS(LENGTH_ONE)},
    {"concat", 0, 2, SQZ_MAX_INPUTS, SHAPE_CONCAT, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"slice", HAS_RANGE, 1, 1, SHAPE_SLICE, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"channel_shuffle", HAS_GROUPS, 1, 1, SHAPE_SHUFFLE, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"max_pool", WINDOW | HAS_CEIL_MODE, 1, 1, SHAPE_POOL, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"avg_pool", WINDOW | HAS_CEIL_MODE | HAS_COUNT_INCLUDE_PAD, 1, 1, SHAPE_POOL, 1, 1, 0, 1,
     MULTIPLIERS(LENGTH_TOLD)},
    {"global_avg_pool", HAS_LOGITS, 1, 1, SHAPE_GLOBAL, 1, 1, 0, 1, MULTIPLIERS(LENGTH_ONE)},
    {"flatten", 0, 1, 1, SHAPE_FLAT, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"dropout", 0, 1, 1, SHAPE_SAME, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"identity", 0, 1, 1, SHAPE_SAME, 1, 1, 1, 0, {{0, 0, 0, 0}}},
    {"table", 0, 1, 1, SHAPE_SAME, 0, 1, 0, 1, {{ROLE_TABLE, LENGTH_TABLE, ABSENT, SQZ_UINT8}}},
};
/* clang-format on */
const uint32_t sqz_operator_count = sizeof sqz_operators / sizeof *sqz_operators;

const char *sqz_operator_name(uint32_t op) { return op < sqz_operator_count ? sqz_operators[op].name : NULL; }

const char *sqz_role_name(uint32_t role) {
    static const char *const names[ROLES] = {"weight", "bias", "multiplier", "pad_value", "scale", "shift",
                                             "gamma",  "beta", "mean",       "var",       "table"};
    return role < ROLES ? names[role] : NULL;
}

const char *sqz_activation_name(uint32_t activation) {
    static const char *const names[] = {"none",    "relu",       "relu6",       "silu",
                                        "sigmoid", "hard_swish", "hard_sigmoid"};
    return activation < sizeof names / sizeof *names ? names[activation] : NULL;
}

/* ---- Shapes
 * ---------------------------------------------------------------------------------------------------- */

/* How many windows fit along one axis (0: rows, 1: columns); 0 where none does. In ceil mode incomplete
 * windows count that begin inside the input or the padding before it. */
static uint64_t windows(const sqz_node *n, uint64_t size, int axis, uint64_t dilation) {
    const uint64_t reach = dilation * (n->kernel[axis] - 1) + 1, stride = n->stride[axis];
    const uint64_t padded = size + n->padding[axis] + n->padding[axis + 2];
    if (padded < reach) return 0;
    const uint64_t room = padded - reach;
    uint64_t count = (n->ceil_mode ? (room + stride - 1) / stride : room / stride) + 1;
    if (n->ceil_mode && (count - 1) * stride >= size + n->padding[axis]) count--;
    return count;
}

static sqz_error set_shape(sqz_value *value, uint32_t dimensions, uint64_t channels, uint64_t height,
                           uint64_t width) {
    if (channels == 0 || height == 0 || width == 0) return SQZ_CORRUPT;
    if (channels > SQZ_MAX_VALUE || height > SQZ_MAX_SIZE || width > SQZ_MAX_SIZE) return SQZ_LIMIT;
    /* Both products stay below 2^64: the first is checked before the second is made. */
    if (height * width > SQZ_MAX_VALUE || channels * (height * width) > SQZ_MAX_VALUE) return SQZ_LIMIT;
    value->dimensions = dimensions;
    value->shape[0] = (uint32_t)channels;
    value->shape[1] = (uint32_t)height;
    value->shape[2] = (uint32_t)width;
    return SQZ_OK;
}

static int same_picture(const sqz_value *a, const sqz_value *b) {
    return a->dimensions == b->dimensions && a->shape[1] == b->shape[1] && a->shape[2] == b->shape[2];
}

static int one_a_channel(const sqz_value *a, const sqz_value *of) {
    return of->dimensions == 3 && a->dimensions == 3 && a->shape[0] == of->shape[0] && a->shape[1] == 1 &&
           a->shape[2] == 1;
}

sqz_error sqz_infer_shape(sqz_node *n, const sqz_value *values, uint32_t filters) {
    const sqz_value *x = &values[n->input[0]];
    const uint32_t channels = x->shape[0], height = x->shape[1], width = x->shape[2];
    const int picture = x->dimensions == 3;
    switch ((shape_rule)sqz_operators[n->op].shape) {
    case SHAPE_SAME: return set_shape(&n->value, x->dimensions, channels, height, width);
    case SHAPE_SAME_PICTURE: return picture ? set_shape(&n->value, 3, channels, height, width) : SQZ_CORRUPT;
    case SHAPE_CONV:
        if (!picture || channels % n->groups != 0 || filters % n->groups != 0) return SQZ_CORRUPT;
        return set_shape(&n->value, 3, filters, windows(n, height, 0, n->dilation[0]),
                         windows(n, width, 1, n->dilation[1]));
    case SHAPE_LINEAR: return picture ? SQZ_CORRUPT : set_shape(&n->value, 1, filters, 1, 1);
    case SHAPE_PAIR: {
        const sqz_value *y = &values[n->input[1]];
        if ((same_picture(x, y) && channels == y->shape[0]) || one_a_channel(y, x))
            return set_shape(&n->value, x->dimensions, channels, height, width);
        if (one_a_channel(x, y)) return set_shape(&n->value, 3, y->shape[0], y->shape[1], y->shape[2]);
        return SQZ_CORRUPT;
    }
    case SHAPE_CONCAT: {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n->inputs; i++) {
            if (!same_picture(x, &values[n->input[i]])) return SQZ_CORRUPT;
            sum += values[n->input[i]].shape[0];
        }
        return set_shape(&n->value, x->dimensions, sum, height, width);
    }
    case SHAPE_SLICE:
        if (n->start >= n->end || n->end > channels) return SQZ_CORRUPT;
        return set_shape(&n->value, x->dimensions, n->end - n->start, height, width);
    case SHAPE_SHUFFLE:
        if (channels % n->groups != 0) return SQZ_CORRUPT;
        return set_shape(&n->value, x->dimensions, channels, height, width);
    case SHAPE_POOL:
        if (!picture) return SQZ_CORRUPT;
        for (int i = 0; i < 4; i++)
            if (n->padding[i] >= n->kernel[i % 2]) return SQZ_CORRUPT;
        return set_shape(&n->value, 3, channels, windows(n, height, 0, 1), windows(n, width, 1, 1));
    case SHAPE_GLOBAL: return picture ? set_shape(&n->value, 3, channels, 1, 1) : SQZ_CORRUPT;
    case SHAPE_FLAT: return set_shape(&n->value, 1, (uint64_t)channels * height * width, 1, 1);
    }
    return SQZ_CORRUPT;
}
