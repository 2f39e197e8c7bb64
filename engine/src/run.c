/* run.c: runs the steps of an open network, alone or with others. */
#include <string.h>

#include "model.h"

void sqz_describe(const sqz_model *model, sqz_info *info) { *info = model->info; }

sqz_error sqz_step_info(const sqz_model *model, uint32_t i, sqz_step *info) {
    if (model == NULL || info == NULL || i >= model->info.steps) return SQZ_ARGUMENT;
    *info = model->steps[i].info;
    return SQZ_OK;
}

/* ---- What needs no kernel of its own --------------------------------------------------------- */

/* Channel c of a result is channel (c % groups) * (channels / groups) + c / groups of the input. */
static void shuffle(const sqz_map *m, uint32_t groups, const uint8_t *in, uint8_t *out) {
    const uint32_t each = m->in.channels / groups;
    for (uint32_t y = 0; y < m->in.height; y++)
        for (uint32_t x = 0; x < m->in.width; x++) {
            const uint8_t *from = in + y * m->in.row + x * m->in.pitch;
            uint8_t *to = out + y * m->out.row + x * m->out.pitch;
            for (uint32_t c = 0; c < m->in.channels; c++) to[c] = from[c % groups * each + c / groups];
        }
}

static void flatten(const sqz_map *m, const uint8_t *in, uint8_t *out) {
    for (uint32_t c = 0; c < m->in.channels; c++)
        for (uint32_t y = 0; y < m->in.height; y++)
            for (uint32_t x = 0; x < m->in.width; x++) *out++ = in[y * m->in.row + x * m->in.pitch + c];
}

static void numbers(const step *s, const uint8_t *in, float *out) {
    const sqz_map *m = &s->as.map;
    for (uint32_t c = 0; c < m->in.channels; c++)
        for (uint32_t y = 0; y < m->in.height; y++)
            for (uint32_t x = 0; x < m->in.width; x++)
                *out++ = (float)(in[y * m->in.row + x * m->in.pitch + c] - s->zero_point) * s->scale;
}

/* ---- A step ---------------------------------------------------------------------------------- */

typedef struct memories { /* of a run */
    const uint8_t *picture;
    size_t row_bytes;
    uint8_t *activations;
    void *scratch;
    float *logits;
} memories;

static uint8_t *at(const memories *m, place p) {
    uint8_t *base = p.memory == IN_PICTURE  ? (uint8_t *)(uintptr_t)m->picture
                    : p.memory == IN_LOGITS ? (uint8_t *)m->logits
                                            : m->activations;
    return base + p.offset;
}

/* The picture's rows are as far apart as the caller says. */
static void set_row(const memories *m, place p, sqz_area *area) {
    if (p.memory == IN_PICTURE) area->row = m->row_bytes;
}

static int has_two_phases(const step *s) {
    return s->kind == STEP_CONV && s->kernels->conv_scratch(&s->as.conv) > 0;
}

static void run_conv(const step *s, const memories *m, uint32_t phase, uint32_t part, uint32_t parts) {
    sqz_conv c = s->as.conv;
    set_row(m, s->in, &c.in);
    if (phase == 0) s->kernels->conv_prepare(&c, at(m, s->in), m->scratch, part, parts);
    else s->kernels->conv(&c, at(m, s->in), m->scratch, at(m, s->out), part, parts);
}

static void run_pool(const step *s, const memories *m, uint32_t part, uint32_t parts) {
    sqz_pool p = s->as.pool;
    const uint8_t *in = at(m, s->in);
    uint8_t *out = at(m, s->out);
    set_row(m, s->in, &p.in);
    if (s->kind == STEP_MAX_POOL) s->kernels->max_pool(&p, in, out, part, parts);
    else if (s->kind == STEP_AVG_POOL) s->kernels->avg_pool(&p, in, out, part, parts);
    else s->kernels->global_avg_pool(&p, in, out, part, parts);
}

static void run_pair(const step *s, const memories *m, uint32_t part, uint32_t parts) {
    sqz_pair p = s->as.pair;
    set_row(m, s->in, &p.a);
    set_row(m, s->other, &p.b);
    if (s->kind == STEP_ADD) s->kernels->add(&p, at(m, s->in), at(m, s->other), at(m, s->out), part, parts);
    else s->kernels->mul(&p, at(m, s->in), at(m, s->other), at(m, s->out), part, parts);
}

