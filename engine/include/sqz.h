/* sqz.h: reads and writes the pieces of a .sqz file, and runs the network in it.
 *
 * C11. No allocation, no global state, no input or output, no dependency: every function works on memory that
 * the caller owns, so any number of files can be read side by side. docs/format.md of the repository
 * describes the bytes.
 *
 * Reading a file takes four steps:
 *
 *   1. sqz_file_open       checks magic, version, lengths and checksums; says where the sections are.
 *   2. sqz_text_decode     turns the graph, labels and metadata sections into plain bytes.
 *   3. sqz_graph_open/next walks the nodes; operators, shapes, order and sizes are checked on the way.
 *   4. sqz_weights_open/next decodes the weights of each node, in the nodes' order.
 *
 * Nothing that a file says is used before it is checked. A damaged or hostile file ends in an error code; it
 * never makes a function read or write outside of what it was given, and never run longer than the sizes it
 * was given allow.
 */
#ifndef SQZ_H
#define SQZ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(SQZ_SHARED)
#define SQZ_API __declspec(dllexport)
#elif defined(SQZ_SHARED) && defined(__GNUC__)
#define SQZ_API __attribute__((visibility("default")))
#else
#define SQZ_API
#endif

/* The format this library writes. It reads every file of the same major version. */
#define SQZ_VERSION_MAJOR 1
#define SQZ_VERSION_MINOR 0

/* ---- Errors ---------------------------------------------------------------------------------- */

typedef enum sqz_error {
    SQZ_OK = 0,
    SQZ_END,        /* no error: there is nothing more to read */
    SQZ_NO_SQZ,     /* the file does not begin as a .sqz does */
    SQZ_NEWER,      /* of a newer major version */
    SQZ_TRUNCATED,  /* ends before its own lengths say */
    SQZ_CHECKSUM,   /* a section's bytes are not those that were written */
    SQZ_CORRUPT,    /* a section says something impossible */
    SQZ_LIMIT,      /* asks for more than the limits below */
    SQZ_SPACE,      /* the memory given is too small */
    SQZ_ARGUMENT,   /* the caller's mistake: a null pointer, a shape that is none */
    SQZ_UNSUPPORTED /* a sound file, but not of a network that this library runs */
} sqz_error;

/* The name, "SQZ_TRUNCATED" for SQZ_TRUNCATED; "SQZ_UNKNOWN" for what is none. Never NULL. */
SQZ_API const char *sqz_error_name(sqz_error error);

/* ---- Limits ---------------------------------------------------------------------------------- */

#define SQZ_MAX_TEXT ((size_t)1 << 24)    /* bytes of a decoded text section */
#define SQZ_MAX_WEIGHTS ((size_t)1 << 30) /* numbers in all tensors of a file together */
#define SQZ_MAX_NODES 65535
#define SQZ_MAX_INPUTS 255                      /* of one node */
#define SQZ_MAX_NAME 255                        /* bytes of a node's name */
#define SQZ_MAX_SIZE (1u << 24)                 /* of any size in a shape or an attribute */
#define SQZ_MAX_VALUE (((uint64_t)1 << 31) - 1) /* numbers in one value that flows */
/* What a section of n bytes may decode to: so many items for each of its n + 16 bytes. */
#define SQZ_MAX_EXPANSION 16384

/* ---- The file -------------------------------------------------------------------------------- */

enum { SQZ_GRAPH, SQZ_LABELS, SQZ_WEIGHTS, SQZ_METADATA, SQZ_SECTIONS };

typedef struct sqz_section {
    const uint8_t *data; /* inside the file's own bytes */
    size_t size;
} sqz_section;

typedef struct sqz_file {
    uint8_t major, minor;
    sqz_section section[SQZ_SECTIONS];
} sqz_file;

/* Finds the sections of a file and checks their lengths and checksums.
 * data   `size` bytes, the whole file; must outlive `file`.
 * SQZ_NO_SQZ, SQZ_NEWER (file->major and minor are set then), SQZ_TRUNCATED, SQZ_CHECKSUM, SQZ_CORRUPT. */
