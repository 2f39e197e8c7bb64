/* fuzz_text.c: any bytes as a coded text; and as a text that must come back. */
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const size_t workspace_size = sqz_text_workspace(), room = size + size / 8 + 64;
    void *workspace = malloc(workspace_size);
    uint8_t *coded = malloc(room), *again = malloc(size + 1);
    size_t decoded, written;
    if (sqz_text_size(data, size, &decoded) == SQZ_OK && decoded < 1 << 13) {
        uint8_t *out = malloc(decoded + 1);
        if (sqz_text_decode(out, decoded, data, size, workspace, workspace_size) != SQZ_OK) abort();
        free(out);
    }
    if (size < 1 << 12) {
        if (sqz_text_encode(coded, room, &written, data, size, workspace, workspace_size) != SQZ_OK) abort();
        if (sqz_text_decode(again, size, coded, written, workspace, workspace_size) != SQZ_OK) abort();
        if (size && memcmp(data, again, size) != 0) abort();
    }
    free(again);
    free(coded);
    free(workspace);
    return 0;
}
