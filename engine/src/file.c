/* file.c: the container: magic, version, and sections with length and checksum. docs/format.md, "The file".
 */
#include <string.h>

#include "file.h"

enum { HEAD = 8, ENTRY = 8, MOST_SECTIONS = 16 };
static const uint8_t magic[4] = {'S', 'Q', 'Z', 0x1a};

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

/* Eight bytes at a time: row k of the table is what a byte does that k more bytes follow. */
uint32_t sqz_crc32(const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t table[8][256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t x = i;
        for (int bit = 0; bit < 8; bit++) x = x >> 1 ^ (x & 1 ? 0xedb88320u : 0);
        table[0][i] = x;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
    for (; size >= 8; size -= 8, at += 8) {
        const uint32_t low = crc ^ get32(at), high = get32(at + 4);
        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^
              table[4][low >> 24] ^ table[3][high & 255] ^ table[2][high >> 8 & 255] ^
              table[1][high >> 16 & 255] ^ table[0][high >> 24];
    }
    for (; size > 0; size--, at++) crc = crc >> 8 ^ table[0][(crc ^ *at) & 255];
    return ~crc;
}

/* The head is: magic, major, minor, number of sections, 0; length and checksum of each; checksum of all this.
 */
static size_t head_size(uint32_t sections) { return HEAD + (size_t)sections * ENTRY + 4; }

static sqz_error open_file(sqz_file *file, const void *data, size_t size, int check) {
    if (file == NULL || (data == NULL && size > 0)) return SQZ_ARGUMENT;
    const uint8_t *bytes = (const uint8_t *)data;
    memset(file, 0, sizeof *file);
    if (size < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0) return SQZ_NO_SQZ;
    if (size < HEAD) return SQZ_TRUNCATED;
    file->major = bytes[4];
    file->minor = bytes[5];
    if (file->major > SQZ_VERSION_MAJOR) return SQZ_NEWER;
    const uint32_t sections = bytes[6];
    if (file->major < 1 || sections < SQZ_SECTIONS || sections > MOST_SECTIONS || bytes[7] != 0)
        return SQZ_CORRUPT;
    const size_t head = head_size(sections);
    if (size < head) return SQZ_TRUNCATED;
    if (get32(bytes + head - 4) != sqz_crc32(bytes, head - 4)) return SQZ_CHECKSUM;
    size_t at = head;
    for (uint32_t i = 0; i < sections; i++) { /* those of a later minor version are passed over */
        const uint32_t length = get32(bytes + HEAD + i * ENTRY);
        if (length > size - at) return SQZ_TRUNCATED;
        if (check && sqz_crc32(bytes + at, length) != get32(bytes + HEAD + i * ENTRY + 4))
            return SQZ_CHECKSUM;
        if (i < SQZ_SECTIONS) {
            file->section[i].data = bytes + at;
            file->section[i].size = length;
        }
        at += length;
    }
    return at == size ? SQZ_OK : SQZ_CORRUPT;
}

sqz_error sqz_file_open(sqz_file *file, const void *data, size_t size) {
    return open_file(file, data, size, 1);
}

sqz_error sqz_file_find(sqz_file *file, const void *data, size_t size) {
    return open_file(file, data, size, 0);
}

size_t sqz_file_size(const sqz_file *file) {
    size_t size = head_size(SQZ_SECTIONS);
    for (int i = 0; i < SQZ_SECTIONS; i++) size += file->section[i].size;
    return size;
}

sqz_error sqz_file_write(const sqz_file *file, void *out, size_t capacity) {
    if (file == NULL || out == NULL) return SQZ_ARGUMENT;
    if (capacity < sqz_file_size(file)) return SQZ_SPACE;
    uint8_t *bytes = (uint8_t *)out, *at = bytes + head_size(SQZ_SECTIONS);
    memcpy(bytes, magic, sizeof magic);
    bytes[4] = SQZ_VERSION_MAJOR;
    bytes[5] = SQZ_VERSION_MINOR;
    bytes[6] = SQZ_SECTIONS;
    bytes[7] = 0;
    for (int i = 0; i < SQZ_SECTIONS; i++) {
        const sqz_section *section = &file->section[i];
        if (section->size > UINT32_MAX) return SQZ_LIMIT;
        put32(bytes + HEAD + i * ENTRY, (uint32_t)section->size);
        put32(bytes + HEAD + i * ENTRY + 4, sqz_crc32(section->data, section->size));
        if (section->size > 0) memcpy(at, section->data, section->size);
        at += section->size;
    }
    const size_t head = head_size(SQZ_SECTIONS);
    put32(bytes + head - 4, sqz_crc32(bytes, head - 4));
    return SQZ_OK;
}

const char *sqz_error_name(sqz_error error) {
    static const char *const names[] = {"SQZ_OK",        "SQZ_END",      "SQZ_NO_SQZ",     "SQZ_NEWER",
                                        "SQZ_TRUNCATED", "SQZ_CHECKSUM", "SQZ_CORRUPT",    "SQZ_LIMIT",
                                        "SQZ_SPACE",     "SQZ_ARGUMENT", "SQZ_UNSUPPORTED"};
    return (unsigned)error < sizeof names / sizeof *names ? names[error] : "SQZ_UNKNOWN";
}
