/* golden.c: does a network still answer as it was written down?
 *
 *   golden model.sqz picture.bin logits.bin [isa] [threads]
 *
 * Pictures and logits are raw bytes and float32 numbers, of one picture or of several. `isa` is one of
 * scalar, avx2, avx512, best; what the processor does not have exits with 77. Runs alone, and with `threads`
 * in the library's own pool, several times. Exits with 1 at the first bit that differs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

enum { ABSENT = 77 };

static uint8_t *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(2);
    }
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size + 1);
    if (bytes == NULL || fread(bytes, 1, *size, file) != *size) exit(2);
    fclose(file);
    return bytes;
}

static void *aligned(size_t size) {
    return aligned_alloc(SQZ_ALIGNMENT, (size / SQZ_ALIGNMENT + 1) * SQZ_ALIGNMENT);
}

static void check(sqz_error error, const char *where) {
    if (error == SQZ_OK) return;
    fprintf(stderr, "%s: %s\n", where, sqz_error_name(error));
    exit(1);
}

static sqz_isa isa_of(const char *name) {
    static const char *const names[] = {"best", "scalar", "avx2", "avx512"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) return (sqz_isa)i;
    fprintf(stderr, "%s: no such instruction set\n", name);
    exit(2);
}

static void compare(const float *logits, const uint8_t *expected, uint32_t count, const char *how) {
    for (uint32_t i = 0; i < count; i++) {
        float want;
        memcpy(&want, expected + i * sizeof want, sizeof want);
        if (memcmp(&want, &logits[i], sizeof want) == 0) continue;
        fprintf(stderr, "%s: logit %u is %.9g, not %.9g\n", how, (unsigned)i, (double)logits[i],
                (double)want);
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    const sqz_isa isa = count > 4 ? isa_of(arguments[4]) : SQZ_ISA_BEST;
    const uint32_t threads = count > 5 ? (uint32_t)atoi(arguments[5]) : 1;
    if (!sqz_isa_available(isa)) return ABSENT;
    size_t size, picture_size, logits_size, plan_size;
    uint8_t *file = load(arguments[1], &size), *picture = load(arguments[2], &picture_size),
            *expected = load(arguments[3], &logits_size);
    sqz_needs needs;
    sqz_model *model;
    sqz_info info;
    check(sqz_workspace(file, size, &plan_size), arguments[1]);
    void *plan = malloc(plan_size);
    check(sqz_plan(&needs, file, size, isa, plan, plan_size), arguments[1]);
    void *memory = aligned(needs.model), *open = malloc(needs.open);
    check(sqz_open(&model, memory, needs.model, plan, open, needs.open), arguments[1]);
    free(open), free(plan), free(file);
    sqz_describe(model, &info);
    const size_t row = (size_t)info.width * info.channels;
    const size_t each = row * info.height, pictures = picture_size / each;
    if (pictures == 0 || picture_size % each || logits_size != pictures * info.outputs * sizeof(float))
        return 2;
    void *activations = aligned(needs.activations), *scratch = aligned(needs.scratch);
    float *logits = malloc(info.outputs * sizeof *logits);
    memset(activations, 0xa5, needs.activations); /* what is there before must not matter */
    memset(scratch, 0x5a, needs.scratch);
    for (size_t i = 0; i < pictures; i++) {
        check(sqz_run(model, picture + i * each, row, activations, scratch, logits), "alone");
        compare(logits, expected + i * info.outputs * sizeof(float), info.outputs, "alone");
    }
#if defined(SQZ_THREADS)
    if (threads > 1) {
        sqz_threads *pool;
        void *room = aligned(sqz_threads_size(threads));
        check(sqz_threads_start(&pool, threads, room, sqz_threads_size(threads)), "threads");
        for (int turn = 0; turn < 5; turn++) {
            memset(logits, 0, info.outputs * sizeof *logits);
            check(sqz_threads_run(pool, model, picture, row, activations, scratch, logits), "threads");
            compare(logits, expected, info.outputs, "threads");
        }
        sqz_threads_stop(pool);
        free(room);
    }
#else
    if (threads > 1) return ABSENT;
#endif
    free(logits), free(scratch), free(activations), free(memory), free(expected), free(picture);
    return 0;
}
