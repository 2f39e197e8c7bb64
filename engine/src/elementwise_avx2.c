/* elementwise_avx2.c: pooling, pairs and maps with AVX2, 32 channels at a time.
 *
 * As elementwise_avx512.c, but without masks: the last channels are read with what lies behind them, or,
 * where nothing may be read, through a copy; and written through a copy. */
#include <string.h>

#include "avx2.h"
#include "elementwise.h"

#ifdef SQZ_X86
enum { LANES_256 = 32 };

/* `count` bytes, and anything behind them. */
SQZ_AVX2_INLINE __m256i load_256(const sqz_area *area, const uint8_t *at, size_t count) {
    if (count >= LANES_256 || !area->exact) return _mm256_loadu_si256((const __m256i *)(const void *)at);
    uint8_t bytes[LANES_256] = {0};
    memcpy(bytes, at, count);
    return _mm256_loadu_si256((const __m256i *)(const void *)bytes);
}

SQZ_AVX2_INLINE void store_256(uint8_t *at, size_t count, __m256i x) {
    if (count >= LANES_256) {
        _mm256_storeu_si256((__m256i *)(void *)at, x);
        return;
    }
    uint8_t bytes[LANES_256];
    _mm256_storeu_si256((__m256i *)(void *)bytes, x);
    memcpy(at, bytes, count);
}

/* ---- Rounding -------------------------------------------------------------------------------- */

typedef struct rounding_256 {
    __m256i zero, low, high;
    const uint8_t *table;
} rounding_256;

SQZ_AVX2_INLINE void read_rounding_256(rounding_256 *to, const sqz_rounding *r) {
    to->zero = _mm256_set1_epi16((int16_t)r->zero_point);
    to->low = _mm256_set1_epi8((char)r->low);
    to->high = _mm256_set1_epi8((char)r->high);
    to->table = r->table;
}

/* What is too large is cut off before it becomes a whole number. What is too small becomes the smallest of
 * all by itself, and so does NaN, which min lets pass as its second operand. */
SQZ_AVX2_INLINE __m256i whole_256(__m256 x) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(65536.0f), x));
}

/* Rounds off and stores. */
SQZ_AVX2_INLINE void round_256(const rounding_256 *r, const __m256 x[4], uint8_t *to, size_t count) {
    const __m256i left = _mm256_packs_epi32(whole_256(x[0]), whole_256(x[1]));
    const __m256i right = _mm256_packs_epi32(whole_256(x[2]), whole_256(x[3]));
    __m256i q = _mm256_packus_epi16(_mm256_adds_epi16(left, r->zero), _mm256_adds_epi16(right, r->zero));
    q = _mm256_min_epu8(_mm256_max_epu8(q, r->low), r->high);
    if (!r->table) {
        store_256(to, count, q);
        return;
    }
    uint8_t bytes[LANES_256];
    store_256(bytes, LANES_256, q);
    for (size_t k = 0; k < LANES_256 && k < count; k++) to[k] = r->table[bytes[k]];
}

/* ---- Pooling --------------------------------------------------------------------------------- */

/* The largest bytes of pixels that lie one below the other. */
SQZ_AVX2_INLINE __m256i column_256(const sqz_area *area, const uint8_t *at, uint32_t rows, size_t count) {
    __m256i best = load_256(area, at, count);
    for (uint32_t i = 1; i < rows; i++)
        best = _mm256_max_epu8(best, load_256(area, at + i * area->row, count));
    return best;
}

/* One row of results, 32 channels. Neighbouring windows often share a column: it is kept. */
SQZ_AVX2_INLINE void max_row_256(const sqz_pool *p, const uint8_t *in, uint32_t rows, uint8_t *out,
                                 size_t count) {
    uint32_t left, right, kept = UINT32_MAX;
    __m256i last = _mm256_setzero_si256();
    for (uint32_t x = 0; x < p->out.width; x++, out += p->out.pitch) {
        sqz_window(p, 1, x, &left, &right);
        if (left != kept) last = column_256(&p->in, in + left * p->in.pitch, rows, count);
        __m256i best = last;
        for (uint32_t j = left + 1; j < right; j++) {
            last = column_256(&p->in, in + j * p->in.pitch, rows, count);
            best = _mm256_max_epu8(best, last);
        }
        kept = right - 1;
        store_256(out, count, best);
    }
}

