/* conv_avx512.c: convolution and linear layers with AVX-512 VNNI.
 *
 * vpdpbusd adds four products of a byte and a weight to each of 16 sums. So the input is read in words of four
 * bytes; one is copied to all 16 places and meets a vector of the weights of 16 channels. What a window reads
 * are some runs of words, and for a picture that is laid out well, few and long ones:
 *
 *   rows     the picture as it is, or copied to `scratch` with the border that the windows reach into. Bytes of
 *            neighbouring pixels follow each other, so one row of the window is one run.
 *   columns  for the first layer, whose pixels are no whole words: `scratch` holds for every row of results
 *            the rows that its windows see, pixel by pixel from top to bottom. The whole window is one run.
 *   places   with groups or dilation, or where pixels are apart: each place of the window is a run.
 *
 * A run that ends within a word reads on; the weights there are 0.
 *
 * A tile is `pixels` neighbouring results, 16 * `vectors` channels of them: at most 24 vectors of sums, which
 * stay in registers while the window is read once. Packed are, for every block of up to 64 channels of a group,
 * its biases, its multipliers, and its weights in the order in which they are used. */
#include <stddef.h>

#include "avx512.h"

#ifdef SQZ_X86

#define INLINE SQZ_AVX512_INLINE

enum {
    VECTORS_512 = 4,      /* of a block, at most */
    STRIP_512 = 48,       /* results of a row that are worked on before the next block of channels */
    RESIDENT_512 = 24576, /* bytes of weights that may as well be read again and again */
    COLUMN_ROWS_512 = 8,  /* of a window that is copied to columns */
    COLUMN_BYTES_512 = 16 /* of a row of the picture that are copied at a time */
};

typedef enum layout_512 { ROWS_512, COLUMNS_512, PLACES_512 } layout_512;

/* How a convolution is worked on. */
typedef struct plan_512 {
    layout_512 layout;
    int copies; /* the windows look at `scratch` */
    size_t inputs, filters;     /* of a group */
    size_t vectors, blocks;     /* of a group */
    size_t rows, across;        /* runs of a window: from top to bottom, from left to right */
    size_t bytes, words;        /* of a run */
    size_t weights;             /* bytes of packed weights for 16 channels */
    size_t group_size;          /* bytes of all that is packed for a group */
    size_t height, width;       /* what the windows see, in pixels */
    size_t row, pitch;          /* of what they see, in bytes */
    size_t down, right;         /* from run to run, in bytes */
    size_t line, step;          /* from window to window, in bytes */
} plan_512;

static int has_border_512(const sqz_conv *c, size_t height, size_t width) {
    return c->padding[0] > 0 || c->padding[1] > 0 || height > c->in.height || width > c->in.width;
}

static layout_512 layout_of_512(const sqz_conv *c) {
    const size_t all = (size_t)c->kernel[0] * c->kernel[1] * c->in.channels;
    if (c->groups > 1 || c->dilation[1] > 1) return PLACES_512;
    if (c->in.channels > 4 || c->kernel[0] > COLUMN_ROWS_512 || c->dilation[0] > 1) return ROWS_512;
    return (all + 3) / 4 < c->kernel[0] * (all / c->kernel[0] + 3) / 4 ? COLUMNS_512 : ROWS_512;
}

static plan_512 plan_of_512(const sqz_conv *c) {
    plan_512 p;
    const size_t pixel = c->in.channels;
    p.layout = layout_of_512(c);
    p.height = (size_t)(c->out.height - 1) * c->stride[0] + (size_t)(c->kernel[0] - 1) * c->dilation[0] + 1;
    p.width = (size_t)(c->out.width - 1) * c->stride[1] + (size_t)(c->kernel[1] - 1) * c->dilation[1] + 1;
    p.copies = p.layout == COLUMNS_512 || c->in.exact || has_border_512(c, p.height, p.width) ||
               (p.layout == ROWS_512 && c->kernel[1] > 1 && c->in.pitch != pixel);
    p.inputs = pixel / c->groups;
    p.filters = c->out.channels / c->groups;
    p.vectors = (p.filters + 15) / 16;
    p.blocks = (p.vectors + VECTORS_512 - 1) / VECTORS_512;
    p.rows = p.layout == COLUMNS_512 ? 1 : c->kernel[0];
    p.across = p.layout == PLACES_512 ? c->kernel[1] : 1;
    p.bytes = p.inputs * c->kernel[0] * c->kernel[1] / (p.rows * p.across);
    p.words = (p.bytes + 3) / 4;
    p.weights = p.rows * p.across * p.words * 64;
    p.group_size = p.vectors * (128 + p.weights);
    p.pitch = p.copies ? pixel : c->in.pitch;
    p.row = p.copies ? p.width * pixel : c->in.row;
    p.down = c->dilation[0] * p.row;
    p.right = c->dilation[1] * p.pitch;
    p.line = c->stride[0] * p.row;
    if (p.layout == COLUMNS_512) { /* behind each line is room for writing whole vectors */
        p.pitch = pixel * c->kernel[0];
        p.row = p.line = (p.width * p.pitch + 128 + SQZ_ALIGN - 1) / SQZ_ALIGN * SQZ_ALIGN;
    }
    p.step = c->stride[1] * p.pitch;
    return p;
}

