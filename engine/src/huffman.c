/* huffman.c: see huffman.h. */
#include "huffman.h"

#include <string.h>

#include "range.h"

/* Merges the two rarest until one tree is left; a leaf's depth is its code's length. */
static void tree_depths(uint8_t *length, const uint64_t count[256]) {
    uint64_t weight[512];
    uint16_t parent[512];
    uint8_t alive[512];
    int nodes = 256, roots = 0;
    for (int i = 0; i < 256; i++) {
        weight[i] = count[i];
        alive[i] = count[i] > 0;
        roots += alive[i];
        length[i] = 0;
    }
    if (roots == 1) {
        for (int i = 0; i < 256; i++) length[i] = alive[i];
        return;
    }
    for (; roots > 1; roots--, nodes++) {
        int rarest = -1, second = -1;
        for (int i = 0; i < nodes; i++) {
            if (!alive[i]) continue;
            if (rarest < 0 || weight[i] < weight[rarest]) {
                second = rarest;
                rarest = i;
            } else if (second < 0 || weight[i] < weight[second]) {
                second = i;
            }
        }
        alive[rarest] = alive[second] = 0;
        parent[rarest] = parent[second] = (uint16_t)nodes;
        weight[nodes] = weight[rarest] + weight[second];
        alive[nodes] = 1;
    }
    for (int i = 0; i < 256; i++) {
        if (count[i] == 0) continue;
        int depth = 0;
        for (int node = i; node != nodes - 1; node = parent[node]) depth++;
        length[i] = (uint8_t)depth;
    }
}

void huffman_fit(huffman *h, const uint64_t count[256]) {
    uint64_t flattened[256];
    memcpy(flattened, count, sizeof flattened);
    for (;;) { /* where a code is too long, make the rare less rare */
        int longest = 0;
        tree_depths(h->length, flattened);
        for (int i = 0; i < 256; i++) longest = h->length[i] > longest ? h->length[i] : longest;
        if (longest <= HUFFMAN_LONGEST) return;
        for (int i = 0; i < 256; i++) flattened[i] = flattened[i] ? flattened[i] / 2 + 1 : 0;
    }
}

int huffman_codes(huffman *h) {
    uint32_t many[HUFFMAN_LONGEST + 2] = {0}, code = 0, at = 0;
    for (int i = 0; i < 256; i++) many[h->length[i]]++;
    many[0] = 0;
    memset(h->lookup, 0, sizeof h->lookup);
    for (uint32_t length = 1; length <= HUFFMAN_LONGEST; length++) {
        h->first[length] = (uint16_t)code;
        h->order_at[length] = (uint16_t)at;
        if (code + many[length] > 1u << length) return 0;
        for (uint32_t byte = 0; byte < 256; byte++) {
            if (h->length[byte] != length) continue;
            h->order[at++] = (uint8_t)byte;
            h->code[byte] = (uint16_t)code;
            if (length <= HUFFMAN_LOOKUP) {
                const uint32_t spare = HUFFMAN_LOOKUP - length;
                for (uint32_t i = 0; i < 1u << spare; i++)
                    h->lookup[(code << spare) + i] = (uint16_t)(byte << 4 | length);
            }
            code++;
        }
        code <<= 1;
    }
    h->first[HUFFMAN_LONGEST + 1] = 0;
    h->order_at[HUFFMAN_LONGEST + 1] = (uint16_t)at;
    return at > 0;
}

static void put_byte(huffman *h, uint8_t byte) {
    if (h->out_at == h->out_end) h->overflow = 1;
    else *h->out_at++ = byte;
}

void huffman_put(huffman *h, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        h->bits = h->bits << h->length[bytes[i]] | h->code[bytes[i]];
        h->waiting += h->length[bytes[i]];
        while (h->waiting >= 8) {
            h->waiting -= 8;
            put_byte(h, (uint8_t)(h->bits >> h->waiting));
        }
    }
}

