// Whole pieces of work that other calls are made of; each says in its own file what it does.
#pragma once

#include "phases.h"

typedef struct Decoder Decoder;
typedef struct ExitBlock ExitBlock;

// Layers after which the residual stream is noted: out (num_rows, num_layers, hidden_size).
typedef struct {
    const int64_t *layers;
    int64_t num_layers;
    float *out;
} Notes;

void attune_look_up(float *out, const int64_t *rows, const Matrix *matrix, long num_rows);
long attune_run_layers(float *x, const Decoder *decoder, bf16 *const *pools, const Batch *batch, const HeadShape *shape, const Adapters *adapters,
                       long start, long stop, const Notes *notes, uint8_t *scratch);
long attune_guess(float *z, int64_t *places, float *probs, const float *x, const float *known, const ExitBlock *block, long num_rows, uint8_t *scratch);
long attune_fuse(float *known, const float *deep, const ExitBlock *block, long num_rows, uint8_t *scratch);
