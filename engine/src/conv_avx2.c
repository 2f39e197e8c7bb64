/* conv_avx2.c: convolution with AVX2.
 *
 * No instruction of AVX2 multiplies bytes and adds them up exactly, so bytes become 16 bits wide. The first
 * phase copies the picture into `scratch` as int16 numbers, dense and with the border that the windows reach
 * into. vpmaddwd then takes pairs of numbers: (x0 * w0 + x1 * w1), exact in 32 bits.
 *
 * Results are made 16 channels at a time, for a few pixels at once. A block of 16 channels is two vectors of
 * 8 sums, in the order (0..3, 8..11), (4..7, 12..15): packing puts them in theirs.
 *
 * Packed: for every block 16 multipliers; for every block 16 biases; for every block its weights, pair by
 * pair 16 times 2 int16 numbers. What a block has too many is 0. */
#include <string.h>

#include "avx2.h"

#ifdef SQZ_X86
enum { BLOCK_AVX2 = 16, PIXELS_AVX2 = 6, NARROW_AVX2 = 4 };

/* How a convolution is worked on. Sizes of the picture count int16 numbers. */
typedef struct plan_avx2 {
    int depthwise;       /* every channel by itself */
    size_t inputs;       /* of a filter */
    size_t filters;      /* of a group; depthwise, of all */
    size_t group_blocks; /* of a group; depthwise, of all */
    size_t blocks;       /* of all */
    size_t across;       /* runs of numbers a row of the window has: one where they follow each other */
    size_t pairs;        /* of a run; depthwise, of the window's places */
    size_t block_size;   /* int16 numbers of weights */
    size_t height, width, pitch, row; /* the padded picture */
} plan_avx2;

static plan_avx2 plan_of_avx2(const sqz_conv *c) {
    plan_avx2 p;
    p.depthwise = c->groups == c->in.channels && c->groups == c->out.channels;
    p.inputs = c->in.channels / c->groups;
    p.filters = p.depthwise ? c->out.channels : c->out.channels / c->groups;
    p.group_blocks = (p.filters + BLOCK_AVX2 - 1) / BLOCK_AVX2;
    p.blocks = p.depthwise ? p.group_blocks : p.group_blocks * c->groups;
    if (p.depthwise) {
        p.across = 1;
        p.pairs = ((size_t)c->kernel[0] * c->kernel[1] + 1) / 2;
        p.block_size = p.pairs * 2 * BLOCK_AVX2;
    } else {
        p.across = c->groups == 1 && c->dilation[1] == 1 ? 1 : c->kernel[1];
        p.pairs = (p.inputs * (c->kernel[1] / p.across) + 1) / 2;
        p.block_size = c->kernel[0] * p.across * p.pairs * 2 * BLOCK_AVX2;
    }
    p.height = (size_t)(c->out.height - 1) * c->stride[0] + (size_t)(c->kernel[0] - 1) * c->dilation[0] + 1;
    p.width = (size_t)(c->out.width - 1) * c->stride[1] + (size_t)(c->kernel[1] - 1) * c->dilation[1] + 1;
    p.pitch = c->in.channels;
    p.row = p.width * p.pitch;
    return p;
}

/* Where the sum of a block's channel is, in its two vectors; and the other way round. */
static size_t slot_avx2(size_t channel) {
    static const uint8_t slot[BLOCK_AVX2] = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15};
    return slot[channel % BLOCK_AVX2];
}

size_t sqz_conv_packed_avx2(const sqz_conv *c) {
    const plan_avx2 p = plan_of_avx2(c);
    return p.blocks * (BLOCK_AVX2 * (sizeof(float) + sizeof(int32_t)) + p.block_size * sizeof(int16_t));
}

/* Behind the picture is room for reading whole vectors. */
size_t sqz_conv_scratch_avx2(const sqz_conv *c) {
    const plan_avx2 p = plan_of_avx2(c);
    return (p.height * p.row * sizeof(int16_t) + 2 * SQZ_ALIGN - 1) / SQZ_ALIGN * SQZ_ALIGN;
}