/* One filter a channel, and nothing that only the general way can do. */
static int is_depthwise_512(const sqz_conv *c) {
    return c->groups > 1 && c->groups == c->in.channels && c->groups == c->out.channels && !c->logits &&
           sqz_depthwise_fits_avx512(c);
}

size_t sqz_conv_packed_avx512(const sqz_conv *c) {
    return is_depthwise_512(c) ? sqz_depthwise_packed_avx512(c) : plan_of_512(c).group_size * c->groups;
}

/* Behind what is copied is room for reading the rest of a word. */
size_t sqz_conv_scratch_avx512(const sqz_conv *c) {
    if (is_depthwise_512(c)) return 0;
    const plan_512 p = plan_of_512(c);
    if (!p.copies) return 0;
    const size_t lines = p.layout == COLUMNS_512 ? c->out.height : p.height;
    return (lines * p.row + sizeof(uint32_t) + SQZ_ALIGN - 1) / SQZ_ALIGN * SQZ_ALIGN;
}

/* ---- Packing --------------------------------------------------------------------------------- */

/* The packed block's part for the channels from `first`, `count` of them. */
static void pack_block_512(const sqz_conv *c, const plan_512 *p, const int8_t *weight, size_t first,
                           size_t count, size_t vectors, uint8_t *block) {
    const size_t places = (size_t)c->kernel[0] * c->kernel[1], filter = p->inputs * places;
    uint8_t *weights = block + vectors * 128;
    size_t at[64]; /* where a channel is, in bytes, in what belongs to one word */
    memset(block, 0, vectors * (128 + p->weights));
    for (size_t v = 0; v < vectors; v++)
        for (size_t e = 0; e < 16; e++) {
            const int turned = vectors == VECTORS_512 && !c->logits;
            at[turned ? sqz_channel_avx512((uint32_t)v, (uint32_t)e) : 16 * v + e] = v * 64 + e * 4;
        }
    for (size_t o = 0; o < count; o++) {
        memcpy(block + at[o], &c->bias[first + o], 4);
        memcpy(block + vectors * 64 + at[o], &c->multiplier[first + o], 4);
    }
    for (size_t run = 0; run < p->rows * p->across; run++)
        for (size_t i = 0; i < p->bytes; i++) { /* byte i of this run is number `input` at `place` */
            size_t input = i % p->inputs, place = run * (p->bytes / p->inputs) + i / p->inputs;
            if (p->layout == COLUMNS_512)
                place = i / p->inputs % c->kernel[0] * c->kernel[1] + i / (p->inputs * c->kernel[0]);
            const int8_t *from = weight + first * filter + input * places + place;
            uint8_t *to = weights + (run * p->words + i / 4) * vectors * 64 + i % 4;
            for (size_t o = 0; o < count; o++) to[at[o]] = (uint8_t)from[o * filter];
        }
}

/* The vectors of a block, from `first` to `end`, counted within their group. */
static void block_of_512(const plan_512 *p, size_t block, uint32_t *first, uint32_t *end) {
    const size_t rest = p->vectors - block * VECTORS_512;
    *first = (uint32_t)block * VECTORS_512;
    *end = *first + (uint32_t)(rest < VECTORS_512 ? rest : VECTORS_512);
}

void sqz_conv_pack_avx512(const sqz_conv *c, const int8_t *weight, void *packed) {
    if (is_depthwise_512(c)) {
        sqz_depthwise_pack_avx512(c, weight, packed);
        return;
    }
    const plan_512 p = plan_of_512(c);
    for (size_t g = 0; g < c->groups; g++)
        for (size_t b = 0; b < p.blocks; b++) {
            uint32_t first, end;
            block_of_512(&p, b, &first, &end);
            const size_t rest = p.filters - 16 * (size_t)first, most = 16 * (size_t)(end - first);
            pack_block_512(c, &p, weight, g * p.filters + 16 * (size_t)first, rest < most ? rest : most,
                           end - first, (uint8_t *)packed + g * p.group_size + first * (128 + p.weights));
        }
}

/* ---- Copying --------------------------------------------------------------------------------- */

static void fill_512(uint8_t *to, const uint8_t *pad, size_t channels, size_t pixels) {
    for (size_t i = 0; i < pixels; i++) memcpy(to + i * channels, pad, channels);
}

