/* depthwise_avx512.c: convolution with one filter a channel, with AVX-512 VNNI, 64 channels at a time.
 *
 * vpdpbusd wants four bytes of one channel side by side. They are taken from four rows of the picture, one
 * below the other: eight unpackings turn four rows of 64 channels into four vectors of 16 words. A word serves
 * every window that sees this column, and two rows of results where their windows are in the same four rows
 * (3 x 3), or in the same eight (5 x 5).
 *
 * So a strip of two rows of results is done in two steps: the columns that its windows see are turned into
 * words, in a buffer that fits the first-level cache; then each result is the sum over the columns of its
 * window. What is outside of the picture is put in by the first step. Nothing else is ever read or written.
 *
 * Where 32 channels or fewer are left, a vector holds them two or four times, for windows further below.
 *
 * Packed are for every 64 channels: 4 vectors of biases, 4 of multipliers, and the weights: for every row of
 * results, every column of the window and every group of four rows of the picture, 4 vectors. */
#include "avx512.h"

#ifdef SQZ_X86

#define INLINE SQZ_AVX512_INLINE

enum {
    WORDS_DEPTH = 64,  /* groups of four rows by columns that the buffer takes */
    GROUPS_DEPTH = 4,  /* of four rows: windows may be that high */
    SETS_DEPTH = 4,    /* of channels in a vector, at most */
    PIXELS_DEPTH = 4,  /* neighbouring results that are worked on at a time */
    HEADER_DEPTH = 512 /* bytes of biases and multipliers */
};

typedef struct plan_depth {
    uint32_t rows;    /* of results at a time: 1 or 2, for each set */
    uint32_t seen;    /* rows of the picture that these look at */
    uint32_t groups;  /* of four of them */
    uint32_t columns; /* from a window's first to its last */
    uint32_t strip;   /* results of a row at a time */
    size_t block;     /* packed bytes for 64 channels */
} plan_depth;

/* Two rows of results at a time where this makes no more groups than one does. */
static plan_depth plan_of_depth(const sqz_conv *c) {
    plan_depth p;
    const uint32_t two = c->kernel[0] + c->stride[0], one = c->kernel[0];
    p.rows = c->dilation[0] == 1 && (two + 3) / 4 == (one + 3) / 4 ? 2 : 1;
    p.seen = p.rows == 2 ? two : one;
    p.groups = (p.seen + 3) / 4;
    p.columns = (c->kernel[1] - 1) * c->dilation[1] + 1;
    p.strip = p.columns > WORDS_DEPTH / p.groups ? 0 : (WORDS_DEPTH / p.groups - p.columns) / c->stride[1] + 1;
    p.block = HEADER_DEPTH + (size_t)p.rows * c->kernel[1] * p.groups * 256;
    return p;
}

/* How often `channels` fit into a vector. */
static size_t sets_of_depth(size_t channels) { return channels <= 16 ? 4 : channels <= 32 ? 2 : 1; }

int sqz_depthwise_fits_avx512(const sqz_conv *c) {
    if (c->kernel[0] > 4 * GROUPS_DEPTH - 3 || c->stride[0] > WORDS_DEPTH) return 0;
    if (c->kernel[1] > WORDS_DEPTH || c->dilation[1] > WORDS_DEPTH) return 0;
    return plan_of_depth(c).strip > 0;
}

size_t sqz_depthwise_packed_avx512(const sqz_conv *c) {
    return (c->out.channels + 63) / 64 * plan_of_depth(c).block;
}

void sqz_depthwise_pack_avx512(const sqz_conv *c, const int8_t *weight, void *packed) {
    const plan_depth p = plan_of_depth(c);
    const size_t places = (size_t)c->kernel[0] * c->kernel[1];
    memset(packed, 0, sqz_depthwise_packed_avx512(c));
    for (size_t first = 0; first < c->out.channels; first += 64) {
        uint8_t *block = (uint8_t *)packed + first / 64 * p.block;
        const size_t rest = c->out.channels - first, turn = 64 / sets_of_depth(rest);
        for (uint32_t at = 0; at < 64; at++) { /* number at % 16 of vector at / 16 */
            const size_t o = first + sqz_channel_avx512(at / 16, at % 16) % turn;
            if (o >= c->out.channels) continue;
            memcpy(block + at * 4, &c->bias[o], 4);
            memcpy(block + 256 + at * 4, &c->multiplier[o], 4);
            for (uint32_t r = 0; r < p.rows; r++)
                for (uint32_t j = 0; j < c->kernel[1]; j++)
                    for (uint32_t i = 0; i < c->kernel[0]; i++) {
                        const uint32_t row = i + r * c->stride[0]; /* of those that are seen */
                        const size_t word = ((size_t)r * c->kernel[1] + j) * p.groups + row / 4;
                        block[HEADER_DEPTH + word * 256 + at * 4 + row % 4] =
                            (uint8_t)weight[o * places + i * c->kernel[1] + j];
                    }
        }
    }
}

