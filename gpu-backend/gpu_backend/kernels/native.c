// Small operators of a decode step on a CPU, in bfloat16 with float32 arithmetic: norms, gate, rotary embedding, paged attention.
//
// Every row is computed by the same instructions whatever rows stand beside it, so a batch never changes an answer. The matrix products stay with
// oneDNN. Work is shared by the OpenMP threads that PyTorch already runs: its `GOMP_parallel` is handed in as a function pointer, so no second
// pool of threads fights for the cores; without it everything runs on the calling thread.

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef uint16_t bf16;
typedef void (*parallel_fn)(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);
typedef int (*int_fn)(void);

static parallel_fn parallel;
static int_fn thread_num, team_size;
static int num_threads = 1;

// Below this much work, waking the other threads costs more than it saves.
enum { MIN_PARALLEL_WORK = 16384, BLOCK_MAX = 32, HEAD_MAX = 256, GROUP_MAX = 16 };

void attune_set_threads(void *parallel_pointer, void *thread_num_pointer, void *team_size_pointer, int count) {
    parallel = (parallel_fn)parallel_pointer;
    thread_num = (int_fn)thread_num_pointer;
    team_size = (int_fn)team_size_pointer;
    num_threads = parallel && thread_num && team_size ? count : 1;
}

static inline float widen(bf16 value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

// Sixteen at once, in whatever registers this processor has.
typedef float float16 __attribute__((vector_size(64)));
typedef uint32_t uint16x32 __attribute__((vector_size(64)));
typedef uint16_t uint16x16 __attribute__((vector_size(32)));

static inline float16 load16(const float *from) {
    float16 result;
    memcpy(&result, from, sizeof result);
    return result;
}

static inline float16 widen16(const bf16 *from) {
    uint16x16 packed;
    memcpy(&packed, from, sizeof packed);
    return (float16)(__builtin_convertvector(packed, uint16x32) << 16);
}

// The sum of all lanes, by halves: the same order everywhere, and short chains of additions.
static inline float sum16(float16 v) {
    const float16 a = v + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    const float16 b = a + __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    const float16 c = b + __builtin_shufflevector(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return c[0] + c[1];
}

// Sums of products of 32 pairs of bfloat16 numbers, in float32.
static inline float16 dot32(float16 sums, const bf16 *a, const bf16 *b) {
#ifdef __AVX512BF16__
    return (float16)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_loadu_si512(a), (__m512bh)_mm512_loadu_si512(b));
#else
    return sums + widen16(a) * widen16(b) + widen16(a + 16) * widen16(b + 16);
#endif
}

// Round to nearest, ties to even. A NaN keeps a set mantissa bit, so that the carry cannot turn it into something else.
static inline bf16 narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bf16)(value != value ? (bits >> 16) | 0x40 : rounded);
}

// e^x for x <= 0, relative error below 2e-7: 2^k * polynomial of the remainder. Free of branches, so that it vectorises.
static inline float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    float k = __builtin_rintf(x * 1.44269504f);
    float r = x - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t scale_bits = (uint32_t)((int32_t)k + 127) << 23;
    float scale;
    memcpy(&scale, &scale_bits, 4);
    return p * scale;
}

typedef struct {
    void (*row)(const void *job, long row);
    const void *job;
    long num_rows, chunk;
} Loop;

static void loop_body(void *data) {
    const Loop *loop = data;
    // Chunks in turns, because later rows of a prompt have more to do. OpenMP may grant fewer threads than were asked for.
    const long stride = team_size() * loop->chunk;
    for (long start = thread_num() * loop->chunk; start < loop->num_rows; start += stride)
        for (long row = start; row < start + loop->chunk && row < loop->num_rows; row++) loop->row(loop->job, row);
}

static void for_rows(long num_rows, long work_per_row, long chunk, void (*row)(const void *, long), const void *job) {
    if (num_threads > 1 && num_rows > 1 && num_rows * work_per_row >= MIN_PARALLEL_WORK) {
        Loop loop = {row, job, num_rows, chunk};
        parallel(loop_body, &loop, (unsigned)num_threads, 0);
    } else {
        for (long index = 0; index < num_rows; index++) row(job, index);
    }
}

typedef struct {
    bf16 *out;
    float *sum;
    const float *x;
    const bf16 *delta, *weight;
    long size;
    float eps;
} NormJob;

static void norm_row(const void *data, long row) {
    const NormJob *job = data;
    const float *x = job->x + row * job->size;
    bf16 *out = job->out + row * job->size;
    if (job->delta) {
        const bf16 *delta = job->delta + row * job->size;
        float *sum = job->sum + row * job->size;
        for (long i = 0; i < job->size; i++) sum[i] = x[i] + widen(delta[i]);
        x = sum;
    }
    float16 squares = {0};
    for (long i = 0; i < job->size; i += 16) squares += load16(x + i) * load16(x + i);
    float scale = 1.0f / sqrtf(sum16(squares) / (float)job->size + job->eps);
    for (long i = 0; i < job->size; i++) out[i] = narrow(x[i] * scale * widen(job->weight[i]));
}

