// The operators between the matrix products, one row at a time: norm, gate, rotary embedding.
#pragma once

#include <math.h>

#include "vectors.h"

// 1 / rms(x); size is a multiple of 16.
INLINE float norm_scale(const float *x, long size, float eps) {
    __m512 squares = _mm512_setzero_ps();
    for (long i = 0; i < size; i += LANES) squares = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i), squares);
    return 1.0f / sqrtf(sum_lanes(squares) / (float)size + eps);
}

INLINE void norm_row(bf16 *out, const float *x, const bf16 *weight, long size, float eps) {
    const __m512 scale = _mm512_set1_ps(norm_scale(x, size, eps));
    for (long i = 0; i < size; i += LANES) narrow16(out + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), widen16(weight + i)));
}

// silu(gate) * up, with silu(g) = g / (1 + e^-g) written with e^-|g|, so that nothing overflows.
INLINE __m512 gated(__m512 gate, __m512 up) {
    const __m512 e = exp16(_mm512_or_ps(gate, _mm512_set1_ps(-0.0f))), one = _mm512_set1_ps(1.0f);
    const __mmask16 is_negative = _mm512_cmp_ps_mask(gate, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 silu = _mm512_div_ps(_mm512_mul_ps(gate, _mm512_mask_mov_ps(one, is_negative, e)), _mm512_add_ps(one, e));
    return _mm512_mul_ps(silu, up);
}

// One head, normed where a weight is given, its two halves rotated against each other.
INLINE void rotate_head(bf16 *out, const float *x, const bf16 *norm, float eps, const float *cos, const float *sin, long head_dim) {
    const long half = head_dim / 2;
    const __m512 scale = _mm512_set1_ps(norm ? norm_scale(x, head_dim, eps) : 1.0f);
    for (long i = 0; i < half; i += LANES) {
        __m512 first = _mm512_loadu_ps(x + i), second = _mm512_loadu_ps(x + i + half);
        if (norm) {
            first = _mm512_mul_ps(_mm512_mul_ps(first, scale), widen16(norm + i));
            second = _mm512_mul_ps(_mm512_mul_ps(second, scale), widen16(norm + i + half));
        }
        const __m512 c = _mm512_loadu_ps(cos + i), s = _mm512_loadu_ps(sin + i);
        narrow16(out + i, _mm512_fmsub_ps(first, c, _mm512_mul_ps(second, s)));
        narrow16(out + i + half, _mm512_fmadd_ps(second, c, _mm512_mul_ps(first, s)));
    }
}
