/* fuzz_weights.c: a few bytes that say which tensors there are, the rest a weights section. What decodes must
 * come back when it is encoded and decoded again. */
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSORS = 3, MOST = 1 << 14 };

typedef struct tensor_data {
    sqz_tensor tensor;
    size_t size;
    uint32_t count;
    float values[256];
    void *numbers;
} tensor_data;

static size_t item(uint32_t type) { return type == SQZ_FLOAT32 || type == SQZ_INT32 ? 4 : 1; }

/* From four bytes each: type and dimensions, then sizes. */
static size_t take_tensors(tensor_data *out, const uint8_t *data) {
    size_t columns = 1;
    for (int i = 0; i < TENSORS; i++, data += 4) {
        sqz_tensor *t = &out[i].tensor;
        memset(&out[i], 0, sizeof out[i]);
        t->type = data[0] % 5;
        t->dimensions = data[0] / 5 % 4 + 1;
        const uint32_t sizes[4] = {data[1] % 32 + 1u, data[2] % 64 + 1u, data[3] % 4 + 1u,
                                   data[3] / 4 % 4 + 1u};
        out[i].size = 1;
        for (uint32_t j = 0; j < 4; j++) {
            t->shape[j] = j < t->dimensions ? sizes[j] : 1;
            out[i].size *= t->shape[j];
        }
        const size_t filter = t->dimensions == 1 ? out[i].size : out[i].size / t->shape[0];
        columns = filter > columns ? filter : columns;
        out[i].numbers = malloc(out[i].size * item(t->type));
    }
    return columns;
}

static const float *extra(const tensor_data *t, int i, uint32_t *count) {
    if (t[i].tensor.type == SQZ_CODEBOOK) {
        *count = t[i].count;
        return t[i].values;
    }
    const int with = t[i].tensor.type == SQZ_INT32 && i > 0 && t[i - 1].tensor.type == SQZ_FLOAT32 &&
                     t[i - 1].size == t[i].size;
    *count = with ? (uint32_t)t[i].size : 0;
    return with ? (const float *)t[i - 1].numbers : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4 * TENSORS) return 0;
    tensor_data tensors[TENSORS];
    const size_t columns = take_tensors(tensors, data),
                 workspace_size = sqz_weights_workspace((uint32_t)columns);
    void *workspace = malloc(workspace_size);
    sqz_weights *w;
    int decoded = 0;
    sqz_coding coding = SQZ_RANGE;
    if (sqz_weights_open(&w, data + 4 * TENSORS, size - 4 * TENSORS, workspace, workspace_size) == SQZ_OK) {
        coding = sqz_weights_coding(w);
        for (; decoded < TENSORS; decoded++) {
            tensor_data *t = &tensors[decoded];
            uint32_t count;
            float *values = (float *)(uintptr_t)extra(tensors, decoded, &count);
            if (sqz_weights_next(w, &t->tensor, t->numbers, values, &count) != SQZ_OK) break;
            if (t->tensor.type == SQZ_CODEBOOK) t->count = count;
            if (sqz_weights_position(w) > UINT64_MAX / 2) abort();
        }
    }
    if (decoded > 0) {
        const size_t room = 1 << 18;
        uint8_t *numbers = malloc(room), *body = malloc(room), *section = malloc(2 * room + 16);
        size_t written;
        if (sqz_weights_begin(&w, coding, numbers, body, room, workspace, workspace_size) != SQZ_OK) abort();
        for (int i = 0; i < decoded; i++) {
            uint32_t count;
            const float *values = extra(tensors, i, &count);
            if (sqz_weights_add(w, &tensors[i].tensor, tensors[i].numbers, values, count) != SQZ_OK) abort();
        }
        if (sqz_weights_end(w, section, 2 * room + 16, &written) != SQZ_OK) abort();
        if (sqz_weights_open(&w, section, written, workspace, workspace_size) != SQZ_OK) abort();
        for (int i = 0; i < decoded; i++) {
            const size_t bytes = tensors[i].size * item(tensors[i].tensor.type);
            void *again = malloc(bytes);
            float values[256];
            uint32_t count;
            const float *given = extra(tensors, i, &count);
            float *place = tensors[i].tensor.type == SQZ_CODEBOOK ? values : (float *)(uintptr_t)given;
            if (sqz_weights_next(w, &tensors[i].tensor, again, place, &count) != SQZ_OK) abort();
            if (memcmp(again, tensors[i].numbers, bytes) != 0) abort();
            if (tensors[i].tensor.type == SQZ_CODEBOOK &&
                (count != tensors[i].count || memcmp(values, tensors[i].values, sizeof(float) * count) != 0))
                abort();
            free(again);
        }
        free(section);
        free(body);
        free(numbers);
    }
    free(workspace);
    for (int i = 0; i < TENSORS; i++) free(tensors[i].numbers);
    return 0;
}