// out = norm(x) * weight for a float32 x; with a delta, sum = x + delta first and out is its norm. size is a multiple of 16.
void attune_norm(bf16 *out, float *sum, const float *x, const bf16 *delta, const bf16 *weight, long num_rows, long size, float eps) {
    NormJob job = {out, sum, x, delta, weight, size, eps};
    for_rows(num_rows, size * 3, 1, norm_row, &job);
}

typedef struct {
    bf16 *out;
    const bf16 *gate_up;
    long size;
} GateJob;

static void gate_row(const void *data, long row) {
    const GateJob *job = data;
    const bf16 *gate = job->gate_up + row * job->size * 2, *up = gate + job->size;
    bf16 *out = job->out + row * job->size;
    for (long i = 0; i < job->size; i++) {
        float g = widen(gate[i]), e = exp_negative(-__builtin_fabsf(g));
        // silu(g) = g / (1 + e^-g), written with e^-|g| so that nothing overflows.
        float silu = g * (g < 0 ? e : 1.0f) / (1.0f + e);
        out[i] = narrow(silu * widen(up[i]));
    }
}

// out = silu(gate) * up, gate and up side by side in each row.
void attune_gate(bf16 *out, const bf16 *gate_up, long num_rows, long size) {
    GateJob job = {out, gate_up, size};
    for_rows(num_rows, size * 8, 1, gate_row, &job);
}

typedef struct {
    bf16 *qkv, *pool;
    const float *cos, *sin;
    const int64_t *positions, *slots;
    long num_heads, num_kv_heads, head_dim, num_slots;
} RotateJob;

static void rotate_row(const void *data, long row) {
    const RotateJob *job = data;
    long half = job->head_dim / 2, num_all = job->num_heads + 2 * job->num_kv_heads;
    bf16 *heads = job->qkv + row * num_all * job->head_dim;
    const float *cos = job->cos + job->positions[row] * half, *sin = job->sin + job->positions[row] * half;
    for (long head = 0; head < job->num_heads + job->num_kv_heads; head++) {
        bf16 *x = heads + head * job->head_dim;
        for (long i = 0; i < half; i++) {
            float first = widen(x[i]), second = widen(x[i + half]);
            x[i] = narrow(first * cos[i] - second * sin[i]);
            x[i + half] = narrow(second * cos[i] + first * sin[i]);
        }
    }
    // Plane p of the pool holds key head p, or value head p - num_kv_heads: the order in which they stand in the row.
    for (long plane = 0; plane < 2 * job->num_kv_heads; plane++)
        memcpy(job->pool + (plane * job->num_slots + job->slots[row]) * job->head_dim, heads + (job->num_heads + plane) * job->head_dim,
               (size_t)job->head_dim * sizeof(bf16));
}

// Rotate queries and keys in place, then store keys and values in the pool.
void attune_rotate_and_store(bf16 *qkv, bf16 *pool, const float *cos, const float *sin, const int64_t *positions, const int64_t *slots, long num_rows,
                             long num_heads, long num_kv_heads, long head_dim, long num_slots) {
    RotateJob job = {qkv, pool, cos, sin, positions, slots, num_heads, num_kv_heads, head_dim, num_slots};
    for_rows(num_rows, (num_heads + num_kv_heads) * head_dim * 4, 1, rotate_row, &job);
}

typedef struct {
    bf16 *out;
    const bf16 *qkv, *pool;
    const int64_t *tables, *lengths;
    long num_heads, num_kv_heads, head_dim, num_blocks, block_size, num_columns;
} AttendJob;

// One key/value head of one sequence: softmax over its blocks with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867).
static inline __attribute__((always_inline)) void attend_group(const AttendJob *job, long row, long group, const long head_dim, const long repeats) {
    const float scale = 1.0f / sqrtf((float)head_dim);
    const long num_all = job->num_heads + 2 * job->num_kv_heads, length = job->lengths[row];
    const int64_t *table = job->tables + row * job->num_columns;
    const bf16 *queries = job->qkv + (row * num_all + group * repeats) * head_dim;
    float mixed[GROUP_MAX][HEAD_MAX], best[GROUP_MAX], total[GROUP_MAX], scores[GROUP_MAX][BLOCK_MAX];
    for (long r = 0; r < repeats; r++) {
        best[r] = -INFINITY;
        total[r] = 0;
        for (long i = 0; i < head_dim; i++) mixed[r][i] = 0;
    }
    for (long start = 0; start < length; start += job->block_size) {
        const long block = table[start / job->block_size], count = length - start < job->block_size ? length - start : job->block_size;
        const bf16 *keys = job->pool + ((group * job->num_blocks + block) * job->block_size) * head_dim;
        const bf16 *values = keys + job->num_kv_heads * job->num_blocks * job->block_size * head_dim;
        for (long t = 0; t < count; t++) {
            for (long r = 0; r < repeats; r++) {
                float16 sums = {0};
                for (long i = 0; i < head_dim; i += 32) sums = dot32(sums, queries + r * head_dim + i, keys + t * head_dim + i);
                scores[r][t] = sum16(sums) * scale;
            }
        }
        for (long r = 0; r < repeats; r++) {
            float highest = best[r];
            for (long t = 0; t < count; t++) highest = scores[r][t] > highest ? scores[r][t] : highest;
            const float shrink = exp_negative(best[r] - highest);
            best[r] = highest;
            total[r] *= shrink;
            for (long i = 0; i < head_dim; i++) mixed[r][i] *= shrink;
            for (long t = 0; t < count; t++) total[r] += scores[r][t] = exp_negative(scores[r][t] - highest);
        }
        for (long t = 0; t < count; t++)
            for (long r = 0; r < repeats; r++)
                for (long i = 0; i < head_dim; i++) mixed[r][i] += scores[r][t] * widen(values[t * head_dim + i]);
    }
    bf16 *out = job->out + (row * job->num_heads + group * repeats) * head_dim;
    for (long r = 0; r < repeats; r++)
        for (long i = 0; i < head_dim; i++) out[r * head_dim + i] = narrow(mixed[r][i] / total[r]);
}

