/* open.c: from a plan to a network that can run: its memory, its weights. */
#include <string.h>

#include "model.h"

#if defined(SQZ_X86)
#include <cpuid.h>
#endif

/* ---- Kernels --------------------------------------------------------------------------------- */

#if defined(SQZ_X86)
enum { HAS_AVX2 = 1, HAS_AVX512 = 2 };

/* What the processor has, and the system saves: asked by hand, since a library without globals cannot use the
 * compiler's own way. */
static int find_x86(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    int has = b & bit_AVX2 ? HAS_AVX2 : 0;
    const unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((low & 0xe6) == 0xe6 && (b & wide) == wide && (c & bit_AVX512VBMI) && (c & bit_AVX512VNNI))
        has |= HAS_AVX512;
    return has;
}
#endif

const char *sqz_isa_name(sqz_isa isa) {
    static const char *const names[] = {"best", "scalar", "AVX2", "AVX-512 VNNI"};
    return (unsigned)isa < sizeof names / sizeof *names ? names[isa] : NULL;
}

/* The kernels of an instruction set; for SQZ_ISA_BEST, `isa` becomes the one that was chosen. NULL: not here.
 */
const sqz_kernels *sqz_kernels_for(sqz_isa *isa) {
#if defined(SQZ_X86)
    const int has = find_x86();
    if (*isa == SQZ_ISA_BEST)
        *isa = has & HAS_AVX512 ? SQZ_ISA_AVX512 : has & HAS_AVX2 ? SQZ_ISA_AVX2 : SQZ_ISA_SCALAR;
    if (*isa == SQZ_ISA_AVX2 && has & HAS_AVX2) return &sqz_kernels_avx2;
    if (*isa == SQZ_ISA_AVX512 && has & HAS_AVX512) return &sqz_kernels_avx512;
#else
    if (*isa == SQZ_ISA_BEST) *isa = SQZ_ISA_SCALAR;
#endif
    return *isa == SQZ_ISA_SCALAR ? &sqz_kernels_scalar : NULL;
}

int sqz_isa_available(sqz_isa isa) { return sqz_kernels_for(&isa) != NULL; }

/* ---- Memory ---------------------------------------------------------------------------------- */

static void lay_out_conv(bump *from, step *s) {
    sqz_conv *c = &s->as.conv;
    c->bias = (const int32_t *)sqz_take(from, (uint64_t)c->out.channels * sizeof(int32_t));
    c->multiplier = (const float *)sqz_take(from, (uint64_t)c->out.channels * sizeof(float));
    c->pad = (const uint8_t *)sqz_take(from, (uint64_t)c->in.channels + SQZ_BEHIND);
    c->weights = sqz_take(from, s->kernels->conv_packed(c));
}

static sqz_rounding *rounding_in(step *s) {
    switch (s->kind) {
    case STEP_CONV: return &s->as.conv.rounding;
    case STEP_ADD:
    case STEP_MUL: return &s->as.pair.rounding;
    case STEP_AVG_POOL:
    case STEP_GLOBAL: return &s->as.pool.rounding;
    default: return NULL;
    }
}

sqz_model *sqz_lay_out(bump *from, const sqz_planning *plan, step **steps, char **names) {
    sqz_model *model = (sqz_model *)sqz_take(from, sizeof *model);
    *steps = (step *)sqz_take(from, (uint64_t)plan->step_count * sizeof(step));
    *names = (char *)sqz_take(from, plan->names);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        step copy = plan->steps[i], *s = *steps != NULL ? &(*steps)[i] : &copy;
        *s = copy;
        if (s->kind == STEP_CONV) lay_out_conv(from, s);
        if (s->kind == STEP_AVG_POOL || s->kind == STEP_GLOBAL)
            s->as.pool.multiplier =
                (const float *)sqz_take(from, (uint64_t)s->as.pool.multipliers * sizeof(float));
        if (s->has_table) {
            const uint8_t *table = (const uint8_t *)sqz_take(from, 256);
            sqz_rounding *rounding = rounding_in(s);
            if (rounding != NULL) rounding->table = table;
            else s->as.map.table = table;
        }
    }
    return model;
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* Constant for those who run the network; written here. */
#define WRITABLE(type, pointer) ((type *)(uintptr_t)(pointer))