SQZ_API sqz_error sqz_file_open(sqz_file *file, const void *data, size_t size);

/* How many bytes sqz_file_write writes. */
SQZ_API size_t sqz_file_size(const sqz_file *file);

/* Writes header, section table and sections. `major` and `minor` of `file` are not used: the library's own
 * are written. SQZ_SPACE, SQZ_LIMIT (a section of 4 GiB or more). */
SQZ_API sqz_error sqz_file_write(const sqz_file *file, void *out, size_t capacity);

/* CRC-32 (IEEE 802.3, as in zlib) of `size` bytes. */
SQZ_API uint32_t sqz_crc32(const void *data, size_t size);

/* ---- Text ------------------------------------------------------------------------------------ */

/* Bytes of workspace that encoding and decoding a text need. Any alignment will do, for all workspaces. */
SQZ_API size_t sqz_text_workspace(void);

/* How long the text in `data` is when decoded. SQZ_TRUNCATED, SQZ_LIMIT. */
SQZ_API sqz_error sqz_text_size(const void *data, size_t size, size_t *decoded);

/* Decodes a text into exactly the bytes that sqz_text_size tells.
 * SQZ_TRUNCATED, SQZ_LIMIT, SQZ_SPACE (`out` or `workspace` too small). */
SQZ_API sqz_error sqz_text_decode(void *out, size_t capacity, const void *data, size_t size, void *workspace,
                                  size_t workspace_size);

/* Encodes `size` bytes of text. A capacity of size + size / 8 + 64 is always enough.
 * SQZ_LIMIT (longer than SQZ_MAX_TEXT), SQZ_SPACE. */
SQZ_API sqz_error sqz_text_encode(void *out, size_t capacity, size_t *written, const void *text, size_t size,
                                  void *workspace, size_t workspace_size);

/* ---- The graph ------------------------------------------------------------------------------- */

typedef struct sqz_value { /* something that flows: a node's result, or the network's input */
    uint32_t dimensions;   /* 3: channels, height, width; 1: channels */
    uint32_t shape[3];     /* 1 where there is no such dimension */
    uint32_t quantized;    /* whether it is uint8 (scale and zero point count) or float32 */
    float scale;
    uint32_t zero_point;
} sqz_value;

typedef enum sqz_type { SQZ_FLOAT32, SQZ_INT8, SQZ_UINT8, SQZ_INT32, SQZ_CODEBOOK } sqz_type;

typedef struct sqz_tensor { /* one weight of a node */
    uint32_t role;          /* which weight: sqz_role_name tells */
    uint32_t type;          /* an sqz_type; SQZ_CODEBOOK: uint8 indices into float32 values */
    uint32_t dimensions;    /* 1 to 4 */
    uint32_t shape[4];      /* 1 where there is no such dimension */
} sqz_tensor;

enum { SQZ_MAX_TENSORS = 4, SQZ_MAX_ROLES = 12, SQZ_MAX_OPERATORS = 32 };

typedef struct sqz_node {
    const char *name; /* name_size bytes of UTF-8, not terminated */
    uint32_t name_size;
    uint32_t op;                    /* sqz_operator_name tells */
    uint32_t inputs;                /* how many values it reads */
    uint32_t input[SQZ_MAX_INPUTS]; /* their numbers: 0 is the network's input, i + 1 the result of node i */
    /* Attributes; 0 where the operator has none of this name. */
    uint32_t kernel[2], stride[2], padding[4], dilation[2];
    uint32_t groups, activation, logits, ceil_mode, count_include_pad, start, end, size;
    double real[3];  /* batch_norm: eps; local_response_norm: alpha, beta, k */
    sqz_value value; /* what it computes */
    uint32_t tensors;
    sqz_tensor tensor[SQZ_MAX_TENSORS];
} sqz_node;

