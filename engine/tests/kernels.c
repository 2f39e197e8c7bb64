/* kernels.c: the kernels of every instruction set against those in plain C, on random problems.
 *
 *   sqz_kernels_test [SEED [COUNT]]     (1 and 2000)
 *
 * Every problem runs with every table of kernels that the processor has, and the results are compared to the
 * last bit, together with what lies between and around them, which nobody may touch. Inputs lie beside pages
 * that cannot be read. The first failure is printed with all that it takes to understand it; a problem
 * depends on nothing but the seed and its number. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../src/kernels.h"

/* ---- Chance ---------------------------------------------------------------------------------- */

static uint64_t state;

static uint32_t chance(void) { /* splitmix64 */
    uint64_t x = state += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(x >> 32);
}

static uint32_t between(uint32_t low, uint32_t high) { return low + chance() % (high - low + 1); }

static int one_in(uint32_t n) { return chance() % n == 0; }

/* Bytes of one of several kinds: all values, a single one, the two extremes, few different ones. */
static void fill(uint8_t *to, size_t count) {
    static const uint8_t extremes[] = {0, 255, 128, 127};
    const uint32_t kind = between(0, 4);
    const uint8_t same = extremes[chance() % 4], few = (uint8_t)chance();
    for (size_t i = 0; i < count; i++) {
        const uint32_t x = chance();
        to[i] = kind < 2    ? (uint8_t)x
                : kind == 2 ? same
                : kind == 3 ? extremes[x % 4]
                            : (uint8_t)(few + x % 3);
    }
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Pieces of memory between pages that cannot be touched. */
enum { FIRST, SECOND, PACKED, SCRATCH, REGIONS, ROOM = 1 << 23 };
static uint8_t *region[REGIONS];

static void open_regions(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < REGIONS; i++) {
        uint8_t *all = mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + page, ROOM, PROT_READ | PROT_WRITE) != 0) {
            perror("mmap");
            exit(2);
        }
        region[i] = all + page;
    }
}

static void enough(size_t size) { /* any piece of memory here has ROOM bytes */
    if (size <= ROOM) return;
    fprintf(stderr, "a problem needs %zu bytes, which are too many for this test\n", size);
    exit(2);
}

/* For an input: right behind one forbidden page, or as close before the other as the contract allows. */
static uint8_t *place_input(int which, const sqz_area *area) {
    const size_t size = (area->height - 1) * area->row + (area->width - 1) * area->pitch + area->channels;
    const size_t behind = area->exact ? 0 : SQZ_BEHIND;
    enough(size + behind);
    uint8_t *at = one_in(3) ? region[which] : region[which] + ROOM - size - behind;
    fill(at, size + behind);
    return at;
}

/* For packed weights and scratch: aligned, and the last possible. Behind them are bytes that must stay. */
static uint8_t *place_aligned(int which, size_t size) {
    enough(size + SQZ_ALIGN);
    const size_t from = (ROOM - size) / SQZ_ALIGN * SQZ_ALIGN;
    memset(region[which] + from, 0xA5, ROOM - from);
    return region[which] + from;
}

static int is_untouched(int which, const uint8_t *at, size_t size) {
    for (const uint8_t *rest = at + size; rest < region[which] + ROOM; rest++)
        if (*rest != 0xA5) return 0;
    return 1;
}

/* ---- What is being tried --------------------------------------------------------------------- */

static char problem[2048];
static size_t told;

#define TELL(...)                                                                                            \
    do {                                                                                                     \
        const int written = snprintf(problem + told, sizeof problem - told, __VA_ARGS__);                    \
        if (written > 0 && told + (size_t)written < sizeof problem) told += (size_t)written;                 \
    } while (0)

static void tell_area(const char *name, const sqz_area *a) {
    TELL(" %s=%ux%ux%u row=%zu pitch=%zu%s", name, a->height, a->width, a->channels, a->row, a->pitch,
         a->exact ? " exact" : "");
}