/* Takes the input's zero point into the biases, and sees that no sum can leave int32. */
static sqz_error finish_conv(step *s, const int8_t *weight, const int32_t *bias) {
    sqz_conv *c = &s->as.conv;
    const size_t filter = (size_t)(c->in.channels / c->groups) * c->kernel[0] * c->kernel[1];
    const int64_t zero = s->zero_point, most = zero > 255 - zero ? zero : 255 - zero;
    int32_t *to = WRITABLE(int32_t, c->bias);
    for (size_t o = 0; o < c->out.channels; o++) {
        int64_t sum = 0, size = 0; /* at most 2^30 weights of 2^7 */
        for (size_t i = 0; i < filter; i++) {
            const int32_t w = weight[o * filter + i];
            sum += w;
            size += w < 0 ? -w : w;
        }
        const int64_t reach = size * most + (bias[o] < 0 ? -(int64_t)bias[o] : bias[o]);
        if (reach > INT32_MAX) return SQZ_CORRUPT;
        to[o] = (int32_t)(uint32_t)(uint64_t)(bias[o] - zero * sum); /* modulo 2^32, as the sums are */
        const float multiplier = c->multiplier[o],
                    large = (float)reach * (multiplier < 0 ? -multiplier : multiplier);
        if (!(large < 2147483520.0f)) s->kernels = &sqz_kernels_scalar; /* vectors convert without a look */
    }
    if (!s->has_pad) memset(WRITABLE(uint8_t, c->pad), (int)zero, c->in.channels);
    s->kernels->conv_pack(c, weight, WRITABLE(void, c->weights));
    return SQZ_OK;
}

typedef struct decoded { /* the tensors of one node, in the order of the file */
    const int8_t *weight;
    const float *multiplier;
    const int32_t *bias;
} decoded;

static void store(const sqz_planning *plan, step *steps, uint32_t node, const sqz_tensor *t, const void *data,
                  decoded *found) {
    const planned_node *n = &plan->nodes[node];
    if (t->role == ROLE_TABLE && n->table_step != NO_STEP) {
        step *s = &steps[n->table_step];
        const sqz_rounding *rounding = rounding_in(s);
        memcpy(WRITABLE(uint8_t, rounding != NULL ? rounding->table : s->as.map.table), data, 256);
    }
    if (t->role == ROLE_WEIGHT) found->weight = (const int8_t *)data;
    if (t->role == ROLE_BIAS) found->bias = (const int32_t *)data;
    if (t->role == ROLE_MULTIPLIER) found->multiplier = (const float *)data;
    if (n->step == NO_STEP) return;
    step *s = &steps[n->step];
    if (t->role == ROLE_PAD_VALUE) memcpy(WRITABLE(uint8_t, s->as.conv.pad), data, t->shape[0]);
    if (t->role != ROLE_MULTIPLIER) return;
    const float *values = (const float *)data;
    switch (s->kind) {
    case STEP_CONV: memcpy(WRITABLE(float, s->as.conv.multiplier), data, t->shape[0] * sizeof(float)); break;
    case STEP_ADD: /* groups: the two inputs have changed places */
        s->as.pair.multiplier[0] = values[s->groups];
        s->as.pair.multiplier[1] = values[1 - s->groups];
        break;
    case STEP_MUL: s->as.pair.multiplier[0] = values[0]; break;
    case STEP_AVG_POOL:
    case STEP_GLOBAL:
        memcpy(WRITABLE(float, s->as.pool.multiplier), data, t->shape[0] * sizeof(float));
        break;
    default: break;
    }
}

uint64_t sqz_tensor_bytes(const sqz_tensor *t) {
    const uint64_t each = t->type == SQZ_FLOAT32 || t->type == SQZ_INT32 ? 4 : 1;
    return each * t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
}

