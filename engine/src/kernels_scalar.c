/* kernels_scalar.c: the operators in plain C. Their results are the definition. */
#include <string.h>

#include "elementwise.h"

static uint8_t round_off(const sqz_rounding *r, float x) {
    int32_t q = sqz_round_even(x) + r->zero_point;
    if (q < r->low) q = r->low;
    if (q > r->high) q = r->high;
    return r->table ? r->table[q] : (uint8_t)q;
}

static const uint8_t *pixel(const sqz_area *area, const uint8_t *at, size_t y, size_t x) {
    return at + y * area->row + x * area->pitch;
}

static size_t place_of(const sqz_area *area, size_t y, size_t x) { return y * area->row + x * area->pitch; }

/* ---- Convolution ----------------------------------------------------------------------------- */

static size_t conv_packed(const sqz_conv *c) {
    return (size_t)c->out.channels * (c->in.channels / c->groups) * c->kernel[0] * c->kernel[1];
}

static size_t conv_scratch(const sqz_conv *c) {
    (void)c;
    return 0;
}

/* (out, kernel, kernel, in): what is read side by side lies side by side. */
static void conv_pack(const sqz_conv *c, const int8_t *weight, void *packed) {
    const size_t inputs = c->in.channels / c->groups, places = (size_t)c->kernel[0] * c->kernel[1];
    int8_t *to = (int8_t *)packed;
    for (size_t o = 0; o < c->out.channels; o++)
        for (size_t i = 0; i < places; i++)
            for (size_t k = 0; k < inputs; k++) *to++ = weight[(o * inputs + k) * places + i];
}

static void conv_prepare(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part, uint32_t parts) {
    (void)c, (void)in, (void)scratch, (void)part, (void)parts;
}

/* One filter at one place. */
static uint32_t conv_sum(const sqz_conv *c, const uint8_t *in, uint32_t y, uint32_t x, uint32_t o) {
    const uint32_t inputs = c->in.channels / c->groups;
    const uint32_t first = o / (c->out.channels / c->groups) * inputs;
    const int8_t *w = (const int8_t *)c->weights + (size_t)o * inputs * c->kernel[0] * c->kernel[1];
    uint32_t sum = (uint32_t)c->bias[o];
    for (uint32_t i = 0; i < c->kernel[0]; i++) {
        const int64_t row = (int64_t)y * c->stride[0] - c->padding[0] + (int64_t)i * c->dilation[0];
        for (uint32_t j = 0; j < c->kernel[1]; j++, w += inputs) {
            const int64_t column = (int64_t)x * c->stride[1] - c->padding[1] + (int64_t)j * c->dilation[1];
            const int inside = row >= 0 && row < c->in.height && column >= 0 && column < c->in.width;
            const uint8_t *from = (inside ? pixel(&c->in, in, (size_t)row, (size_t)column) : c->pad) + first;
            for (uint32_t k = 0; k < inputs; k++) sum += (uint32_t)((int32_t)from[k] * w[k]);
        }
    }
    return sum;
}

static void conv(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out, uint32_t part,
                 uint32_t parts) {
    (void)scratch;
    uint32_t begin, end;
    sqz_share(c->out.height * c->out.width, part, parts, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        const uint32_t y = i / c->out.width, x = i % c->out.width;
        uint8_t *to = (uint8_t *)out + place_of(&c->out, y, x);
        for (uint32_t o = 0; o < c->out.channels; o++) {
            const float product = (float)(int32_t)conv_sum(c, in, y, x, o) * c->multiplier[o];
            if (c->logits) memcpy(to + o * sizeof product, &product, sizeof product);
            else to[o] = round_off(&c->rounding, product);
        }
    }
}

/* ---- Pooling --------------------------------------------------------------------------------- */

static void max_pool(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts) {
    uint32_t first, last, top, bottom, left, right;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++) {
        sqz_window(p, 0, y, &top, &bottom);
        for (uint32_t x = 0; x < p->out.width; x++) {
            sqz_window(p, 1, x, &left, &right);
            uint8_t *to = out + place_of(&p->out, y, x);
            memset(to, 0, p->out.channels);
            for (uint32_t i = top; i < bottom; i++)
                for (uint32_t j = left; j < right; j++) {
                    const uint8_t *from = pixel(&p->in, in, i, j);
                    for (uint32_t k = 0; k < p->out.channels; k++)
                        if (from[k] > to[k]) to[k] = from[k];
                }
        }
    }
}