static void copy_row_512(const sqz_conv *c, const plan_512 *p, const uint8_t *in, uint8_t *to, size_t y) {
    const size_t channels = c->in.channels, left = c->padding[1] < p->width ? c->padding[1] : p->width;
    size_t inside = p->width - left;
    if (inside > c->in.width) inside = c->in.width;
    if (y < c->padding[0] || y - c->padding[0] >= c->in.height) {
        fill_512(to, c->pad, channels, p->width);
        return;
    }
    const uint8_t *from = in + (y - c->padding[0]) * c->in.row;
    fill_512(to, c->pad, channels, left);
    to += left * channels;
    if (c->in.pitch == channels) memcpy(to, from, inside * channels);
    else
        for (size_t x = 0; x < inside; x++) memcpy(to + x * channels, from + x * c->in.pitch, channels);
    fill_512(to + inside * channels, c->pad, channels, p->width - left - inside);
}

/* What all steps of copying to columns have in common. */
typedef struct columns_512 {
    size_t pixels;                 /* at a time */
    __m512i from[2];               /* for each byte written: which one of 8 rows of 16 bytes */
    uint8_t pad[COLUMN_BYTES_512]; /* so many pixels of the border */
} columns_512;

INLINE void start_columns_512(columns_512 *s, const sqz_conv *c, const plan_512 *p) {
    uint8_t from[128];
    const size_t pitch = c->in.pitch, channels = c->in.channels;
    s->pixels = pitch < COLUMN_BYTES_512 ? COLUMN_BYTES_512 / pitch : 1;
    for (size_t i = 0; i < sizeof s->pad; i++) s->pad[i] = i % pitch < channels ? c->pad[i % pitch] : 0;
    for (size_t i = 0; i < sizeof from; i++) {
        const size_t row = i % p->pitch / channels, byte = i / p->pitch * pitch + i % channels;
        from[i] = (uint8_t)(COLUMN_BYTES_512 * row + byte % COLUMN_BYTES_512);
    }
    s->from[0] = _mm512_loadu_si512(from);
    s->from[1] = _mm512_loadu_si512(from + 64);
}

/* The rows that the windows of a line see; one outside of the picture is the border, wherever one looks. */
typedef struct seen_512 {
    const uint8_t *at[COLUMN_ROWS_512];
    size_t keep[COLUMN_ROWS_512]; /* all bits, or none: the offset in the row counts, or does not */
} seen_512;

/* 16 bytes of rows i to i + 3; only those that `inside` names, elsewhere the border. */
INLINE __m512i four_rows_512(const columns_512 *s, const seen_512 *seen, size_t offset, const int whole,
                             __mmask16 inside, const size_t i) {
    __m128i row[4];
    SQZ_UNROLL for (size_t k = 0; k < 4; k++) {
        /* May lie before the picture, where the mask lets nothing be read. */
        const uintptr_t at = (uintptr_t)seen->at[i + k] + (offset & seen->keep[i + k]);
        const __m128i pad = _mm_loadu_si128((const __m128i *)s->pad);
        const __mmask16 mask = seen->keep[i + k] ? inside : 0;
        if (whole) row[k] = _mm_loadu_si128((const __m128i *)at);
        else row[k] = _mm_mask_loadu_epi8(pad, mask, (const void *)at);
    }
    const __m256i ab = _mm256_inserti128_si256(_mm256_castsi128_si256(row[0]), row[1], 1);
    const __m256i cd = _mm256_inserti128_si256(_mm256_castsi128_si256(row[2]), row[3], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(ab), cd, 1);
}

INLINE void copy_step_512(const columns_512 *s, const seen_512 *seen, uint8_t *to, size_t offset,
                          const int whole, __mmask16 inside, const int tall) {
    const __m512i upper = four_rows_512(s, seen, offset, whole, inside, 0);
    if (!tall) {
        _mm512_storeu_si512(to, _mm512_permutexvar_epi8(s->from[0], upper));
        return;
    }
    const __m512i lower = four_rows_512(s, seen, offset, whole, inside, 4);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi8(upper, s->from[0], lower));
    _mm512_storeu_si512(to + 64, _mm512_permutex2var_epi8(upper, s->from[1], lower));
}