/* ---- Columns to words ------------------------------------------------------------------------ */

/* 64 channels of four pixels, one below the other, as words. */
INLINE void turn_depth(uint8_t *to, __m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i low_ab = _mm512_unpacklo_epi8(a, b), high_ab = _mm512_unpackhi_epi8(a, b);
    const __m512i low_cd = _mm512_unpacklo_epi8(c, d), high_cd = _mm512_unpackhi_epi8(c, d);
    _mm512_store_si512(to, _mm512_unpacklo_epi16(low_ab, low_cd));
    _mm512_store_si512(to + 64, _mm512_unpackhi_epi16(low_ab, low_cd));
    _mm512_store_si512(to + 128, _mm512_unpacklo_epi16(high_ab, high_cd));
    _mm512_store_si512(to + 192, _mm512_unpackhi_epi16(high_ab, high_cd));
}

/* Four rows of a strip, for each set. A row outside of the picture is the border's pixel again and again. */
typedef struct rows_depth {
    const uint8_t *at[4][SETS_DEPTH];
    size_t keep[4][SETS_DEPTH]; /* all bits, or none: the offset of a column counts, or does not */
    size_t pitch;
    __mmask64 mask; /* bytes of a set */
} rows_depth;

/* 64 bytes of row i: 64 channels, or fewer for each set. */
INLINE __m512i load_depth(const rows_depth *rows, int i, size_t offset, const size_t sets, const int full,
                          const int inside) {
    const uint8_t *at[SETS_DEPTH];
    SQZ_UNROLL for (size_t k = 0; k < sets; k++)
        at[k] = rows->at[i][k] + (inside ? offset : offset & rows->keep[i][k]);
    if (sets == 1) return full ? _mm512_loadu_si512(at[0]) : _mm512_maskz_loadu_epi8(rows->mask, at[0]);
    if (sets == 2) {
        const __mmask32 mask = (__mmask32)rows->mask;
        __m256i x[2];
        SQZ_UNROLL for (size_t k = 0; k < 2; k++)
            x[k] = full ? _mm256_loadu_si256((const __m256i *)at[k]) : _mm256_maskz_loadu_epi8(mask, at[k]);
        return _mm512_inserti64x4(_mm512_castsi256_si512(x[0]), x[1], 1);
    }
    const __mmask16 mask = (__mmask16)rows->mask;
    __m128i x[4];
    SQZ_UNROLL for (size_t k = 0; k < 4; k++)
        x[k] = full ? _mm_loadu_si128((const __m128i *)at[k]) : _mm_maskz_loadu_epi8(mask, at[k]);
    const __m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(x[0]), x[1], 1);
    const __m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(x[2]), x[3], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(ab), cd, 1);
}

INLINE void turn_columns_depth(uint8_t *to, size_t apart, size_t count, const rows_depth *rows,
                               const size_t sets, const int full, const int inside) {
    size_t offset = 0;
    for (size_t x = 0; x < count; x++, to += apart, offset += rows->pitch) {
        __m512i row[4];
        SQZ_UNROLL for (int i = 0; i < 4; i++) row[i] = load_depth(rows, i, offset, sets, full, inside);
        turn_depth(to, row[0], row[1], row[2], row[3]);
    }
}

INLINE void turn_sets_depth(uint8_t *to, size_t apart, size_t count, const rows_depth *rows, const size_t sets,
                            int inside) {
    const int full = rows->mask == sqz_mask_avx512(64 / sets);
    if (inside && full) turn_columns_depth(to, apart, count, rows, sets, 1, 1);
    else if (full) turn_columns_depth(to, apart, count, rows, sets, 1, 0);
    else turn_columns_depth(to, apart, count, rows, sets, 0, 0);
}