static void run_map(const step *s, const memories *m, uint32_t part, uint32_t parts) {
    step copy = *s;
    sqz_map *map = &copy.as.map;
    const uint8_t *in = at(m, s->in);
    uint8_t *out = at(m, s->out);
    set_row(m, s->in, &map->in);
    if (s->kind == STEP_MAP) s->kernels->map(map, in, out, part, parts);
    else if (part > 0) return; /* small things, by one alone */
    else if (s->kind == STEP_SHUFFLE) shuffle(map, s->groups, in, out);
    else if (s->kind == STEP_FLATTEN) flatten(map, in, out);
    else numbers(&copy, in, (float *)(void *)out);
}

static void run_step(const step *s, const memories *m, uint32_t part, uint32_t parts) {
    switch (s->kind) {
    case STEP_CONV: run_conv(s, m, 1, part, parts); break;
    case STEP_ADD:
    case STEP_MUL: run_pair(s, m, part, parts); break;
    case STEP_MAX_POOL:
    case STEP_AVG_POOL:
    case STEP_GLOBAL: run_pool(s, m, part, parts); break;
    default: run_map(s, m, part, parts); break;
    }
}

/* ---- A run ----------------------------------------------------------------------------------- */

static sqz_error check_run(const sqz_model *model, const memories *m) {
    if (model == NULL || m->picture == NULL || m->logits == NULL) return SQZ_ARGUMENT;
    const sqz_info *info = &model->info;
    if (m->row_bytes < (size_t)info->width * info->channels) return SQZ_ARGUMENT;
    if (info->needs.activations > 0 && (m->activations == NULL || (uintptr_t)m->activations % SQZ_ALIGNMENT))
        return SQZ_ARGUMENT;
    if (info->needs.scratch > 0 && (m->scratch == NULL || (uintptr_t)m->scratch % SQZ_ALIGNMENT))
        return SQZ_ARGUMENT;
    return SQZ_OK;
}

#if defined(__GNUC__)
/* Returns when all parts have come here. The last to come opens the next turn for the others. */
static void meet(sqz_team *team, uint32_t parts) {
    const uint32_t turn = __atomic_load_n(&team->turn, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == parts) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->turn, turn + 1, __ATOMIC_RELEASE);
        return;
    }
    for (uint32_t spins = 1; __atomic_load_n(&team->turn, __ATOMIC_ACQUIRE) == turn; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (team->yield != NULL && spins % 1024 == 0) team->yield(team->context);
    }
}
#else
static void meet(sqz_team *team, uint32_t parts) { (void)team, (void)parts; }
#endif

static void run_steps(const sqz_model *model, const memories *m, uint32_t first, uint32_t last,
                      sqz_team *team, uint32_t part, uint32_t parts) {
    for (uint32_t i = first; i < last; i++) {
        const step *s = &model->steps[i];
        if (has_two_phases(s)) {
            run_conv(s, m, 0, part, parts);
            if (parts > 1) meet(team, parts);
        }
        run_step(s, m, part, parts);
        if (parts > 1) meet(team, parts);
    }
}

sqz_error sqz_run(const sqz_model *model, const uint8_t *picture, size_t row_bytes, void *activations,
                  void *scratch, float *logits) {
    const memories m = {picture, row_bytes, (uint8_t *)activations, scratch, logits};
    const sqz_error error = check_run(model, &m);
    if (error == SQZ_OK) run_steps(model, &m, 0, model->info.steps, NULL, 0, 1);
    return error;
}

sqz_error sqz_run_part(const sqz_model *model, const uint8_t *picture, size_t row_bytes, void *activations,
                       void *scratch, float *logits, uint32_t first, uint32_t last, sqz_team *team,
                       uint32_t part, uint32_t parts) {
    const memories m = {picture, row_bytes, (uint8_t *)activations, scratch, logits};
    const sqz_error error = check_run(model, &m);
    if (error != SQZ_OK) return error;
    if (part >= parts || (parts > 1 && team == NULL) || first > last || last > model->info.steps)
        return SQZ_ARGUMENT;
#if !defined(__GNUC__)
    if (parts > 1) return SQZ_UNSUPPORTED;
#endif
    run_steps(model, &m, first, last, team, part, parts);
    return SQZ_OK;
}

uint32_t sqz_top(const float *logits, uint32_t count, uint32_t *index, uint32_t k) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = found < k ? found++ : k;
        /* Up past all that are smaller; with k found, the last one falls off. */
        while (at > 0 && logits[i] > logits[index[at - 1]]) {
            if (at < k) index[at] = index[at - 1];
            at--;
        }
        if (at < k) index[at] = i;
    }
    return found;
}
