// Products of bfloat16 rows with a packed matrix: strips of 16 outputs, cut into blocks of 32 inputs, one record each.
//
// A record holds the weights pair by pair of inputs, 16 outputs side by side, so that one instruction multiplies a broadcast pair of inputs with 16
// outputs and no sum across lanes is ever needed. What is inside tells its kind:
//   q4_1      256 bytes of 4-bit codes q, then 16 scales d and 16 minima m in float16: a weight is d * q + m
//   q8_0      512 bytes of 8-bit codes q, then 16 scales d in float16: a weight is d * q
//   bfloat16  1,024 bytes of weights
// Codes are small integers, exact in bfloat16: quantised weights lose nothing here, and only they are read from memory.
#pragma once

#include "vectors.h"

enum { Q4_1 = 0, Q8_0 = 1, BFLOAT16 = 2 };
enum { Q4_1_BYTES = 320, Q8_0_BYTES = 544, BFLOAT16_BYTES = 1024 };

// How many rows share what is read and unpacked of a strip; more would not fit the registers.
enum { TILE_ROWS = 8 };

// How many records ahead memory is asked for what will be multiplied: the processor's own guess comes too late where several rows are worked on at once.
enum { RECORDS_AHEAD = 12 };

typedef struct {
    const uint8_t *records;
    const float *bias;
    int64_t kind, num_inputs, num_outputs;
} Matrix;

INLINE long record_bytes(long kind) { return kind == Q4_1 ? Q4_1_BYTES : kind == Q8_0 ? Q8_0_BYTES : BFLOAT16_BYTES; }

INLINE long num_strips(const Matrix *matrix) { return (matrix->num_outputs + LANES - 1) / LANES; }

// The sum of each block of a row: what the minima of q4_1 are multiplied with.
INLINE void sum_blocks(float *sums, const bf16 *x, long size) {
    for (long block = 0; block < size / BLOCK; block++) sums[block] = sum_lanes(_mm512_add_ps(widen16(x + block * BLOCK), widen16(x + block * BLOCK + LANES)));
}

// Weights of pair `pair` (0-15) of a record, as bfloat16 codes.
INLINE __m512i unpack_pair(const long kind, const uint8_t *record, int pair, __m512i *four, __m512i code_table) {
    if (kind == Q4_1) {
        // One load holds four pairs: the table reads the lowest four bits of each word and ignores the others.
        if (pair % 4 == 0) *four = _mm512_loadu_si512(record + pair / 4 * 64);
        const __m512i codes = _mm512_permutexvar_epi16(*four, code_table);
        *four = _mm512_srli_epi16(*four, 4);
        return codes;
    }
    if (kind == Q8_0) {
        const __m256i codes = _mm256_loadu_si256((const __m256i *)(record + pair * 32));
        const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
        const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
        return (__m512i)_mm512_cvtne2ps_pbh(high, low);
    }
    return _mm512_loadu_si512(record + pair * 64);
}

// bfloat16 0-15, twice: word i of the table is the number i % 16, so bit 4 of an index does not matter.
INLINE __m512i four_bit_table(void) {
    const __m512i indices = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(_mm512_cvtepi32_ps(indices));
    return _mm512_inserti64x4(_mm512_castsi256_si512(half), half, 1);
}