/* One node's tensors lie one behind the other in `space`: weights, multipliers, biases. */
static sqz_error decode_node(const sqz_planning *plan, step *steps, uint32_t node, const sqz_node *n,
                             sqz_weights *weights, bump *space, size_t room) {
    decoded found = {NULL, NULL, NULL};
    for (uint32_t i = 0; i < n->tensors; i++) {
        const sqz_tensor *t = &n->tensor[i];
        uint32_t count = t->type == SQZ_INT32 && found.multiplier != NULL ? t->shape[0] : 0;
        void *data = sqz_take(space, sqz_tensor_bytes(t));
        if (space->used > room) return SQZ_SPACE;
        const sqz_error error =
            sqz_weights_next(weights, t, data, count > 0 ? WRITABLE(float, found.multiplier) : NULL,
                             count > 0 ? &count : NULL);
        if (error != SQZ_OK) return error;
        store(plan, steps, node, t, data, &found);
    }
    const uint32_t at = plan->nodes[node].step;
    if (at == NO_STEP || steps[at].kind != STEP_CONV) return SQZ_OK;
    return finish_conv(&steps[at], found.weight, found.bias);
}

static sqz_error decode(const sqz_planning *plan, step *steps, char *names, uint8_t *workspace, size_t size) {
    sqz_graph graph;
    sqz_node n;
    sqz_weights *weights;
    const size_t state = sqz_weights_workspace((uint32_t)plan->columns);
    uint8_t *space = sqz_aligned(workspace + state);
    const size_t room = size - (size_t)(space - workspace);
    sqz_error error = sqz_weights_open(&weights, plan->file.section[SQZ_WEIGHTS].data,
                                       plan->file.section[SQZ_WEIGHTS].size, workspace, state);
    if (error == SQZ_OK) error = sqz_graph_open(&graph, plan->text, plan->text_size);
    if (error == SQZ_OK) error = sqz_graph_values(&graph, plan->values, (size_t)plan->graph.nodes + 1);
    for (uint32_t node = 0, at = 0; error == SQZ_OK && (error = sqz_graph_next(&graph, &n)) == SQZ_OK;
         node++) {
        bump from = {space, 0};
        error = decode_node(plan, steps, node, &n, weights, &from, room);
        for (; at < plan->step_count && steps[at].node == node; at++) {
            memcpy(names, n.name, n.name_size);
            names[n.name_size] = 0;
            steps[at].info.name = names;
            names += n.name_size + 1;
        }
    }
    return error == SQZ_END ? SQZ_OK : error;
}

sqz_error sqz_open(sqz_model **model, void *memory, size_t size, const void *plan_memory, void *workspace,
                   size_t workspace_size) {
    if (model == NULL || memory == NULL || plan_memory == NULL || workspace == NULL) return SQZ_ARGUMENT;
    *model = NULL;
    const sqz_planning *plan = sqz_planning_in(plan_memory);
    if ((uintptr_t)memory % SQZ_ALIGNMENT != 0) return SQZ_ARGUMENT;
    if (size < plan->needs.model || workspace_size < plan->needs.open) return SQZ_SPACE;
    bump from = {(uint8_t *)memory, 0};
    step *steps;
    char *names;
    sqz_model *m = sqz_lay_out(&from, plan, &steps, &names);
    const sqz_error error = decode(plan, steps, names, (uint8_t *)workspace, workspace_size);
    if (error != SQZ_OK) return error;
    const sqz_value *input = &plan->graph.input, *output = &plan->values[plan->graph.output];
    memset(m, 0, sizeof *m);
    m->steps = steps;
    m->info.channels = input->shape[0];
    m->info.height = input->shape[1];
    m->info.width = input->shape[2];
    m->info.outputs = output->shape[0] * output->shape[1] * output->shape[2];
    m->info.steps = plan->step_count;
    m->info.isa = plan->isa;
    m->info.macs = plan->macs;
    m->info.needs = plan->needs;
    *model = m;
    return SQZ_OK;
}
