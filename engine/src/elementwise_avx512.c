/* elementwise_avx512.c: pooling, pairs and maps with AVX-512, 64 channels at a time.
 *
 * Bytes become wider by unpacking, which takes halves of every 128 bits, and come back by packing, which puts
 * them where they were: four vectors of 32 bits stand for one of bytes, in an order that nobody has to know.
 * Loads and stores are masked where fewer than 64 channels are left, so nothing outside is ever touched. */
#include "avx512.h"
#include "elementwise.h"

#ifdef SQZ_X86
#define CODE_e512 __attribute__((SQZ_AVX512_TARGET))

SQZ_AVX512_INLINE __m512i load_e512(const uint8_t *at, __mmask64 mask) {
    return _mm512_maskz_loadu_epi8(mask, at);
}

SQZ_AVX512_INLINE void store_e512(uint8_t *at, __mmask64 mask, __m512i x) {
    if (mask == ~0ull) _mm512_storeu_si512(at, x);
    else _mm512_mask_storeu_epi8(at, mask, x);
}

/* ---- Tables and rounding --------------------------------------------------------------------- */

typedef struct table_e512 { /* sqz_lookup_avx512's, read once */
    __m512i quarter[4];
} table_e512;

SQZ_AVX512_INLINE void read_table_e512(table_e512 *t, const uint8_t *table) {
    for (int i = 0; i < 4; i++) t->quarter[i] = _mm512_loadu_si512(table + 64 * i);
}

SQZ_AVX512_INLINE __m512i look_up_e512(const table_e512 *t, __m512i x) {
    const __m512i small = _mm512_permutex2var_epi8(t->quarter[0], x, t->quarter[1]);
    const __m512i large = _mm512_permutex2var_epi8(t->quarter[2], x, t->quarter[3]);
    return _mm512_mask_mov_epi8(small, _mm512_movepi8_mask(x), large);
}

typedef struct rounding_e512 {
    sqz_limits_avx512 limits;
    int tabled;
    table_e512 table;
} rounding_e512;

SQZ_AVX512_INLINE void read_rounding_e512(rounding_e512 *to, const sqz_rounding *r) {
    to->limits = sqz_limits_of_avx512(r);
    to->tabled = r->table != NULL;
    if (r->table) read_table_e512(&to->table, r->table);
}

/* What is too large is cut off before it becomes a whole number. What is too small becomes the smallest of
 * all by itself, and so does NaN, which min lets pass as its second operand. */
SQZ_AVX512_INLINE __m512i whole_e512(__m512 x) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(65536.0f), x));
}

SQZ_AVX512_INLINE __m512i round_e512(const rounding_e512 *r, const __m512 x[4]) {
    const __m512i left = sqz_halve_avx512(whole_e512(x[0]), whole_e512(x[1]), &r->limits);
    const __m512i right = sqz_halve_avx512(whole_e512(x[2]), whole_e512(x[3]), &r->limits);
    const __m512i q = sqz_bytes_avx512(left, right, &r->limits);
    return r->tabled ? look_up_e512(&r->table, q) : q;
}

/* The same where nothing is too large, all bytes are allowed and there is no table. */
SQZ_AVX512_INLINE __m512i round_plainly_e512(const rounding_e512 *r, const __m512 x[4]) {
    __m512i q[4];
    for (int i = 0; i < 4; i++) q[i] = _mm512_cvtps_epi32(x[i]);
    return _mm512_packus_epi16(sqz_halve_avx512(q[0], q[1], &r->limits),
                               sqz_halve_avx512(q[2], q[3], &r->limits));
}

/* ---- Pooling --------------------------------------------------------------------------------- */

/* The largest bytes of pixels that lie one below the other. */
SQZ_AVX512_INLINE __m512i column_e512(const uint8_t *at, size_t row, uint32_t rows, __mmask64 mask) {
    __m512i best = load_e512(at, mask);
    for (uint32_t i = 1; i < rows; i++) best = _mm512_max_epu8(best, load_e512(at + i * row, mask));
    return best;
}

