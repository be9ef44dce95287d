// The drafts of one sequence in one call: its newest token through the layers below the exit, a guess, the guessed token through the same layers, and on.
#include "calls.h"

enum { NUM_TENTHS = 10 };

typedef struct {
    const Matrix *embedding;
    const Decoder *decoder;
    const ExitBlock *block;
    const int64_t *shortlist;
    const double *calibration;
    int64_t hidden_size, exit_layer;
} DraftParts;

// When a guess is kept as a draft, and when another is made: see DraftRule of draft_length.py. From `least_to_stand` on a guess stands unverified.
typedef struct {
    int64_t most;
    double least_kept, least_to_go_on, least_to_stand;
} DraftRule;

// How often guesses of about this probability were right.
INLINE double calibrated(const double *calibration, float prob) {
    const int tenth = (int)((double)prob * NUM_TENTHS);
    return calibration[tenth < NUM_TENTHS ? tenth : NUM_TENTHS - 1];
}

// Row i of `rows` is the place of token i, tokens[0] the newest one; `deep` is what the deep layers gave one position before it. Writes the drafts to
// tokens[1..] and the guesses' probabilities to `probs`, the streams at the exit (of the newest token and of every draft) to `lower`, and to `counts` how many
// guesses were made and how many were kept. `states` has room for one row more than there are guesses. Without tokens: -> the bytes of scratch it takes.
long attune_draft(int64_t *tokens, float *probs, float *lower, float *states, int64_t *counts, const float *deep, const DraftParts *parts,
                  const DraftRule *rule, bf16 *const *pools, const Batch *rows, const HeadShape *shape, uint8_t *scratch) {
    Batch row = *rows;
    row.num_rows = 1;
    if (!tokens) {
        const long layers = attune_run_layers(0, parts->decoder, pools, &row, shape, 0, 0, parts->exit_layer, 0, 0);
        const long guess = attune_guess(0, 0, 0, 0, 0, parts->block, 1, 0);
        const long fuse = attune_fuse(0, 0, parts->block, 1, 0);
        const long most = layers > guess ? layers : guess;
        return most > fuse ? most : fuse;
    }
    double chance = 1.0;
    long num_guesses = 0, num_kept = 0;
    if (rule->most) attune_fuse(states, deep, parts->block, 1, scratch);
    for (;; num_kept++) {
        float *const x = lower + num_kept * parts->hidden_size;
        attune_look_up(x, tokens + num_kept, parts->embedding, 1);
        attune_run_layers(x, parts->decoder, pools, &row, shape, 0, 0, parts->exit_layer, 0, scratch);
        if (num_guesses == rule->most || (num_guesses > 0 && chance < rule->least_to_go_on)) break;
        int64_t place;
        float *const prob = probs + num_kept;
        const float *const known = states + num_guesses++ * parts->hidden_size;
        attune_guess(states + num_guesses * parts->hidden_size, &place, prob, x, known, parts->block, 1, scratch);
        if (*prob < rule->least_to_stand) chance *= calibrated(parts->calibration, *prob);
        if (chance < rule->least_kept) break;
        tokens[num_kept + 1] = parts->shortlist[place];
        row.positions++, row.slots++, row.lengths++;
        row.tables += row.num_columns;
    }
    counts[0] = num_guesses;
    counts[1] = num_kept;
    return 0;
}