// Each row's 16 outputs of one strip. Every row is summed in the same order whatever `rows` is: blocks in turn, even and odd pairs of a block apart.
INLINE void strip_tile(const long kind, const uint8_t *record, long num_blocks, const bf16 *x, const float *sums, const long rows, __m512 *totals) {
    const __m512i table = four_bit_table();
    const long size = num_blocks * BLOCK;
    for (long r = 0; r < rows; r++) totals[r] = _mm512_setzero_ps();
    for (long block = 0; block < num_blocks; block++, record += record_bytes(kind)) {
        __m512 even[TILE_ROWS], odd[TILE_ROWS];
        __m512i four = _mm512_setzero_si512();
        for (long line = 0; line < record_bytes(kind); line += 64) __builtin_prefetch(record + RECORDS_AHEAD * record_bytes(kind) + line);
#pragma clang loop unroll(full)
        for (long r = 0; r < rows; r++) even[r] = odd[r] = _mm512_setzero_ps();
#pragma clang loop unroll(full)
        for (int pair = 0; pair < BLOCK / 2; pair += 2) {
            const bf16 *from = x + block * BLOCK + pair * 2;
            __m512i weights = unpack_pair(kind, record, pair, &four, table);
#pragma clang loop unroll(full)
            for (long r = 0; r < rows; r++) even[r] = dot_pairs(even[r], weights, broadcast_pair(from + r * size));
            weights = unpack_pair(kind, record, pair + 1, &four, table);
#pragma clang loop unroll(full)
            for (long r = 0; r < rows; r++) odd[r] = dot_pairs(odd[r], weights, broadcast_pair(from + r * size + 2));
        }
        const __m256i *tail = (const __m256i *)(record + (kind == Q4_1 ? 256 : 512));
        const __m512 scales = kind == BFLOAT16 ? _mm512_setzero_ps() : _mm512_cvtph_ps(_mm256_loadu_si256(tail));
        const __m512 minima = kind == Q4_1 ? _mm512_cvtph_ps(_mm256_loadu_si256(tail + 1)) : _mm512_setzero_ps();
#pragma clang loop unroll(full)
        for (long r = 0; r < rows; r++) {
            const __m512 product = _mm512_add_ps(even[r], odd[r]);
            if (kind == Q4_1) totals[r] = _mm512_fmadd_ps(minima, _mm512_set1_ps(sums[r * num_blocks + block]), totals[r]);
            totals[r] = kind == BFLOAT16 ? _mm512_add_ps(totals[r], product) : _mm512_fmadd_ps(scales, product, totals[r]);
        }
    }
}

INLINE void strip_rows(const long kind, const uint8_t *strip, long num_blocks, const bf16 *x, const float *sums, long rows, __m512 *totals) {
    switch (rows) {
        case 1: strip_tile(kind, strip, num_blocks, x, sums, 1, totals); break;
        case 2: strip_tile(kind, strip, num_blocks, x, sums, 2, totals); break;
        case 3: strip_tile(kind, strip, num_blocks, x, sums, 3, totals); break;
        case 4: strip_tile(kind, strip, num_blocks, x, sums, 4, totals); break;
        case 5: strip_tile(kind, strip, num_blocks, x, sums, 5, totals); break;
        case 6: strip_tile(kind, strip, num_blocks, x, sums, 6, totals); break;
        case 7: strip_tile(kind, strip, num_blocks, x, sums, 7, totals); break;
        default: strip_tile(kind, strip, num_blocks, x, sums, 8, totals); break;
    }
}

// totals[r] = the 16 outputs of `strip` for each of 1-8 rows of x, with `sums` of their blocks.
static __attribute__((noinline)) void multiply_strip(const Matrix *matrix, long strip, const bf16 *x, const float *sums, long rows, __m512 *totals) {
    const long num_blocks = matrix->num_inputs / BLOCK;
    const uint8_t *records = matrix->records + strip * num_blocks * record_bytes(matrix->kind);
    if (matrix->kind == Q4_1)
        strip_rows(Q4_1, records, num_blocks, x, sums, rows, totals);
    else if (matrix->kind == Q8_0)
        strip_rows(Q8_0, records, num_blocks, x, sums, rows, totals);
    else
        strip_rows(BFLOAT16, records, num_blocks, x, sums, rows, totals);
    if (matrix->bias) {
        const __m512 bias = _mm512_loadu_ps(matrix->bias + strip * LANES);
        for (long r = 0; r < rows; r++) totals[r] = _mm512_add_ps(totals[r], bias);
    }
}

// One row of weights in float32: what an embedding looks up.
INLINE void unpack_row(float *out, const Matrix *matrix, long row) {
    const long num_blocks = matrix->num_inputs / BLOCK, lane = row % LANES;
    const uint8_t *record = matrix->records + row / LANES * num_blocks * record_bytes(matrix->kind);
    const __m512i table = four_bit_table();
    for (long block = 0; block < num_blocks; block++, record += record_bytes(matrix->kind)) {
        __m512i four = _mm512_setzero_si512();
        _Float16 scale = 1, minimum = 0;
        if (matrix->kind != BFLOAT16) memcpy(&scale, record + (matrix->kind == Q4_1 ? 256 : 512) + lane * 2, 2);
        if (matrix->kind == Q4_1) memcpy(&minimum, record + 288 + lane * 2, 2);
        for (int pair = 0; pair < BLOCK / 2; pair++) {
            bf16 codes[2 * LANES];
            _mm512_storeu_si512(codes, unpack_pair(matrix->kind, record, pair, &four, table));
            for (int i = 0; i < 2; i++) {
                const uint32_t bits = (uint32_t)codes[2 * lane + i] << 16;
                float code;
                memcpy(&code, &bits, 4);
                *out++ = (float)scale * code + (float)minimum;
            }
        }
    }
}
