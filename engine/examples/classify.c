/* classify.c: names what is in a picture.
 *
 *   classify model.sqz picture.ppm [top]
 *
 * The picture is a binary PPM (P6) or PGM (P5) of exactly the size that the network takes:
 *
 *   convert cat.jpg -resize 224x224^ -gravity center -extent 224x224 cat.ppm
 *
 * Everything that a product needs is here: how much memory, where it comes from, and one call a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqz.h"

static void die(const char *what, const char *why) {
    fprintf(stderr, "classify: %s: %s\n", what, why);
    exit(1);
}

static void check(sqz_error error, const char *what) {
    if (error != SQZ_OK) die(what, sqz_error_name(error));
}

static void *need(size_t size) { /* any memory will do: here it comes from the heap */
    const size_t whole = (size / SQZ_ALIGNMENT + 1) * SQZ_ALIGNMENT;
    void *memory = aligned_alloc(SQZ_ALIGNMENT, whole);
    if (memory == NULL) die("memory", "there is not enough");
    return memory;
}

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path, "cannot be opened");
    size_t room = 1 << 16;
    uint8_t *bytes = malloc(room);
    *size = 0;
    for (size_t got = 1; bytes != NULL && got > 0; *size += got) {
        if (*size == room) bytes = realloc(bytes, room *= 2);
        if (bytes == NULL) die(path, "there is not enough memory");
        got = fread(bytes + *size, 1, room - *size, file);
    }
    fclose(file);
    return bytes;
}

/* Reads one whole number of a PPM's head, past comments. */
static int next_number(FILE *file) {
    int c = fgetc(file), number = 0;
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        c = fgetc(file);
    }
    if (c < '0' || c > '9') return -1;
    for (; c >= '0' && c <= '9' && number < 100000; c = fgetc(file)) number = number * 10 + (c - '0');
    return number;
}

static uint8_t *read_picture(const char *path, const sqz_info *info) {
    char want[80];
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path, "cannot be opened");
    const char kind = info->channels == 3 ? '6' : '5';
    const int is_pnm = fgetc(file) == 'P' && fgetc(file) == kind;
    const int width = next_number(file), height = next_number(file), most = next_number(file);
    snprintf(want, sizeof want, "not a P%c picture of %u x %u with values to 255", kind,
             (unsigned)info->width, (unsigned)info->height);
    if (!is_pnm || width != (int)info->width || height != (int)info->height || most != 255) die(path, want);
    const size_t size = (size_t)info->width * info->height * info->channels;
    uint8_t *pixels = malloc(size);
    if (pixels == NULL || fread(pixels, 1, size, file) != size) die(path, "ends too early");
    fclose(file);
    return pixels;
}

/* The names of the classes stand in the labels section: a line for the preparation, one for their number, one
 * for the synsets, then the names. */
static char *names_of(const uint8_t *bytes, size_t size, char **first) {
    sqz_file file;
    size_t length = 0;
    check(sqz_file_open(&file, bytes, size), "labels");
    const sqz_section *labels = &file.section[SQZ_LABELS];
    check(sqz_text_size(labels->data, labels->size, &length), "labels");
    char *text = malloc(length + 1);
    void *workspace = malloc(sqz_text_workspace());
    if (text == NULL || workspace == NULL) die("labels", "there is not enough memory");
    check(sqz_text_decode(text, length, labels->data, labels->size, workspace, sqz_text_workspace()),
          "labels");
    free(workspace);
    text[length] = 0;
    *first = text;
    for (int line = 0; line < 3 && *first != NULL; line++) {
        *first = strchr(*first, '\n');
        if (*first != NULL) ++*first;
    }
    return text;
}

static void print_name(const char *names, uint32_t index) {
    for (uint32_t i = 0; i < index && names != NULL; i++) {
        names = strchr(names, '\n');
        if (names != NULL) names++;
    }
    if (names == NULL || *names == 0) printf("class %u", (unsigned)index);
    else printf("%.*s", (int)strcspn(names, "\n"), names);
}

int main(int count, char **arguments) {
    if (count < 3) die("usage", "classify model.sqz picture.ppm [top]");
    const int wanted = count > 3 ? atoi(arguments[3]) : 5;
    const uint32_t top = wanted > 0 && wanted <= 1000 ? (uint32_t)wanted : 5;

    size_t size, plan_size;
    sqz_needs needs;
    sqz_model *model;
    sqz_info info;
    uint8_t *file = read_file(arguments[1], &size);
    check(sqz_workspace(file, size, &plan_size), arguments[1]);
    void *plan = need(plan_size);
    check(sqz_plan(&needs, file, size, SQZ_ISA_BEST, plan, plan_size), arguments[1]);
    void *memory = need(needs.model), *open = need(needs.open);
    check(sqz_open(&model, memory, needs.model, plan, open, needs.open), arguments[1]);
    free(open);
    free(plan);

    sqz_describe(model, &info);
    uint8_t *picture = read_picture(arguments[2], &info);
    void *activations = need(needs.activations), *scratch = need(needs.scratch);
    float *logits = malloc(info.outputs * sizeof *logits);
    uint32_t *best = malloc(top * sizeof *best);
    if (logits == NULL || best == NULL) die("memory", "there is not enough");
    check(sqz_run(model, picture, (size_t)info.width * info.channels, activations, scratch, logits), "run");

    char *names, *text = names_of(file, size, &names);
    const uint32_t found = sqz_top(logits, info.outputs, best, top);
    for (uint32_t i = 0; i < found; i++) {
        printf("%9.4f  ", (double)logits[best[i]]);
        print_name(names, best[i]);
        printf("\n");
    }
    free(text), free(best), free(logits), free(scratch), free(activations), free(picture), free(memory);
    free(file);
    return 0;
}
