/* kernels.h: what the engine's operators compute, and the tables of functions that compute it.
 *
 * A value of a network lies in memory as bytes, row by row, pixel by pixel, channel by channel (NHWC). Rows
 * are `row` bytes apart and pixels `pitch` bytes, which may be more than the value has channels: a value may
 * be a part of a concatenation, or cut out of a wider one.
 *
 * kernels_scalar.c defines the results. Those of other instruction sets are equal to the last bit, and obey
 * the same rules:
 *
 * - Written is what belongs to the result, and nothing beside it: its neighbours are other results.
 * - Behind the last byte of an input SQZ_BEHIND bytes may be read, whatever they are, unless it is `exact`.
 * - Work is shared by `parts` callers at the same time; part number `part` (from 0) does its share, and which
 *   share that is depends on nothing else. No part reads what another one writes.
 */
#ifndef SQZ_KERNELS_H
#define SQZ_KERNELS_H

#include "sqz.h"

enum { SQZ_BEHIND = 64, SQZ_ALIGN = 64 };

typedef struct sqz_area { /* how a value lies in memory */
    uint32_t height, width, channels;
    size_t row, pitch; /* bytes from row to row, from pixel to pixel */
    uint32_t exact;    /* the caller's own memory: not a byte outside may be touched */
} sqz_area;

/* How a whole number becomes a byte: q = clamp(round(float(sum) * multiplier) + zero_point, low, high), in
 * float32, rounded to nearest, ties to even, without fused operations; then table[q], if there is a table. */
typedef struct sqz_rounding {
    int32_t zero_point, low, high; /* 0 <= low <= high <= 255 */
    const uint8_t *table;          /* 256 bytes, or NULL */
} sqz_rounding;

/* Convolution; a linear layer is one over a single pixel.
 *   sum[y, x, o] = bias[o] + sum over i, j, c of
 *                  in[y * stride - padding + i * dilation, ..., c] * weight[o, c, i, j]
 * modulo 2^32, where in is pad[c] outside of the picture. The input's zero point is in the bias already, so
 * bytes count as they are. sqz_conv_fits has made sure that |float(sum) * multiplier| < 2^31. */
typedef struct sqz_conv {
    sqz_area in, out; /* of the result with `logits`, pitch and row are bytes of float32 numbers */
    uint32_t kernel[2], stride[2], padding[2], dilation[2], groups; /* padding: top, left */
    uint32_t logits; /* the result is float(sum) * multiplier, float32 */
    sqz_rounding rounding;
    const uint8_t *pad;      /* in.channels bytes */
    const int32_t *bias;     /* out.channels numbers */
    const float *multiplier; /* out.channels numbers */
    const void *weights;     /* as conv_pack laid them out; aligned to SQZ_ALIGN */
} sqz_conv;

/* Pooling. Windows are clipped to the picture: what is outside counts for nothing (but see divisors).
 *   max:  the largest byte
 *   avg:  sum of (byte - in_zero) over the window, times multiplier[n - 1], n the places of this window that
 *         count (sqz_window_places); or times multiplier[0] if there is but one
 *   global_avg: the same with one window, the whole picture; with `logits` the product itself, as float32 */
typedef struct sqz_pool {
    sqz_area in, out;
    uint32_t kernel[2], stride[2], padding[4]; /* top, left, bottom, right */
    uint32_t count_include_pad, logits;
    int32_t in_zero;
    uint32_t multipliers;
    const float *multiplier;
    sqz_rounding rounding;
} sqz_pool;

/* Two values: of one shape, or the second one a number a channel (b.height = b.width = 1).
 *   add: float(a - a_zero) * multiplier[0] + float(b - b_zero) * multiplier[1], each operation rounded
 *   mul: float((a - a_zero) * (b - b_zero)) * multiplier[0]
 * and then rounded as above (the product is the number that is rounded). */
typedef struct sqz_pair {
    sqz_area a, b, out;
    int32_t a_zero, b_zero;
    float multiplier[2];
    sqz_rounding rounding;
} sqz_pair;

typedef struct sqz_map { /* byte for byte: out = table[in], or a copy where there is no table */
    sqz_area in, out;
    const uint8_t *table;
} sqz_map;

typedef struct sqz_kernels {
    const char *name;
    /* Convolution works in two phases, with a barrier between them: prepare (which may do nothing) writes to
     * `scratch`, conv_scratch bytes aligned to SQZ_ALIGN; then conv reads it. */
    size_t (*conv_packed)(const sqz_conv *c);  /* bytes of packed weights */
    size_t (*conv_scratch)(const sqz_conv *c); /* 0: there is no first phase */
    /* weight: (out.channels, in.channels / groups, kernel[0], kernel[1]), as in the file. */
    void (*conv_pack)(const sqz_conv *c, const int8_t *weight, void *packed);
    void (*conv_prepare)(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part, uint32_t parts);
    void (*conv)(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out, uint32_t part,
                 uint32_t parts);
    void (*max_pool)(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts);
    void (*avg_pool)(const sqz_pool *p, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts);
    void (*global_avg_pool)(const sqz_pool *p, const uint8_t *in, void *out, uint32_t part, uint32_t parts);
    void (*add)(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out, uint32_t part,
                uint32_t parts);
    void (*mul)(const sqz_pair *p, const uint8_t *a, const uint8_t *b, uint8_t *out, uint32_t part,
                uint32_t parts);
    void (*map)(const sqz_map *m, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts);
} sqz_kernels;

extern const sqz_kernels sqz_kernels_scalar;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(SQZ_ONLY_SCALAR)
#define SQZ_X86 1
extern const sqz_kernels sqz_kernels_avx2;   /* needs AVX2 */
extern const sqz_kernels sqz_kernels_avx512; /* needs AVX-512 F, BW, DQ, VL, VBMI and VNNI */
#endif

/* The share of `part` of `parts` in `count` things: from begin to end. */
static inline void sqz_share(uint32_t count, uint32_t part, uint32_t parts, uint32_t *begin, uint32_t *end) {
    *begin = (uint32_t)((uint64_t)count * part / parts);
    *end = (uint32_t)((uint64_t)count * (part + 1) / parts);
}

/* To the nearest whole number, ties to even: adding 1.5 * 2^23 leaves no bits behind the point. What lies
 * beyond is cut off first, where every byte is at its limit anyway. */
static inline int32_t sqz_round_even(float x) {
    const float magic = 12582912.0f;
    if (!(x > -65536.0f)) return -65536;
    if (x > 65536.0f) return 65536;
    volatile float sum = x + magic; /* volatile: no compiler's flag may fold the two away */
    return (int32_t)(sum - magic);
}

/* How many places of the window of output (y, x) an average divides by. */
static inline uint32_t sqz_window_places(const sqz_pool *p, uint32_t y, uint32_t x) {
    const uint32_t at[2] = {y, x}, size[2] = {p->in.height, p->in.width};
    uint32_t places = 1;
    for (int i = 0; i < 2; i++) {
        const int64_t from = (int64_t)at[i] * p->stride[i] - p->padding[i];
        int64_t begin = from, end = from + p->kernel[i];
        const int64_t limit = (int64_t)size[i] + (p->count_include_pad ? p->padding[i + 2] : 0);
        if (end > limit) end = limit;
        if (!p->count_include_pad && begin < 0) begin = 0;
        places *= (uint32_t)(end - begin);
    }
    return places;
}

#endif
