// The team's threads: woken through OpenMP once for each call, after that only looking at shared words.
#include "team.h"

#include <immintrin.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef void (*ParallelFn)(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);

static ParallelFn parallel;
static int num_threads = 1;

// Below this much work, waking the other threads costs more than it saves. A waiting thread looks, then looks at longer intervals, then lets others
// have its core: in a virtual machine every pause may cost a way out of it.
enum { MIN_AMOUNT = 65536, PAUSE_AFTER = 4000, YIELD_AFTER = 8000, LINE = 64 };

// The address of GOMP_parallel; without it everything runs on the calling thread.
void attune_set_threads(void *parallel_address, int count) {
    parallel = (ParallelFn)parallel_address;
    num_threads = parallel ? count : 1;
}

typedef struct {
    _Alignas(LINE) atomic_long next;
    atomic_long num_done;
} Phase;

struct Member {
    Phase *phase;
    long num_taken, alone_at;
};

typedef struct {
    TeamWork work;
    void *job;
    Phase *phases;
} Call;

static void enter(void *data) {
    const Call *call = data;
    Member member = {call->phases, 0, 0};
    call->work(call->job, &member);
}

void run_team(TeamWork work, void *job, long num_phases, long amount) {
    Call call = {work, job, NULL};
    if (num_threads > 1 && amount >= MIN_AMOUNT) call.phases = aligned_alloc(LINE, (size_t)num_phases * sizeof(Phase));
    if (!call.phases) {
        enter(&call);
        return;
    }
    for (long i = 0; i < num_phases; i++) call.phases[i] = (Phase){0, 0};
    parallel(enter, &call, (unsigned)num_threads, 0);
    free(call.phases);
}

static int take_alone(Member *member, long count, long *first, long *last) {
    *first = member->alone_at;
    *last = member->alone_at = *first < count ? count : 0;
    return *first < count;
}

int take(Member *member, long count, long share, long *first, long *last) {
    Phase *phase = member->phase;
    if (!phase) return take_alone(member, count, first, last);
    if (!share) share = count / 16 + 1;
    if (member->num_taken) atomic_fetch_add_explicit(&phase->num_done, member->num_taken, memory_order_release);
    *first = atomic_fetch_add_explicit(&phase->next, share, memory_order_relaxed);
    *last = *first + share < count ? *first + share : count;
    member->num_taken = *first < count ? *last - *first : 0;
    if (member->num_taken) return 1;
    for (long looks = 0; atomic_load_explicit(&phase->num_done, memory_order_acquire) < count; looks++) {
        if (looks > YIELD_AFTER)
            sched_yield();
        else if (looks > PAUSE_AFTER)
            _mm_pause();
    }
    member->phase++;
    return 0;
}
