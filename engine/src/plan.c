/* plan.c: from the graph in a file to the steps of a run.
 *
 * 1. Which nodes the result needs.
 * 2. Where values lie: a slice, a flattened vector or a dropout is its input, seen otherwise; the inputs of a
 *    concatenation are written straight into their parts of it; tables are applied by what comes before them,
 *    and additions write over an input that nobody else reads.
 * 3. How long each storage is in use, and an offset for it (memory.c).
 * 4. The steps. */
#include "plan.h"

#include <string.h>

#include "file.h"

/* ---- Operators by number --------------------------------------------------------------------- */

enum { /* their places in sqz_operators, which are their numbers in files */
       OP_CONV = 0,
       OP_LINEAR = 1,
       OP_ADD = 11,
       OP_MUL = 12,
       OP_CONCAT = 13,
       OP_SLICE = 14,
       OP_SHUFFLE = 15,
       OP_MAX_POOL = 16,
       OP_AVG_POOL = 17,
       OP_GLOBAL = 18,
       OP_FLATTEN = 19,
       OP_DROPOUT = 20,
       OP_IDENTITY = 21,
       OP_TABLE = 22
};

enum { MOST_NODES = 8192 }; /* packing takes the square of it */

void *sqz_take(bump *from, uint64_t size) {
    const uint64_t at = (from->used + SQZ_ALIGN - 1) & ~(uint64_t)(SQZ_ALIGN - 1);
    from->used = at + size;
    return from->base ? from->base + at : NULL;
}

uint8_t *sqz_aligned(const void *memory) {
    uint8_t *at = (uint8_t *)(uintptr_t)memory;
    return at + (SQZ_ALIGN - ((uintptr_t)at & (SQZ_ALIGN - 1))) % SQZ_ALIGN;
}

sqz_planning *sqz_planning_in(const void *memory) { return (sqz_planning *)(void *)sqz_aligned(memory); }

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Of a decoded graph of so many bytes: a node takes at least three of them, an input at least one. */
static uint32_t most_nodes(size_t text) { return (uint32_t)(text / 3 < MOST_NODES ? text / 3 : MOST_NODES); }

static size_t most_inputs(size_t text) {
    const size_t most = (size_t)most_nodes(text) * SQZ_MAX_INPUTS;
    return (text < most ? text : most) + 2 * (size_t)most_nodes(text);
}

/* The plan's own arrays. The text is decoded with a workspace that lies where they will. */
static uint64_t take_arrays(bump *from, sqz_planning *p, size_t text) {
    const size_t nodes = most_nodes(text), inputs = most_inputs(text);
    uint8_t *bytes = (uint8_t *)sqz_take(from, text);
    bump rest = {from->base, from->used};
    sqz_take(from, sqz_text_workspace());
    sqz_value *values = (sqz_value *)sqz_take(&rest, (nodes + 1) * sizeof(sqz_value));
    home *homes = (home *)sqz_take(&rest, (nodes + 1) * sizeof(home));
    planned_node *list = (planned_node *)sqz_take(&rest, nodes * sizeof(planned_node));
    uint32_t *pool = (uint32_t *)sqz_take(&rest, inputs * sizeof(uint32_t));
    uint32_t *order = (uint32_t *)sqz_take(&rest, (nodes + 1) * sizeof(uint32_t));
    uint32_t *placed = (uint32_t *)sqz_take(&rest, (nodes + 1) * sizeof(uint32_t));
    step *steps = (step *)sqz_take(&rest, (nodes + inputs + 1) * sizeof(step));
    if (p != NULL) {
        p->text = bytes;
        p->values = values;
        p->homes = homes;
        p->nodes = list;
        p->inputs = pool;
        p->order = order;
        p->placed = placed;
        p->steps = steps;
    }
    return rest.used > from->used ? rest.used : from->used;
}

static sqz_error text_size(const sqz_file *file, size_t *size) {
    return sqz_text_size(file->section[SQZ_GRAPH].data, file->section[SQZ_GRAPH].size, size);
}

