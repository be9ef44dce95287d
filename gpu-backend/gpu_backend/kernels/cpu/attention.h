// Attention of one row over the blocks of its sequence, softmax with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867).
#pragma once

#include "elementwise.h"
#include "vectors.h"

// CHUNK is how many positions are scored before their values are mixed in.
enum { HEAD_MAX = 256, GROUP_MAX = 16, CHUNK = 256 };

// The paged pool of one layer: plane p < num_kv_heads holds the keys of head p, plane num_kv_heads + p its values; (planes, blocks, block_size, head_dim).
typedef struct {
    int64_t num_heads, num_kv_heads, head_dim, num_blocks, block_size;
} HeadShape;

INLINE long plane_size(const HeadShape *shape) { return shape->num_blocks * shape->block_size * shape->head_dim; }

// Queries (num_heads, head_dim) of a row from its float32 queries, keys and values side by side; keys and values go to their slot of the pool.
INLINE void rotate_row(bf16 *queries, bf16 *pool, const float *qkv, const bf16 *q_norm, const bf16 *k_norm, float eps, const float *cos, const float *sin,
                       int64_t slot, const HeadShape *shape) {
    const long size = shape->head_dim;
    for (long head = 0; head < shape->num_heads; head++, qkv += size) rotate_head(queries + head * size, qkv, q_norm, eps, cos, sin, size);
    bf16 *plane = pool + slot * size;
    for (long head = 0; head < shape->num_kv_heads; head++, qkv += size, plane += plane_size(shape)) rotate_head(plane, qkv, k_norm, eps, cos, sin, size);
    for (long head = 0; head < shape->num_kv_heads; head++, qkv += size, plane += plane_size(shape))
        for (long i = 0; i < size; i += LANES) narrow16(plane + i, _mm512_loadu_ps(qkv + i));
}

// Where position `at` of a sequence lies in a plane.
INLINE long place_of(const int64_t *table, long at, long block_size) { return table[at / block_size] * block_size + at % block_size; }

// scores[r][0..count-1] of up to 16 positions that lie behind each other in one block.
INLINE void score_positions(float scores[][CHUNK + LANES], long at, const bf16 *queries, const bf16 *keys, long count, const long head_dim, const long repeats) {
    const __mmask16 is_there = (__mmask16)((1u << count) - 1);
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf((float)head_dim));
    for (long r = 0; r < repeats; r++) {
        __m512 products[LANES];
        for (long t = 0; t < LANES; t++) {
            products[t] = _mm512_setzero_ps();
            if (t < count)
                for (long i = 0; i < head_dim; i += BLOCK)
                    products[t] = dot_pairs(products[t], _mm512_loadu_si512(queries + r * head_dim + i), _mm512_loadu_si512(keys + t * head_dim + i));
        }
        _mm512_storeu_ps(scores[r] + at, _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), is_there, sum_each(products), scale));
    }
}

// Scores -> shares of e^(score - highest), each as the sum of two bfloat16 numbers (16 bits together). -> the sum of the shares.
INLINE float share_out(bf16 *high, bf16 *low, const float *scores, long count, float highest) {
    __m512 total = _mm512_setzero_ps();
    for (long t = 0; t < count; t += LANES) {
        const __m512 score = _mm512_loadu_ps(scores + t);
        const __mmask16 is_there = _mm512_cmp_ps_mask(score, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
        const __m512 share = _mm512_maskz_mov_ps(is_there, exp16(_mm512_sub_ps(score, _mm512_set1_ps(highest))));
        narrow16(high + t, share);
        narrow16(low + t, _mm512_sub_ps(share, widen16(high + t)));
        total = _mm512_add_ps(total, share);
    }
    return sum_lanes(total);
}

// mixed += shares of two positions times their values, the values interleaved so that one instruction multiplies and adds both.
INLINE void mix_pair(__m512 mixed[][HEAD_MAX / LANES], bf16 high[][CHUNK], bf16 low[][CHUNK], long at, const bf16 *first, const bf16 *second,
                     const long head_dim, const long repeats) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i lower = _mm512_or_si512(lanes, _mm512_slli_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(32)), 16));
    const __m512i upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
    for (long i = 0; i < head_dim; i += BLOCK) {
        const __m512i a = _mm512_loadu_si512(first + i), b = _mm512_loadu_si512(second + i);
        const __m512i pairs[2] = {_mm512_permutex2var_epi16(a, lower, b), _mm512_permutex2var_epi16(a, upper, b)};
        for (long r = 0; r < repeats; r++)
            for (long half = 0; half < 2; half++) {
                __m512 *to = &mixed[r][i / LANES + half];
                *to = dot_pairs(dot_pairs(*to, pairs[half], broadcast_pair(low[r] + at)), pairs[half], broadcast_pair(high[r] + at));
            }
    }
}

