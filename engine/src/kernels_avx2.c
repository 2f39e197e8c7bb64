/* kernels_avx2.c: the table of the kernels for AVX2. */
#include "avx2.h"
#include "elementwise.h"

#ifdef SQZ_X86
const sqz_kernels sqz_kernels_avx2 = {
    "avx2",
    sqz_conv_packed_avx2,
    sqz_conv_scratch_avx2,
    sqz_conv_pack_avx2,
    sqz_conv_prepare_avx2,
    sqz_conv_avx2,
    sqz_max_pool_avx2,
    sqz_avg_pool_avx2,
    sqz_global_avg_pool_avx2,
    sqz_add_avx2,
    sqz_mul_avx2,
    sqz_map_avx2,
};
#endif
