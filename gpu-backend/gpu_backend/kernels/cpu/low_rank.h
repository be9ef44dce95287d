// Low-rank updates (LoRA) of what rows get from a packed matrix: a row x with an adapter gets B (A x) more.
//
// A lies as a packed matrix of bfloat16 records whose outputs are the ranks. B lies in strips of 16 outputs and in each of them pair by pair of ranks,
// 64 bytes a pair; the scale is in it. Sums are float32, A x is rounded to bfloat16 in between. A row of either product is summed in one fixed order
// whatever stands beside it, and a row without an adapter is not touched.
#pragma once

#include "matmul.h"

// Which of an adapter's updates are those of a layer's matrices: seven projections in each layer, in this order.
enum { Q_K_V = 0, OUTPUT = 3, GATE_UP = 4, DOWN = 6, NUM_PROJECTIONS = 7 };

enum { PAIR_BYTES = 64 };

// The update of one projection, which has num_outputs outputs, a multiple of 16; none where the rank is 0.
typedef struct {
    const uint8_t *a, *b;
    int64_t num_outputs, rank;
} LowRank;

// Every row's adapter, as the first of its updates; NULL where it has none. No update has more than max_rank ranks, a multiple of 16.
typedef struct {
    const LowRank *const *rows;
    int64_t max_rank;
} Adapters;

// The part of them that belongs to one matrix, and room for A x of each row and projection. Without adapters, none of it matters.
typedef struct {
    const Adapters *adapters;
    bf16 *reduced;
    long first, num_projections;
} Updates;

INLINE bf16 *reduced_of(const Updates *updates, long row, long projection) {
    return updates->reduced + (row * updates->num_projections + projection) * updates->adapters->max_rank;
}

// The first row from `row` on that has another adapter, `last` at most.
INLINE long end_of_run(const Updates *updates, long row, long last) {
    const LowRank *const *rows = updates->adapters->rows, *const adapter = rows[row];
    while (row < last && rows[row] == adapter) row++;
    return row;
}

// A x of rows first..last-1, at most 8, for one projection.
INLINE void reduce_rows(const Updates *updates, long projection, const bf16 *x, const float *sums, long size, long first, long last) {
    for (long row = first, end; row < last; row = end) {
        end = end_of_run(updates, row, last);
        const LowRank *adapter = updates->adapters->rows[row];
        if (!adapter) continue;
        const LowRank *update = adapter + updates->first + projection;
        const Matrix a = {update->a, NULL, BFLOAT16, size, update->rank};
        for (long strip = 0; strip < num_strips(&a); strip++) {
            __m512 totals[TILE_ROWS];
            multiply_strip(&a, strip, x + (row - first) * size, sums + (row - first) * (size / BLOCK), end - row, totals);
            for (long r = row; r < end; r++) narrow16(reduced_of(updates, r, projection) + strip * LANES, totals[r - row]);
        }
    }
}

INLINE void add_pairs(const uint8_t *b, long num_pairs, const bf16 *reduced, long stride, const long rows, __m512 *totals) {
    __m512 sums[TILE_ROWS];
#pragma clang loop unroll(full)
    for (long r = 0; r < rows; r++) sums[r] = totals[r];
    for (long pair = 0; pair < num_pairs; pair++) {
        const __m512i weights = _mm512_loadu_si512(b + pair * PAIR_BYTES);
#pragma clang loop unroll(full)
        for (long r = 0; r < rows; r++) sums[r] = dot_pairs(sums[r], weights, broadcast_pair(reduced + r * stride + pair * 2));
    }
#pragma clang loop unroll(full)
    for (long r = 0; r < rows; r++) totals[r] = sums[r];
}

// Adds the updates to the 16 outputs of `strip` of rows row..row+rows-1, at most 8.
static __attribute__((noinline)) void add_updates(const Updates *updates, long strip, long row, long rows, __m512 *totals) {
    const long stride = updates->num_projections * updates->adapters->max_rank, last = row + rows;
    for (long end; row < last; totals += end - row, row = end) {
        end = end_of_run(updates, row, last);
        const LowRank *adapter = updates->adapters->rows[row];
        if (!adapter) continue;
        const LowRank *update = adapter + updates->first;
        long projection = 0, at = strip;
        for (; at >= update->num_outputs / LANES; projection++) at -= update++->num_outputs / LANES;
        const long num_pairs = (update->rank + 1) / 2;
        const uint8_t *b = update->b + at * num_pairs * PAIR_BYTES;
        const bf16 *reduced = reduced_of(updates, row, projection);
        switch (end - row) {
            case 1: add_pairs(b, num_pairs, reduced, stride, 1, totals); break;
            case 2: add_pairs(b, num_pairs, reduced, stride, 2, totals); break;
            case 3: add_pairs(b, num_pairs, reduced, stride, 3, totals); break;
            case 4: add_pairs(b, num_pairs, reduced, stride, 4, totals); break;
            case 5: add_pairs(b, num_pairs, reduced, stride, 5, totals); break;
            case 6: add_pairs(b, num_pairs, reduced, stride, 6, totals); break;
            case 7: add_pairs(b, num_pairs, reduced, stride, 7, totals); break;
            default: add_pairs(b, num_pairs, reduced, stride, 8, totals); break;
        }
    }
}