/* Results from x to end of one row, 64 channels. Neighbouring windows often share a column: it is kept. */
SQZ_AVX512_INLINE void max_windows_e512(const sqz_pool *p, const uint8_t *in, uint32_t rows, uint8_t *out,
                                        __mmask64 mask, uint32_t x, uint32_t end) {
    const size_t row = p->in.row, pitch = p->in.pitch;
    uint32_t left, right, kept = UINT32_MAX;
    __m512i last = _mm512_setzero_si512();
    for (; x < end; x++) {
        sqz_window(p, 1, x, &left, &right);
        if (left != kept) last = column_e512(in + left * pitch, row, rows, mask);
        __m512i best = last;
        for (uint32_t j = left + 1; j < right; j++) {
            last = column_e512(in + j * pitch, row, rows, mask);
            best = _mm512_max_epu8(best, last);
        }
        kept = right - 1;
        store_e512(out + x * p->out.pitch, mask, best);
    }
}

/* The same for windows of 3 x 3, two columns apart, that lie in the picture. */
SQZ_AVX512_INLINE void max_usual_e512(const sqz_pool *p, const uint8_t *in, uint8_t *out, __mmask64 mask,
                                      uint32_t x, uint32_t end) {
    const size_t row = p->in.row, pitch = p->in.pitch;
    in += (2 * x - p->padding[1]) * pitch;
    out += x * p->out.pitch;
    __m512i last = column_e512(in, row, 3, mask);
    for (; x < end; x++, in += 2 * pitch, out += p->out.pitch) {
        const __m512i best = _mm512_max_epu8(last, column_e512(in + pitch, row, 3, mask));
        last = column_e512(in + 2 * pitch, row, 3, mask);
        store_e512(out, mask, _mm512_max_epu8(best, last));
    }
}

/* Results from x to end of a row: those that are usual, and those beside them. */
SQZ_AVX512_INLINE void max_part_e512(const sqz_pool *p, const uint8_t *in, uint32_t rows, uint8_t *out,
                                     __mmask64 mask, uint32_t x, uint32_t end) {
    if (rows == 3 && p->kernel[1] == 3 && p->stride[1] == 2 && p->in.width + p->padding[1] >= 3) {
        const uint32_t first = (p->padding[1] + 1) / 2, whole = (p->in.width + p->padding[1] - 3) / 2 + 1;
        const uint32_t from = first > x ? first : x, to = whole < end ? whole : end;
        if (from < to) {
            max_windows_e512(p, in, rows, out, mask, x, from);
            max_usual_e512(p, in, out, mask, from, to);
            x = to;
        }
    }
    max_windows_e512(p, in, rows, out, mask, x, end);
}

/* A part of a row is done with all its channels before the next is begun: it stays in the nearest cache. */
CODE_e512 void sqz_max_pool_avx512(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part,
                                   uint32_t parts) {
    enum { PART = 16 };
    uint32_t first, last, top, bottom;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++) {
        sqz_window(p, 0, y, &top, &bottom);
        for (uint32_t x = 0; x < p->out.width; x += PART) {
            const uint32_t end = p->out.width - x < PART ? p->out.width : x + PART;
            for (size_t k = 0; k < p->out.channels; k += 64)
                max_part_e512(p, in + top * p->in.row + k, bottom - top, out + y * p->out.row + k,
                              sqz_mask_avx512(p->out.channels - k), x, end);
        }
    }
}

typedef struct sums_e512 {
    __m512i sum[4];
} sums_e512;

SQZ_AVX512_INLINE void widen_e512(sums_e512 *s, __m512i low, __m512i high) {
    const __m512i none = _mm512_setzero_si512();
    s->sum[0] = _mm512_add_epi32(s->sum[0], _mm512_unpacklo_epi16(low, none));
    s->sum[1] = _mm512_add_epi32(s->sum[1], _mm512_unpackhi_epi16(low, none));
    s->sum[2] = _mm512_add_epi32(s->sum[2], _mm512_unpacklo_epi16(high, none));
    s->sum[3] = _mm512_add_epi32(s->sum[3], _mm512_unpackhi_epi16(high, none));
}

/* Adds up rows x columns pixels: in 16 bits, which hold 257 bytes, and then in 32. */
SQZ_AVX512_INLINE void add_up_e512(sums_e512 *s, const sqz_area *area, const uint8_t *at, uint32_t rows,
                                   uint32_t columns, __mmask64 mask) {
    const __m512i none = _mm512_setzero_si512();
    __m512i low = none, high = none;
    uint32_t room = 257;
    for (int i = 0; i < 4; i++) s->sum[i] = none;
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < columns; j++) {
            if (room == 0) {
                widen_e512(s, low, high);
                low = high = none;
                room = 257;
            }
            room--;
            const __m512i x = load_e512(at + i * area->row + j * area->pitch, mask);
            low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(x, none));
            high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(x, none));
        }
    widen_e512(s, low, high);
}