SQZ_AVX512 static void turn_strip_depth(uint8_t *to, size_t apart, size_t count, const rows_depth *rows,
                                        size_t sets, int inside) {
    if (sets == 1) turn_sets_depth(to, apart, count, rows, 1, inside);
    else if (sets == 2) turn_sets_depth(to, apart, count, rows, 2, inside);
    else turn_sets_depth(to, apart, count, rows, 4, inside);
}

/* ---- Words to results ------------------------------------------------------------------------ */

typedef struct job_depth {
    const uint8_t *block; /* packed */
    size_t kernel_width, groups;
    size_t step, right; /* from window to window and from column to column of a window, in bytes of words */
    __mmask64 mask;          /* bytes of a set */
    size_t sets, rows, left; /* in a vector; of results in a set; of results that are left */
    size_t row, pitch;       /* of the results */
    const sqz_rounding *rounding;
} job_depth;

/* One group of four rows of one column of the window. */
INLINE void add_depth(__m512i *sums, const job_depth *j, const uint8_t *weights, const uint8_t *from,
                      const size_t next_row, const size_t rows, const size_t pixels) {
    __m512i w[2];
    SQZ_UNROLL for (size_t r = 0; r < rows; r++) w[r] = _mm512_load_si512(weights + r * next_row);
    SQZ_UNROLL for (size_t m = 0; m < pixels; m++) {
        const __m512i x = _mm512_load_si512(from + m * j->step);
        SQZ_UNROLL for (size_t r = 0; r < rows; r++)
            sums[r * pixels + m] = _mm512_dpbusd_epi32(sums[r * pixels + m], x, w[r]);
    }
}

/* Vector v of 4 of a tile: `rows` by `pixels` results of 16 channels. The usual windows, `known` columns wide,
 * are unrolled: 3 x 3 and 5 x 5, one and two groups of four rows high. */
INLINE void sums_depth(const job_depth *j, const uint8_t *words, __m512i *q, const size_t v, const size_t rows,
                       const size_t pixels, const size_t known) {
    const __m512i bias = _mm512_load_si512(j->block + v * 64);
    const __m512 multiplier = _mm512_load_ps(j->block + 256 + v * 64);
    const uint8_t *weights = j->block + HEADER_DEPTH + v * 64, *from = words + v * 64;
    const size_t groups = known == 3 ? 1 : known == 5 ? 2 : j->groups;
    const size_t width = known > 0 ? known : j->kernel_width, next_row = width * groups * 256;
    __m512i sums[2 * PIXELS_DEPTH];
    SQZ_UNROLL for (size_t i = 0; i < rows * pixels; i++) sums[i] = bias;
    if (known > 0) {
        SQZ_UNROLL for (size_t i = 0; i < known * groups; i++)
            add_depth(sums, j, weights + i * 256, from + i / groups * j->right + i % groups * 256, next_row,
                      rows, pixels);
    } else {
        for (size_t column = 0; column < width; column++, from += j->right)
            for (size_t g = 0; g < groups; g++, weights += 256)
                add_depth(sums, j, weights, from + g * 256, next_row, rows, pixels);
    }
    SQZ_UNROLL for (size_t i = 0; i < rows * pixels; i++) q[i] = sqz_scale_avx512(sums[i], multiplier);
}

