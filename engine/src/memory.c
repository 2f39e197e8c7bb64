/* memory.c: packs the storages of a plan into as few bytes as it can.
 *
 * Each storage is in use from one node to another. Taken in some order, every one goes to the lowest place
 * where it touches none that is in use at the same time. Three orders are tried: the largest first, the
 * longest in use first, and as they are born; the best is kept. */
#include <string.h>

#include "plan.h"

typedef enum order_rule { LARGEST, LONGEST, OLDEST, ORDERS } order_rule;

static int before(const home *a, const home *b, order_rule rule) {
    const uint32_t life_a = a->dies - a->born, life_b = b->dies - b->born;
    switch (rule) {
    case LARGEST: return a->size != b->size ? a->size > b->size : a->born < b->born;
    case LONGEST: return life_a != life_b ? life_a > life_b : a->size > b->size;
    default: return a->born != b->born ? a->born < b->born : a->size > b->size;
    }
}

/* Heapsort: no recursion, no worst case. */
static void sift(uint32_t *heap, uint32_t at, uint32_t count, const home *homes, order_rule rule) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && before(&homes[heap[child]], &homes[heap[child + 1]], rule)) child++;
        if (!before(&homes[heap[at]], &homes[heap[child]], rule)) return;
        const uint32_t other = heap[at];
        heap[at] = heap[child];
        heap[child] = other;
        at = child;
    }
}

static void sort(uint32_t *heap, uint32_t count, const home *homes, order_rule rule) {
    for (uint32_t i = count / 2; i-- > 0;) sift(heap, i, count, homes, rule);
    for (uint32_t end = count; end-- > 1;) {
        const uint32_t other = heap[0];
        heap[0] = heap[end];
        heap[end] = other;
        sift(heap, 0, end, homes, rule);
    }
}

/* Puts one storage to the lowest free place; `placed` are those that have one, by rising offset. */
static size_t put(home *homes, uint32_t *placed, uint32_t count, uint32_t which) {
    home *h = &homes[which];
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const home *other = &homes[placed[i]];
        if (other->dies < h->born || h->dies < other->born) continue; /* never at the same time */
        if (other->offset >= at + h->size) break;                     /* the gap before it will do */
        if (other->offset + other->size > at) at = other->offset + other->size;
    }
    h->offset = at;
    uint32_t i = count;
    for (; i > 0 && homes[placed[i - 1]].offset > at; i--) placed[i] = placed[i - 1];
    placed[i] = which;
    return at + h->size;
}

static size_t pack(sqz_planning *p, uint32_t count, order_rule rule) {
    size_t peak = 0;
    sort(p->order, count, p->homes, rule);
    for (uint32_t i = 0; i < count; i++) {
        const size_t end = put(p->homes, p->placed, i, p->order[i]);
        if (end > peak) peak = end;
    }
    return peak;
}

/* The most bytes in use at one node. */
static size_t lower_bound(const sqz_planning *p, uint32_t count) {
    size_t most = 0;
    for (uint32_t i = 0; i < count; i++) { /* it is reached where some storage is born */
        const uint32_t at = p->homes[p->order[i]].born;
        size_t sum = 0;
        for (uint32_t j = 0; j < count; j++) {
            const home *h = &p->homes[p->order[j]];
            if (h->born <= at && at <= h->dies) sum += h->size;
        }
        if (sum > most) most = sum;
    }
    return most;
}

void sqz_pack_buffers(sqz_planning *p) {
    uint32_t count = 0;
    for (uint32_t v = 1; v <= p->graph.nodes; v++)
        if (p->homes[v].parent == NO_PARENT && p->homes[v].size > 0) p->order[count++] = v;
    p->needs.bound = lower_bound(p, count);
    order_rule best = LARGEST;
    size_t least = SIZE_MAX;
    for (int rule = 0; rule < ORDERS && least > p->needs.bound; rule++) {
        const size_t peak = pack(p, count, (order_rule)rule);
        if (peak < least) {
            least = peak;
            best = (order_rule)rule;
        }
    }
    p->needs.activations = pack(p, count, best);
    if (count > 0) p->needs.activations += SQZ_BEHIND;
}
