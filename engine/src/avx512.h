/* avx512.h: what the AVX-512 kernels share: from 32-bit sums to bytes, 64 at a time.
 *
 * A file of these kernels is compiled without flags for the machine, so each function names the instructions
 * it uses: SQZ_AVX512 for one that is called, SQZ_AVX512_INLINE for a piece of one.
 */
#ifndef SQZ_AVX512_H
#define SQZ_AVX512_H

#include "kernels.h"

#ifdef SQZ_X86
#include <immintrin.h>
#include <string.h>

#define SQZ_AVX512_TARGET target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")
#define SQZ_AVX512 __attribute__((SQZ_AVX512_TARGET))
#define SQZ_AVX512_INLINE static inline __attribute__((always_inline, SQZ_AVX512_TARGET))
#ifdef __clang__
#define SQZ_UNROLL _Pragma("unroll")
#else
#define SQZ_UNROLL _Pragma("GCC unroll 32")
#endif

size_t sqz_conv_packed_avx512(const sqz_conv *c);
size_t sqz_conv_scratch_avx512(const sqz_conv *c);
void sqz_conv_pack_avx512(const sqz_conv *c, const int8_t *weight, void *packed);
void sqz_conv_prepare_avx512(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part,
                             uint32_t parts);
void sqz_conv_avx512(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out, uint32_t part,
                     uint32_t parts);

/* One filter a channel: depthwise_avx512.c. It needs no scratch. */
int sqz_depthwise_fits_avx512(const sqz_conv *c);
size_t sqz_depthwise_packed_avx512(const sqz_conv *c);
void sqz_depthwise_pack_avx512(const sqz_conv *c, const int8_t *weight, void *packed);
void sqz_depthwise_avx512(const sqz_conv *c, const uint8_t *in, uint8_t *out, uint32_t part, uint32_t parts);

/* Packing narrows two vectors to one within each quarter of 128 bits. So after 4 vectors of 16 numbers have
 * become one of 64 bytes, number e of vector v is byte 16 * (e / 4) + 4 * v + e % 4. Weights laid out in this
 * order give bytes in the order of the channels. */
static inline uint32_t sqz_channel_avx512(uint32_t vector, uint32_t element) {
    return 16 * (element / 4) + 4 * vector + element % 4;
}

SQZ_AVX512_INLINE __mmask64 sqz_mask_avx512(size_t bytes) { /* the lowest `bytes`, 64 at most */
    return bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1;
}

/* round(float(sum) * multiplier). Conversion rounds to nearest, ties to even: what a program starts with. */
SQZ_AVX512_INLINE __m512i sqz_scale_avx512(__m512i sum, __m512 multiplier) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier));
}

typedef struct sqz_limits_avx512 {
    __m512i zero_point, low, high;
} sqz_limits_avx512;

SQZ_AVX512_INLINE sqz_limits_avx512 sqz_limits_of_avx512(const sqz_rounding *r) {
    const sqz_limits_avx512 limits = {_mm512_set1_epi16((short)r->zero_point),
                                      _mm512_set1_epi8((char)r->low), _mm512_set1_epi8((char)r->high)};
    return limits;
}

/* Two vectors of rounded products to one of 16-bit numbers, with the zero point added. What is cut off at 16
 * bits is beyond the limits before and after. */
SQZ_AVX512_INLINE __m512i sqz_halve_avx512(__m512i a, __m512i b, const sqz_limits_avx512 *limits) {
    return _mm512_adds_epi16(_mm512_packs_epi32(a, b), limits->zero_point);
}

SQZ_AVX512_INLINE __m512i sqz_bytes_avx512(__m512i a, __m512i b, const sqz_limits_avx512 *limits) {
    return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), limits->low), limits->high);
}

/* table[byte], for 64 bytes: bits 0 to 6 choose from either half of the table, and bit 7 the half. */
SQZ_AVX512_INLINE __m512i sqz_lookup_avx512(__m512i bytes, const uint8_t *table) {
    const __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    const __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), _mm512_permutex2var_epi8(a, bytes, b),
                                  _mm512_permutex2var_epi8(c, bytes, d));
}

#endif
#endif
