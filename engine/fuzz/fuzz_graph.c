/* fuzz_graph.c: any bytes as a graph section's plain bytes. What is accepted must keep its promises. */
#include <stdlib.h>

#include "sqz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_node(const sqz_graph *graph, const sqz_node *node) {
    if (sqz_operator_name(node->op) == NULL || sqz_activation_name(node->activation) == NULL) abort();
    for (uint32_t i = 0; i < node->inputs; i++)
        if (node->input[i] >= graph->done) abort();
    uint64_t size = 1;
    for (int i = 0; i < 3; i++) {
        size *= node->value.shape[i];
        if (size == 0 || size > SQZ_MAX_VALUE) abort();
    }
    for (uint32_t i = 0; i < node->tensors; i++) {
        if (sqz_role_name(node->tensor[i].role) == NULL) abort();
        for (int j = 0; j < 4; j++)
            if (node->tensor[i].shape[j] == 0) abort();
    }
    volatile char last = node->name[node->name_size - 1]; /* must lie inside the input */
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sqz_graph graph;
    if (sqz_graph_open(&graph, data, size) != SQZ_OK) return 0;
    sqz_value *values = malloc(sizeof(sqz_value) * ((size_t)graph.nodes + 1));
    sqz_node *node = malloc(sizeof *node);
    sqz_error error = sqz_graph_values(&graph, values, (size_t)graph.nodes + 1);
    while (error == SQZ_OK && (error = sqz_graph_next(&graph, node)) == SQZ_OK) check_node(&graph, node);
    if (error == SQZ_END && (graph.output > graph.nodes || graph.weights > SQZ_MAX_WEIGHTS)) abort();
    free(node);
    free(values);
    return 0;
}
