/* threads.c: a pool of threads of the library's own, on POSIX. The one file that calls the system.
 *
 * The calling thread is part 0 of every run. The others look for a new run for a little while after each,
 * since runs often follow each other, and then sleep. */
#if defined(SQZ_THREADS) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for Linux's affinity; elsewhere it does nothing */
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
#if defined(__linux__)
    cpu_set_t allowed;
    int caller; /* the processor that the workers keep away from */
#endif
    pthread_t calling;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    job now;
    sqz_team team;
    worker workers[]; /* parts - 1 */
};

/* A sleeper is often woken on the very processor where the caller then waits for it, and they stay there
 * together for milliseconds, though another one is idle. Linux lets us say where a thread shall not be. */
#if defined(__linux__)
static void find_processors(sqz_threads *pool) {
    if (pthread_getaffinity_np(pthread_self(), sizeof pool->allowed, &pool->allowed) != 0)
        CPU_ZERO(&pool->allowed);
}

static void keep_apart(sqz_threads *pool) {
    const int here = sched_getcpu();
    cpu_set_t others = pool->allowed;
    if (here == pool->caller || here < 0 || here >= CPU_SETSIZE || CPU_COUNT(&others) < 2) return;
    CPU_CLR((size_t)here, &others);
    for (uint32_t i = 0; i + 1 < pool->parts; i++)
        pthread_setaffinity_np(pool->workers[i].thread, sizeof others, &others);
    pool->caller = here;
}
#else
static void find_processors(sqz_threads *pool) { (void)pool; }
static void keep_apart(sqz_threads *pool) { (void)pool; }
#endif

/* While waiting. The system may have moved the caller to where a worker is. */
static void yield(void *context) {
    sqz_threads *pool = (sqz_threads *)context;
    pthread_t calling; /* a worker may still look while the next run begins */
    __atomic_load(&pool->calling, &calling, __ATOMIC_RELAXED);
    if (pthread_equal(pthread_self(), calling)) keep_apart(pool);
    sched_yield();
}

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
#if defined(__linux__)
    pool->caller = -1;
#endif
    pool->team.yield = yield;
    pool->team.context = pool;
    find_processors(pool);
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
    const sqz_error error =
        sqz_run_part(model, picture, row_bytes, activations, scratch, logits, 0, 0, NULL, 0, 1);
    if (error != SQZ_OK) return error;
    const job next = {model, picture, row_bytes, activations, scratch, logits};
    pool->now = next;
    if (pool->parts > 1) {
        pthread_t self = pthread_self();
        __atomic_store(&pool->calling, &self, __ATOMIC_RELAXED);
        keep_apart(pool);
        begin_turn(pool);
    }
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
