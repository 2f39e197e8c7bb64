/* weights.h: the state of a weights section, while it is decoded or encoded. */
#ifndef SQZ_WEIGHTS_H
#define SQZ_WEIGHTS_H

#include "context.h"
#include "huffman.h"
#include "numbers.h"
#include "sqz.h"

/* What weights have been like so far. Kept from tensor to tensor; a new one only makes it learn faster again.
 */
typedef struct weight_model {
    wide_model empty; /* whether a filter is 0 altogether */
    wide_model zero[LEVELS], sign[LEVELS];
    wide_model length[2][9][LEVELS], second[9][LEVELS];
    wide_model rest[2][256];
} weight_model;

struct sqz_weights {
    sqz_coding coding;
    size_t columns;                   /* numbers a filter may have */
    uint64_t left;                    /* numbers that the section may still hold; encoding: that it holds */
    range_coder numbers;              /* everything beside the weights */
    range_coder body;                 /* the weights, if range coded */
    huffman huffman;                  /* or so */
    learning_rates rates, slow_rates; /* of the numbers, and of the weights */
    level_table levels;
    weight_model model;
    number_model head, shared, integer, grid;
    bit_model exponent[256], sign, mantissa[4], byte[256], code_length[16];
    context context;
};

#endif