size_t huffman_finish(huffman *h) {
    if (h->waiting > 0) put_byte(h, (uint8_t)(h->bits << (8 - h->waiting)));
    h->waiting = 0;
    return (size_t)(h->out_at - h->out);
}

/* The slow way, for codes longer than the table's: the first length whose codes reach so far. */
static uint32_t find_long(const huffman *h, uint32_t next, uint8_t *byte) {
    for (uint32_t length = HUFFMAN_LOOKUP + 1; length <= HUFFMAN_LONGEST; length++) {
        const uint32_t offset = (next >> (HUFFMAN_LONGEST - length)) - h->first[length];
        if (offset < (uint32_t)(h->order_at[length + 1] - h->order_at[length])) {
            *byte = h->order[h->order_at[length] + offset];
            return length;
        }
    }
    return 0;
}

static uint32_t find(const huffman *h, uint32_t next, uint8_t *byte) {
    const uint16_t found = h->lookup[next >> (HUFFMAN_LONGEST - HUFFMAN_LOOKUP)];
    if (!found) return find_long(h, next, byte);
    *byte = (uint8_t)(found >> 4);
    return found & 15;
}

static uint64_t load_upper_first(const uint8_t *at) { /* compilers know this as one load */
    return (uint64_t)at[0] << 56 | (uint64_t)at[1] << 48 | (uint64_t)at[2] << 40 | (uint64_t)at[3] << 32 |
           (uint64_t)at[4] << 24 | (uint64_t)at[5] << 16 | (uint64_t)at[6] << 8 | (uint64_t)at[7];
}

/* Three codes from each eight bytes, as long as eight are left; returns how many bytes were decoded, or
 * SIZE_MAX where there is no such code. */
static size_t get_by_threes(huffman *h, uint8_t *bytes, size_t size) {
    const uint16_t *const lookup = h->lookup;
    const uint8_t *const from = h->from;
    const size_t coded = (size_t)(h->end - from);
    size_t i = 0, position = 8 * (size_t)(h->at - h->from) - h->waiting; /* in bits */
    for (; size - i >= 3 && position / 8 + 8 <= coded; i += 3) {
        uint64_t bits = load_upper_first(from + position / 8) << (position & 7);
        /* From one code to the next it is a shift, a look, a shift: no more. */
        for (size_t j = 0; j < 3; j++) {
            const uint32_t found = lookup[bits >> (64 - HUFFMAN_LOOKUP)];
            uint32_t length = found & 15;
            bytes[i + j] = (uint8_t)(found >> 4);
            if (SQZ_RARELY(found == 0)) {
                length = find_long(h, (uint32_t)(bits >> (64 - HUFFMAN_LONGEST)), &bytes[i + j]);
                if (length == 0) return SIZE_MAX;
            }
            bits <<= length;
            position += length;
        }
    }
    h->at = h->from + (position + 7) / 8;
    h->waiting = (uint32_t)(8 * (size_t)(h->at - h->from) - position);
    h->bits = h->waiting > 0 ? h->at[-1] : 0;
    return i;
}

int huffman_get(huffman *h, uint8_t *bytes, size_t size) {
    size_t i = h->at < h->end ? get_by_threes(h, bytes, size) : 0; /* at the end zeros are waiting as well */
    if (i == SIZE_MAX) return 0;
    for (; i < size; i++) {
        while (h->waiting <= 56) {
            h->bits = h->bits << 8 | (h->at < h->end ? *h->at : 0u);
            h->at += h->at < h->end;
            h->waiting += 8;
        }
        const uint32_t next =
            (uint32_t)(h->bits >> (h->waiting - HUFFMAN_LONGEST)) & ((1u << HUFFMAN_LONGEST) - 1);
        const uint32_t length = find(h, next, &bytes[i]);
        if (length == 0) return 0;
        h->waiting -= length;
    }
    return 1;
}