INLINE void tile_depth(const job_depth *j, const uint8_t *words, uint8_t *out, const size_t rows,
                       const size_t pixels, const size_t known) {
    const sqz_limits_avx512 limits = sqz_limits_of_avx512(j->rounding);
    const size_t count = rows * pixels;
    __m512i a[2 * PIXELS_DEPTH], b[2 * PIXELS_DEPTH], c[2 * PIXELS_DEPTH];
    sums_depth(j, words, a, 0, rows, pixels, known);
    sums_depth(j, words, b, 1, rows, pixels, known);
    SQZ_UNROLL for (size_t i = 0; i < count; i++) a[i] = sqz_halve_avx512(a[i], b[i], &limits);
    sums_depth(j, words, b, 2, rows, pixels, known);
    sums_depth(j, words, c, 3, rows, pixels, known);
    SQZ_UNROLL for (size_t i = 0; i < count; i++)
        a[i] = sqz_bytes_avx512(a[i], sqz_halve_avx512(b[i], c[i], &limits), &limits);
    if (j->rounding->table != NULL)
        SQZ_UNROLL for (size_t i = 0; i < count; i++) a[i] = sqz_lookup_avx512(a[i], j->rounding->table);
    if (j->sets == 1) {
        SQZ_UNROLL for (size_t i = 0; i < count; i++)
            _mm512_mask_storeu_epi8(out + i / pixels * j->row + i % pixels * j->pitch, j->mask, a[i]);
        return;
    }
    for (size_t k = 0; k < j->sets; k++) /* the lowest set is stored, and the others move down */
        SQZ_UNROLL for (size_t i = 0; i < count; i++) {
            const size_t row = k * j->rows + i / pixels;
            if (row < j->left)
                _mm256_mask_storeu_epi8(out + row * j->row + i % pixels * j->pitch, (__mmask32)j->mask,
                                        _mm512_castsi512_si256(a[i]));
            if (j->sets == 2) a[i] = _mm512_shuffle_i64x2(a[i], a[i], 0x0e);
            else a[i] = _mm512_shuffle_i64x2(a[i], a[i], 0x39);
        }
}

typedef void tile_function_depth(const job_depth *j, const uint8_t *words, uint8_t *out);

#define TILE_DEPTH(known, rows, pixels)                                                                        \
    SQZ_AVX512 static void tile_##known##_##rows##_##pixels##_depth(const job_depth *j, const uint8_t *words,  \
                                                                    uint8_t *out) {                            \
        tile_depth(j, words, out, rows, pixels, known);                                                        \
    }
#define TILES_DEPTH(known)                                                                                     \
    TILE_DEPTH(known, 1, 1)                                                                                    \
    TILE_DEPTH(known, 1, 2)                                                                                    \
    TILE_DEPTH(known, 1, 3)                                                                                    \
    TILE_DEPTH(known, 1, 4)                                                                                    \
    TILE_DEPTH(known, 2, 1)                                                                                    \
    TILE_DEPTH(known, 2, 2) TILE_DEPTH(known, 2, 3) TILE_DEPTH(known, 2, 4)
TILES_DEPTH(0)
TILES_DEPTH(3)
TILES_DEPTH(5)