static void tell_rounding(const sqz_rounding *r) {
    TELL(" zero=%d low=%d high=%d%s", r->zero_point, r->low, r->high, r->table ? " table" : "");
}

static void fail(const char *kernels, const char *what) {
    printf("%s: %s\n  %s\n", kernels, what, problem);
    exit(1);
}

static const char *running = "";

static void on_signal(int number) { /* not async-safe, but the program ends here anyway */
    printf("%s: touched memory that is not its own (signal %d)\n  %s\n", running, number, problem);
    fflush(stdout);
    _exit(1);
}

/* ---- Results --------------------------------------------------------------------------------- */

enum { MARGIN = 128 };
static uint8_t before[ROOM], expected[ROOM], got[ROOM];

static size_t result_size(const sqz_area *area, size_t element) {
    const size_t size =
        (area->height - 1) * area->row + (area->width - 1) * area->pitch + area->channels * element;
    enough(size + 2 * MARGIN);
    return size + 2 * MARGIN;
}

static void new_results(size_t size) {
    fill(before, size);
    memcpy(expected, before, size);
}

/* The definition itself may write nothing but the result. */
static void check_definition(const sqz_area *area, size_t element, size_t size) {
    memcpy(got, expected, size);
    for (size_t y = 0; y < area->height; y++)
        for (size_t x = 0; x < area->width; x++) {
            const size_t at = MARGIN + y * area->row + x * area->pitch;
            memcpy(got + at, before + at, area->channels * element);
        }
    if (memcmp(got, before, size) != 0) fail("scalar", "wrote beside its result");
}