/* The line of results y: what its windows see, pixel by pixel from top to bottom. */
INLINE void copy_columns_512(const columns_512 *s, const sqz_conv *c, const plan_512 *p, const uint8_t *in,
                             uint8_t *to, size_t y, const int tall) {
    const size_t pitch = c->in.pitch, left = c->padding[1], right = c->in.width + left;
    const size_t bytes = (c->in.width - 1) * pitch + c->in.channels; /* of a row */
    seen_512 seen;
    for (size_t i = 0; i < COLUMN_ROWS_512; i++) {
        const size_t at = y * c->stride[0] + i; /* padding[0] more than the row of the picture */
        const int known = i < c->kernel[0] && at >= c->padding[0] && at - c->padding[0] < c->in.height;
        seen.at[i] = known ? in + (at - c->padding[0]) * c->in.row : s->pad;
        seen.keep[i] = known ? SIZE_MAX : 0;
    }
    for (size_t x = 0; x < p->width; x += s->pixels, to += s->pixels * p->pitch) {
        const size_t offset = (x - left) * pitch; /* of pixel x in the row, if it is in the picture */
        if (x >= left && offset + COLUMN_BYTES_512 <= bytes) {
            copy_step_512(s, &seen, to, offset, 1, 0, tall);
            continue;
        }
        /* Of the pixels from x on, those from `begin` to `end` are in the picture. */
        const size_t begin = x < left ? left - x : 0, end = right > x ? right - x : 0;
        __mmask16 inside = 0;
        if (begin < end && begin < s->pixels) {
            const size_t last = ((end < s->pixels ? end : s->pixels) - 1) * pitch + c->in.channels;
            inside = (__mmask16)((0xffffu << begin * pitch) & (0xffffu >> (COLUMN_BYTES_512 - last)));
        }
        copy_step_512(s, &seen, to, offset, 0, inside, tall);
    }
}

SQZ_AVX512 void sqz_conv_prepare_avx512(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part,
                                        uint32_t parts) {
    if (is_depthwise_512(c)) return;
    const plan_512 p = plan_of_512(c);
    uint32_t begin, end;
    if (!p.copies) return;
    if (p.layout != COLUMNS_512) {
        sqz_share((uint32_t)p.height, part, parts, &begin, &end);
        for (size_t y = begin; y < end; y++) copy_row_512(c, &p, in, (uint8_t *)scratch + y * p.row, y);
        return;
    }
    columns_512 s;
    start_columns_512(&s, c, &p);
    sqz_share(c->out.height, part, parts, &begin, &end);
    for (size_t y = begin; y < end; y++) {
        uint8_t *to = (uint8_t *)scratch + y * p.row;
        if (c->kernel[0] > 4) copy_columns_512(&s, c, &p, in, to, y, 1);
        else copy_columns_512(&s, c, &p, in, to, y, 0);
    }
}

/* ---- Tiles ----------------------------------------------------------------------------------- */

/* What the tiles of a block of channels have in common; the first ones are read by the loops below. */
typedef struct job_512 {
    const uint8_t *in, *block;                     /* of a tile: the first window; packed */
    size_t rows, across, words, down, right, step; /* as in plan_512 */
    size_t channels, pitch;                        /* of the result: of this block, from pixel to pixel */
    uint32_t logits;
    const sqz_rounding *rounding;
} job_512;

_Static_assert(sizeof(void *) == 8 && offsetof(job_512, rows) == 16 && offsetof(job_512, step) == 56,
               "the loops below know where these are");

/* The sums of a tile are made in assembly: compilers do not keep 24 vectors in registers across three loops.
 *
 *   rax, rbx  the next word of pixels 0 and 6     rcx  the next weights
 *   r10 - r12 step, 3 step, 5 step                rdx, rdi, r9  words, runs and rows that are left
 *   r8, rsi   the window's row, its run           zmm24 - zmm27, zmm28  weights, a word
 *
 * PIXELS_v_m lists the sums of m pixels with v vectors each, and where their words are. */