void sqz_conv_pack_avx2(const sqz_conv *c, const int8_t *weight, void *packed) {
    const plan_avx2 p = plan_of_avx2(c);
    const size_t kernel_width = c->kernel[1], places = (size_t)c->kernel[0] * kernel_width;
    float *multiplier = (float *)packed;
    int32_t *bias = (int32_t *)(multiplier + p.blocks * BLOCK_AVX2);
    int16_t *weights = (int16_t *)(bias + p.blocks * BLOCK_AVX2);
    memset(packed, 0, sqz_conv_packed_avx2(c));
    for (size_t o = 0; o < c->out.channels; o++) {
        const size_t group = o / p.filters, filter = o % p.filters;
        const size_t block = group * p.group_blocks + filter / BLOCK_AVX2, slot = slot_avx2(filter);
        multiplier[block * BLOCK_AVX2 + slot] = c->multiplier[o];
        bias[block * BLOCK_AVX2 + slot] = c->bias[o];
        for (size_t i = 0; i < places; i++)
            for (size_t k = 0; k < p.inputs; k++) {
                size_t run = 0, at = i; /* which run, and which number of it */
                if (!p.depthwise) {
                    run = p.across > 1 ? i : i / kernel_width;
                    at = (p.across > 1 ? 0 : i % kernel_width * p.inputs) + k;
                }
                int16_t *pair = weights + block * p.block_size + (run * p.pairs + at / 2) * 2 * BLOCK_AVX2;
                pair[2 * slot + at % 2] = weight[(o * p.inputs + k) * places + i];
            }
    }
}

/* ---- The padded picture ---------------------------------------------------------------------- */

SQZ_AVX2_INLINE void widen_avx2(int16_t *to, const uint8_t *from, size_t count) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(to + i),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(from + i))));
    for (; i < count; i++) to[i] = from[i];
}

SQZ_AVX2_INLINE void pad_avx2(const sqz_conv *c, int16_t *row, size_t begin, size_t end) {
    for (size_t x = begin; x < end; x++) widen_avx2(row + x * c->in.channels, c->pad, c->in.channels);
}

SQZ_AVX2_CODE void sqz_conv_prepare_avx2(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part,
                                         uint32_t parts) {
    const plan_avx2 p = plan_of_avx2(c);
    const size_t left = c->padding[1] < p.width ? c->padding[1] : p.width;
    const size_t right = p.width - left < c->in.width ? p.width : left + c->in.width;
    uint32_t first, last;
    sqz_share((uint32_t)p.height, part, parts, &first, &last);
    for (size_t y = first; y < last; y++) {
        int16_t *row = (int16_t *)scratch + y * p.row;
        if (y < c->padding[0] || y - c->padding[0] >= c->in.height) {
            pad_avx2(c, row, 0, p.width);
            continue;
        }
        const uint8_t *from = in + (y - c->padding[0]) * c->in.row;
        pad_avx2(c, row, 0, left);
        if (c->in.pitch == p.pitch) widen_avx2(row + left * p.pitch, from, (right - left) * p.pitch);
        else
            for (size_t x = left; x < right; x++, from += c->in.pitch)
                widen_avx2(row + x * p.pitch, from, p.pitch);
        pad_avx2(c, row, right, p.width);
    }
    if (part + 1 < parts) return;
    const size_t used = p.height * p.row * sizeof(int16_t);
    memset((uint8_t *)scratch + used, 0, sqz_conv_scratch_avx2(c) - used);
}

/* ---- Sums and what becomes of them ----------------------------------------------------------- */

SQZ_AVX2_INLINE __m256i vector_avx2(const void *at) { return _mm256_loadu_si256((const __m256i *)at); }

SQZ_AVX2_INLINE void add_product_avx2(__m256i *sum, __m256i x, __m256i w) {
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
}

/* `pixels` windows, `step` numbers apart: pairs of inputs times pairs of 16 filters' weights. */
SQZ_AVX2_INLINE void dense_sums_avx2(const sqz_conv *c, const plan_avx2 *p, const int16_t *in, size_t step,
                                     const int16_t *weights, const int pixels, __m256i sum[][2]) {
    for (size_t i = 0; i < c->kernel[0]; i++)
        for (size_t j = 0; j < p->across; j++) {
            const int16_t *from = in + i * c->dilation[0] * p->row + j * c->dilation[1] * p->pitch;
            for (size_t k = 0; k < p->pairs; k++, from += 2, weights += 2 * BLOCK_AVX2) {
                const __m256i w0 = vector_avx2(weights), w1 = vector_avx2(weights + BLOCK_AVX2);
                for (int m = 0; m < pixels; m++) {
                    int32_t pair;
                    memcpy(&pair, from + (size_t)m * step, sizeof pair);
                    const __m256i x = _mm256_set1_epi32(pair);
                    add_product_avx2(&sum[m][0], x, w0);
                    add_product_avx2(&sum[m][1], x, w1);
                }
            }
        }
}