static void compare(const char *kernels, const sqz_area *area, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (got[i] != expected[i]) {
            const size_t at = i - MARGIN;
            printf("byte %zd: %u instead of %u (row %zd, pixel %zd, byte %zd)\n", (ssize_t)at, got[i],
                   expected[i], (ssize_t)(at / area->row), (ssize_t)(at % area->row / area->pitch),
                   (ssize_t)(at % area->row % area->pitch));
            fail(kernels, "another result than the definition's");
        }
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

static uint32_t some_channels(void) {
    static const uint32_t usual[] = {1, 3, 8, 16, 24, 32, 48, 64, 96, 128, 144, 192};
    return one_in(2) ? usual[chance() % 12] : between(1, 200);
}

/* An area, with room between pixels and rows now and then. */
static sqz_area some_area(uint32_t height, uint32_t width, uint32_t channels, size_t element) {
    sqz_area a = {height, width, channels, 0, channels * element, 0};
    if (one_in(3)) a.pitch += between(1, 100) * element;
    a.row = a.width * a.pitch;
    if (one_in(4)) a.row += between(1, 50) * element;
    a.exact = (uint32_t)one_in(2);
    return a;
}

static uint8_t table[256];

static sqz_rounding some_rounding(void) {
    sqz_rounding r = {(int32_t)between(0, 255), 0, 255, NULL};
    const uint32_t kind = between(0, 3);
    if (one_in(4)) r.zero_point = one_in(2) ? 0 : 255;
    if (kind == 0) r.low = r.zero_point;
    if (kind == 1) {
        r.low = (int32_t)between(0, 255);
        r.high = (int32_t)between((uint32_t)r.low, 255);
    }
    if (one_in(3)) {
        for (int i = 0; i < 256; i++) table[i] = (uint8_t)chance();
        r.table = table;
    }
    return r;
}

/* A multiplier such that results of sums up to `bound` are spread over bytes, or far off, or ties. */
static float some_multiplier(double bound) {
    const double spread = 255.0 / bound, random = between(1, 1 << 20) / (double)(1 << 20);
    switch (between(0, 7)) {
    case 0: return 0.5f;
    case 1: return (float)(spread * random * 4096);
    case 2: return (float)(-spread * random * 4);
    case 3: return (float)(spread * random * 1e-30);
    default: return (float)(spread * random * (1 << between(0, 8)));
    }
}

static float any_multiplier(double bound) {
    static const float strange[] = {0.0f, -0.0f, 3e38f, -3e38f, 1e-45f, INFINITY, -INFINITY, NAN};
    return one_in(12) ? strange[chance() % 8] : some_multiplier(bound);
}

/* 0, 1 .. parts - 1 in any order. */
static void some_order(uint32_t *order, uint32_t parts) {
    for (uint32_t i = 0; i < parts; i++) {
        const uint32_t j = between(0, i);
        order[i] = order[j];
        order[j] = i;
    }
}

/* ---- Convolution ----------------------------------------------------------------------------- */

enum { MOST_CHANNELS = 512, MOST_WEIGHTS = 1 << 19 };

static void run_conv(const sqz_kernels *k, sqz_conv *c, const int8_t *weight, const uint8_t *in, uint8_t *out,
                     uint32_t parts) {
    uint32_t order[4];
    running = k->name;
    const size_t packed_size = k->conv_packed(c), scratch_size = k->conv_scratch(c);
    uint8_t *packed = place_aligned(PACKED, packed_size), *scratch = place_aligned(SCRATCH, scratch_size);
    k->conv_pack(c, weight, packed);
    if (!is_untouched(PACKED, packed, packed_size)) fail(k->name, "wrote behind the packed weights");
    c->weights = packed;
    some_order(order, parts);
    for (uint32_t i = 0; i < parts; i++) k->conv_prepare(c, in, scratch, order[i], parts);
    if (!is_untouched(SCRATCH, scratch, scratch_size)) fail(k->name, "wrote behind the scratch");
    some_order(order, parts);
    for (uint32_t i = 0; i < parts; i++) k->conv(c, in, scratch, out, order[i], parts);
}

/* Shapes until one has results, and not too much work. */
static void some_conv(sqz_conv *c) {
    for (;;) {
        const int linear = one_in(8), depthwise = !linear && one_in(3), grouped = !depthwise && one_in(6);
        uint32_t inputs = linear ? between(1, 600) : some_channels(), filters = some_channels(), size[2];
        memset(c, 0, sizeof *c);
        c->groups = 1;
        if (depthwise) c->groups = filters = inputs;
        if (grouped) {
            c->groups = between(2, 5);
            inputs = c->groups * between(1, 24);
            filters = c->groups * between(1, 40);
        }
        const int square = one_in(2);
        uint64_t count[2];
        int possible = 1;
        for (int i = 0; i < 2; i++) {
            size[i] = linear ? 1 : between(1, one_in(4) ? 40 : 14);
            c->kernel[i] = linear || one_in(3) ? 1 : one_in(2) ? 3 : between(1, 7);
            if (square && i) c->kernel[1] = c->kernel[0];
            c->stride[i] = linear ? 1 : one_in(2) ? 1 : between(1, 4);
            c->dilation[i] = one_in(6) ? between(1, 3) : 1;
            const uint32_t reach = (c->kernel[i] - 1) * c->dilation[i] + 1;
            c->padding[i] = linear || one_in(2) ? 0 : between(0, reach - 1);
            const uint32_t padded =
                size[i] + c->padding[i] + (linear || one_in(2) ? 0 : between(0, reach - 1));
            possible &= padded >= reach;
            count[i] = possible ? (padded - reach) / c->stride[i] + 1 : 0;
        }
        const uint64_t work =
            count[0] * count[1] * filters * (inputs / c->groups) * c->kernel[0] * c->kernel[1];
        if (!possible || work > 500000 || filters > MOST_CHANNELS) continue;
        if ((uint64_t)filters * (inputs / c->groups) * c->kernel[0] * c->kernel[1] > MOST_WEIGHTS) continue;
        c->logits = (uint32_t)one_in(6);
        c->in = some_area(size[0], size[1], inputs, 1);
        c->out = some_area((uint32_t)count[0], (uint32_t)count[1], filters, c->logits ? sizeof(float) : 1);
        return;
    }
}

static void try_conv(const sqz_kernels *const *tables) {
    static int8_t weight[MOST_WEIGHTS];
    static uint8_t pad[1024];
    static int32_t bias[MOST_CHANNELS];
    static float multiplier[MOST_CHANNELS];
    sqz_conv c;
    some_conv(&c);
    const uint32_t parts = between(1, 4), filter = c.in.channels / c.groups * c.kernel[0] * c.kernel[1];
    const uint8_t *in = place_input(FIRST, &c.in);
    fill((uint8_t *)weight, (size_t)filter * c.out.channels);
    memset(pad, (int)between(0, 255), sizeof pad);
    if (one_in(4)) fill(pad, sizeof pad);
    /* Sums may wrap around; then they can be anything. The typical sum is much smaller than the largest. */
    const int wraps = one_in(6);
    const double largest = wraps ? 2147483648.0 : filter * 255.0 * 128 + 100000;
    const double usual = wraps ? largest : one_in(2) ? largest : largest / sqrt(filter) / 4;
    for (uint32_t o = 0; o < c.out.channels; o++) {
        bias[o] = wraps ? (int32_t)chance() : (int32_t)between(0, 200000) - 100000;
        do multiplier[o] = some_multiplier(usual);
        while (!(fabs(multiplier[o]) * largest < 2147483520.0)); /* as the contract says */
    }
    c.pad = pad;
    c.bias = bias;
    c.multiplier = multiplier;
    c.rounding = some_rounding();
    TELL("conv groups=%u kernel=%u,%u stride=%u,%u padding=%u,%u dilation=%u,%u parts=%u%s%s", c.groups,
         c.kernel[0], c.kernel[1], c.stride[0], c.stride[1], c.padding[0], c.padding[1], c.dilation[0],
         c.dilation[1], parts, c.logits ? " logits" : "", wraps ? " wraps" : "");
    tell_area("in", &c.in);
    tell_area("out", &c.out);
    tell_rounding(&c.rounding);
    const size_t element = c.logits ? sizeof(float) : 1, size = result_size(&c.out, element);
    new_results(size);
    run_conv(&sqz_kernels_scalar, &c, weight, in, expected + MARGIN, 1);
    check_definition(&c.out, element, size);
    for (; *tables; tables++) {
        memcpy(got, before, size);
        run_conv(*tables, &c, weight, in, got + MARGIN, parts);
        compare((*tables)->name, &c.out, size);
    }
}

/* ---- Pooling --------------------------------------------------------------------------------- */

enum { MAX_POOL, AVG_POOL, GLOBAL_AVG_POOL };

static void run_pool(const sqz_kernels *k, int kind, const sqz_pool *p, const uint8_t *in, uint8_t *out,
                     uint32_t parts) {
    uint32_t order[4];
    running = k->name;
    some_order(order, parts);
    for (uint32_t i = 0; i < parts; i++) {
        if (kind == MAX_POOL) k->max_pool(p, in, out, order[i], parts);
        if (kind == AVG_POOL) k->avg_pool(p, in, out, order[i], parts);
        if (kind == GLOBAL_AVG_POOL) k->global_avg_pool(p, in, out, order[i], parts);
    }
}

static void some_windows(sqz_pool *p, uint32_t channels) {
    uint32_t size[2], count[2];
    for (int i = 0; i < 2;) {
        const int ceil_mode = one_in(2);
        size[i] = between(1, one_in(4) ? 50 : 14);
        const uint32_t kernel = one_in(2) ? 3 : between(1, one_in(6) ? 25 : 5);
        const uint32_t stride = one_in(2) ? 2 : between(1, 4);
        const uint32_t before_it = one_in(2) ? 0 : between(0, kernel - 1);
        const uint32_t after_it = one_in(2) ? 0 : between(0, kernel - 1);
        if (size[i] + before_it + after_it < kernel) continue;
        const uint32_t room = size[i] + before_it + after_it - kernel;
        count[i] = (ceil_mode ? (room + stride - 1) / stride : room / stride) + 1;
        if (ceil_mode && (count[i] - 1) * stride >= size[i] + before_it) count[i]--;
        p->kernel[i] = kernel;
        p->stride[i] = stride;
        p->padding[i] = before_it;
        p->padding[i + 2] = after_it;
        i++;
    }
    p->in = some_area(size[0], size[1], channels, 1);
    p->out = some_area(count[0], count[1], channels, 1);
}

static void try_pool(const sqz_kernels *const *tables) {
    static float multiplier[1024];
    sqz_pool p;
    memset(&p, 0, sizeof p);
    const int kind = (int)between(0, 2);
    const uint32_t channels = some_channels(), parts = between(1, 4);
    p.multipliers = 1;
    if (kind == GLOBAL_AVG_POOL) {
        p.logits = (uint32_t)one_in(3);
        p.in = some_area(between(1, 30), between(1, 30), channels, 1);
        p.out = some_area(1, 1, channels, p.logits ? sizeof(float) : 1);
    } else {
        some_windows(&p, channels);
        p.count_include_pad = (uint32_t)one_in(2);
        if (one_in(2)) p.multipliers = p.kernel[0] * p.kernel[1];
    }
    const uint32_t places = kind == GLOBAL_AVG_POOL ? p.in.height * p.in.width : p.kernel[0] * p.kernel[1];
    for (uint32_t i = 0; i < p.multipliers; i++) multiplier[i] = any_multiplier(255.0 * places);
    p.multiplier = multiplier;
    p.in_zero = (int32_t)between(0, 255);
    p.rounding = some_rounding();
    TELL("%s kernel=%u,%u stride=%u,%u padding=%u,%u,%u,%u%s multipliers=%u first=%a in_zero=%d parts=%u%s",
         kind == MAX_POOL   ? "max_pool"
         : kind == AVG_POOL ? "avg_pool"
                            : "global_avg_pool",
         p.kernel[0], p.kernel[1], p.stride[0], p.stride[1], p.padding[0], p.padding[1], p.padding[2],
         p.padding[3], p.count_include_pad ? " count_include_pad" : "", p.multipliers, (double)multiplier[0],
         p.in_zero, parts, p.logits ? " logits" : "");
    tell_area("in", &p.in);
    tell_area("out", &p.out);
    tell_rounding(&p.rounding);
    const uint8_t *in = place_input(FIRST, &p.in);
    const size_t element = p.logits ? sizeof(float) : 1, size = result_size(&p.out, element);
    new_results(size);
    run_pool(&sqz_kernels_scalar, kind, &p, in, expected + MARGIN, 1);
    check_definition(&p.out, element, size);
    for (; *tables; tables++) {
        memcpy(got, before, size);
        run_pool(*tables, kind, &p, in, got + MARGIN, parts);
        compare((*tables)->name, &p.out, size);
    }
}

/* ---- Pairs and maps -------------------------------------------------------------------------- */

static void run_pair(const sqz_kernels *k, int product, const sqz_pair *p, const uint8_t *a, const uint8_t *b,
                     uint8_t *out, uint32_t parts) {
    uint32_t order[4];
    running = k->name;
    some_order(order, parts);
    for (uint32_t i = 0; i < parts; i++) {
        if (product) k->mul(p, a, b, out, order[i], parts);
        else k->add(p, a, b, out, order[i], parts);
    }
}

static void try_pair(const sqz_kernels *const *tables) {
    sqz_pair p;
    memset(&p, 0, sizeof p);
    const int product = one_in(2), one = one_in(2);
    const uint32_t height = between(1, 12), width = between(1, 12), channels = some_channels();
    const uint32_t parts = between(1, 4);
    p.a = some_area(height, width, channels, 1);
    p.b = some_area(one ? 1 : height, one ? 1 : width, channels, 1);
    p.out = some_area(height, width, channels, 1);
    if (one_in(2)) p.a.pitch = p.b.pitch = p.out.pitch = channels; /* dense: runs of many pixels */
    if (one_in(2)) {
        p.a.row = height > 1 || one_in(2) ? width * p.a.pitch : p.a.row;
        p.b.row = p.b.width * p.b.pitch;
        p.out.row = width * p.out.pitch;
    }
    p.a_zero = (int32_t)between(0, 255);
    p.b_zero = (int32_t)between(0, 255);
    for (int i = 0; i < 2; i++) p.multiplier[i] = any_multiplier(product ? 255.0 * 255 : 255);
    p.rounding = some_rounding();
    TELL("%s zeros=%d,%d multipliers=%a,%a parts=%u", product ? "mul" : "add", p.a_zero, p.b_zero,
         (double)p.multiplier[0], (double)p.multiplier[1], parts);
    tell_area("a", &p.a);
    tell_area("b", &p.b);
    tell_area("out", &p.out);
    tell_rounding(&p.rounding);
    const uint8_t *a = place_input(FIRST, &p.a), *b = place_input(SECOND, &p.b);
    const size_t size = result_size(&p.out, 1);
    new_results(size);
    run_pair(&sqz_kernels_scalar, product, &p, a, b, expected + MARGIN, 1);
    check_definition(&p.out, 1, size);
    for (; *tables; tables++) {
        memcpy(got, before, size);
        run_pair(*tables, product, &p, a, b, got + MARGIN, parts);
        compare((*tables)->name, &p.out, size);
    }
}

static void run_map(const sqz_kernels *k, const sqz_map *m, const uint8_t *in, uint8_t *out, uint32_t parts) {
    uint32_t order[4];
    running = k->name;
    some_order(order, parts);
    for (uint32_t i = 0; i < parts; i++) k->map(m, in, out, order[i], parts);
}

static void try_map(const sqz_kernels *const *tables) {
    const uint32_t height = between(1, 12), width = between(1, 12), channels = some_channels();
    const uint32_t parts = between(1, 4);
    const sqz_area in_area = some_area(height, width, channels, 1);
    const sqz_area out_area = some_area(height, width, channels, 1);
    const sqz_map m = {in_area, out_area, one_in(4) ? NULL : table};
    for (int i = 0; i < 256; i++) table[i] = (uint8_t)chance();
    TELL("map%s parts=%u", m.table ? " table" : "", parts);
    tell_area("in", &m.in);
    tell_area("out", &m.out);
    const uint8_t *in = place_input(FIRST, &m.in);
    const size_t size = result_size(&m.out, 1);
    new_results(size);
    run_map(&sqz_kernels_scalar, &m, in, expected + MARGIN, 1);
    check_definition(&m.out, 1, size);
    for (; *tables; tables++) {
        memcpy(got, before, size);
        run_map(*tables, &m, in, got + MARGIN, parts);
        compare((*tables)->name, &m.out, size);
    }
}

/* ---- All ------------------------------------------------------------------------------------- */

int main(int count, char **arguments) {
    const unsigned long seed = count > 1 ? strtoul(arguments[1], NULL, 10) : 1;
    const unsigned long problems = count > 2 ? strtoul(arguments[2], NULL, 10) : 2000;
    const sqz_kernels *tables[3] = {NULL};
    int found = 0;
#ifdef SQZ_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) tables[found++] = &sqz_kernels_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
        tables[found++] = &sqz_kernels_avx512;
#endif
    open_regions();
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    for (unsigned long i = 0; i < problems; i++) {
        state = (uint64_t)seed << 32 ^ i;
        told = 0;
        TELL("seed %lu, problem %lu: ", seed, i);
        switch (i % 6) {
        case 0:
        case 1:
        case 2: try_conv(tables); break;
        case 3: try_pool(tables); break;
        case 4: try_pair(tables); break;
        default: try_map(tables); break;
        }
    }
    printf("%lu problems, equal to scalar:", problems);
    for (int i = 0; i < found; i++) printf(" %s", tables[i]->name);
    printf(found ? "\n" : " (this processor has no other kernels)\n");
    return 0;
}
