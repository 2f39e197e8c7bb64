/* fuzz_run.c: any graph and any weights, planned, opened and run; with every instruction set that there is,
 * and each must answer as the scalar kernels do. The input is: length of the graph's bytes (two bytes), those
 * bytes as they are when decoded, then the weights section. */
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 1 << 22, MOST_MACS = 1 << 20, MOST_STEPS = 64 };

static void *aligned(size_t size) { /* ends where the sanitizer watches */
    return aligned_alloc(SQZ_ALIGNMENT,
                         (size + SQZ_ALIGNMENT - 1) / SQZ_ALIGNMENT * SQZ_ALIGNMENT + SQZ_ALIGNMENT);
}

static uint8_t *make_file(const uint8_t *graph, size_t graph_size, const uint8_t *weights,
                          size_t weights_size, size_t *size) {
    sqz_file file;
    memset(&file, 0, sizeof file);
    const size_t capacity = graph_size + graph_size / 8 + 64;
    uint8_t *text = malloc(capacity);
    void *workspace = malloc(sqz_text_workspace());
    size_t written = 0;
    if (sqz_text_encode(text, capacity, &written, graph, graph_size, workspace, sqz_text_workspace()) !=
        SQZ_OK)
        abort();
    file.section[SQZ_GRAPH].data = text;
    file.section[SQZ_GRAPH].size = written;
    file.section[SQZ_WEIGHTS].data = weights;
    file.section[SQZ_WEIGHTS].size = weights_size;
    *size = sqz_file_size(&file);
    uint8_t *out = malloc(*size);
    if (sqz_file_write(&file, out, *size) != SQZ_OK) abort();
    free(workspace);
    free(text);
    return out;
}

/* Runs a picture of noise, whole and in two parts one after the other where a step allows; returns the
 * logits. */
static float *run(const sqz_model *model, uint32_t *outputs) {
    sqz_info info;
    sqz_describe(model, &info);
    const size_t row = (size_t)info.width * info.channels;
    uint8_t *picture = malloc(row * info.height);
    for (size_t i = 0; i < row * info.height; i++) picture[i] = (uint8_t)(i * 2654435761u >> 13);
    void *activations = aligned(info.needs.activations), *scratch = aligned(info.needs.scratch);
    float *logits = malloc(sizeof(float) * info.outputs);
    if (sqz_run(model, picture, row, activations, scratch, logits) != SQZ_OK) abort();
    uint32_t best;
    if (sqz_top(logits, info.outputs, &best, 1) != 1 || best >= info.outputs) abort();
    free(activations);
    free(scratch);
    free(picture);
    *outputs = info.outputs;
    return logits;
}

/* NULL: the file is refused, or too large to be of use here. */
static float *answer(const uint8_t *file, size_t size, sqz_isa isa, uint32_t *outputs) {
    size_t plan_size = 0;
    sqz_needs needs;
    sqz_model *model;
    float *logits = NULL;
    if (sqz_workspace(file, size, &plan_size) != SQZ_OK) return NULL;
    void *plan = malloc(plan_size);
    if (sqz_plan(&needs, file, size, isa, plan, plan_size) == SQZ_OK && needs.activations < MOST_BYTES &&
        needs.scratch < MOST_BYTES && needs.model < MOST_BYTES && needs.open < MOST_BYTES) {
        void *memory = aligned(needs.model), *workspace = malloc(needs.open);
        if (needs.activations < needs.bound) abort();
        if (sqz_open(&model, memory, needs.model, plan, workspace, needs.open) == SQZ_OK) {
            sqz_info info;
            sqz_describe(model, &info);
            const uint64_t pixels = (uint64_t)info.width * info.height * info.channels;
            if (info.macs < MOST_MACS && info.steps < MOST_STEPS && pixels < MOST_BYTES &&
                info.outputs < MOST_BYTES)
                logits = run(model, outputs);
        }
        free(workspace);
        free(memory);
    }
    free(plan);
    return logits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const size_t graph_size = (size_t)data[0] | (size_t)data[1] << 8;
    if (graph_size > size - 2) return 0;
    size_t file_size = 0;
    uint8_t *file = make_file(data + 2, graph_size, data + 2 + graph_size, size - 2 - graph_size, &file_size);
    uint32_t outputs = 0, others = 0;
    float *expected = answer(file, file_size, SQZ_ISA_SCALAR, &outputs);
    for (int isa = SQZ_ISA_AVX2; expected != NULL && isa <= SQZ_ISA_AVX512; isa++) {
        if (!sqz_isa_available((sqz_isa)isa)) continue;
        float *logits = answer(file, file_size, (sqz_isa)isa, &others);
        if (logits == NULL) continue; /* its packed weights are larger */
        if (others != outputs || memcmp(logits, expected, sizeof(float) * outputs) != 0) abort();
        free(logits);
    }
    free(expected);
    free(file);
    return 0;
}
