/* graph.c: reads the nodes. docs/format.md, "The graph". */
#include <string.h>

#include "operators.h"

/* ---- Reading bytes --------------------------------------------------------------------------- */

/* A reader that fails stays failed and gives zeros, so errors can be looked at once a node. */
typedef struct reader {
    const uint8_t *at, *end;
    sqz_error error;
} reader;

static void fail(reader *r, sqz_error error) {
    if (r->error == SQZ_OK) r->error = error;
}

static const uint8_t *take(reader *r, size_t size) {
    if (r->error != SQZ_OK || (size_t)(r->end - r->at) < size) {
        fail(r, SQZ_TRUNCATED);
        return NULL;
    }
    r->at += size;
    return r->at - size;
}

static uint32_t take_byte(reader *r) {
    const uint8_t *byte = take(r, 1);
    return byte ? *byte : 0;
}

/* Seven bits a byte, the lowest first; the upper bit says that more follow. At least `low`, at most `high`.
 */
static uint32_t take_number(reader *r, uint32_t low, uint32_t high) {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 35; shift += 7) {
        const uint32_t byte = take_byte(r);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            if (r->error != SQZ_OK) return low;
            if (shift > 0 && byte == 0) fail(r, SQZ_CORRUPT); /* one number is written in one way only */
            if (value < low) fail(r, SQZ_CORRUPT);
            if (value > high) fail(r, high == SQZ_MAX_SIZE ? SQZ_LIMIT : SQZ_CORRUPT);
            return r->error == SQZ_OK ? (uint32_t)value : low;
        }
    }
    fail(r, SQZ_CORRUPT);
    return low;
}

static void take_numbers(reader *r, uint32_t *out, int count, uint32_t low) {
    for (int i = 0; i < count; i++) out[i] = take_number(r, low, SQZ_MAX_SIZE);
}