SQZ_AVX2_CODE void sqz_max_pool_avx2(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part,
                                     uint32_t parts) {
    uint32_t first, last, top, bottom;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++) {
        sqz_window(p, 0, y, &top, &bottom);
        for (size_t k = 0; k < p->out.channels; k += LANES_256) {
            const uint8_t *from = in + top * p->in.row + k;
            uint8_t *to = out + y * p->out.row + k;
            const size_t count = p->out.channels - k;
            if (bottom - top == 3 && count >= LANES_256)
                max_row_256(p, from, 3, to, LANES_256); /* unrolled */
            else max_row_256(p, from, bottom - top, to, count);
        }
    }
}

typedef struct sums_256 {
    __m256i sum[4];
} sums_256;

SQZ_AVX2_INLINE void widen_256(sums_256 *s, __m256i low, __m256i high) {
    const __m256i none = _mm256_setzero_si256();
    s->sum[0] = _mm256_add_epi32(s->sum[0], _mm256_unpacklo_epi16(low, none));
    s->sum[1] = _mm256_add_epi32(s->sum[1], _mm256_unpackhi_epi16(low, none));
    s->sum[2] = _mm256_add_epi32(s->sum[2], _mm256_unpacklo_epi16(high, none));
    s->sum[3] = _mm256_add_epi32(s->sum[3], _mm256_unpackhi_epi16(high, none));
}

/* Adds up rows x columns pixels: in 16 bits, which hold 257 bytes, and then in 32. */
SQZ_AVX2_INLINE void add_up_256(sums_256 *s, const sqz_area *area, const uint8_t *at, uint32_t rows,
                                uint32_t columns, size_t count) {
    const __m256i none = _mm256_setzero_si256();
    __m256i low = none, high = none;
    uint32_t room = 257;
    for (int i = 0; i < 4; i++) s->sum[i] = none;
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < columns; j++) {
            if (room == 0) {
                widen_256(s, low, high);
                low = high = none;
                room = 257;
            }
            room--;
            const __m256i x = load_256(area, at + i * area->row + j * area->pitch, count);
            low = _mm256_add_epi16(low, _mm256_unpacklo_epi8(x, none));
            high = _mm256_add_epi16(high, _mm256_unpackhi_epi8(x, none));
        }
    widen_256(s, low, high);
}

/* Sums of bytes as they are -> sums of byte - zero, times multiplier. */
SQZ_AVX2_INLINE void scale_256(const sums_256 *s, uint32_t places, int32_t zero, float multiplier,
                               __m256 to[4]) {
    const __m256i zeros = _mm256_set1_epi32((int32_t)(places * (uint32_t)zero));
    for (int i = 0; i < 4; i++)
        to[i] =
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(s->sum[i], zeros)), _mm256_set1_ps(multiplier));
}

SQZ_AVX2_CODE void sqz_avg_pool_avx2(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part,
                                     uint32_t parts) {
    rounding_256 r;
    read_rounding_256(&r, &p->rounding);
    uint32_t first, last, top, bottom, left, right;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++) {
        sqz_window(p, 0, y, &top, &bottom);
        for (uint32_t x = 0; x < p->out.width; x++) {
            sqz_window(p, 1, x, &left, &right);
            const uint32_t rows = bottom - top, columns = right - left;
            const float multiplier = p->multiplier[p->multipliers > 1 ? sqz_window_places(p, y, x) - 1 : 0];
            const uint8_t *from = in + top * p->in.row + left * p->in.pitch;
            uint8_t *to = out + y * p->out.row + x * p->out.pitch;
            for (size_t k = 0; k < p->out.channels; k += LANES_256) {
                const size_t count = p->out.channels - k;
                sums_256 sums;
                __m256 products[4];
                add_up_256(&sums, &p->in, from + k, rows, columns, count);
                scale_256(&sums, rows * columns, p->in_zero, multiplier, products);
                round_256(&r, products, to + k, count);
            }
        }
    }
}

