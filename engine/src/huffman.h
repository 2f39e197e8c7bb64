/* huffman.h: canonical Huffman codes over bytes, as in Deep Compression (arXiv:1510.00149, section 4).
 *
 * A tensor's table is the length of each byte's code, 0 to 15. Codes are given out in the order of length,
 * then of byte, and stand in the stream with their first bit uppermost.
 */
#ifndef SQZ_HUFFMAN_H
#define SQZ_HUFFMAN_H

#include <stddef.h>
#include <stdint.h>

enum { HUFFMAN_LONGEST = 15, HUFFMAN_LOOKUP = 11 };

typedef struct huffman {
    uint8_t length[256];
    uint16_t code[256];
    uint16_t
        lookup[1 << HUFFMAN_LOOKUP]; /* by the next bits: byte << 4 | length; 0 where the code is longer */
    uint16_t first[HUFFMAN_LONGEST + 2];    /* by length: the first code, */
    uint16_t order_at[HUFFMAN_LONGEST + 2]; /* where its bytes begin in `order` */
    uint8_t order[256];
    /* The stream. */
    uint64_t bits;
    uint32_t waiting; /* how many of `bits`, its lowest, are waiting */
    const uint8_t *from, *at, *end;
    uint8_t *out, *out_at, *out_end;
    int overflow;
} huffman;

/* Finds the lengths of the best codes no longer than HUFFMAN_LONGEST, from how often each byte occurs. */
void huffman_fit(huffman *h, const uint64_t count[256]);

/* Gives out the codes for h->length. Returns 0 where no such code exists. */
int huffman_codes(huffman *h);

void huffman_put(huffman *h, const uint8_t *bytes, size_t size);
size_t huffman_finish(huffman *h); /* returns the stream's length */

/* Returns 0 where the stream holds bits that are no code. Behind its end a stream continues with zeros. */
int huffman_get(huffman *h, uint8_t *bytes, size_t size);

#endif
