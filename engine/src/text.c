/* text.c: names, descriptions and the graph's bytes, by context mixing.
 *
 * Each bit is predicted in several contexts at once: the last 0 to 4 and 6 bytes, the word so far, and the
 * word before with it. Every context has a probability that learns (range.h); a small network, trained bit by
 * bit, weighs them (Mahoney, "Adaptive Weighing of Context Models", 2005). All in integers, so every machine
 * decodes the same.
 */
#include <string.h>

#include "range.h"
#include "sqz.h"

enum {
    CONTEXTS = 8,
    INPUTS = 2 * CONTEXTS + 1,
    SLOTS = 1 << 16, /* of each context; shared by what falls together */
    SETS = 8 * (CONTEXTS + 1)
};

typedef struct text_model {
    bit_model slot[CONTEXTS][SLOTS]; /* less EVEN, so that a model of which nothing is known is 0 */
    int32_t weight[SETS][INPUTS];    /* in 65536ths */
    int16_t stretch[4096];           /* ln(p / (1 - p)) in 256ths, by p in 4096ths */
    learning_rates rates;
    uint32_t hash[CONTEXTS], at[CONTEXTS]; /* of the bytes so far; the slot in use */
    int32_t input[INPUTS];
    uint64_t history; /* the last eight bytes */
    uint32_t word, word_before;
} text_model;

/* 4096 / (1 + e^(-x / 256)), between its values at multiples of 128. */
static int32_t squash(int32_t x) {
    static const int16_t at[33] = {1,    2,    3,    6,    10,   16,   27,   45,   73,   120,  194,
                                   310,  488,  747,  1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785,
                                   3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094};
    if (x > 2047) return 4095;
    if (x < -2047) return 1;
    const int32_t place = (x + 2048) >> 7, part = (x + 2048) & 127;
    return (at[place] * (128 - part) + at[place + 1] * part + 64) >> 7;
}

static void text_start(text_model *m) {
    memset(m, 0, sizeof *m);
    for (int i = 0; i < SETS; i++)
        for (int j = 0; j < INPUTS; j++) m->weight[i][j] = j < 2 * CONTEXTS ? (j & 1 ? 4000 : 16000) : 0;
    int32_t p = 0; /* the inverse of squash */
    for (int32_t x = -2047; x <= 2047; x++) {
        const int32_t reached = squash(x);
        while (p <= reached) m->stretch[p++] = (int16_t)x;
    }
    while (p < 4096) m->stretch[p++] = 2047;
    set_learning_rates(&m->rates, 30);
}

static uint32_t mix(uint32_t a, uint32_t b) {
    const uint32_t x = (a ^ (a >> 15)) * 0x2c1b3c6du + b * 0x9e3779b1u + 0x7f4a7c15u;
    return x ^ (x >> 13);
}

static int is_letter(uint32_t byte) { return (byte | 32) - 'a' < 26u || byte >= 128 || byte - '0' < 10u; }

/* Finds the contexts of the byte that comes next. */
static void text_contexts(text_model *m) {
    static const int order[6] = {0, 1, 2, 3, 4, 6};
    for (uint32_t i = 0; i < 6; i++) {
        const uint64_t bytes = order[i] ? m->history << (64 - 8 * order[i]) : 0;
        m->hash[i] = mix(mix((uint32_t)(bytes >> 32), (uint32_t)bytes), i);
    }
    m->hash[6] = mix(m->word, 6);
    m->hash[7] = mix(mix(m->word, m->word_before), 7);
}

static void text_remember(text_model *m, uint32_t byte) {
    m->history = m->history << 8 | byte;
    if (is_letter(byte)) {
        m->word = mix(m->word, byte | 32);
    } else if (m->word) {
        m->word_before = m->word;
        m->word = 0;
    }
}

/* The mixed probability of a 1 in 65536ths; `node` is 1 and the bits of this byte so far. */
static uint32_t text_predict(text_model *m, uint32_t node, int32_t **weights) {
    uint32_t known = 0;
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        m->at[i] = i == 0 ? node : mix(m->hash[i], node) & (SLOTS - 1);
        const bit_model model = m->slot[i][m->at[i]] ^ EVEN;
        const int32_t seen = (int32_t)(model & 1023), p = (int32_t)(model >> 20);
        known += seen > 0;
        /* What has been seen once is believed less than what has been seen often. */
        m->input[2 * i] = seen ? m->stretch[p] : 0;
        m->input[2 * i + 1] = seen ? (p - 2048) * (seen < 4 ? seen : 4) / 8 : 0;
    }
    m->input[2 * CONTEXTS] = 256;
    uint32_t bits = 0;
    while (node >> (bits + 1)) bits++;
    *weights = m->weight[(known ? known - 1 : 0) * 8 + bits];
    int64_t sum = 0;
    for (int i = 0; i < INPUTS; i++) sum += (int64_t)(*weights)[i] * m->input[i];
    sum = floor_shift64(sum, 16);
    const int32_t x = sum > 2047 ? 2047 : sum < -2047 ? -2047 : (int32_t)sum;
    return (uint32_t)squash(x) * 16;
}