/* How long the graph of a file is, and how much memory a plan of it takes. */
static sqz_error measure(const sqz_file *parts, size_t *text, size_t *plan_size) {
    const sqz_error error = text_size(parts, text);
    if (error != SQZ_OK) return error;
    bump count = {NULL, 0};
    sqz_take(&count, sizeof(sqz_planning));
    const uint64_t all = take_arrays(&count, NULL, *text) + SQZ_ALIGN;
    if (all > SIZE_MAX) return SQZ_LIMIT;
    *plan_size = (size_t)all;
    return SQZ_OK;
}

sqz_error sqz_workspace(const void *file, size_t size, size_t *plan_size) {
    sqz_file parts;
    size_t text;
    if (plan_size == NULL) return SQZ_ARGUMENT;
    const sqz_error error = sqz_file_find(&parts, file, size);
    return error == SQZ_OK ? measure(&parts, &text, plan_size) : error;
}

/* ---- The nodes ------------------------------------------------------------------------------- */

static int is_matrix(uint32_t op) { return op == OP_CONV || op == OP_LINEAR; }

/* Keeps what the plan needs of a node, after a look at whether all its weights are there. */
static sqz_error keep(sqz_planning *p, const sqz_node *n, planned_node *to) {
    uint32_t found[SQZ_MAX_ROLES] = {0};
    bump together = {NULL, 0};
    for (uint32_t i = 0; i < n->tensors; i++) {
        const sqz_tensor *t = &n->tensor[i];
        uint64_t filter = 1;
        found[t->role] = t->shape[0];
        for (int j = 1; j < 4; j++) filter *= t->shape[j]; /* the graph has seen that it is small */
        if (t->type == SQZ_INT8 && filter > p->columns) p->columns = (size_t)filter;
        sqz_take(&together, sqz_tensor_bytes(t));
    }
    if (together.used > p->numbers) p->numbers = (size_t)together.used;
    const int needs_multiplier =
        is_matrix(n->op) || n->op == OP_ADD || n->op == OP_MUL || n->op == OP_AVG_POOL || n->op == OP_GLOBAL;
    if (needs_multiplier && !found[ROLE_MULTIPLIER]) return SQZ_CORRUPT;
    if (is_matrix(n->op) && !(found[ROLE_WEIGHT] && found[ROLE_BIAS])) return SQZ_CORRUPT;
    if (n->op == OP_TABLE && !found[ROLE_TABLE]) return SQZ_CORRUPT;
    memset(to, 0, sizeof *to);
    to->op = n->op;
    to->inputs = n->inputs;
    memcpy(to->kernel, n->kernel, sizeof to->kernel);
    memcpy(to->stride, n->stride, sizeof to->stride);
    memcpy(to->padding, n->padding, sizeof to->padding);
    memcpy(to->dilation, n->dilation, sizeof to->dilation);
    to->groups = n->groups;
    to->activation = n->activation;
    to->logits = n->logits;
    to->count_include_pad = n->count_include_pad;
    to->start = n->start;
    to->multipliers = found[ROLE_MULTIPLIER];
    to->has_pad = found[ROLE_PAD_VALUE] != 0;
    to->step = to->table_step = NO_STEP;
    return SQZ_OK;
}

/* An average's window never counts more places than there are multipliers. */
static sqz_error check_average(const sqz_planning *p, const sqz_node *n) {
    if (n->op != OP_AVG_POOL || n->tensors == 0 || n->tensor[0].shape[0] == 1) return SQZ_OK;
    const sqz_value *x = &p->values[n->input[0]];
    uint64_t places = 1;
    for (int i = 0; i < 2; i++) {
        const uint64_t all =
            (uint64_t)x->shape[i + 1] + (n->count_include_pad ? n->padding[i] + n->padding[i + 2] : 0);
        places *= all < n->kernel[i] ? all : n->kernel[i];
    }
    return places > n->tensor[0].shape[0] ? SQZ_CORRUPT : SQZ_OK;
}