#define NAMES_DEPTH(known)                                                                                     \
    {{tile_##known##_1_1_depth, tile_##known##_1_2_depth, tile_##known##_1_3_depth, tile_##known##_1_4_depth}, \
     {tile_##known##_2_1_depth, tile_##known##_2_2_depth, tile_##known##_2_3_depth, tile_##known##_2_4_depth}}

/* By window (any, 3 x 3, 5 x 5), rows and pixels. */
static tile_function_depth *const tiles_depth[3][2][PIXELS_DEPTH] = {NAMES_DEPTH(0), NAMES_DEPTH(3),
                                                                     NAMES_DEPTH(5)};

/* ---- A layer --------------------------------------------------------------------------------- */

/* Results from `left` to `right` of the rows from y on, some channels from `channel` on. */
typedef struct strip_depth {
    size_t y, left, right, channel, sets;
    __mmask64 mask;
} strip_depth;

/* 64 channels of the border, in each set the same: a pixel, and four of them as words. */
typedef struct border_depth {
    uint8_t pixel[64], words[256] __attribute__((aligned(64)));
} border_depth;

SQZ_AVX512 static void start_border_depth(border_depth *b, const uint8_t *pad, size_t channels, size_t sets) {
    memset(b->pixel, 0, sizeof b->pixel);
    for (size_t k = 0; k < sets; k++) memcpy(b->pixel + k * (64 / sets), pad, channels);
    const __m512i x = _mm512_loadu_si512(b->pixel);
    turn_depth(b->words, x, x, x, x);
}

INLINE void copy_words_depth(uint8_t *to, const uint8_t *from) {
    SQZ_UNROLL for (int v = 0; v < 4; v++) _mm512_store_si512(to + v * 64, _mm512_load_si512(from + v * 64));
}

/* The first step. Word g of column x of the strip is at (x * groups + g) * 256. */
SQZ_AVX512 static void see_depth(const sqz_conv *c, const plan_depth *p, const uint8_t *in,
                                 const strip_depth *s, const border_depth *border, uint8_t *words) {
    const size_t count = (s->right - s->left - 1) * c->stride[1] + p->columns, apart = (size_t)p->groups * 256;
    const size_t from = s->left * c->stride[1]; /* padding[1] more than the column of the picture */
    const size_t picture_end = c->in.width + (size_t)c->padding[1];
    size_t before = from < c->padding[1] ? c->padding[1] - from : 0, end = count;
    if (from + count > picture_end) end = picture_end > from ? picture_end - from : 0;
    if (before > count) before = count;
    if (end < before) end = before;
    for (size_t g = 0; g < p->groups; g++) {
        rows_depth rows = {.pitch = c->in.pitch, .mask = s->mask};
        int all_inside = 1;
        for (size_t i = 0; i < 4; i++)
            for (size_t k = 0; k < s->sets; k++) {
                const size_t seen = 4 * g + i < p->seen ? 4 * g + i : p->seen - 1; /* behind it weights are 0 */
                const size_t row = (s->y + k * p->rows) * c->stride[0] + seen * c->dilation[0];
                const int inside = row >= c->padding[0] && row - c->padding[0] < c->in.height;
                rows.at[i][k] = border->pixel;
                rows.keep[i][k] = inside ? SIZE_MAX : 0;
                all_inside &= inside;
                if (inside && before < end)
                    rows.at[i][k] = in + (row - c->padding[0]) * c->in.row +
                                    (from + before - c->padding[1]) * c->in.pitch + s->channel;
            }
        uint8_t *to = words + g * 256;
        for (size_t x = 0; x < before; x++) copy_words_depth(to + x * apart, border->words);
        turn_strip_depth(to + before * apart, apart, end - before, &rows, s->sets, all_inside);
        for (size_t x = end; x < count; x++) copy_words_depth(to + x * apart, border->words);
    }
}

/* The second step. */
static void sum_depth(const sqz_conv *c, const plan_depth *p, const strip_depth *s, const uint8_t *words,
                      uint8_t *out) {
    const size_t apart = (size_t)p->groups * 256, left = c->out.height - s->y;
    const job_depth j = {(const uint8_t *)c->weights + s->channel / 64 * p->block,
                         c->kernel[1],
                         p->groups,
                         c->stride[1] * apart,
                         c->dilation[1] * apart,
                         s->mask,
                         s->sets,
                         p->rows,
                         left,
                         c->out.row,
                         c->out.pitch,
                         &c->rounding};
    const size_t rows = s->sets == 1 && left < p->rows ? 1 : p->rows;
    const int known = c->kernel[1] == 3 && p->groups == 1 ? 1 : c->kernel[1] == 5 && p->groups == 2 ? 2 : 0;
    const size_t count = s->right - s->left, tiles = (count + PIXELS_DEPTH - 1) / PIXELS_DEPTH;
    out += s->y * c->out.row + s->left * c->out.pitch + s->channel;
    for (size_t t = 0; t < tiles; t++) {
        const size_t pixels = count / tiles + (t < count % tiles);
        tiles_depth[known][rows - 1][pixels - 1](&j, words, out);
        words += pixels * j.step;
        out += pixels * j.pitch;
    }
}

void sqz_depthwise_avx512(const sqz_conv *c, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts) {
    const plan_depth p = plan_of_depth(c);
    const uint32_t strips = (c->out.width + p.strip - 1) / p.strip;
    uint8_t words[WORDS_DEPTH * 256] __attribute__((aligned(64)));
    border_depth border;
    for (size_t channel = 0; channel < c->out.channels; channel += 64) {
        const size_t rest = c->out.channels - channel, channels = rest < 64 ? rest : 64;
        const size_t sets = sets_of_depth(channels), rows = p.rows * sets;
        const __mmask64 mask = ((__mmask64)2 << (channels - 1)) - 1;
        uint32_t begin, end;
        start_border_depth(&border, c->pad + channel, channels, sets);
        sqz_share((uint32_t)((c->out.height + rows - 1) / rows), part, parts, &begin, &end);
        for (size_t i = begin; i < end; i++)
            for (uint32_t k = 0; k < strips; k++) {
                uint32_t left, right;
                sqz_share(c->out.width, k, strips, &left, &right);
                const strip_depth s = {i * rows, left, right, channel, sets, mask};
                see_depth(c, &p, in, &s, &border, words);
                sum_depth(c, &p, &s, words, out);
            }
    }
}

#undef INLINE
#endif