/* Sums of bytes as they are -> sums of byte - zero, times multiplier. */
SQZ_AVX512_INLINE void scale_e512(const sums_e512 *s, uint32_t places, int32_t zero, float multiplier,
                                  __m512 to[4]) {
    const __m512i zeros = _mm512_set1_epi32((int32_t)(places * (uint32_t)zero));
    for (int i = 0; i < 4; i++)
        to[i] =
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(s->sum[i], zeros)), _mm512_set1_ps(multiplier));
}

CODE_e512 void sqz_avg_pool_avx512(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part,
                                   uint32_t parts) {
    rounding_e512 r;
    read_rounding_e512(&r, &p->rounding);
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
            for (size_t k = 0; k < p->out.channels; k += 64) {
                const __mmask64 mask = sqz_mask_avx512(p->out.channels - k);
                sums_e512 sums;
                __m512 products[4];
                add_up_e512(&sums, &p->in, from + k, rows, columns, mask);
                scale_e512(&sums, rows * columns, p->in_zero, multiplier, products);
                store_e512(to + k, mask, round_e512(&r, products));
            }
        }
    }
}

/* Up to 64 float32 numbers, in the order of the channels. */
SQZ_AVX512_INLINE void store_logits_e512(uint8_t *to, size_t count, const __m512 x[4]) {
    float unpacked[4][16], ordered[64];
    for (int i = 0; i < 4; i++) _mm512_storeu_ps(unpacked[i], x[i]);
    for (int i = 0; i < 16; i++) memcpy(ordered + 4 * i, &unpacked[i % 4][i / 4 * 4], 4 * sizeof(float));
    memcpy(to, ordered, count * sizeof(float));
}

CODE_e512 void sqz_global_avg_pool_avx512(const sqz_pool *p, const uint8_t *in, void *out, uint32_t part,
                                          uint32_t parts) {
    rounding_e512 r;
    read_rounding_e512(&r, &p->rounding);
    uint32_t first, last;
    sqz_share((p->out.channels + 63) / 64, part, parts, &first, &last);
    for (size_t k = (size_t)first * 64; k < (size_t)last * 64; k += 64) {
        const size_t rest = p->out.channels - k, count = rest < 64 ? rest : 64;
        sums_e512 sums;
        __m512 products[4];
        add_up_e512(&sums, &p->in, in + k, p->in.height, p->in.width, sqz_mask_avx512(count));
        scale_e512(&sums, p->in.height * p->in.width, p->in_zero, p->multiplier[0], products);
        if (p->logits) store_logits_e512((uint8_t *)out + k * sizeof(float), count, products);
        else store_e512((uint8_t *)out + k, sqz_mask_avx512(count), round_e512(&r, products));
    }
}

/* ---- Pairs ----------------------------------------------------------------------------------- */

/* How numbers are combined: product and plain are known where the code is made. */
typedef struct pair_e512 {
    int product; /* mul, not add */
    int plain;   /* round_plainly_e512 will do */
    __m512 a_zero, b_zero, a_scale, b_scale;
    rounding_e512 rounding;
} pair_e512;

/* A byte in the mantissa of a power of two is a number without a conversion: 2^23 + byte in the lowest bits,
 * 2^15 + byte eight bits further up. */
enum { LOW_e512 = 0x4B00, HIGH_e512 = 0x4700 };

SQZ_AVX512_INLINE void read_pair_e512(pair_e512 *to, const sqz_pair *p, int product, int plain) {
    to->product = product;
    to->plain = plain;
    to->a_zero = _mm512_set1_ps((float)((product ? 1 << 15 : 1 << 23) + p->a_zero));
    to->b_zero = _mm512_set1_ps((float)((1 << 23) + p->b_zero));
    to->a_scale = _mm512_set1_ps(p->multiplier[0]);
    to->b_scale = _mm512_set1_ps(p->multiplier[product ? 0 : 1]);
    read_rounding_e512(&to->rounding, &p->rounding);
}

/* Whether products are so small, and so on; false for NaN. */
static int is_plain_e512(const sqz_pair *p, int product) {
    const float x = p->multiplier[0] < 0 ? -p->multiplier[0] : p->multiplier[0];
    const float y = p->multiplier[1] < 0 ? -p->multiplier[1] : p->multiplier[1];
    return (product ? x < 16384.0f : x < 4194304.0f && y < 4194304.0f) && p->rounding.low == 0 &&
           p->rounding.high == 255 && p->rounding.table == NULL;
}

