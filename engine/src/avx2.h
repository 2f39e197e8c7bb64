/* avx2.h: what the AVX2 kernels share.
 *
 * They are compiled without flags for the machine, so each function names the instructions it uses:
 * SQZ_AVX2_CODE for one that is called, SQZ_AVX2_INLINE for a piece of one. */
#ifndef SQZ_AVX2_H
#define SQZ_AVX2_H

#include "kernels.h"

#ifdef SQZ_X86
#include <immintrin.h>

#define SQZ_AVX2_CODE __attribute__((target("avx2")))
#define SQZ_AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))

size_t sqz_conv_packed_avx2(const sqz_conv *c);
size_t sqz_conv_scratch_avx2(const sqz_conv *c);
void sqz_conv_pack_avx2(const sqz_conv *c, const int8_t *weight, void *packed);
void sqz_conv_prepare_avx2(const sqz_conv *c, const uint8_t *in, void *scratch, uint32_t part,
                           uint32_t parts);
void sqz_conv_avx2(const sqz_conv *c, const uint8_t *in, const void *scratch, void *out, uint32_t part,
                   uint32_t parts);
#endif

#endif