#define AT_0_512 "(%%rax)"
#define AT_1_512 "(%%rax,%%r10)"
#define AT_2_512 "(%%rax,%%r10,2)"
#define AT_3_512 "(%%rax,%%r11)"
#define AT_4_512 "(%%rax,%%r10,4)"
#define AT_5_512 "(%%rax,%%r12)"
#define AT_6_512 "(%%rbx)"
#define AT_7_512 "(%%rbx,%%r10)"
#define AT_8_512 "(%%rbx,%%r10,2)"
#define AT_9_512 "(%%rbx,%%r11)"
#define AT_10_512 "(%%rbx,%%r10,4)"
#define AT_11_512 "(%%rbx,%%r12)"
#define PIXELS_1_1(do) do(AT_0_512, 0)
#define PIXELS_1_2(do) PIXELS_1_1(do) do(AT_1_512, 1)
#define PIXELS_1_3(do) PIXELS_1_2(do) do(AT_2_512, 2)
#define PIXELS_1_4(do) PIXELS_1_3(do) do(AT_3_512, 3)
#define PIXELS_1_5(do) PIXELS_1_4(do) do(AT_4_512, 4)
#define PIXELS_1_6(do) PIXELS_1_5(do) do(AT_5_512, 5)
#define PIXELS_1_7(do) PIXELS_1_6(do) do(AT_6_512, 6)
#define PIXELS_1_8(do) PIXELS_1_7(do) do(AT_7_512, 7)
#define PIXELS_1_9(do) PIXELS_1_8(do) do(AT_8_512, 8)
#define PIXELS_1_10(do) PIXELS_1_9(do) do(AT_9_512, 9)
#define PIXELS_1_11(do) PIXELS_1_10(do) do(AT_10_512, 10)
#define PIXELS_1_12(do) PIXELS_1_11(do) do(AT_11_512, 11)
#define PIXELS_2_1(do) do(AT_0_512, 0, 1)
#define PIXELS_2_2(do) PIXELS_2_1(do) do(AT_1_512, 2, 3)
#define PIXELS_2_3(do) PIXELS_2_2(do) do(AT_2_512, 4, 5)
#define PIXELS_2_4(do) PIXELS_2_3(do) do(AT_3_512, 6, 7)
#define PIXELS_2_5(do) PIXELS_2_4(do) do(AT_4_512, 8, 9)
#define PIXELS_2_6(do) PIXELS_2_5(do) do(AT_5_512, 10, 11)
#define PIXELS_2_7(do) PIXELS_2_6(do) do(AT_6_512, 12, 13)
#define PIXELS_2_8(do) PIXELS_2_7(do) do(AT_7_512, 14, 15)
#define PIXELS_2_9(do) PIXELS_2_8(do) do(AT_8_512, 16, 17)
#define PIXELS_2_10(do) PIXELS_2_9(do) do(AT_9_512, 18, 19)
#define PIXELS_2_11(do) PIXELS_2_10(do) do(AT_10_512, 20, 21)
#define PIXELS_2_12(do) PIXELS_2_11(do) do(AT_11_512, 22, 23)
#define PIXELS_3_1(do) do(AT_0_512, 0, 1, 2)
#define PIXELS_3_2(do) PIXELS_3_1(do) do(AT_1_512, 3, 4, 5)
#define PIXELS_3_3(do) PIXELS_3_2(do) do(AT_2_512, 6, 7, 8)
#define PIXELS_3_4(do) PIXELS_3_3(do) do(AT_3_512, 9, 10, 11)
#define PIXELS_3_5(do) PIXELS_3_4(do) do(AT_4_512, 12, 13, 14)
#define PIXELS_3_6(do) PIXELS_3_5(do) do(AT_5_512, 15, 16, 17)
#define PIXELS_3_7(do) PIXELS_3_6(do) do(AT_6_512, 18, 19, 20)
#define PIXELS_3_8(do) PIXELS_3_7(do) do(AT_7_512, 21, 22, 23)
#define PIXELS_4_1(do) do(AT_0_512, 0, 1, 2, 3)
#define PIXELS_4_2(do) PIXELS_4_1(do) do(AT_1_512, 4, 5, 6, 7)
#define PIXELS_4_3(do) PIXELS_4_2(do) do(AT_2_512, 8, 9, 10, 11)
#define PIXELS_4_4(do) PIXELS_4_3(do) do(AT_3_512, 12, 13, 14, 15)
#define PIXELS_4_5(do) PIXELS_4_4(do) do(AT_4_512, 16, 17, 18, 19)
#define PIXELS_4_6(do) PIXELS_4_5(do) do(AT_5_512, 20, 21, 22, 23)

#define LOAD_1_512 "vmovdqa64 (%%rcx), %%zmm24\n\t"
#define LOAD_2_512 LOAD_1_512 "vmovdqa64 64(%%rcx), %%zmm25\n\t"
#define LOAD_3_512 LOAD_2_512 "vmovdqa64 128(%%rcx), %%zmm26\n\t"
#define LOAD_4_512 LOAD_3_512 "vmovdqa64 192(%%rcx), %%zmm27\n\t"

/* Sums begin as the biases, which have been loaded as weights are. */
#define COPY_512(from, s) "vmovdqa64 %%" from ", %" #s "\n\t"
#define START_1_512(at, a) COPY_512("zmm24", a)
#define START_2_512(at, a, b) START_1_512(at, a) COPY_512("zmm25", b)
#define START_3_512(at, a, b, c) START_2_512(at, a, b) COPY_512("zmm26", c)
#define START_4_512(at, a, b, c, d) START_3_512(at, a, b, c) COPY_512("zmm27", d)