/* Bytes to numbers of 32 bits: `low` or `high` bytes of them, and the exponent above. */
SQZ_AVX512_INLINE void unpack_e512(__m512i bytes, const int exponent, __m512 to[4]) {
    const __m512i none = _mm512_setzero_si512(), upper = _mm512_set1_epi16((short)exponent);
    const int high = exponent == HIGH_e512;
    const __m512i even = high ? none : bytes, odd = high ? bytes : none;
    const __m512i left = _mm512_unpacklo_epi8(even, odd), right = _mm512_unpackhi_epi8(even, odd);
    to[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(left, upper));
    to[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(left, upper));
    to[2] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(right, upper));
    to[3] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(right, upper));
}

/* A rounded product. The empty statement keeps compilers that may from fusing it with an addition. */
SQZ_AVX512_INLINE __m512 times_e512(__m512 x, __m512 y) {
    __m512 product = _mm512_mul_ps(x, y);
    __asm__("" : "+v"(product));
    return product;
}

/* What the second value adds to or does with the first. */
typedef struct second_e512 {
    __m512 number[4]; /* add: float(b - b_zero) * multiplier[1]; mul: float(b - b_zero) */
    __m512 zero[4];   /* mul: -(2^15 + a_zero) * number; 24 bits hold it */
} second_e512;

SQZ_AVX512_INLINE void read_second_e512(second_e512 *to, const pair_e512 *p, __m512i bytes) {
    unpack_e512(bytes, LOW_e512, to->number);
    for (int i = 0; i < 4; i++) {
        const __m512 b = _mm512_sub_ps(to->number[i], p->b_zero);
        to->number[i] = p->product ? b : times_e512(b, p->b_scale);
        to->zero[i] = _mm512_sub_ps(_mm512_setzero_ps(), times_e512(p->a_zero, b));
    }
}

/* A product, (2^15 + a) * (b - b_zero) - (2^15 + a_zero) * (b - b_zero), is exact and takes one step. */
SQZ_AVX512_INLINE __m512i combine_e512(const pair_e512 *p, __m512i bytes, const second_e512 *second) {
    __m512 x[4];
    unpack_e512(bytes, p->product ? HIGH_e512 : LOW_e512, x);
    for (int i = 0; i < 4; i++) {
        if (p->product) x[i] = _mm512_fmadd_ps(x[i], second->number[i], second->zero[i]);
        else x[i] = _mm512_sub_ps(x[i], p->a_zero);
        x[i] = times_e512(x[i], p->a_scale);
        if (!p->product) x[i] = _mm512_add_ps(x[i], second->number[i]);
    }
    return p->plain ? round_plainly_e512(&p->rounding, x) : round_e512(&p->rounding, x);
}

/* Two values of one shape. */
SQZ_AVX512_INLINE void pair_same_e512(const sqz_pair *p, const pair_e512 *how, const uint8_t *a,
                                      const uint8_t *b, uint8_t *out, uint32_t part, uint32_t parts) {
    const sqz_area *const areas[] = {&p->out, &p->a, &p->b};
    const sqz_runs runs = sqz_runs_of(areas, 3, part, parts);
    for (uint32_t y = runs.first; y < runs.last; y++)
        for (uint32_t x = 0; x < runs.columns; x++) {
            const uint8_t *from = a + y * p->a.row + x * p->a.pitch;
            const uint8_t *other = b + y * p->b.row + x * p->b.pitch;
            uint8_t *to = out + y * p->out.row + x * p->out.pitch;
            for (size_t k = 0; k < runs.bytes; k += 64) {
                const __mmask64 mask = sqz_mask_avx512(runs.bytes - k);
                second_e512 second;
                read_second_e512(&second, how, load_e512(other + k, mask));
                store_e512(to + k, mask, combine_e512(how, load_e512(from + k, mask), &second));
            }
        }
}

/* The second value is a number a channel, and pixels follow each other, so that the same channels come again
 * after `period` vectors, which may be few: vectors are full then, whatever the number of channels. */
enum { PERIOD_e512 = 9 };

SQZ_AVX512_INLINE uint32_t period_e512(const sqz_pair *p) {
    const uint32_t channels = p->out.channels, common = channels & (0u - channels);
    return channels / (common < 64 ? common : 64);
}

