/* fit.h: the encoder's choice of a predictor for one tensor. */
#ifndef SQZ_FIT_H
#define SQZ_FIT_H

#include "context.h"

/* A tensor's numbers as the encoder is given them: int8, or uint8 indices that count from `origin`. */
typedef struct tensor_source {
    const uint8_t *bytes;
    int is_signed;
    int32_t origin;
} tensor_source;

SQZ_INLINE int16_t weight_at(const tensor_source *source, size_t index) {
    const int32_t byte = source->bytes[index];
    return (int16_t)(source->is_signed && byte > 127 ? byte - 256 : byte - source->origin);
}

/* Whether a filter's numbers are all 0. */
SQZ_INLINE int is_empty(const tensor_source *source, size_t from, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (weight_at(source, from + i) != 0) return 0;
    return 1;
}

/* Fits all of `out`; the arrays of `scratch` are used. */
void fit_predictor(predictor *out, const tensor_source *weights, context *scratch);

#endif