static float take_float32(reader *r) {
    float x = 0;
    const uint8_t *at = take(r, 4);
    if (at) {
        const uint32_t bits =
            (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        if ((bits >> 23 & 255) == 255) fail(r, SQZ_CORRUPT); /* infinite, or no number */
        else memcpy(&x, &bits, 4);
    }
    return x;
}

static double take_float64(reader *r) {
    double x = 0;
    const uint8_t *at = take(r, 8);
    if (at) {
        uint64_t bits = 0;
        for (int i = 7; i >= 0; i--) bits = bits << 8 | at[i];
        if ((bits >> 52 & 2047) == 2047) fail(r, SQZ_CORRUPT);
        else memcpy(&x, &bits, 8);
    }
    return x;
}

static void take_quantization(reader *r, sqz_value *value) {
    value->quantized = 1;
    value->scale = take_float32(r);
    value->zero_point = take_byte(r);
    if (!(value->scale > 0)) fail(r, SQZ_CORRUPT);
}

/* ---- The head -------------------------------------------------------------------------------- */

sqz_error sqz_graph_open(sqz_graph *graph, const void *bytes, size_t size) {
    if (graph == NULL || (bytes == NULL && size > 0)) return SQZ_ARGUMENT;
    memset(graph, 0, sizeof *graph);
    reader r = {(const uint8_t *)bytes, (const uint8_t *)bytes + size, SQZ_OK};
    graph->int8 = take_byte(&r);
    if (graph->int8 > 1) return SQZ_CORRUPT;
    sqz_value *input = &graph->input;
    input->dimensions = take_byte(&r);
    if (r.error == SQZ_OK && input->dimensions != 1 && input->dimensions != 3) return SQZ_CORRUPT;
    for (uint32_t i = 0; i < 3; i++)
        input->shape[i] = i < input->dimensions ? take_number(&r, 1, SQZ_MAX_SIZE) : 1;
    if (graph->int8) take_quantization(&r, input);
    graph->nodes = take_number(&r, 0, SQZ_MAX_NODES);
    graph->at = r.at;
    graph->end = r.end;
    if (r.error != SQZ_OK) return r.error;
    const uint64_t rows = (uint64_t)input->shape[0] * input->shape[1]; /* below 2^49 */
    if (rows > SQZ_MAX_VALUE || rows * input->shape[2] > SQZ_MAX_VALUE) return SQZ_LIMIT;
    /* A node takes at least three bytes: do not make the caller remember more of them than there can be. */
    return graph->nodes > size / 3 ? SQZ_TRUNCATED : SQZ_OK;
}

sqz_error sqz_graph_values(sqz_graph *graph, sqz_value *values, size_t count) {
    if (graph == NULL || values == NULL) return SQZ_ARGUMENT;
    if (count < (size_t)graph->nodes + 1) return SQZ_SPACE;
    values[0] = graph->input;
    graph->values = values;
    return SQZ_OK;
}

/* ---- A node ---------------------------------------------------------------------------------- */

static void take_attributes(reader *r, sqz_node *n, uint32_t has) {
    if (has & HAS_KERNEL) take_numbers(r, n->kernel, 2, 1);
    if (has & HAS_STRIDE) take_numbers(r, n->stride, 2, 1);
    if (has & HAS_PADDING) take_numbers(r, n->padding, 4, 0);
    if (has & HAS_DILATION) take_numbers(r, n->dilation, 2, 1);
    if (has & HAS_GROUPS) take_numbers(r, &n->groups, 1, 1);
    if (has & HAS_ACTIVATION) n->activation = take_number(r, 0, 6);
    if (has & HAS_LOGITS) n->logits = take_number(r, 0, 1);
    if (has & HAS_CEIL_MODE) n->ceil_mode = take_number(r, 0, 1);
    if (has & HAS_COUNT_INCLUDE_PAD) n->count_include_pad = take_number(r, 0, 1);
    if (has & HAS_RANGE) take_numbers(r, &n->start, 1, 0);
    if (has & HAS_RANGE) take_numbers(r, &n->end, 1, 1);
    if (has & HAS_SIZE) take_numbers(r, &n->size, 1, 1);
    const int reals = has & HAS_ONE_REAL ? 1 : has & HAS_THREE_REALS ? 3 : 0;
    for (int i = 0; i < reals; i++) n->real[i] = take_float64(r);
}

/* 0: the result is float32; 1: quantized as the first input is; 2: scale and zero point follow. */
static void take_result(reader *r, const sqz_graph *graph, sqz_node *n) {
    const sqz_value *first = &graph->values[n->input[0]];
    const uint32_t how = graph->int8 ? take_number(r, 0, 2) : 0;
    if (how == 1 && first->quantized) {
        n->value.quantized = 1;
        n->value.scale = first->scale;
        n->value.zero_point = first->zero_point;
    } else if (how == 1) {
        fail(r, SQZ_CORRUPT);
    } else if (how == 2) {
        take_quantization(r, &n->value);
    }
}

static int same_quantization(const sqz_value *a, const sqz_value *b) {
    return a->quantized == b->quantized &&
           (!a->quantized || (a->scale == b->scale && a->zero_point == b->zero_point));
}

/* What an int8 graph demands beyond the shapes: see docs/format.md, "Quantization". */
static void check_int8(reader *r, const sqz_graph *graph, const sqz_node *n) {
    const operator_rule *rule = &sqz_operators[n->op];
    if (n->activation > 2) fail(r, SQZ_CORRUPT); /* the others are tables there */
    if (n->logits && (n->value.quantized || n->activation != 0)) fail(r, SQZ_CORRUPT);
    if (!n->logits && !rule->keeps && !n->value.quantized) fail(r, SQZ_CORRUPT);
    for (uint32_t i = 0; i < n->inputs; i++) {
        const sqz_value *input = &graph->values[n->input[i]];
        if (rule->keeps ? !same_quantization(input, &n->value) : !input->quantized) fail(r, SQZ_CORRUPT);
    }
}

static void take_tensor(reader *r, const sqz_graph *graph, sqz_node *n, const weight_rule *rule,
                        uint32_t filters) {
    const uint32_t type = graph->int8 ? rule->int8_type : rule->float_type;
    if (type == ABSENT) return;
    const uint32_t how = take_number(r, 0, 2); /* absent, plain, with a codebook */
    if (how == 0) return;
    if (how == 2 && type != SQZ_FLOAT32) fail(r, SQZ_CORRUPT);
    const sqz_value *x = &graph->values[n->input[0]];
    sqz_tensor *t = &n->tensor[n->tensors++];
    const sqz_tensor vector = {rule->role, how == 2 ? (uint32_t)SQZ_CODEBOOK : type, 1, {1, 1, 1, 1}};
    *t = vector;
    switch ((length_rule)rule->length) {
    case LENGTH_FILTERS:
        t->dimensions = sqz_operators[n->op].shape == SHAPE_CONV ? 4 : 2;
        t->shape[0] = filters;
        t->shape[1] = t->dimensions == 4 ? x->shape[0] / n->groups : x->shape[0];
        t->shape[2] = t->dimensions == 4 ? n->kernel[0] : 1;
        t->shape[3] = t->dimensions == 4 ? n->kernel[1] : 1;
        break;
    case LENGTH_OUT: t->shape[0] = filters; break;
    case LENGTH_IN: t->shape[0] = x->shape[0]; break;
    case LENGTH_ONE: break;
    case LENGTH_TWO: t->shape[0] = 2; break;
    case LENGTH_TOLD: t->shape[0] = take_number(r, 1, SQZ_MAX_SIZE); break;
    case LENGTH_TABLE: t->shape[0] = 256; break;
    }
}

/* All tensors of a file together stay within the limit. */
static sqz_error count_weights(sqz_graph *graph, const sqz_node *n) {
    for (uint32_t i = 0; i < n->tensors; i++) {
        uint64_t size = 1;
        for (int j = 0; j < 4; j++) { /* each is at most 2^31, and the product is checked in between */
            size *= n->tensor[i].shape[j];
            if (size > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
        }
        graph->weights += size;
        if (graph->weights > SQZ_MAX_WEIGHTS) return SQZ_LIMIT;
    }
    return SQZ_OK;
}

/* After the last node: which value is the result. */
static sqz_error finish(sqz_graph *graph) {
    reader r = {graph->at, graph->end, SQZ_OK};
    graph->output = take_number(&r, 0, graph->nodes);
    if (r.error != SQZ_OK) return r.error;
    return r.at == r.end ? SQZ_END : SQZ_CORRUPT;
}

sqz_error sqz_graph_next(sqz_graph *graph, sqz_node *n) {
    if (graph == NULL || n == NULL || graph->values == NULL) return SQZ_ARGUMENT;
    if (graph->done == graph->nodes) return finish(graph);
    reader r = {graph->at, graph->end, SQZ_OK};
    memset(n, 0, sizeof *n);
    n->name_size = take_number(&r, 1, SQZ_MAX_NAME);
    n->name = (const char *)take(&r, n->name_size);
    n->op = take_byte(&r);
    if (r.error != SQZ_OK) return r.error;
    if (n->op >= sqz_operator_count) return SQZ_CORRUPT;
    const operator_rule *rule = &sqz_operators[n->op];
    if (graph->int8 ? !rule->in_int8 : !rule->in_float) return SQZ_CORRUPT;

    n->inputs = rule->fewest == rule->most ? rule->most : take_number(&r, rule->fewest, rule->most);
    /* How many values back: 1 is the node before this one. So nothing can be read before it is computed. */
    for (uint32_t i = 0; i < n->inputs; i++)
        n->input[i] = graph->done + 1 - take_number(&r, 1, graph->done + 1);
    take_attributes(&r, n, rule->attributes);
    take_result(&r, graph, n);
    const uint32_t filters =
        rule->shape == SHAPE_CONV || rule->shape == SHAPE_LINEAR ? take_number(&r, 1, SQZ_MAX_SIZE) : 0;
    if (r.error != SQZ_OK) return r.error;
    const sqz_error unfit = sqz_infer_shape(n, graph->values, filters);
    if (unfit != SQZ_OK) return unfit;
    for (uint32_t i = 0; i < rule->weights; i++) take_tensor(&r, graph, n, &rule->weight[i], filters);
    if (graph->int8) check_int8(&r, graph, n);
    else if (n->logits) fail(&r, SQZ_CORRUPT);
    if (r.error != SQZ_OK) return r.error;
    const sqz_error too_many = count_weights(graph, n);
    if (too_many != SQZ_OK) return too_many;

    graph->done++;
    graph->values[graph->done] = n->value;
    graph->at = r.at;
    return SQZ_OK;
}