SQZ_AVX512_INLINE void pair_period_e512(const sqz_pair *p, const pair_e512 *how, const sqz_runs *runs,
                                        const uint8_t *a, const uint8_t *b, uint8_t *out) {
    const uint32_t period = period_e512(p);
    second_e512 second[PERIOD_e512];
    for (uint32_t i = 0; i < period; i++) {
        uint8_t bytes[64];
        for (uint32_t j = 0; j < 64; j++) bytes[j] = b[(64 * i + j) % p->out.channels];
        read_second_e512(&second[i], how, load_e512(bytes, ~(__mmask64)0));
    }
    for (uint32_t y = runs->first; y < runs->last; y++) {
        const uint8_t *from = a + y * p->a.row;
        uint8_t *to = out + y * p->out.row;
        uint32_t i = 0;
        for (size_t k = 0; k < runs->bytes; k += 64) {
            const __mmask64 mask = sqz_mask_avx512(runs->bytes - k);
            store_e512(to + k, mask, combine_e512(how, load_e512(from + k, mask), &second[i]));
            if (++i == period) i = 0;
        }
    }
}

/* The second value is a number a channel: it is prepared once a row. */
SQZ_AVX512_INLINE void pair_one_e512(const sqz_pair *p, const pair_e512 *how, const uint8_t *a,
                                     const uint8_t *b, uint8_t *out, uint32_t part, uint32_t parts) {
    uint32_t first, last;
    sqz_share(p->out.height, part, parts, &first, &last);
    for (uint32_t y = first; y < last; y++)
        for (size_t k = 0; k < p->out.channels; k += 64) {
            const __mmask64 mask = sqz_mask_avx512(p->out.channels - k);
            const uint8_t *from = a + y * p->a.row + k;
            uint8_t *to = out + y * p->out.row + k;
            second_e512 second;
            read_second_e512(&second, how, load_e512(b + k, mask));
            for (uint32_t x = 0; x < p->out.width; x++, from += p->a.pitch, to += p->out.pitch)
                store_e512(to, mask, combine_e512(how, load_e512(from, mask), &second));
        }
}

SQZ_AVX512_INLINE void pair_any_e512(const sqz_pair *p, const int product, const int plain, const uint8_t *a,
                                     const uint8_t *b, uint8_t *out, uint32_t part, uint32_t parts) {
    pair_e512 how;
    read_pair_e512(&how, p, product, plain);
    const sqz_area *const areas[] = {&p->out, &p->a};
    const sqz_runs runs = sqz_runs_of(areas, 2, part, parts);
    if (p->b.height > 1 || p->b.width > 1) pair_same_e512(p, &how, a, b, out, part, parts);
    else if (runs.columns == 1 && runs.bytes > 1024 && p->out.channels % 64 != 0 &&
             period_e512(p) <= PERIOD_e512)
        pair_period_e512(p, &how, &runs, a, b, out);
    else pair_one_e512(p, &how, a, b, out, part, parts);
}

CODE_e512 void sqz_add_avx512(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out,
                              uint32_t part, uint32_t parts) {
    if (is_plain_e512(p, 0)) pair_any_e512(p, 0, 1, a, b, out, part, parts);
    else pair_any_e512(p, 0, 0, a, b, out, part, parts);
}

CODE_e512 void sqz_mul_avx512(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out,
                              uint32_t part, uint32_t parts) {
    if (is_plain_e512(p, 1)) pair_any_e512(p, 1, 1, a, b, out, part, parts);
    else pair_any_e512(p, 1, 0, a, b, out, part, parts);
}

/* ---- Maps ------------------------------------------------------------------------------------ */

CODE_e512 void sqz_map_avx512(const sqz_map *m, const uint8_t *in, uint8_t *out, uint32_t part,
                              uint32_t parts) {
    const sqz_area *const areas[] = {&m->out, &m->in};
    const sqz_runs runs = sqz_runs_of(areas, 2, part, parts);
    table_e512 table;
    if (m->table) read_table_e512(&table, m->table);
    for (uint32_t y = runs.first; y < runs.last; y++)
        for (uint32_t x = 0; x < runs.columns; x++) {
            const uint8_t *from = in + y * m->in.row + x * m->in.pitch;
            uint8_t *to = out + y * m->out.row + x * m->out.pitch;
            for (size_t k = 0; k < runs.bytes; k += 64) {
                const __mmask64 mask = sqz_mask_avx512(runs.bytes - k);
                const __m512i bytes = load_e512(from + k, mask);
                store_e512(to + k, mask, m->table ? look_up_e512(&table, bytes) : bytes);
            }
        }
}

#endif