static sqz_error read_nodes(sqz_planning *p) {
    sqz_node n;
    uint32_t inputs = 0;
    sqz_error error = sqz_graph_open(&p->graph, p->text, p->text_size);
    if (error != SQZ_OK) return error;
    if (!p->graph.int8 || p->graph.input.dimensions != 3 || p->graph.nodes > most_nodes(p->text_size))
        return SQZ_UNSUPPORTED;
    error = sqz_graph_values(&p->graph, p->values, p->graph.nodes + 1);
    while (error == SQZ_OK && (error = sqz_graph_next(&p->graph, &n)) == SQZ_OK) {
        planned_node *to = &p->nodes[p->graph.done - 1];
        error = keep(p, &n, to);
        if (error == SQZ_OK) error = check_average(p, &n);
        to->first = inputs;
        for (uint32_t i = 0; i < n.inputs; i++) p->inputs[inputs++] = n.input[i];
    }
    if (error != SQZ_END) return error;
    if (p->graph.weights > ((uint64_t)p->file.section[SQZ_WEIGHTS].size + 16) * SQZ_MAX_EXPANSION)
        return SQZ_LIMIT;
    return p->graph.output == 0 ? SQZ_UNSUPPORTED : SQZ_OK; /* nothing to compute */
}

/* ---- Where values lie ------------------------------------------------------------------------ */

static uint32_t input_of(const sqz_planning *p, const planned_node *n, uint32_t i) {
    return p->inputs[n->first + i];
}

uint32_t sqz_root_of(const sqz_planning *p, uint32_t value, uint32_t *channel) {
    *channel = 0;
    while (p->homes[value].parent != NO_PARENT) {
        *channel += p->homes[value].channel;
        value = p->homes[value].parent;
    }
    return value;
}

/* From the result backwards: who is needed, and how often. */
static void find_needed(sqz_planning *p) {
    for (uint32_t v = 0; v <= p->graph.nodes; v++) {
        const home fresh = {NO_PARENT, 0, 0, 0, 0, 0, 0, 0, 0};
        p->homes[v] = fresh;
    }
    p->homes[p->graph.output].needed = 1;
    p->homes[p->graph.output].uses = 1; /* by the caller */
    for (uint32_t i = p->graph.nodes; i-- > 0;) {
        if (!p->homes[i + 1].needed) continue;
        for (uint32_t j = 0; j < p->nodes[i].inputs; j++) {
            home *h = &p->homes[input_of(p, &p->nodes[i], j)];
            h->needed = 1;
            h->uses++;
        }
    }
}

static void share_storage(sqz_planning *p, uint32_t value, uint32_t parent, uint32_t channel, int lives_on) {
    p->homes[value].parent = parent;
    p->homes[value].channel = channel;
    if (lives_on) p->homes[parent].aliases++;
}