/* The same where channels keep to themselves: pairs are two places of the window, 16 channels of each. */
SQZ_AVX2_INLINE void depthwise_sums_avx2(const sqz_conv *c, const plan_avx2 *p, const int16_t *in,
                                         size_t step, const int16_t *weights, const int pixels,
                                         __m256i sum[][2]) {
    const size_t places = (size_t)c->kernel[0] * c->kernel[1];
    const size_t down = c->dilation[0] * p->row, right = c->dilation[1] * p->pitch;
    size_t column = 0;
    const int16_t *row = in;
    for (size_t i = 0; i < places; i += 2, weights += 2 * BLOCK_AVX2) {
        const int16_t *place[2];
        for (int half = 0; half < 2; half++) { /* behind the last place weights are 0: any will do */
            place[half] = i + (size_t)half < places ? row + column * right : in;
            if (++column < c->kernel[1]) continue;
            column = 0;
            row += down;
        }
        const __m256i w0 = vector_avx2(weights), w1 = vector_avx2(weights + BLOCK_AVX2);
        for (int m = 0; m < pixels; m++) {
            const __m256i x = vector_avx2(place[0] + (size_t)m * step);
            const __m256i y = vector_avx2(place[1] + (size_t)m * step);
            add_product_avx2(&sum[m][0], _mm256_unpacklo_epi16(x, y), w0);
            add_product_avx2(&sum[m][1], _mm256_unpackhi_epi16(x, y), w1);
        }
    }
}

/* One block: its filters, and what makes bytes of its sums. */
typedef struct block_avx2 {
    __m256 multiplier[2];
    __m256i bias[2], zero, low, high;
    const int16_t *weights;
    size_t count; /* channels */
} block_avx2;

SQZ_AVX2_INLINE void read_block_avx2(block_avx2 *to, const sqz_conv *c, const plan_avx2 *p, size_t block) {
    const float *multiplier = (const float *)c->weights;
    const int32_t *bias = (const int32_t *)(const void *)(multiplier + p->blocks * BLOCK_AVX2);
    const int16_t *weights = (const int16_t *)(const void *)(bias + p->blocks * BLOCK_AVX2);
    for (size_t i = 0; i < 2; i++) {
        to->multiplier[i] = _mm256_loadu_ps(multiplier + block * BLOCK_AVX2 + 8 * i);
        to->bias[i] = vector_avx2(bias + block * BLOCK_AVX2 + 8 * i);
    }
    to->zero = _mm256_set1_epi16((int16_t)c->rounding.zero_point);
    to->low = _mm256_set1_epi16((int16_t)c->rounding.low);
    to->high = _mm256_set1_epi16((int16_t)c->rounding.high);
    to->weights = weights + block * p->block_size;
    const size_t rest = p->filters - block % p->group_blocks * BLOCK_AVX2;
    to->count = rest < BLOCK_AVX2 ? rest : BLOCK_AVX2;
}

SQZ_AVX2_INLINE void store_sums_avx2(const sqz_conv *c, const block_avx2 *b, const __m256i sum[2],
                                     uint8_t *to) {
    const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[0]), b->multiplier[0]);
    const __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[1]), b->multiplier[1]);
    if (c->logits) {
        float logits[BLOCK_AVX2];
        _mm256_storeu_ps(logits, _mm256_permute2f128_ps(x, y, 0x20));
        _mm256_storeu_ps(logits + 8, _mm256_permute2f128_ps(x, y, 0x31));
        memcpy(to, logits, b->count * sizeof *logits);
        return;
    }
    __m256i q = _mm256_packs_epi32(_mm256_cvtps_epi32(x), _mm256_cvtps_epi32(y));
    q = _mm256_min_epi16(_mm256_max_epi16(_mm256_adds_epi16(q, b->zero), b->low), b->high);
    q = _mm256_permute4x64_epi64(_mm256_packus_epi16(q, q), 0x08);
    if (b->count == BLOCK_AVX2 && !c->rounding.table) {
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(q));
        return;
    }
    uint8_t bytes[BLOCK_AVX2];
    _mm_storeu_si128((__m128i *)(void *)bytes, _mm256_castsi256_si128(q));
    if (c->rounding.table)
        for (size_t k = 0; k < b->count; k++) to[k] = c->rounding.table[bytes[k]];
    else memcpy(to, bytes, b->count);
}