static uint32_t window_sum(const sqz_pool *p, const uint8_t *in, const uint32_t rows[2],
                           const uint32_t columns[2], uint32_t channel) {
    uint32_t sum = 0;
    for (uint32_t i = rows[0]; i < rows[1]; i++)
        for (uint32_t j = columns[0]; j < columns[1]; j++)
            sum += (uint32_t)(pixel(&p->in, in, i, j)[channel] - p->in_zero);
    return sum;
}

static void avg_pool(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts) {
    uint32_t first, last, rows[2], columns[2];
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++) {
        sqz_window(p, 0, y, &rows[0], &rows[1]);
        for (uint32_t x = 0; x < p->out.width; x++) {
            sqz_window(p, 1, x, &columns[0], &columns[1]);
            const float multiplier = p->multiplier[p->multipliers > 1 ? sqz_window_places(p, y, x) - 1 : 0];
            uint8_t *to = out + place_of(&p->out, y, x);
            for (uint32_t k = 0; k < p->out.channels; k++)
                to[k] =
                    round_off(&p->rounding, (float)(int32_t)window_sum(p, in, rows, columns, k) * multiplier);
        }
    }
}

static void global_avg_pool(const sqz_pool *p, const uint8_t *in, void *out, uint32_t part, uint32_t parts) {
    const uint32_t rows[2] = {0, p->in.height}, columns[2] = {0, p->in.width};
    uint32_t begin, end;
    sqz_share(p->out.channels, part, parts, &begin, &end);
    for (uint32_t k = begin; k < end; k++) {
        const float product = (float)(int32_t)window_sum(p, in, rows, columns, k) * p->multiplier[0];
        if (p->logits) memcpy((uint8_t *)out + k * sizeof product, &product, sizeof product);
        else ((uint8_t *)out)[k] = round_off(&p->rounding, product);
    }
}

/* ---- Pairs and maps -------------------------------------------------------------------------- */

static float sum_of(const sqz_pair *p, int32_t a, int32_t b) {
    const float x = (float)a * p->multiplier[0], y = (float)b * p->multiplier[1];
    return x + y;
}

static float product_of(const sqz_pair *p, int32_t a, int32_t b) { return (float)(a * b) * p->multiplier[0]; }

static void pair(const sqz_pair *p, float (*combine)(const sqz_pair *, int32_t, int32_t), const uint8_t *a,
                 const uint8_t *b, uint8_t *out, uint32_t part, uint32_t parts) {
    const int one = p->b.height == 1 && p->b.width == 1;
    uint32_t first, last;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++)
        for (uint32_t x = 0; x < p->out.width; x++) {
            const uint8_t *from = pixel(&p->a, a, y, x), *other = one ? b : pixel(&p->b, b, y, x);
            uint8_t *to = out + place_of(&p->out, y, x);
            for (uint32_t k = 0; k < p->out.channels; k++)
                to[k] = round_off(&p->rounding, combine(p, from[k] - p->a_zero, other[k] - p->b_zero));
        }
}

static void add(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out, uint32_t part,
                uint32_t parts) {
    pair(p, sum_of, a, b, out, part, parts);
}

static void mul(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out, uint32_t part,
                uint32_t parts) {
    pair(p, product_of, a, b, out, part, parts);
}

static void map(const sqz_map *m, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts) {
    uint32_t first, last;
    sqz_share(m->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++)
        for (uint32_t x = 0; x < m->out.width; x++) {
            const uint8_t *from = pixel(&m->in, in, y, x);
            uint8_t *to = out + place_of(&m->out, y, x);
            for (uint32_t k = 0; k < m->out.channels; k++) to[k] = m->table ? m->table[from[k]] : from[k];
        }
}

const sqz_kernels sqz_kernels_scalar = {
    "scalar", conv_packed, conv_scratch,    conv_pack, conv_prepare, conv,
    max_pool, avg_pool,    global_avg_pool, add,       mul,          map,
};
