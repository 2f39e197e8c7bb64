/* operators.h: the table of operators: what a node of each has, and in which order the file tells it. */
#ifndef SQZ_OPERATORS_H
#define SQZ_OPERATORS_H

#include "sqz.h"

enum { /* attributes, in the order in which they stand in the file */
       HAS_KERNEL = 1,
       HAS_STRIDE = 2,
       HAS_PADDING = 4,
       HAS_DILATION = 8,
       HAS_GROUPS = 16,
       HAS_ACTIVATION = 32,
       HAS_LOGITS = 64,
       HAS_CEIL_MODE = 128,
       HAS_COUNT_INCLUDE_PAD = 256,
       HAS_RANGE = 512, /* start, end */
       HAS_SIZE = 1024,
       HAS_ONE_REAL = 2048,
       HAS_THREE_REALS = 4096
};

typedef enum shape_rule {
    SHAPE_SAME,
    SHAPE_SAME_PICTURE,
    SHAPE_CONV,
    SHAPE_LINEAR,
    SHAPE_PAIR,
    SHAPE_CONCAT,
    SHAPE_SLICE,
    SHAPE_SHUFFLE,
    SHAPE_POOL,
    SHAPE_GLOBAL,
    SHAPE_FLAT
} shape_rule;

enum { /* weights */
       ROLE_WEIGHT,
       ROLE_BIAS,
       ROLE_MULTIPLIER,
       ROLE_PAD_VALUE,
       ROLE_SCALE,
       ROLE_SHIFT,
       ROLE_GAMMA,
       ROLE_BETA,
       ROLE_MEAN,
       ROLE_VAR,
       ROLE_TABLE,
       ROLES
};

typedef enum length_rule {
    LENGTH_FILTERS,
    LENGTH_OUT,
    LENGTH_IN,
    LENGTH_ONE,
    LENGTH_TWO,
    LENGTH_TOLD,
    LENGTH_TABLE
} length_rule;

typedef struct weight_rule {
    uint8_t role, length;
    uint8_t float_type, int8_type; /* its sqz_type in a float32 and in an int8 graph; ABSENT: has none */
} weight_rule;

enum { ABSENT = 255 };

typedef struct operator_rule {
    const char *name;
    uint16_t attributes;
    uint8_t fewest, most; /* inputs */
    uint8_t shape;        /* a shape_rule */
    uint8_t in_float, in_int8;
    uint8_t keeps; /* in an int8 graph, its result has the quantization of its inputs */
    uint8_t weights;
    weight_rule weight[SQZ_MAX_TENSORS];
} operator_rule;

extern const operator_rule sqz_operators[];
extern const uint32_t sqz_operator_count;

/* Infers node->value's shape from those of its inputs; `filters` is the number of a conv's or linear's
 * outputs. SQZ_CORRUPT where they do not fit, SQZ_LIMIT where the result is too large. */
sqz_error sqz_infer_shape(sqz_node *node, const sqz_value *values, uint32_t filters);

#endif