typedef struct sqz_graph {
    uint32_t int8;   /* 1: uint8 values and int8 weights; 0: float32 */
    uint32_t nodes;  /* how many */
    uint32_t done;   /* how many sqz_graph_next has given */
    uint32_t output; /* which value is the result; known once sqz_graph_next has returned SQZ_END */
    sqz_value input;
    const uint8_t *at, *end; /* private */
    sqz_value *values;       /* private */
    uint64_t weights;        /* numbers in all tensors so far */
} sqz_graph;

/* Reads the head of a decoded graph section. `bytes` must outlive `graph`.
 * SQZ_TRUNCATED, SQZ_CORRUPT, SQZ_LIMIT. */
SQZ_API sqz_error sqz_graph_open(sqz_graph *graph, const void *bytes, size_t size);

/* Gives memory for what sqz_graph_next remembers of each node: graph->nodes + 1 values. SQZ_SPACE. */
SQZ_API sqz_error sqz_graph_values(sqz_graph *graph, sqz_value *values, size_t count);

/* Reads one node: its operator, inputs (all of them computed before it), attributes, tensors, and the shape
 * of its result. SQZ_END after the last one, when graph->output is set. SQZ_TRUNCATED, SQZ_CORRUPT,
 * SQZ_LIMIT. */
SQZ_API sqz_error sqz_graph_next(sqz_graph *graph, sqz_node *node);

/* Names by number; NULL where there is none of this number. */
SQZ_API const char *sqz_operator_name(uint32_t op);
SQZ_API const char *sqz_role_name(uint32_t role);
SQZ_API const char *sqz_activation_name(uint32_t activation);

/* ---- The weights ----------------------------------------------------------------------------- */

typedef enum sqz_coding {
    SQZ_RANGE,  /* adaptive range coding with contexts: the smallest */
    SQZ_HUFFMAN /* canonical Huffman codes, one table a tensor: Deep Compression's, quickest to decode */
} sqz_coding;

typedef struct sqz_weights sqz_weights; /* lives in the workspace */

/* Bytes of workspace for tensors of at most `columns` numbers a filter (the product of all dimensions but the
 * first). */
SQZ_API size_t sqz_weights_workspace(uint32_t columns);

/* Begins to decode a weights section, which must outlive `*weights`.
 * SQZ_TRUNCATED, SQZ_CORRUPT, SQZ_SPACE. */
SQZ_API sqz_error sqz_weights_open(sqz_weights **weights, const void *data, size_t size, void *workspace,
                                   size_t workspace_size);

/* Decodes the next tensor, in the order in which the graph has them.
 *
 * out      one number of the tensor's type for each of its places, uint8 for a codebook
 * values   of a codebook: room for 256 float32 values, of which `*count` are written;
 *          of int32: the multipliers of the same node (they come before its biases), `*count` of them;
 *          of other types, and where there are no multipliers: NULL
 *
 * SQZ_CORRUPT, SQZ_LIMIT (more numbers than such a section can hold), SQZ_SPACE (a filter larger than the
 * workspace). */
SQZ_API sqz_error sqz_weights_next(sqz_weights *weights, const sqz_tensor *tensor, void *out, float *values,
                                   uint32_t *count);

/* How many bits of the section have been used so far, to within a few bits: what a tensor cost is the
 * difference. */
SQZ_API uint64_t sqz_weights_position(const sqz_weights *weights);

/* Which coding the section uses. */
SQZ_API sqz_coding sqz_weights_coding(const sqz_weights *weights);

/* Begins to encode. `numbers` and `body` are two buffers of `capacity` bytes each; that every call of
 * sqz_weights_add has room is certain with twice the bytes of all tensors plus 4096. SQZ_SPACE, SQZ_ARGUMENT
 * (no such coding). */
SQZ_API sqz_error sqz_weights_begin(sqz_weights **weights, sqz_coding coding, void *numbers, void *body,
                                    size_t capacity, void *workspace, size_t workspace_size);

