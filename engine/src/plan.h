/* plan.h: what a run does, step by step, and where every value lies. */
#ifndef SQZ_PLAN_H
#define SQZ_PLAN_H

#include "kernels.h"
#include "operators.h"

typedef enum step_kind {
    STEP_CONV,
    STEP_ADD,
    STEP_MUL,
    STEP_MAX_POOL,
    STEP_AVG_POOL,
    STEP_GLOBAL,
    STEP_MAP,
    STEP_SHUFFLE,
    STEP_FLATTEN, /* channels first, as the weights behind it expect */
    STEP_NUMBERS  /* the network's result from bytes to numbers, channels first */
} step_kind;

typedef enum memory { IN_ACTIVATIONS, IN_PICTURE, IN_LOGITS, MEMORIES } memory;

typedef struct place { /* so many bytes behind the beginning of one of the memories of a run */
    uint32_t memory;
    size_t offset;
} place;

typedef struct step {
    step_kind kind;
    const sqz_kernels *kernels;
    place in, other, out; /* other: the second value of a pair */
    union {
        sqz_conv conv;
        sqz_pool pool;
        sqz_pair pair;
        sqz_map map;
    } as;
    uint32_t groups;    /* of a shuffle */
    float scale;        /* of numbers */
    int32_t zero_point; /* of the input: of numbers and convolutions */
    uint32_t has_table, has_pad;
    uint32_t node; /* which one of the graph's it computes */
    sqz_step info;
} step;

typedef struct planned_node {   /* what is kept of an sqz_node */
    uint32_t op, inputs, first; /* its inputs are numbers first, first + 1, ... of the plan's */
    uint32_t kernel[2], stride[2], padding[4], dilation[2];
    uint32_t groups, activation, logits, count_include_pad, start;
    uint32_t multipliers, has_pad;
    uint32_t step;       /* the step that computes it, or NO_STEP */
    uint32_t table_step; /* the step that applies its table, or NO_STEP */
} planned_node;

#define NO_STEP UINT32_MAX
#define NO_PARENT UINT32_MAX

typedef struct home { /* where a value lies: in the storage of its parent, from a channel on; or on its own */
    uint32_t parent, channel;
    uint32_t uses, needed;
    uint32_t aliases;    /* values that go on living in its storage */
    uint32_t born, dies; /* the nodes between which a root's storage is in use, both included */
    size_t size, offset; /* of a root */
} home;

typedef struct sqz_planning {
    sqz_file file;
    sqz_isa isa;
    const sqz_kernels *kernels;
    const uint8_t *text; /* the decoded graph */
    size_t text_size;
    sqz_graph graph;
    sqz_value *values;
    home *homes;
    planned_node *nodes;
    uint32_t *inputs;
    uint32_t *order, *placed; /* for sqz_pack_buffers */
    step *steps;
    uint32_t step_count;
    uint64_t macs;
    size_t names;   /* bytes of all steps' names */
    size_t columns; /* of the largest filter */
    size_t numbers; /* bytes of all tensors of one node, where they are most */
    sqz_needs needs;
} sqz_planning;

/* Where memory is handed out from its beginning on. With `base` NULL it only counts. */
typedef struct bump {
    uint8_t *base;
    uint64_t used;
} bump;

/* The first place at or behind `memory` that is aligned to SQZ_ALIGN. */
uint8_t *sqz_aligned(const void *memory);

void *sqz_take(bump *from, uint64_t size);

/* Bytes of a decoded tensor. */
uint64_t sqz_tensor_bytes(const sqz_tensor *t);

/* Hands out the memory of an open model and points the steps into it. Returns the model's own head. */
struct sqz_model *sqz_lay_out(bump *from, const sqz_planning *plan, step **steps, char **names);

/* Finds offsets for all storages, so that no two lie on each other while both are in use. Sets
 * needs.activations and needs.bound. memory.c. */
void sqz_pack_buffers(sqz_planning *plan);

/* The plan inside the memory that the caller gave. */
sqz_planning *sqz_planning_in(const void *memory);

/* The storage that a value lies in, and from which channel on. */
uint32_t sqz_root_of(const sqz_planning *plan, uint32_t value, uint32_t *channel);

const sqz_kernels *sqz_kernels_for(sqz_isa *isa);

#endif