#define ADD_512(weights, s) "vpdpbusd %%" weights ", %%zmm28, %" #s "\n\t"
#define ADD_1_512(at, a) "vpbroadcastd " at ", %%zmm28\n\t" ADD_512("zmm24", a)
#define ADD_2_512(at, a, b) ADD_1_512(at, a) ADD_512("zmm25", b)
#define ADD_3_512(at, a, b, c) ADD_2_512(at, a, b) ADD_512("zmm26", c)
#define ADD_4_512(at, a, b, c, d) ADD_3_512(at, a, b, c) ADD_512("zmm27", d)

#define SUMS_512(vectors, pixels, size)                                                                        \
    "mov (%24), %%r8\n\t"                                                                                      \
    "mov 8(%24), %%rcx\n\t"                                                                                    \
    "mov 16(%24), %%r9\n\t"                                                                                    \
    "mov 56(%24), %%r10\n\t"                                                                                   \
    "lea (%%r10,%%r10,2), %%r11\n\t"                                                                           \
    "lea (%%r10,%%r10,4), %%r12\n\t"                                                                           \
    LOAD_##vectors##_512 PIXELS_##vectors##_##pixels(START_##vectors##_512)                                    \
    "add $2*" size ", %%rcx\n\t"                                                                               \
    "1: mov %%r8, %%rsi\n\t"                                                                                   \
    "mov 24(%24), %%rdi\n\t"                                                                                   \
    "2: mov %%rsi, %%rax\n\t"                                                                                  \
    "lea (%%rsi,%%r11,2), %%rbx\n\t"                                                                           \
    "mov 32(%24), %%rdx\n\t"                                                                                   \
    ".p2align 4\n\t"                                                                                           \
    "3:\n\t" LOAD_##vectors##_512 PIXELS_##vectors##_##pixels(ADD_##vectors##_512)                             \
    "add $4, %%rax\n\t"                                                                                        \
    "add $4, %%rbx\n\t"                                                                                        \
    "add $" size ", %%rcx\n\t"                                                                                 \
    "dec %%rdx\n\t"                                                                                            \
    "jnz 3b\n\t"                                                                                               \
    "add 48(%24), %%rsi\n\t"                                                                                   \
    "dec %%rdi\n\t"                                                                                            \
    "jnz 2b\n\t"                                                                                               \
    "add 40(%24), %%r8\n\t"                                                                                    \
    "dec %%r9\n\t"                                                                                             \
    "jnz 1b\n\t"

/* 64 bytes are the four vectors f .. f + 3 of a tile: store those of them that there are. */
INLINE void store_bytes_512(const job_512 *j, uint8_t *out, __m512i bytes, const size_t f, const size_t pixels,
                            const size_t vectors) {
    const int full = j->channels == 16 * vectors;
    const size_t m = vectors == 3 ? f / 4 : f / vectors;
    out += m * j->pitch;
    if (vectors >= 3) {
        if (vectors == 4 && full) _mm512_storeu_si512(out, bytes);
        else _mm512_mask_storeu_epi8(out, sqz_mask_avx512(j->channels), bytes);
    } else if (vectors == 2) {
        const __mmask32 mask = (__mmask32)sqz_mask_avx512(j->channels);
        const __m256i a = _mm512_castsi512_si256(bytes), b = _mm512_extracti64x4_epi64(bytes, 1);
        if (full) _mm256_storeu_si256((__m256i *)out, a);
        else _mm256_mask_storeu_epi8(out, mask, a);
        if (m + 1 >= pixels) return;
        if (full) _mm256_storeu_si256((__m256i *)(out + j->pitch), b);
        else _mm256_mask_storeu_epi8(out + j->pitch, mask, b);
    } else {
        const __mmask16 mask = (__mmask16)sqz_mask_avx512(j->channels);
        const __m128i quarter[4] = {
            _mm512_castsi512_si128(bytes), _mm512_extracti32x4_epi32(bytes, 1),
            _mm512_extracti32x4_epi32(bytes, 2), _mm512_extracti32x4_epi32(bytes, 3)};
        SQZ_UNROLL for (size_t i = 0; i < 4; i++) {
            if (m + i >= pixels) break;
            if (full) _mm_storeu_si128((__m128i *)(out + i * j->pitch), quarter[i]);
            else _mm_mask_storeu_epi8(out + i * j->pitch, mask, quarter[i]);
        }
    }
}

/* Sums to bytes. With fewer than four vectors a pixel, its channels are in order and those of several pixels
 * share a vector; with three, one in four stays empty. */