/* Encodes a tensor; the arguments are those of sqz_weights_next. Equal tensors give equal bytes on every
 * machine. SQZ_SPACE, SQZ_ARGUMENT (a codebook whose values do not rise, an index beyond them). */
SQZ_API sqz_error sqz_weights_add(sqz_weights *weights, const sqz_tensor *tensor, const void *data,
                                  const float *values, uint32_t count);

/* Writes the finished section; 16 bytes more than the two buffers hold are enough. SQZ_SPACE. */
SQZ_API sqz_error sqz_weights_end(sqz_weights *weights, void *out, size_t capacity, size_t *written);

/* How many bits of a bias a file may leave out when its channel's multiplier is `multiplier`: what is below a
 * quarter to an eighth of a step of the result. Biases that all are multiples of these powers of two take
 * that much less. 0 to 30. */
SQZ_API int sqz_bias_shift(float multiplier);

/* Multiplier number k of the grid that starts at `base`: base * 2^(k / 16), computed so that every machine
 * gets the same float32. Multipliers that all lie on one such grid take a few bits each in a file, others
 * about three bytes. */
SQZ_API float sqz_grid(float base, int32_t k);

/* ---- Running a network ----------------------------------------------------------------------- *
 *
 * Only int8 networks that take pictures run. Nothing is allocated: the caller asks how much memory a file
 * needs and gives it.
 *
 *   size_t size;
 *   sqz_needs needs;
 *   sqz_model *model;
 *   sqz_workspace(file, file_size, &size);                             plan = malloc(size)
 *   sqz_plan(&needs, file, file_size, SQZ_ISA_BEST, plan, size);           memory = malloc(needs.model), ...
 *   sqz_open(&model, memory, needs.model, plan, more, needs.open);     free(plan), free(more), and the file
 *   sqz_run(model, pixels, row_bytes, activations, scratch, logits);
 *
 * Memory for the model, the activations and the scratch must be aligned to SQZ_ALIGNMENT bytes. An open model
 * is never written to: any number of threads may run it at the same time, each with activations and scratch
 * of its own. */

#define SQZ_ALIGNMENT 64

typedef struct sqz_model sqz_model; /* lives in the memory given to sqz_open */

/* Which kernels compute. All give the same bits. */
typedef enum sqz_isa {
    SQZ_ISA_BEST,   /* the quickest that this processor has */
    SQZ_ISA_SCALAR, /* plain C */
    SQZ_ISA_AVX2,
    SQZ_ISA_AVX512 /* with VNNI and VBMI */
} sqz_isa;

/* The name, "AVX-512 VNNI" for SQZ_ISA_AVX512; NULL for what is none. */
SQZ_API const char *sqz_isa_name(sqz_isa isa);

/* Whether this processor has it, and this build of the library. */
SQZ_API int sqz_isa_available(sqz_isa isa);

typedef struct sqz_needs {
    size_t open;        /* for sqz_open alone, besides the plan: to decode the weights */
    size_t model;       /* kept while the network is in use: weights as the kernels read them, and the plan */
    size_t activations; /* for a run: what flows between the layers */
    size_t scratch;     /* for a run: what one layer needs for itself */
    size_t bound;       /* what flows at the layer where it is most: no plan needs fewer activations */
} sqz_needs;

/* How many bytes sqz_plan needs for its plan of this file. Errors as of sqz_file_open (but the sections'
 * checksums are left to sqz_plan), and of sqz_text_size. */
SQZ_API sqz_error sqz_workspace(const void *file, size_t size, size_t *plan_size);

/* Reads the graph and plans where every value lies. `file` and `plan` are to stay as they are until sqz_open
 * has returned; any alignment of them will do.
 * SQZ_UNSUPPORTED (a float32 network, or no picture as its input), SQZ_ARGUMENT (kernels that are not
 * available), and the errors of sqz_file_open, sqz_text_decode and sqz_graph_next. */
SQZ_API sqz_error sqz_plan(sqz_needs *needs, const void *file, size_t size, sqz_isa isa, void *plan,
                           size_t plan_size);