INLINE void attend_heads(bf16 *out, const bf16 *queries, const bf16 *keys, const bf16 *values, const int64_t *table, long length, long block_size,
                         const long head_dim, const long repeats) {
    __m512 mixed[GROUP_MAX][HEAD_MAX / LANES];
    float best[GROUP_MAX], total[GROUP_MAX];
    for (long r = 0; r < repeats; r++) {
        best[r] = -INFINITY;
        total[r] = 0;
        for (long i = 0; i < head_dim / LANES; i++) mixed[r][i] = _mm512_setzero_ps();
    }
    // A chunk is a fixed stretch of positions, so that no sum depends on where a batch or a step begins.
    for (long start = 0; start < length; start += CHUNK) {
        const long count = length - start < CHUNK ? length - start : CHUNK;
        float scores[GROUP_MAX][CHUNK + LANES];
        bf16 high[GROUP_MAX][CHUNK], low[GROUP_MAX][CHUNK];
        for (long t = 0, now; t < count; t += now) {
            const long left = block_size - (start + t) % block_size;
            now = count - t < left ? count - t : left;
            now = now < LANES ? now : LANES;
            score_positions(scores, t, queries, keys + place_of(table, start + t, block_size) * head_dim, now, head_dim, repeats);
        }
        for (long r = 0; r < repeats; r++) {
            _mm512_storeu_ps(scores[r] + count, _mm512_set1_ps(-INFINITY));
            __m512 maxima = _mm512_set1_ps(best[r]);
            for (long t = 0; t < count; t += LANES) maxima = _mm512_max_ps(maxima, _mm512_loadu_ps(scores[r] + t));
            const float highest = _mm512_reduce_max_ps(maxima), shrink = _mm512_cvtss_f32(exp16(_mm512_set1_ps(best[r] - highest)));
            best[r] = highest;
            total[r] = total[r] * shrink + share_out(high[r], low[r], scores[r], count, highest);
            for (long i = 0; i < head_dim / LANES; i++) mixed[r][i] = _mm512_mul_ps(mixed[r][i], _mm512_set1_ps(shrink));
        }
        for (long t = 0; t < count; t += 2) {
            // The partner of a last, single position has a share of 0; any value that is a number will do.
            const long other = t + 1 < count ? t + 1 : t;
            mix_pair(mixed, high, low, t, values + place_of(table, start + t, block_size) * head_dim,
                     values + place_of(table, start + other, block_size) * head_dim, head_dim, repeats);
        }
    }
    for (long r = 0; r < repeats; r++)
        for (long i = 0; i < head_dim / LANES; i++)
            narrow16(out + r * head_dim + i * LANES, _mm512_mul_ps(mixed[r][i], _mm512_set1_ps(1.0f / total[r])));
}

// The query heads that share one key/value head, over the first `length` positions: the same order whether the row is decoded, part of a prompt, or
// comes after a prefix that was found in the cache. head_dim is a multiple of 32 up to 256, at most 16 query heads share a key/value head.
static __attribute__((noinline)) void attend_group(bf16 *out, const bf16 *queries, const bf16 *pool, long group, const int64_t *table, long length,
                                                   const HeadShape *shape) {
    const long repeats = shape->num_heads / shape->num_kv_heads, first = group * repeats * shape->head_dim;
    const bf16 *keys = pool + group * plane_size(shape), *values = keys + shape->num_kv_heads * plane_size(shape);
    // The compiler unrolls the shapes it knows; any other shape runs the same code with variable bounds.
    if (shape->head_dim == 64 && repeats == 3)
        attend_heads(out + first, queries + first, keys, values, table, length, shape->block_size, 64, 3);
    else if (shape->head_dim == 128 && repeats == 4)
        attend_heads(out + first, queries + first, keys, values, table, length, shape->block_size, 128, 4);
    else
        attend_heads(out + first, queries + first, keys, values, table, length, shape->block_size, shape->head_dim, repeats);
}
