// The phases of a decoder layer. All threads of a team call each of them, in the same order.
#pragma once

#include "attention.h"
#include "elementwise.h"
#include "low_rank.h"
#include "team.h"

// Rows that are worked on while a strip's weights and they themselves stay in the second cache.
enum { ROW_BLOCK = 128 };

// Rows in bfloat16 that enter a matrix product, with the sums of their blocks.
typedef struct {
    bf16 *values;
    float *sums;
    long size;
} Rows;

INLINE const bf16 *row_of(const Rows *rows, long row) { return rows->values + row * rows->size; }
INLINE float *sums_of(const Rows *rows, long row) { return rows->sums + row * (rows->size / BLOCK); }

// Room for so many bytes, in lines of the cache.
INLINE void *carve(uint8_t **scratch, long bytes) {
    void *start = *scratch;
    *scratch += (bytes + 63) / 64 * 64;
    return start;
}

INLINE Rows carve_rows(uint8_t **scratch, long num_rows, long size) {
    Rows rows = {carve(scratch, num_rows * size * (long)sizeof(bf16)), carve(scratch, num_rows * size / BLOCK * (long)sizeof(float)), size};
    return rows;
}

INLINE void phase_norm(Member *member, const Rows *out, const float *x, const bf16 *weight, float eps, long num_rows) {
    for (long row, end; take(member, num_rows, 0, &row, &end);)
        for (; row < end; row++) {
            norm_row(out->values + row * out->size, x + row * out->size, weight, out->size, eps);
            sum_blocks(sums_of(out, row), row_of(out, row), out->size);
        }
}

// A x of every row that has an adapter, where any has one: goes before the product that it is added to.
INLINE void phase_reduce(Member *member, const Updates *updates, const Rows *x, long num_rows) {
    if (!updates->adapters) return;
    const long tiles = (num_rows + TILE_ROWS - 1) / TILE_ROWS;
    for (long item, end; take(member, tiles * updates->num_projections, 0, &item, &end);)
        for (; item < end; item++) {
            const long first = item % tiles * TILE_ROWS, last = first + TILE_ROWS < num_rows ? first + TILE_ROWS : num_rows;
            reduce_rows(updates, item / tiles, row_of(x, first), sums_of(x, first), x->size, first, last);
        }
}

// The 16 outputs of `strip` of rows row..row+rows-1, at most 8, with their updates.
INLINE void multiply_tile(const Matrix *matrix, const Updates *updates, long strip, const Rows *x, long row, long rows, __m512 *totals) {
    multiply_strip(matrix, strip, row_of(x, row), sums_of(x, row), rows, totals);
    if (updates->adapters) add_updates(updates, strip, row, rows, totals);
}

// out (num_rows, num_outputs) in float32 = x times the matrix, or += where `adds`. The last strip may hold fewer outputs than lanes.
INLINE void phase_multiply(Member *member, float *out, const Rows *x, const Matrix *matrix, const Updates *updates, long num_rows, const int adds) {
    const long strips = num_strips(matrix), items = strips * ((num_rows + ROW_BLOCK - 1) / ROW_BLOCK);
    for (long item, end; take(member, items, 0, &item, &end);)
        for (; item < end; item++) {
            const long strip = item % strips, first = item / strips * ROW_BLOCK, last = first + ROW_BLOCK < num_rows ? first + ROW_BLOCK : num_rows;
            const long left = matrix->num_outputs - strip * LANES;
            const __mmask16 lanes = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
            for (long row = first; row < last; row += TILE_ROWS) {
                __m512 totals[TILE_ROWS];
                const long rows = last - row < TILE_ROWS ? last - row : TILE_ROWS;
                multiply_tile(matrix, updates, strip, x, row, rows, totals);
                for (long r = 0; r < rows; r++) {
                    float *to = out + (row + r) * matrix->num_outputs + strip * LANES;
                    _mm512_mask_storeu_ps(to, lanes, adds ? _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), totals[r]) : totals[r]);
                }
            }
        }
}

// out = silu(x times the first half of the matrix) * (x times its second half), 32 outputs at a time.
INLINE void phase_gate_up(Member *member, const Rows *out, const Rows *x, const Matrix *matrix, const Updates *updates, long num_rows) {
    const long blocks = out->size / BLOCK, up = out->size / LANES, items = blocks * ((num_rows + ROW_BLOCK - 1) / ROW_BLOCK);
    for (long item, end; take(member, items, 0, &item, &end);)
        for (; item < end; item++) {
            const long block = item % blocks, first = item / blocks * ROW_BLOCK, last = first + ROW_BLOCK < num_rows ? first + ROW_BLOCK : num_rows;
            for (long row = first; row < last; row += TILE_ROWS) {
                const long rows = last - row < TILE_ROWS ? last - row : TILE_ROWS;
                for (long strip = 2 * block; strip < 2 * block + 2; strip++) {
                    __m512 gates[TILE_ROWS], ups[TILE_ROWS];
                    multiply_tile(matrix, updates, strip, x, row, rows, gates);
                    multiply_tile(matrix, updates, up + strip, x, row, rows, ups);
                    for (long r = 0; r < rows; r++) narrow16(out->values + (row + r) * out->size + strip * LANES, gated(gates[r], ups[r]));
                }
                for (long r = 0; r < rows; r++) sum_blocks(sums_of(out, row + r) + block, row_of(out, row + r) + block * BLOCK, BLOCK);
            }
        }
}

typedef struct {
    const int64_t *positions, *slots, *tables, *lengths;
    int64_t num_rows, num_columns;
} Batch;

typedef struct {
    const float *cos, *sin;
    const bf16 *q_norm, *k_norm;
    float eps;
} Rotation;

INLINE void phase_rotate(Member *member, bf16 *queries, bf16 *pool, const float *qkv, const Rotation *by, const Batch *batch, const HeadShape *shape) {
    const long half = shape->head_dim / 2, width = (shape->num_heads + 2 * shape->num_kv_heads) * shape->head_dim;
    for (long row, end; take(member, batch->num_rows, 0, &row, &end);)
        for (; row < end; row++) {
            const long at = batch->positions[row] * half;
            rotate_row(queries + row * shape->num_heads * shape->head_dim, pool, qkv + row * width, by->q_norm, by->k_norm, by->eps, by->cos + at, by->sin + at,
                       batch->slots[row], shape);
        }
}

INLINE void phase_attend(Member *member, const Rows *out, const bf16 *queries, const bf16 *pool, const Batch *batch, const HeadShape *shape) {
    const long part = out->size / shape->num_kv_heads;
    for (long item, end; take(member, batch->num_rows * shape->num_kv_heads, batch->num_rows < 64 ? 1 : 16, &item, &end);)
        for (; item < end; item++) {
            const long row = item / shape->num_kv_heads, group = item % shape->num_kv_heads;
            bf16 *mixed = out->values + row * out->size;
            attend_group(mixed, queries + row * out->size, pool, group, batch->tables + row * batch->num_columns, batch->lengths[row], shape);
            sum_blocks(sums_of(out, row) + group * part / BLOCK, mixed + group * part, part);
        }
}