/* Up to 32 float32 numbers, in the order of the channels. */
SQZ_AVX2_INLINE void store_logits_256(uint8_t *to, size_t count, const __m256 x[4]) {
    float unpacked[4][8], ordered[LANES_256];
    for (int i = 0; i < 4; i++) _mm256_storeu_ps(unpacked[i], x[i]);
    for (int i = 0; i < 8; i++) memcpy(ordered + 4 * i, &unpacked[i % 4][i / 4 * 4], 4 * sizeof(float));
    memcpy(to, ordered, count * sizeof(float));
}

SQZ_AVX2_CODE void sqz_global_avg_pool_avx2(const sqz_pool *p, const uint8_t *in, void *out, uint32_t part,
                                            uint32_t parts) {
    rounding_256 r;
    read_rounding_256(&r, &p->rounding);
    uint32_t first, last;
    sqz_share((p->out.channels + LANES_256 - 1) / LANES_256, part, parts, &first, &last);
    for (size_t k = (size_t)first * LANES_256; k < (size_t)last * LANES_256; k += LANES_256) {
        const size_t rest = p->out.channels - k, count = rest < LANES_256 ? rest : LANES_256;
        sums_256 sums;
        __m256 products[4];
        add_up_256(&sums, &p->in, in + k, p->in.height, p->in.width, count);
        scale_256(&sums, p->in.height * p->in.width, p->in_zero, p->multiplier[0], products);
        if (p->logits) store_logits_256((uint8_t *)out + k * sizeof(float), count, products);
        else round_256(&r, products, (uint8_t *)out + k, count);
    }
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

typedef struct pair_256 {
    int product;           /* mul, not add */
    __m256 a_zero, b_zero; /* plus 2^23 */
    __m256 a_scale, b_scale;
    rounding_256 rounding;
} pair_256;

SQZ_AVX2_INLINE void read_pair_256(pair_256 *to, const sqz_pair *p, int product) {
    to->product = product;
    to->a_zero = _mm256_set1_ps((float)(8388608 + p->a_zero));
    to->b_zero = _mm256_set1_ps((float)(8388608 + p->b_zero));
    to->a_scale = _mm256_set1_ps(p->multiplier[0]);
    to->b_scale = _mm256_set1_ps(p->multiplier[product ? 0 : 1]);
    read_rounding_256(&to->rounding, &p->rounding);
}

/* float(byte - zero). A byte below the exponent of 2^23 is the number 2^23 + byte, and the difference of two
 * such numbers is exact. */
SQZ_AVX2_INLINE void floats_256(__m256i bytes, __m256 zero, __m256 to[4]) {
    const __m256i none = _mm256_setzero_si256(), exponent = _mm256_set1_epi16(0x4B00);
    const __m256i low = _mm256_unpacklo_epi8(bytes, none), high = _mm256_unpackhi_epi8(bytes, none);
    to[0] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpacklo_epi16(low, exponent)), zero);
    to[1] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpackhi_epi16(low, exponent)), zero);
    to[2] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpacklo_epi16(high, exponent)), zero);
    to[3] = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_unpackhi_epi16(high, exponent)), zero);
}

/* The second value's share of the results: float(b - b_zero), of a sum times multiplier[1]. (There is no
 * fused operation in AVX2 that a compiler could use.) */
SQZ_AVX2_INLINE void second_256(const pair_256 *p, __m256i bytes, __m256 to[4]) {
    floats_256(bytes, p->b_zero, to);
    if (!p->product)
        for (int i = 0; i < 4; i++) to[i] = _mm256_mul_ps(to[i], p->b_scale);
}

