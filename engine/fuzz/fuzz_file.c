/* fuzz_file.c: any bytes as a file, through all four steps of reading. Checksums are mended first, or nothing
 * that is made up would ever get past them. */
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static void mend(uint8_t *file, size_t size) {
    if (size < 8) return;
    const size_t sections = file[6], head = 8 + sections * 8 + 4;
    if (size < head) return;
    size_t at = head;
    for (size_t i = 0; i < sections; i++) {
        const uint32_t length = get32(file + 8 + i * 8);
        if (length > size - at) break;
        put32(file + 8 + i * 8 + 4, sqz_crc32(file + at, length));
        at += length;
    }
    put32(file + head - 4, sqz_crc32(file, head - 4));
}

static uint8_t *text_of(const sqz_section *section, size_t *size) {
    if (sqz_text_size(section->data, section->size, size) != SQZ_OK || *size > 1 << 14) return NULL;
    uint8_t *text = malloc(*size + 1);
    void *workspace = malloc(sqz_text_workspace());
    if (sqz_text_decode(text, *size, section->data, section->size, workspace, sqz_text_workspace()) != SQZ_OK)
        abort();
    free(workspace);
    return text;
}

static size_t numbers_of(const sqz_tensor *t) {
    return (size_t)t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3];
}

static void read_weights(const sqz_section *section, const sqz_tensor *tensors, size_t count) {
    size_t columns = 1, most = 1;
    for (size_t i = 0; i < count; i++) {
        const size_t numbers = numbers_of(&tensors[i]);
        const size_t filter = tensors[i].dimensions == 1 ? numbers : numbers / tensors[i].shape[0];
        if (numbers > 1 << 18) return; /* sizes that are allowed, but slow under the sanitizers */
        columns = filter > columns ? filter : columns;
        most = numbers > most ? numbers : most;
    }
    const size_t workspace_size = sqz_weights_workspace((uint32_t)columns);
    void *workspace = malloc(workspace_size), *out = malloc(4 * most);
    float *multipliers = malloc(sizeof(float) * most), values[256];
    uint32_t multiplier_count = 0;
    sqz_weights *weights;
    if (sqz_weights_open(&weights, section->data, section->size, workspace, workspace_size) == SQZ_OK) {
        for (size_t i = 0; i < count; i++) {
            uint32_t n = multiplier_count;
            const int biases = tensors[i].type == SQZ_INT32;
            const int with = biases && multiplier_count == numbers_of(&tensors[i]);
            if (sqz_weights_next(weights, &tensors[i], out, biases ? with ? multipliers : NULL : values,
                                 &n) != SQZ_OK)
                break;
            multiplier_count = 0;
            if (tensors[i].type == SQZ_FLOAT32) {
                multiplier_count = (uint32_t)numbers_of(&tensors[i]);
                memcpy(multipliers, out, sizeof(float) * multiplier_count);
            }
        }
    }
    free(multipliers);
    free(out);
    free(workspace);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *file_bytes = malloc(size + 1);
    if (size) memcpy(file_bytes, data, size);
    mend(file_bytes, size);
    sqz_file file;
    if (sqz_file_open(&file, file_bytes, size) == SQZ_OK) {
        size_t length;
        free(text_of(&file.section[SQZ_LABELS], &length));
        uint8_t *bytes = text_of(&file.section[SQZ_GRAPH], &length);
        sqz_graph graph;
        if (bytes && sqz_graph_open(&graph, bytes, length) == SQZ_OK) {
            sqz_value *values = malloc(sizeof(sqz_value) * ((size_t)graph.nodes + 1));
            sqz_tensor *tensors = malloc(sizeof(sqz_tensor) * SQZ_MAX_TENSORS * ((size_t)graph.nodes + 1));
            sqz_node *node = malloc(sizeof *node);
            sqz_error error = sqz_graph_values(&graph, values, (size_t)graph.nodes + 1);
            size_t count = 0;
            while (error == SQZ_OK && (error = sqz_graph_next(&graph, node)) == SQZ_OK)
                for (uint32_t i = 0; i < node->tensors; i++) tensors[count++] = node->tensor[i];
            if (error == SQZ_END) read_weights(&file.section[SQZ_WEIGHTS], tensors, count);
            free(node);
            free(tensors);
            free(values);
        }
        free(bytes);
    }
    free(file_bytes);
    return 0;
}
