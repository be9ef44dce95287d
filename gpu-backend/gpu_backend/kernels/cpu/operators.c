// The operators one by one, for what lies outside the layers and for the twin of layers.c, which runs the same phases in one go.
#include "calls.h"

typedef struct {
    bf16 *out;
    const float *x;
    const bf16 *weight;
    long num_rows, size;
    float eps;
} NormJob;

static void norm_work(void *data, Member *member) {
    const NormJob *job = data;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) norm_row(job->out + row * job->size, job->x + row * job->size, job->weight, job->size, job->eps);
}

void attune_norm(bf16 *out, const float *x, const bf16 *weight, long num_rows, long size, float eps) {
    NormJob job = {out, x, weight, num_rows, size, eps};
    run_team(norm_work, &job, 1, num_rows * size);
}

typedef struct {
    float *out;
    Rows x;
    const Matrix *matrix;
    Updates updates;
    long num_rows;
} MultiplyJob;

static void multiply_work(void *data, Member *member) {
    const MultiplyJob *job = data;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) sum_blocks(sums_of(&job->x, row), row_of(&job->x, row), job->x.size);
    phase_reduce(member, &job->updates, &job->x, job->num_rows);
    phase_multiply(member, job->out, &job->x, job->matrix, &job->updates, job->num_rows, 0);
}

// out (num_rows, num_outputs) in float32; `sums` is room for num_rows * num_inputs / 32 numbers. With adapters, updates first..first+num_projections-1 of
// each are those of this matrix, and `reduced` is room for num_rows * num_projections * max_rank numbers.
void attune_multiply(float *out, bf16 *x, float *sums, const Matrix *matrix, const Adapters *adapters, bf16 *reduced, long first, long num_projections,
                     long num_rows) {
    MultiplyJob job = {out, {x, sums, matrix->num_inputs}, matrix, {adapters, reduced, first, num_projections}, num_rows};
    run_team(multiply_work, &job, 3, num_rows * matrix->num_inputs * matrix->num_outputs);
}

typedef struct {
    float *out;
    const int64_t *rows;
    const Matrix *matrix;
    long num_rows;
} LookUpJob;

static void look_up_work(void *data, Member *member) {
    const LookUpJob *job = data;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) unpack_row(job->out + row * job->matrix->num_inputs, job->matrix, job->rows[row]);
}

// out (num_rows, num_inputs) in float32: those rows of the weights.
void attune_look_up(float *out, const int64_t *rows, const Matrix *matrix, long num_rows) {
    LookUpJob job = {out, rows, matrix, num_rows};
    run_team(look_up_work, &job, 1, num_rows * matrix->num_inputs);
}

typedef struct {
    bf16 *out;
    const float *gate_up;
    long num_rows, size;
} GateJob;

static void gate_work(void *data, Member *member) {
    const GateJob *job = data;
    for (long row, end; take(member, job->num_rows, 0, &row, &end);)
        for (; row < end; row++) {
            const float *gate = job->gate_up + row * job->size * 2;
            for (long i = 0; i < job->size; i += LANES)
                narrow16(job->out + row * job->size + i, gated(_mm512_loadu_ps(gate + i), _mm512_loadu_ps(gate + job->size + i)));
        }
}

// out = silu(gate) * up, gate and up side by side in each row.
void attune_gate(bf16 *out, const float *gate_up, long num_rows, long size) {
    GateJob job = {out, gate_up, num_rows, size};
    run_team(gate_work, &job, 1, num_rows * size * 8);
}

typedef struct {
    Rows out;
    bf16 *queries, *pool;
    const float *qkv;
    const Rotation *rotation;
    const Batch *batch;
    const HeadShape *shape;
} AttendJob;

static void attend_work(void *data, Member *member) {
    const AttendJob *job = data;
    phase_rotate(member, job->queries, job->pool, job->qkv, job->rotation, job->batch, job->shape);
    phase_attend(member, &job->out, job->queries, job->pool, job->batch, job->shape);
}

// Rotates queries and keys, stores keys and values, and attends. `queries` and `sums` are room for as much as `out` and its blocks.
void attune_attend(bf16 *out, float *sums, bf16 *queries, bf16 *pool, const float *qkv, const Rotation *rotation, const Batch *batch, const HeadShape *shape) {
    const long size = shape->num_heads * shape->head_dim;
    AttendJob job = {{out, sums, size}, queries, pool, qkv, rotation, batch, shape};
    run_team(attend_work, &job, 2, batch->num_rows * batch->num_columns * shape->block_size * size);
}