/* Decodes the weights into `memory`, needs.model bytes. The file, the plan and the `workspace` of needs.open
 * bytes are not needed any more after that. SQZ_SPACE, SQZ_ARGUMENT (memory that is not aligned), SQZ_CORRUPT
 * (also where a sum could leave int32), and the errors of sqz_weights_next. */
SQZ_API sqz_error sqz_open(sqz_model **model, void *memory, size_t size, const void *plan, void *workspace,
                           size_t workspace_size);

typedef struct sqz_info {
    uint32_t height, width, channels; /* of the picture: uint8, NHWC */
    uint32_t outputs;                 /* logits */
    uint32_t steps;                   /* what a run does one after the other: see sqz_step_info */
    sqz_isa isa;
    uint64_t macs; /* multiplications of a run */
    sqz_needs needs;
} sqz_info;

SQZ_API void sqz_describe(const sqz_model *model, sqz_info *info);

/* Runs the network on one picture.
 * picture      height rows of width * channels bytes
 * row_bytes    from row to row; at least width * channels
 * activations, scratch   needs.activations and needs.scratch bytes, whatever is in them; may be NULL if 0
 * logits       info.outputs numbers
 * SQZ_ARGUMENT (null, not aligned, row_bytes too few). */
SQZ_API sqz_error sqz_run(const sqz_model *model, const uint8_t *picture, size_t row_bytes, void *activations,
                          void *scratch, float *logits);

/* The k largest logits, the largest first, of equal ones the first. `index` has room for k; returns how many
 * were written: k, or all if there are fewer. */
SQZ_API uint32_t sqz_top(const float *logits, uint32_t count, uint32_t *index, uint32_t k);

typedef struct sqz_step {
    const char *name;                 /* of the node, terminated; inside the model's memory */
    uint32_t op;                      /* sqz_operator_name tells */
    uint32_t channels, height, width; /* of its result */
    uint64_t macs;
} sqz_step;

/* Describes step number `i`. SQZ_ARGUMENT. */
SQZ_API sqz_error sqz_step_info(const sqz_model *model, uint32_t i, sqz_step *step);

/* Several threads of the caller's can share one run: each calls sqz_run_part with the same arguments and a
 * `part` of its own, from 0 to parts - 1; all return when the run is done. The results are those of sqz_run.
 * Parts wait for each other between the steps, by spinning, so each should have a core of its own. Runs the
 * steps from `first` to before `last`: 0 and info.steps for all of them. */
typedef struct sqz_team {
    uint32_t arrived, turn;       /* private; set all of it to 0 once, before the first run */
    void (*yield)(void *context); /* called now and then while waiting, if not NULL */
    void *context;
} sqz_team;

SQZ_API sqz_error sqz_run_part(const sqz_model *model, const uint8_t *picture, size_t row_bytes,
                               void *activations, void *scratch, float *logits, uint32_t first, uint32_t last,
                               sqz_team *team, uint32_t part, uint32_t parts);

#if defined(SQZ_THREADS)
/* The library's own threads, on POSIX: sqz_threads_size(n) bytes of memory, aligned to SQZ_ALIGNMENT, which
 * must stay where it is. The calling thread is one of the n. Threads sleep while there is nothing to do.
 * One run at a time. SQZ_ARGUMENT, SQZ_SPACE (also where the system gives no more threads). */
typedef struct sqz_threads sqz_threads;
SQZ_API size_t sqz_threads_size(uint32_t n);
SQZ_API sqz_error sqz_threads_start(sqz_threads **threads, uint32_t n, void *memory, size_t size);
SQZ_API sqz_error sqz_threads_run(sqz_threads *threads, const sqz_model *model, const uint8_t *picture,
                                  size_t row_bytes, void *activations, void *scratch, float *logits);
SQZ_API void sqz_threads_stop(sqz_threads *threads);
#endif

#ifdef __cplusplus
}
#endif

#endif