static void attend_row(const void *data, long index) {
    const AttendJob *job = data;
    const long row = index / job->num_kv_heads, group = index % job->num_kv_heads, repeats = job->num_heads / job->num_kv_heads;
    // The compiler unrolls the shapes it knows; any other shape runs the same code with variable bounds.
    if (job->head_dim == 64 && repeats == 3)
        attend_group(job, row, group, 64, 3);
    else if (job->head_dim == 128 && repeats == 4)
        attend_group(job, row, group, 128, 4);
    else
        attend_group(job, row, group, job->head_dim, repeats);
}

// Each row's query over the first `lengths[row]` positions of its sequence, in the same order whether the row is decoded, part of a prompt, or comes
// after a prefix that was found in the cache. head_dim is a multiple of 32 up to 256, block_size at most 32, at most 16 query heads per group.
void attune_attend(bf16 *out, const bf16 *qkv, const bf16 *pool, const int64_t *tables, const int64_t *lengths, long num_rows, long num_heads,
                   long num_kv_heads, long head_dim, long num_blocks, long block_size, long num_columns) {
    AttendJob job = {out, qkv, pool, tables, lengths, num_heads, num_kv_heads, head_dim, num_blocks, block_size, num_columns};
    for_rows(num_rows * num_kv_heads, num_columns * block_size * head_dim * (num_heads / num_kv_heads), num_kv_heads, attend_row, &job);
}

typedef struct {
    float *out;
    const bf16 *x, *weight;
    long num_rows, size, num_outputs;
} HeadJob;

enum { TILE_OUTPUTS = 2, TILE_ROWS = 8 };

// A tile of inputs and outputs, so that what is loaded is used several times. Each sum runs in the same order in every tile.
static inline __attribute__((always_inline)) void head_tile(const HeadJob *job, long output, const long outputs, long first, const long rows) {
    float16 sums[TILE_OUTPUTS][TILE_ROWS] = {{{0}}};
    for (long i = 0; i < job->size; i += 32)
#pragma clang loop unroll(full)
        for (long o = 0; o < outputs; o++)
#pragma clang loop unroll(full)
            for (long r = 0; r < rows; r++)
                sums[o][r] = dot32(sums[o][r], job->weight + (output + o) * job->size + i, job->x + (first + r) * job->size + i);
    for (long o = 0; o < outputs; o++)
        for (long r = 0; r < rows; r++) job->out[(first + r) * job->num_outputs + output + o] = sum16(sums[o][r]);
}

static inline __attribute__((always_inline)) void head_outputs(const HeadJob *job, long output, const long outputs) {
    long first = 0;
    for (; first + 8 <= job->num_rows; first += 8) head_tile(job, output, outputs, first, 8);
    if (first + 4 <= job->num_rows) head_tile(job, output, outputs, first, 4), first += 4;
    if (first + 2 <= job->num_rows) head_tile(job, output, outputs, first, 2), first += 2;
    if (first < job->num_rows) head_tile(job, output, outputs, first, 1);
}

static void head_strip(const void *data, long strip) {
    const HeadJob *job = data;
    const long output = strip * TILE_OUTPUTS;
    if (output + TILE_OUTPUTS <= job->num_outputs)
        head_outputs(job, output, TILE_OUTPUTS);
    else
        for (long last = output; last < job->num_outputs; last++) head_outputs(job, last, 1);
}

// out (num_rows, num_outputs) = x (num_rows, size) times the transposed weight (num_outputs, size), all sums in float32: logits rounded to bfloat16
// would tie too often to choose between. size is a multiple of 32.
void attune_head(float *out, const bf16 *x, const bf16 *weight, long num_rows, long size, long num_outputs) {
    HeadJob job = {out, x, weight, num_rows, size, num_outputs};
    for_rows((num_outputs + TILE_OUTPUTS - 1) / TILE_OUTPUTS, num_rows * size * TILE_OUTPUTS, 256, head_strip, &job);
}
