/* kernels_avx512.c: the table of the kernels for AVX-512 with VNNI. */
#include "avx512.h"
#include "elementwise.h"

#ifdef SQZ_X86
const sqz_kernels sqz_kernels_avx512 = {
    "avx512",
    sqz_conv_packed_avx512,
    sqz_conv_scratch_avx512,
    sqz_conv_pack_avx512,
    sqz_conv_prepare_avx512,
    sqz_conv_avx512,
    sqz_max_pool_avx512,
    sqz_avg_pool_avx512,
    sqz_global_avg_pool_avx512,
    sqz_add_avx512,
    sqz_mul_avx512,
    sqz_map_avx512,
};
#endif
