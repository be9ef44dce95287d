// A guess of an exit adapter in one call, from norms to the best token, so that its threads are woken once.
#include "calls.h"

enum { NUM_PHASES = 8, NUM_FUSE_PHASES = 2 };

struct ExitBlock {
    const bf16 *deep_norms, *exit_norm, *known_norm, *norm, *out_norm;
    Matrix fuse, mix, gate_up, down, head;
    int64_t num_deep_layers, hidden_size, width;
    float eps;
};

typedef struct {
    const ExitBlock *block;
    const float *x, *known;
    float *z, *logits, *probs;
    int64_t *places;
    Rows both, normed, activations;
    long num_rows;
} GuessJob;

static void phase_both(const GuessJob *job, Member *member) {
    const long size = job->block->hidden_size;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) {
            bf16 *both = job->both.values + row * 2 * size;
            norm_row(both, job->x + row * size, job->block->exit_norm, size, job->block->eps);
            norm_row(both + size, job->known + row * size, job->block->known_norm, size, job->block->eps);
            sum_blocks(sums_of(&job->both, row), both, 2 * size);
        }
}

// Lanes of the vector at `first` that lie before `count`.
INLINE __mmask16 lanes_before(long first, long count) { return count - first >= LANES ? 0xffff : (__mmask16)((1u << (count - first)) - 1); }

// The place of the highest logit, the first one where there are several, and its softmax.
static void best_of(const float *logits, long count, int64_t *place, float *prob) {
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 highest = nothing, total = _mm512_setzero_ps();
    for (long i = 0; i < count; i += LANES) highest = _mm512_max_ps(highest, _mm512_mask_loadu_ps(nothing, lanes_before(i, count), logits + i));
    highest = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
    *place = -1;
    for (long i = 0; i < count; i += LANES) {
        const __mmask16 lanes = lanes_before(i, count);
        const __m512 values = _mm512_mask_loadu_ps(nothing, lanes, logits + i);
        const __mmask16 is_best = _mm512_mask_cmp_ps_mask(lanes, values, highest, _CMP_EQ_OQ);
        if (*place < 0 && is_best) *place = i + __builtin_ctz(is_best);
        total = _mm512_mask_add_ps(total, lanes, total, exp16(_mm512_sub_ps(values, highest)));
    }
    *prob = 1.0f / sum_lanes(total);
    // NaN is nowhere the highest.
    if (*place < 0) *place = 0;
}

static void phase_best(const GuessJob *job, Member *member) {
    const long count = job->block->head.num_outputs;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) best_of(job->logits + row * count, count, job->places + row, job->probs + row);
}

static void guess_work(void *data, Member *member) {
    const GuessJob *job = data;
    const ExitBlock *block = job->block;
    const Updates none = {0};
    phase_both(job, member);
    phase_multiply(member, job->z, &job->both, &block->mix, &none, job->num_rows, 0);
    phase_norm(member, &job->normed, job->z, block->norm, block->eps, job->num_rows);
    phase_gate_up(member, &job->activations, &job->normed, &block->gate_up, &none, job->num_rows);
    phase_multiply(member, job->z, &job->activations, &block->down, &none, job->num_rows, 1);
    phase_norm(member, &job->normed, job->z, block->out_norm, block->eps, job->num_rows);
    phase_multiply(member, job->logits, &job->normed, &block->head, &none, job->num_rows, 0);
    phase_best(job, member);
}

// From float32 rows at the exit and what is known one position before (num_rows, hidden_size): the states z, and for each row the best place in the head's rows and its
// probability among them. Without x: -> the bytes of scratch that it takes.
long attune_guess(float *z, int64_t *places, float *probs, const float *x, const float *known, const ExitBlock *block, long num_rows, uint8_t *scratch) {
    uint8_t *const base = scratch;
    GuessJob job = {.block = block, .x = x, .known = known, .z = z, .probs = probs, .places = places, .num_rows = num_rows};
    job.both = carve_rows(&scratch, num_rows, 2 * block->hidden_size);
    job.normed = carve_rows(&scratch, num_rows, block->hidden_size);
    job.activations = carve_rows(&scratch, num_rows, block->width);
    job.logits = carve(&scratch, num_rows * block->head.num_outputs * (long)sizeof(float));
    if (x) run_team(guess_work, &job, NUM_PHASES, num_rows * block->hidden_size * (3 * block->width + block->head.num_outputs));
    return scratch - base;
}

typedef struct {
    const ExitBlock *block;
    const float *deep;
    float *known;
    Rows normed;
    long num_rows;
} FuseJob;

static void fuse_work(void *data, Member *member) {
    const FuseJob *job = data;
    const ExitBlock *block = job->block;
    const Updates none = {0};
    const long size = block->hidden_size, width = block->num_deep_layers * size;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) {
            bf16 *normed = job->normed.values + row * width;
            for (long at = 0; at < width; at += size) norm_row(normed + at, job->deep + row * width + at, block->deep_norms + at, size, block->eps);
            sum_blocks(sums_of(&job->normed, row), normed, width);
        }
    phase_multiply(member, job->known, &job->normed, &block->fuse, &none, job->num_rows, 0);
}

// What is known of positions (num_rows, hidden_size) from the float32 streams there after the deep layers (num_rows, num_deep_layers, hidden_size). Without
// `deep`: -> the bytes of scratch that it takes.
long attune_fuse(float *known, const float *deep, const ExitBlock *block, long num_rows, uint8_t *scratch) {
    uint8_t *const base = scratch;
    const long width = block->num_deep_layers * block->hidden_size;
    FuseJob job = {.block = block, .deep = deep, .known = known, .num_rows = num_rows};
    job.normed = carve_rows(&scratch, num_rows, width);
    if (deep) run_team(fuse_work, &job, NUM_FUSE_PHASES, num_rows * width * block->hidden_size);
    return scratch - base;
}