INLINE void store_tile_512(const job_512 *j, uint8_t *out, const __m512i *sums, const size_t pixels,
                           const size_t vectors) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const size_t count = vectors == 3 ? 4 * pixels : vectors * pixels;
    const sqz_limits_avx512 limits = sqz_limits_of_avx512(j->rounding);
    __m512 multiplier[4];
    __m512i bytes[8];
    SQZ_UNROLL for (size_t v = 0; v < vectors; v++)
        multiplier[v] = _mm512_load_ps(j->block + vectors * 64 + v * 64);
    SQZ_UNROLL for (size_t f = 0; f < count; f += 4) {
        __m512i q[4];
        SQZ_UNROLL for (size_t i = 0; i < 4; i++) {
            const size_t at = (vectors == 3 ? f / 4 * 3 : f) + i;
            if (vectors == 3 ? i == 3 : f + i >= count) q[i] = q[0]; /* nobody's */
            else q[i] = sqz_scale_avx512(sums[at], multiplier[at % vectors]);
        }
        const __m512i a = sqz_halve_avx512(q[0], q[1], &limits), b = sqz_halve_avx512(q[2], q[3], &limits);
        bytes[f / 4] = sqz_bytes_avx512(a, b, &limits);
    }
    if (j->rounding->table != NULL)
        SQZ_UNROLL for (size_t f = 0; f < count; f += 4)
            bytes[f / 4] = sqz_lookup_avx512(bytes[f / 4], j->rounding->table);
    SQZ_UNROLL for (size_t f = 0; f < count; f += 4) {
        if (vectors < 4) bytes[f / 4] = _mm512_permutexvar_epi32(order, bytes[f / 4]);
        store_bytes_512(j, out, bytes[f / 4], f, pixels, vectors);
    }
}

INLINE void store_logits_512(const job_512 *j, uint8_t *out, const __m512i *sums, const size_t pixels,
                             const size_t vectors) {
    SQZ_UNROLL for (size_t f = 0; f < pixels * vectors; f++) {
        const size_t m = f / vectors, v = f % vectors;
        const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[f]),
                                             _mm512_load_ps(j->block + vectors * 64 + v * 64));
        const size_t left = j->channels > 16 * v ? j->channels - 16 * v : 0;
        _mm512_mask_storeu_ps(out + m * j->pitch + v * 64, (__mmask16)sqz_mask_avx512(left), product);
    }
}

typedef void tile_function_512(const job_512 *j, uint8_t *out);

/* Those of the 24 sums that a tile does not have are never used. */
#define TILE_512(vectors, pixels, size)                                                                        \
    SQZ_AVX512 static void tile_##vectors##_##pixels##_512(const job_512 *j, uint8_t *out) {                   \
        __m512i s[24];                                                                                         \
        __asm__ volatile(SUMS_512(vectors, pixels, size)                                                       \
                         : "=&v"(s[0]), "=&v"(s[1]), "=&v"(s[2]), "=&v"(s[3]), "=&v"(s[4]), "=&v"(s[5]),       \
                           "=&v"(s[6]), "=&v"(s[7]), "=&v"(s[8]), "=&v"(s[9]), "=&v"(s[10]), "=&v"(s[11]),     \
                           "=&v"(s[12]), "=&v"(s[13]), "=&v"(s[14]), "=&v"(s[15]), "=&v"(s[16]), "=&v"(s[17]), \
                           "=&v"(s[18]), "=&v"(s[19]), "=&v"(s[20]), "=&v"(s[21]), "=&v"(s[22]), "=&v"(s[23])  \
                         : "r"(j)                                                                              \
                         : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "xmm24", \
                           "xmm25", "xmm26", "xmm27", "xmm28", "cc", "memory");                                \
        if (j->logits) store_logits_512(j, out, s, pixels, vectors);                                           \
        else store_tile_512(j, out, s, pixels, vectors);                                                       \
    }
#define TILES_6_512(vectors, size)                                                                             \
    TILE_512(vectors, 1, size)                                                                                 \
    TILE_512(vectors, 2, size)                                                                                 \
    TILE_512(vectors, 3, size) TILE_512(vectors, 4, size) TILE_512(vectors, 5, size) TILE_512(vectors, 6, size)
#define TILES_8_512(vectors, size)                                                                             \
    TILES_6_512(vectors, size) TILE_512(vectors, 7, size) TILE_512(vectors, 8, size)
#define TILES_12_512(vectors, size)                                                                            \
    TILES_8_512(vectors, size)                                                                                 \
    TILE_512(vectors, 9, size)                                                                                 \
    TILE_512(vectors, 10, size) TILE_512(vectors, 11, size) TILE_512(vectors, 12, size)
TILES_12_512(1, "64")
TILES_12_512(2, "128")
TILES_8_512(3, "192")
TILES_6_512(4, "256")

#define NAMES_6_512(vectors)                                                                                   \
    tile_##vectors##_1_512, tile_##vectors##_2_512, tile_##vectors##_3_512, tile_##vectors##_4_512,            \
        tile_##vectors##_5_512, tile_##vectors##_6_512