SQZ_AVX2_INLINE void pixels_avx2(const sqz_conv *c, const plan_avx2 *p, const block_avx2 *b,
                                 const int16_t *in, uint8_t *out, const int depthwise, const int pixels) {
    const size_t step = c->stride[1] * p->pitch;
    __m256i sum[PIXELS_AVX2][2];
    for (int m = 0; m < pixels; m++)
        for (int i = 0; i < 2; i++) sum[m][i] = b->bias[i];
    if (depthwise) depthwise_sums_avx2(c, p, in, step, b->weights, pixels, sum);
    else dense_sums_avx2(c, p, in, step, b->weights, pixels, sum);
    for (int m = 0; m < pixels; m++) store_sums_avx2(c, b, sum[m], out + (size_t)m * c->out.pitch);
}

/* A line of results, in portions of nearly one size. */
SQZ_AVX2_INLINE void line_avx2(const sqz_conv *c, const plan_avx2 *p, const block_avx2 *b, const int16_t *in,
                               uint8_t *out, size_t length, const int depthwise) {
    const size_t most = depthwise ? NARROW_AVX2 : PIXELS_AVX2, portions = (length + most - 1) / most;
    for (size_t i = 0; i < portions; i++) {
        const size_t x = length * i / portions, end = length * (i + 1) / portions;
        const int16_t *from = in + x * c->stride[1] * p->pitch;
        uint8_t *to = out + x * c->out.pitch;
        switch (end - x) {
        case 1: pixels_avx2(c, p, b, from, to, depthwise, 1); break;
        case 2: pixels_avx2(c, p, b, from, to, depthwise, 2); break;
        case 3: pixels_avx2(c, p, b, from, to, depthwise, 3); break;
        case 4: pixels_avx2(c, p, b, from, to, depthwise, 4); break;
        case 5: pixels_avx2(c, p, b, from, to, 0, 5); break; /* never depthwise */
        default: pixels_avx2(c, p, b, from, to, 0, 6); break;
        }
    }
}

SQZ_AVX2_CODE void sqz_conv_avx2(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out,
                                 uint32_t part, uint32_t parts) {
    (void)in;
    const plan_avx2 p = plan_of_avx2(c);
    /* Parts share rows; where there are few of them, blocks. */
    uint32_t first = 0, last = c->out.height, block = 0, end = (uint32_t)p.blocks;
    if (c->out.height / 8 >= parts) sqz_share(c->out.height, part, parts, &first, &last);
    else sqz_share((uint32_t)p.blocks, part, parts, &block, &end);
    /* Where every pixel is a window and they follow each other, all rows are one. */
    size_t lines = last - first, length = c->out.width;
    if (c->kernel[0] == 1 && c->kernel[1] == 1 && c->stride[0] == 1 && c->stride[1] == 1 &&
        c->out.row == c->out.width * c->out.pitch) {
        length *= lines;
        lines = 1;
    }
    for (; block < end; block++) {
        block_avx2 b;
        read_block_avx2(&b, c, &p, block);
        const size_t group = block / p.group_blocks, within = block % p.group_blocks * BLOCK_AVX2;
        const size_t channel = group * p.filters + within;
        const int16_t *from = (const int16_t *)scratch + (p.depthwise ? within : group * p.inputs);
        uint8_t *to = (uint8_t *)out + channel * (c->logits ? sizeof(float) : 1);
        for (size_t y = first; y < first + lines; y++) {
            const int16_t *row = from + y * c->stride[0] * p.row;
            if (p.depthwise) line_avx2(c, &p, &b, row, to + y * c->out.row, length, 1);
            else line_avx2(c, &p, &b, row, to + y * c->out.row, length, 0);
        }
    }
}

#endif