static int text_bit(text_model *m, range_coder *c, const int decoding, uint32_t node, int bit) {
    int32_t *weight;
    const uint32_t p = text_predict(m, node, &weight);
    bit = code_split(c, decoding, p, bit);
    const int32_t error = (bit ? 65535 : 0) - (int32_t)p;
    for (int i = 0; i < INPUTS; i++) {
        const int32_t w = weight[i] + floor_shift((m->input[i] * floor_shift(error, 3) + (1 << 12)), 13);
        weight[i] = w > 1 << 20 ? 1 << 20 : w < -(1 << 20) ? -(1 << 20) : w;
    }
    for (int i = 0; i < CONTEXTS; i++) {
        bit_model *model = &m->slot[i][m->at[i]];
        *model = learn(*model ^ EVEN, bit ? SUREST : UNLIKELIEST, &m->rates) ^ EVEN;
    }
    return bit;
}

/* Codes a whole text; the bytes are read from `text` or written to it. */
static void text_code(text_model *m, range_coder *c, const int decoding, uint8_t *text, size_t size) {
    text_start(m);
    for (size_t i = 0; i < size; i++) {
        uint32_t node = 1;
        text_contexts(m);
        for (int bit = 7; bit >= 0; bit--)
            node = node << 1 | (uint32_t)text_bit(m, c, decoding, node, decoding ? 0 : text[i] >> bit & 1);
        if (decoding) text[i] = (uint8_t)node;
        text_remember(m, node & 255);
    }
}

enum { TEXT_HEAD = 4 }; /* the decoded length */

size_t sqz_text_workspace(void) { return sizeof(text_model) + 16; }

static text_model *model_in(void *workspace, size_t size) {
    if (workspace == NULL || size < sqz_text_workspace()) return NULL;
    return (text_model *)(void *)((uint8_t *)workspace + (16 - ((uintptr_t)workspace & 15)) % 16);
}

sqz_error sqz_text_size(const void *data, size_t size, size_t *decoded) {
    const uint8_t *bytes = (const uint8_t *)data;
    if (data == NULL || decoded == NULL) return SQZ_ARGUMENT;
    if (size < TEXT_HEAD) return SQZ_TRUNCATED;
    const uint32_t length =
        (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    if (length > SQZ_MAX_TEXT || length > (uint64_t)(size + 16) * SQZ_MAX_EXPANSION) return SQZ_LIMIT;
    *decoded = length;
    return SQZ_OK;
}

sqz_error sqz_text_decode(void *out, size_t capacity, const void *data, size_t size, void *workspace,
                          size_t workspace_size) {
    size_t length;
    const sqz_error error = sqz_text_size(data, size, &length);
    if (error != SQZ_OK) return error;
    text_model *m = model_in(workspace, workspace_size);
    if (m == NULL || (out == NULL && length > 0) || capacity < length) return SQZ_SPACE;
    range_coder c;
    decoder_start(&c, (const uint8_t *)data + TEXT_HEAD, size - TEXT_HEAD);
    text_code(m, &c, 1, (uint8_t *)out, length);
    return SQZ_OK;
}

sqz_error sqz_text_encode(void *out, size_t capacity, size_t *written, const void *text, size_t size,
                          void *workspace, size_t workspace_size) {
    if (out == NULL || written == NULL || (text == NULL && size > 0)) return SQZ_ARGUMENT;
    if (size > SQZ_MAX_TEXT) return SQZ_LIMIT;
    text_model *m = model_in(workspace, workspace_size);
    if (m == NULL || capacity < TEXT_HEAD) return SQZ_SPACE;
    uint8_t *head = (uint8_t *)out;
    range_coder c;
    for (int i = 0; i < TEXT_HEAD; i++) head[i] = (uint8_t)(size >> (8 * i));
    encoder_start(&c, head + TEXT_HEAD, capacity - TEXT_HEAD);
    /* Encoding, the text is only read. */
    text_code(m, &c, 0, (uint8_t *)(uintptr_t)text, size);
    *written = TEXT_HEAD + encoder_finish(&c);
    if (c.overflow) return SQZ_SPACE;
    /* Zeros at the end say nothing, but make room for very even texts: see SQZ_MAX_EXPANSION. */
    for (; (uint64_t)(*written + 16) * SQZ_MAX_EXPANSION < size; head[(*written)++] = 0)
        if (*written == capacity) return SQZ_SPACE;
    return SQZ_OK;
}