#define NAMES_8_512(vectors) NAMES_6_512(vectors), tile_##vectors##_7_512, tile_##vectors##_8_512
#define NAMES_12_512(vectors)                                                                                  \
    NAMES_8_512(vectors), tile_##vectors##_9_512, tile_##vectors##_10_512, tile_##vectors##_11_512,            \
        tile_##vectors##_12_512

/* By vectors and pixels, each counted from 1; and the most pixels there are for so many vectors. */
static tile_function_512 *const tiles_512[VECTORS_512][12] = {
    {NAMES_12_512(1)}, {NAMES_12_512(2)}, {NAMES_8_512(3)}, {NAMES_6_512(4)}};
static const size_t most_pixels_512[VECTORS_512] = {12, 12, 8, 6};

/* ---- A layer --------------------------------------------------------------------------------- */

/* `count` neighbouring results, in tiles of about the same size: small ones wait for themselves. */
static void strip_512(job_512 *j, uint8_t *out, size_t count, size_t vectors) {
    const size_t most = most_pixels_512[vectors - 1], tiles = (count + most - 1) / most;
    const size_t small = count / tiles, larger = count % tiles;
    for (size_t i = 0; i < tiles; i++) {
        const size_t pixels = small + (i < larger);
        tiles_512[vectors - 1][pixels - 1](j, out);
        j->in += pixels * j->step;
        out += pixels * j->pitch;
    }
}

/* A layer, as the loops see it: strips of results, and blocks of channels of all groups. */
typedef struct layer_512 {
    const sqz_conv *c;
    plan_512 plan;
    const uint8_t *in;
    uint8_t *out;
    size_t width;            /* of a row of results; all of them, where rows follow each other */
    uint32_t strips, blocks; /* strips of one row; blocks of all groups */
} layer_512;

static void work_512(const layer_512 *l, uint32_t block, uint32_t strip) {
    const sqz_conv *c = l->c;
    const plan_512 *p = &l->plan;
    const size_t group = block / p->blocks, y = strip / l->strips;
    uint32_t first, end, left, right;
    block_of_512(p, block % p->blocks, &first, &end);
    sqz_share((uint32_t)l->width, strip % l->strips, l->strips, &left, &right);
    const size_t channel = 16 * (size_t)first, rest = p->filters - channel, most = 16 * (size_t)(end - first);
    const size_t size = c->logits ? sizeof(float) : 1;
    job_512 j = {l->in + group * p->inputs + y * p->line + left * p->step,
                 (const uint8_t *)c->weights + group * p->group_size + first * (128 + p->weights),
                 p->rows,
                 p->across,
                 p->words,
                 p->down,
                 p->right,
                 p->step,
                 rest < most ? rest : most,
                 c->out.pitch,
                 c->logits,
                 &c->rounding};
    strip_512(&j, l->out + (group * p->filters + channel) * size + y * c->out.row + left * c->out.pitch,
              right - left, end - first);
}

/* How well `count` things can be shared: the part of the time that all callers work, in 1024ths. */
static uint32_t use_512(uint32_t count, uint32_t parts) {
    return (uint32_t)(1024 * (uint64_t)count / ((uint64_t)parts * ((count + parts - 1) / parts)));
}

void sqz_conv_avx512(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out, uint32_t part,
                     uint32_t parts) {
    if (is_depthwise_512(c)) {
        sqz_depthwise_avx512(c, in, (uint8_t *)out, part, parts);
        return;
    }
    layer_512 l = {c, plan_of_512(c), in, (uint8_t *)out, c->out.width, 1, 0};
    size_t height = c->out.height;
    if (l.plan.copies) l.in = (const uint8_t *)scratch;
    if (l.plan.line == l.width * l.plan.step && c->out.row == l.width * c->out.pitch) {
        l.width *= height;
        height = 1;
    }
    l.strips = (uint32_t)((l.width + STRIP_512 - 1) / STRIP_512);
    l.blocks = (uint32_t)(l.plan.blocks * c->groups);
    uint32_t strip = 0, last_strip = l.strips * (uint32_t)height, first = 0, last = l.blocks;
    const size_t weights = l.plan.group_size * c->groups, read = l.plan.height * l.plan.row;
    const uint32_t by_strip = use_512(last_strip, parts), by_block = use_512(last, parts);
    if (by_block > by_strip || (by_block == by_strip && weights > read))
        sqz_share(l.blocks, part, parts, &first, &last);
    else sqz_share(last_strip, part, parts, &strip, &last_strip);
    if (weights <= RESIDENT_512) {
        for (uint32_t s = strip; s < last_strip; s++)
            for (uint32_t b = first; b < last; b++) work_512(&l, b, s);
    } else {
        for (uint32_t b = first; b < last; b++)
            for (uint32_t s = strip; s < last_strip; s++) work_512(&l, b, s);
    }
}

#undef INLINE
#endif