/* (a - a_zero) * (b - b_zero) is below 2^24, so it is exact in float32 as well. */
SQZ_AVX2_INLINE void combine_256(const pair_256 *p, __m256i bytes, const __m256 second[4], uint8_t *to,
                                 size_t count) {
    __m256 x[4];
    floats_256(bytes, p->a_zero, x);
    for (int i = 0; i < 4; i++)
        x[i] = p->product ? _mm256_mul_ps(_mm256_mul_ps(x[i], second[i]), p->a_scale)
                          : _mm256_add_ps(_mm256_mul_ps(x[i], p->a_scale), second[i]);
    round_256(&p->rounding, x, to, count);
}

/* Two values of one shape. */
SQZ_AVX2_INLINE void pair_same_256(const sqz_pair *p, const pair_256 *how, const uint8_t *a, const uint8_t *b,
                                   uint8_t *out, uint32_t part, uint32_t parts) {
    const sqz_area *const areas[] = {&p->out, &p->a, &p->b};
    const sqz_runs runs = sqz_runs_of(areas, 3, part, parts);
    for (uint32_t y = runs.first; y < runs.last; y++)
        for (uint32_t x = 0; x < runs.columns; x++) {
            const uint8_t *from = a + y * p->a.row + x * p->a.pitch;
            const uint8_t *other = b + y * p->b.row + x * p->b.pitch;
            uint8_t *to = out + y * p->out.row + x * p->out.pitch;
            for (size_t k = 0; k < runs.bytes; k += LANES_256) {
                const size_t count = runs.bytes - k;
                __m256 second[4];
                second_256(how, load_256(&p->b, other + k, count), second);
                combine_256(how, load_256(&p->a, from + k, count), second, to + k, count);
            }
        }
}

/* The second value is a number a channel: it is prepared once a row. */
SQZ_AVX2_INLINE void pair_one_256(const sqz_pair *p, const pair_256 *how, const uint8_t *a, const uint8_t *b,
                                  uint8_t *out, uint32_t part, uint32_t parts) {
    uint32_t first, last;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++)
        for (size_t k = 0; k < p->out.channels; k += LANES_256) {
            const size_t count = p->out.channels - k;
            const uint8_t *from = a + y * p->a.row + k;
            uint8_t *to = out + y * p->out.row + k;
            __m256 second[4];
            second_256(how, load_256(&p->b, b + k, count), second);
            for (uint32_t x = 0; x < p->out.width; x++, from += p->a.pitch, to += p->out.pitch)
                combine_256(how, load_256(&p->a, from, count), second, to, count);
        }
}

SQZ_AVX2_CODE void sqz_add_avx2(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out,
                                uint32_t part, uint32_t parts) {
    pair_256 how;
    read_pair_256(&how, p, 0);
    if (p->b.height == 1 && p->b.width == 1) pair_one_256(p, &how, a, b, out, part, parts);
    else pair_same_256(p, &how, a, b, out, part, parts);
}

SQZ_AVX2_CODE void sqz_mul_avx2(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out,
                                uint32_t part, uint32_t parts) {
    pair_256 how;
    read_pair_256(&how, p, 1);
    if (p->b.height == 1 && p->b.width == 1) pair_one_256(p, &how, a, b, out, part, parts);
    else pair_same_256(p, &how, a, b, out, part, parts);
}

/* ---- Maps ------------------------------------------------------------------------------------ */

/* A byte at a time: looking up 32 at once would take 16 shuffles of parts of the table. */
void sqz_map_avx2(const sqz_map *m, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts) {
    const sqz_area *const areas[] = {&m->out, &m->in};
    const sqz_runs runs = sqz_runs_of(areas, 2, part, parts);
    for (uint32_t y = runs.first; y < runs.last; y++)
        for (uint32_t x = 0; x < runs.columns; x++) {
            const uint8_t *from = in + y * m->in.row + x * m->in.pitch;
            uint8_t *to = out + y * m->out.row + x * m->out.pitch;
            if (m->table)
                for (size_t k = 0; k < runs.bytes; k++) to[k] = m->table[from[k]];
            else memcpy(to, from, runs.bytes);
        }
}

#endif