static int same_shape(const sqz_value *a, const sqz_value *b) {
    return memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

/* Whether a value's storage may be taken over by the only node that reads it. */
static int is_free(const sqz_planning *p, uint32_t value) {
    const home *h = &p->homes[value];
    return value != 0 && h->parent == NO_PARENT && h->uses == 1 && h->aliases == 0 &&
           p->values[value].quantized;
}

static int rounds(const planned_node *n) { /* whether it could apply a table to its results */
    return (is_matrix(n->op) && !n->logits) || n->op == OP_ADD || n->op == OP_MUL || n->op == OP_AVG_POOL ||
           (n->op == OP_GLOBAL && !n->logits);
}

static void find_homes(sqz_planning *p) {
    for (uint32_t i = 0; i < p->graph.nodes; i++) {
        const planned_node *n = &p->nodes[i];
        const uint32_t v = i + 1, first = input_of(p, n, 0);
        const sqz_value *x = &p->values[first];
        if (!p->homes[v].needed) continue;
        if (n->op == OP_IDENTITY || n->op == OP_DROPOUT ||
            (n->op == OP_FLATTEN && x->shape[1] == 1 && x->shape[2] == 1)) {
            share_storage(p, v, first, 0, 1);
        } else if (n->op == OP_SLICE) {
            share_storage(p, v, first, n->start, 1);
        } else if (n->op == OP_CONCAT) {
            for (uint32_t j = 0, channel = 0; j < n->inputs; j++) {
                const uint32_t u = input_of(p, n, j);
                if (u != 0 && p->homes[u].parent == NO_PARENT) share_storage(p, u, v, channel, 1);
                channel += p->values[u].shape[0];
            }
        } else if (n->op == OP_TABLE && is_free(p, first)) {
            share_storage(p, first, v, 0, 0);
        } else if (n->op == OP_ADD || n->op == OP_MUL) {
            for (uint32_t j = 0; j < 2; j++) {
                const uint32_t u = input_of(p, n, j);
                if (!is_free(p, u) || !same_shape(&p->values[u], &p->values[v])) continue;
                share_storage(p, u, v, 0, 0);
                break;
            }
        }
    }
}

/* From when to when each storage is in use. SQZ_LIMIT. */
static sqz_error find_lives(sqz_planning *p) {
    uint32_t channel;
    uint64_t all = 0;
    for (uint32_t v = 0; v <= p->graph.nodes; v++) {
        home *h = &p->homes[v];
        h->born = p->graph.nodes;
        const sqz_value *x = &p->values[v];
        if (v > 0 && h->needed && h->parent == NO_PARENT && x->quantized)
            h->size =
                ((size_t)x->shape[0] * x->shape[1] * x->shape[2] + SQZ_ALIGN - 1) & ~(size_t)(SQZ_ALIGN - 1);
        all += h->size;
    }
    if (all > SIZE_MAX / 2) return SQZ_LIMIT;
    for (uint32_t i = 0; i < p->graph.nodes; i++) {
        if (!p->homes[i + 1].needed) continue;
        home *result = &p->homes[sqz_root_of(p, i + 1, &channel)];
        if (i < result->born) result->born = i;
        if (i > result->dies) result->dies = i;
        for (uint32_t j = 0; j < p->nodes[i].inputs; j++) {
            home *h = &p->homes[sqz_root_of(p, input_of(p, &p->nodes[i], j), &channel)];
            if (i > h->dies) h->dies = i;
        }
    }
    p->homes[sqz_root_of(p, p->graph.output, &channel)].dies = p->graph.nodes;
    return SQZ_OK;
}

/* ---- The steps ------------------------------------------------------------------------------- */

/* Where a value lies, and how. */
static place locate(const sqz_planning *p, uint32_t value, sqz_area *area) {
    uint32_t channel;
    const uint32_t root = sqz_root_of(p, value, &channel);
    const sqz_value *v = &p->values[value], *r = &p->values[root];
    const size_t bytes = v->quantized ? 1 : sizeof(float);
    area->channels = v->shape[0];
    area->height = v->shape[1];
    area->width = v->shape[2];
    area->pitch = r->shape[0] * bytes;
    area->row = area->pitch * area->width;
    area->exact = root == 0;
    const place at = {root == 0      ? IN_PICTURE
                      : v->quantized ? IN_ACTIVATIONS
                                     : IN_LOGITS,
                      (root == 0 || !v->quantized ? 0 : p->homes[root].offset) + channel * bytes};
    return at;
}

static sqz_rounding rounding_of(const planned_node *n, const sqz_value *value) {
    sqz_rounding r = {(int32_t)value->zero_point, 0, 255, NULL};
    if (n->activation == 1 || n->activation == 2) r.low = r.zero_point;
    if (n->activation == 2) { /* relu6 */
        const int32_t six = r.zero_point + sqz_round_even(6.0f / value->scale);
        if (six < r.high) r.high = six;
    }
    return r;
}

/* Vector kernels copy the picture with its border; one that is all border is left to the scalar ones. */
static int is_usual(const sqz_conv *c, const uint32_t padding[4]) {
    uint64_t size = c->in.channels;
    const uint32_t sides[2] = {c->in.height, c->in.width};
    for (int i = 0; i < 2; i++) {
        const uint64_t reach = (uint64_t)c->dilation[i] * (c->kernel[i] - 1) + 1;
        if (padding[i] >= reach || padding[i + 2] >= reach) return 0;
        size *= sides[i] + padding[i] + padding[i + 2] + reach;
        if (size > SQZ_MAX_VALUE) return 0;
    }
    return 1;
}

static void plan_conv(sqz_planning *p, const planned_node *n, step *s, uint32_t value, uint32_t result) {
    sqz_conv *c = &s->as.conv;
    const uint32_t ones[4] = {1, 1, 1, 1}, zeros[4] = {0, 0, 0, 0};
    const int linear = n->op == OP_LINEAR;
    s->kind = STEP_CONV;
    s->in = locate(p, input_of(p, n, 0), &c->in);
    s->out = locate(p, result, &c->out);
    memcpy(c->kernel, linear ? ones : n->kernel, sizeof c->kernel);
    memcpy(c->stride, linear ? ones : n->stride, sizeof c->stride);
    memcpy(c->dilation, linear ? ones : n->dilation, sizeof c->dilation);
    memcpy(c->padding, linear ? zeros : n->padding, sizeof c->padding);
    c->groups = linear ? 1 : n->groups;
    c->logits = n->logits;
    if (!n->logits) c->rounding = rounding_of(n, &p->values[value]);
    s->has_pad = n->has_pad;
    s->zero_point = (int32_t)p->values[input_of(p, n, 0)].zero_point;
    if (!is_usual(c, linear ? zeros : n->padding)) s->kernels = &sqz_kernels_scalar;
    const size_t scratch = s->kernels->conv_scratch(c);
    if (scratch > p->needs.scratch) p->needs.scratch = scratch;
    s->info.macs = (uint64_t)c->out.height * c->out.width * c->out.channels; /* below 2^31 */
    const uint64_t each = (uint64_t)c->kernel[0] * c->kernel[1] * (c->in.channels / c->groups);
    s->info.macs *= each; /* below 2^61: a filter has at most 2^30 weights */
}

static void plan_pool(sqz_planning *p, const planned_node *n, step *s, uint32_t value, uint32_t result) {
    sqz_pool *pool = &s->as.pool;
    s->kind = n->op == OP_MAX_POOL ? STEP_MAX_POOL : n->op == OP_AVG_POOL ? STEP_AVG_POOL : STEP_GLOBAL;
    s->in = locate(p, input_of(p, n, 0), &pool->in);
    s->out = locate(p, result, &pool->out);
    memcpy(pool->kernel, n->kernel, sizeof pool->kernel);
    memcpy(pool->stride, n->stride, sizeof pool->stride);
    memcpy(pool->padding, n->padding, sizeof pool->padding);
    pool->count_include_pad = n->count_include_pad;
    pool->logits = n->logits;
    pool->in_zero = (int32_t)p->values[input_of(p, n, 0)].zero_point;
    pool->multipliers = n->multipliers;
    if (!n->logits) pool->rounding = rounding_of(n, &p->values[value]);
}

/* The one that is a number a channel comes second. */
static void plan_pair(sqz_planning *p, const planned_node *n, step *s, uint32_t value, uint32_t result) {
    sqz_pair *pair = &s->as.pair;
    const int swapped = !same_shape(&p->values[input_of(p, n, 0)], &p->values[value]);
    const uint32_t a = input_of(p, n, (uint32_t)swapped), b = input_of(p, n, (uint32_t)!swapped);
    s->kind = n->op == OP_ADD ? STEP_ADD : STEP_MUL;
    s->in = locate(p, a, &pair->a);
    s->other = locate(p, b, &pair->b);
    s->out = locate(p, result, &pair->out);
    pair->a_zero = (int32_t)p->values[a].zero_point;
    pair->b_zero = (int32_t)p->values[b].zero_point;
    pair->rounding = rounding_of(n, &p->values[value]);
    s->groups = (uint32_t)swapped; /* for sqz_open, which gets the multipliers in the file's order */
}

static step *new_step(sqz_planning *p, uint32_t node, step_kind kind) {
    step *s = &p->steps[p->step_count++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    s->kernels = p->kernels;
    s->node = node;
    return s;
}

static void plan_map(sqz_planning *p, uint32_t node, step_kind kind, uint32_t from, place to,
                     const sqz_area *out) {
    step *s = new_step(p, node, kind);
    s->in = locate(p, from, &s->as.map.in);
    s->out = to;
    s->as.map.out = *out;
}

/* Copies those parts of a concatenation that could not be written there in the first place. */
static void plan_concat(sqz_planning *p, uint32_t node) {
    const planned_node *n = &p->nodes[node];
    sqz_area whole;
    const place at = locate(p, node + 1, &whole);
    for (uint32_t j = 0, channel = 0; j < n->inputs; j++) {
        const uint32_t u = input_of(p, n, j);
        const home *h = &p->homes[u];
        if (h->parent != node + 1 || h->channel != channel) {
            sqz_area part = whole;
            place to = at;
            part.channels = p->values[u].shape[0];
            to.offset += channel;
            plan_map(p, node, STEP_MAP, u, to, &part);
        }
        channel += p->values[u].shape[0];
    }
}

static sqz_error plan_node(sqz_planning *p, uint32_t node) {
    planned_node *n = &p->nodes[node];
    const uint32_t value = node + 1, first = input_of(p, n, 0), begin = p->step_count;
    uint32_t result = value;
    sqz_area area;
    const place at = locate(p, value, &area);
    /* Numbers are the end of the network: nothing computes with them. */
    if (!p->values[first].quantized)
        return p->homes[value].parent == first && n->op != OP_SLICE ? SQZ_OK : SQZ_UNSUPPORTED;
    if (p->homes[value].parent == first) return SQZ_OK; /* seen otherwise */
    if (rounds(n) && p->homes[value].uses == 1 && p->homes[value].parent != NO_PARENT) {
        const uint32_t parent = p->homes[value].parent;
        if (p->nodes[parent - 1].op == OP_TABLE) result = parent;
    }
    switch (n->op) {
    case OP_CONV:
    case OP_LINEAR: plan_conv(p, n, new_step(p, node, STEP_CONV), value, result); break;
    case OP_ADD:
    case OP_MUL: plan_pair(p, n, new_step(p, node, STEP_ADD), value, result); break;
    case OP_MAX_POOL:
    case OP_AVG_POOL:
    case OP_GLOBAL: plan_pool(p, n, new_step(p, node, STEP_GLOBAL), value, result); break;
    case OP_CONCAT: plan_concat(p, node); break;
    case OP_TABLE:
        /* Applied already by the step before it, if its input lies in its place and was made there. */
        if (p->nodes[first - (first > 0)].table_step != NO_STEP && first > 0 &&
            p->homes[first].parent == value) {
            n->table_step = p->nodes[first - 1].table_step;
            return SQZ_OK;
        }
        plan_map(p, node, STEP_MAP, first, at, &area);
        n->table_step = begin;
        p->steps[begin].has_table = 1;
        break;
    case OP_SHUFFLE:
        plan_map(p, node, STEP_SHUFFLE, first, at, &area);
        p->steps[begin].groups = n->groups;
        break;
    case OP_FLATTEN: plan_map(p, node, STEP_FLATTEN, first, at, &area); break;
    default: return SQZ_UNSUPPORTED;
    }
    if (result != value) {
        p->steps[begin].has_table = 1;
        n->table_step = begin;
    }
    if (p->step_count > begin) n->step = begin;
    return SQZ_OK;
}

/* What the caller gets are numbers, one a class. */
static sqz_error plan_result(sqz_planning *p) {
    const sqz_value *v = &p->values[p->graph.output];
    if (v->quantized) {
        step *s = new_step(p, p->graph.output - 1, STEP_NUMBERS);
        s->in = locate(p, p->graph.output, &s->as.map.in);
        s->out.memory = IN_LOGITS;
        s->scale = v->scale;
        s->zero_point = (int32_t)v->zero_point;
        return SQZ_OK;
    }
    return v->shape[1] == 1 && v->shape[2] == 1 ? SQZ_OK : SQZ_UNSUPPORTED;
}

static sqz_error plan_steps(sqz_planning *p) {
    for (uint32_t i = 0; i < p->graph.nodes; i++) {
        if (!p->homes[i + 1].needed) continue;
        const sqz_error error = plan_node(p, i);
        if (error != SQZ_OK) return error;
    }
    const sqz_error error = plan_result(p);
    for (uint32_t i = 0; i < p->step_count; i++) {
        step *s = &p->steps[i];
        const sqz_value *v = &p->values[s->node + 1];
        s->info.op = p->nodes[s->node].op;
        s->info.channels = v->shape[0];
        s->info.height = v->shape[1];
        s->info.width = v->shape[2];
        p->macs = p->macs + s->info.macs < p->macs ? UINT64_MAX : p->macs + s->info.macs;
    }
    return error;
}

/* The bytes of all steps' names, each with its terminating 0. */
static void count_names(sqz_planning *p) {
    sqz_node n;
    sqz_graph graph;
    uint32_t at = 0;
    sqz_graph_open(&graph, p->text, p->text_size); /* as it was read before, without an error */
    sqz_graph_values(&graph, p->values, graph.nodes + 1);
    for (uint32_t i = 0; sqz_graph_next(&graph, &n) == SQZ_OK; i++)
        for (; at < p->step_count && p->steps[at].node == i; at++) p->names += n.name_size + 1;
}

/* ---- The plan -------------------------------------------------------------------------------- */

sqz_error sqz_plan(sqz_needs *needs, const void *file, size_t size, sqz_isa isa, void *memory,
                   size_t memory_size) {
    size_t wanted = 0, text = 0;
    sqz_file parts;
    if (needs == NULL) return SQZ_ARGUMENT;
    sqz_error error = sqz_file_open(&parts, file, size);
    if (error == SQZ_OK) error = measure(&parts, &text, &wanted);
    if (error != SQZ_OK) return error;
    if (memory == NULL || memory_size < wanted) return SQZ_SPACE;
    sqz_planning *p = sqz_planning_in(memory);
    memset(p, 0, sizeof *p);
    p->isa = isa;
    p->kernels = sqz_kernels_for(&p->isa);
    if (p->kernels == NULL) return SQZ_ARGUMENT;
    p->file = parts;
    bump from = {(uint8_t *)p, 0};
    sqz_take(&from, sizeof *p);
    take_arrays(&from, p, text);
    uint8_t *bytes = (uint8_t *)(uintptr_t)p->text;
    p->text_size = text;
    error = sqz_text_decode(bytes, text, p->file.section[SQZ_GRAPH].data, p->file.section[SQZ_GRAPH].size,
                            bytes + text, sqz_text_workspace());
    if (error == SQZ_OK) error = read_nodes(p);
    if (error != SQZ_OK) return error;
    find_needed(p);
    find_homes(p);
    error = find_lives(p);
    if (error != SQZ_OK) return error;
    sqz_pack_buffers(p);
    error = plan_steps(p);
    if (error != SQZ_OK) return error;
    count_names(p);
    bump model = {NULL, 0};
    step *steps;
    char *names;
    sqz_lay_out(&model, p, &steps, &names);
    const uint64_t open = (uint64_t)sqz_weights_workspace((uint32_t)p->columns) + p->numbers + 2 * SQZ_ALIGN;
    if (model.used > SIZE_MAX || open > SIZE_MAX) return SQZ_LIMIT;
    p->needs.model = (size_t)model.used;
    p->needs.open = (size_t)open;
    *needs = p->needs;
    return SQZ_OK;
}
