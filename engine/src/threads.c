/* threads.c: a pool of threads of the library's own, on POSIX. The one file that calls the system.
 *
 * The calling thread is part 0 of every run. The others look for a new run for a little while after each, since
 * runs often follow each other, and then sleep. */
#if defined(SQZ_THREADS) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include "sqz.h"

#if defined(SQZ_THREADS)
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { SPINS = 4000 }; /* some tens of microseconds */

typedef struct job {
    const sqz_model *model;
    const uint8_t *picture;
    size_t row_bytes;
    void *activations, *scratch;
    float *logits;
} job;

typedef struct worker {
    struct sqz_threads *pool;
    uint32_t part;
    pthread_t thread;
} worker;

struct sqz_threads {
    uint32_t parts;
    uint32_t turn; /* number of the latest run, atomic */
    uint32_t stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job now;
    sqz_team team;
    worker workers[]; /* parts - 1 */
};

static void yield(void) { sched_yield(); }

static uint32_t turn_of(const sqz_threads *pool) { return __atomic_load_n(&pool->turn, __ATOMIC_ACQUIRE); }

static uint32_t wait_for_turn(sqz_threads *pool, uint32_t done) {
    for (int i = 0; i < SPINS; i++) {
        if (turn_of(pool) != done) return turn_of(pool);
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&pool->lock);
    while (turn_of(pool) == done) pthread_cond_wait(&pool->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return turn_of(pool);
}

static sqz_error run_share(sqz_threads *pool, uint32_t part) {
    const job j = pool->now;
    sqz_info info;
    sqz_describe(j.model, &info);
    return sqz_run_part(j.model, j.picture, j.row_bytes, j.activations, j.scratch, j.logits, 0, info.steps,
                        &pool->team, part, pool->parts);
}

static void *work(void *argument) {
    worker *me = (worker *)argument;
    for (uint32_t done = 0;;) {
        done = wait_for_turn(me->pool, done);
        if (me->pool->stop) return NULL;
        run_share(me->pool, me->part);
    }
}

/* Begins a new turn for the workers, with what was written to the pool before. */
static void begin_turn(sqz_threads *pool) {
    pthread_mutex_lock(&pool->lock);
    __atomic_store_n(&pool->turn, pool->turn + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

size_t sqz_threads_size(uint32_t n) { return sizeof(sqz_threads) + (size_t)n * sizeof(worker); }

sqz_error sqz_threads_start(sqz_threads **threads, uint32_t n, void *memory, size_t size) {
    if (threads == NULL || n == 0 || (uintptr_t)memory % SQZ_ALIGNMENT != 0) return SQZ_ARGUMENT;
    if (memory == NULL || size < sqz_threads_size(n)) return SQZ_SPACE;
    sqz_threads *pool = (sqz_threads *)memory;
    memset(pool, 0, sqz_threads_size(n));
    pool->team.yield = yield;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) return SQZ_SPACE;
    if (pthread_cond_init(&pool->wake, NULL) != 0) return SQZ_SPACE;
    for (pool->parts = 1; pool->parts < n; pool->parts++) {
        worker *w = &pool->workers[pool->parts - 1];
        w->pool = pool;
        w->part = pool->parts;
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            sqz_threads_stop(pool);
            return SQZ_SPACE;
        }
    }
    *threads = pool;
    return SQZ_OK;
}

sqz_error sqz_threads_run(sqz_threads *pool, const sqz_model *model, const uint8_t *picture, size_t row_bytes,
                          void *activations, void *scratch, float *logits) {
    if (pool == NULL) return SQZ_ARGUMENT;
    /* What is wrong is wrong for all parts: found here, before anyone is woken. */
    const sqz_error error = sqz_run_part(model, picture, row_bytes, activations, scratch, logits, 0, 0, NULL, 0, 1);
    if (error != SQZ_OK) return error;
    const job next = {model, picture, row_bytes, activations, scratch, logits};
    pool->now = next;
    if (pool->parts > 1) begin_turn(pool);
    return run_share(pool, 0);
}

void sqz_threads_stop(sqz_threads *pool) {
    if (pool == NULL) return;
    pool->stop = 1;
    begin_turn(pool);
    for (uint32_t i = 0; i + 1 < pool->parts; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
}
#else
typedef int sqz_no_threads; /* a file must declare something */
#endif
