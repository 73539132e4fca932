// The small dense products that all the work is made of, with their operands in the first two levels of cache.
//
// QB queries stand side by side in vectors ("lanes"), or the features of a row do; nothing is ever summed across a vector.
#pragma once

#include "vector.h"

namespace reformer {
namespace REFORMER_ISA {

constexpr int QB = 16;      // queries of a block
constexpr int NV = QB / W;  // vectors that hold one number of each of them
// Rows of one register tile of dot_rows: NV · NJ sums, two vectors of queries and one broadcast must fit the registers.
#if defined(__aarch64__)
constexpr int NJ = 6;
#else
constexpr int NJ = W == 16 ? 12 : W == 8 ? 6 : 3;
#endif

// scores[j][q] = Σ_d by_feature[d][q] · rows[j][d] for j in [0, n), rounded up to a multiple of NJ.
inline void dot_rows(const float* by_feature, const float* rows, int64_t stride, int64_t width, int64_t n, float* scores) {
  for (int64_t j = 0; j < n; j += NJ, rows += NJ * stride, scores += NJ * QB) {
    vf sums[NJ][NV] = {};
    for (int64_t d = 0; d < width; ++d) {
      vf q[NV];
      for (int v = 0; v < NV; ++v) q[v] = load(by_feature + d * QB + v * W);
      for (int i = 0; i < NJ; ++i) {
        for (int v = 0; v < NV; ++v) sums[i][v] += q[v] * rows[i * stride + d];
      }
    }
    for (int i = 0; i < NJ; ++i) {
      for (int v = 0; v < NV; ++v) store(scores + i * QB + v * W, sums[i][v]);
    }
  }
}

template <int ROWS, int VECTORS, bool WEIGHTS_BY_TERM>
inline void combine_tile(const float* weights, const float* terms, int64_t stride, int64_t n, const float* scale, float* out) {
  // Summed apart and added once: long sums then lose less.
  vf sums[ROWS][VECTORS] = {};
  for (int64_t j = 0; j < n; ++j) {
    vf term[VECTORS];
    for (int v = 0; v < VECTORS; ++v) term[v] = load(terms + j * stride + v * W);
    for (int i = 0; i < ROWS; ++i) {
      const float weight = WEIGHTS_BY_TERM ? weights[j * QB + i] : weights[i * QB + j];
      for (int v = 0; v < VECTORS; ++v) sums[i][v] += term[v] * weight;
    }
  }
  for (int i = 0; i < ROWS; ++i) {
    for (int v = 0; v < VECTORS; ++v) {
      float* to = out + i * stride + v * W;
      store(to, load(to) * scale[i] + sums[i][v]);
    }
  }
}

constexpr int kRows = 4;  // rows of `out` that one call of combine_rows makes
alignas(64) constexpr float kOnes[kRows] = {1.0f, 1.0f, 1.0f, 1.0f};

// out[i] = scale[i] · out[i] + Σ_{j < n} weight(i, j) · terms[j] for kRows rows of `padded` floats, a multiple of W.
// weight(i, j) is weights[j][i] if WEIGHTS_BY_TERM (rows are queries), else weights[i][j] (terms are queries).
template <bool WEIGHTS_BY_TERM>
inline void combine_rows(
    const float* weights, const float* terms, int64_t stride, int64_t n, const float* scale, float* out) {
  constexpr int V = 2;
  int64_t d = 0;
  for (; d + V * W <= stride; d += V * W) {
    combine_tile<kRows, V, WEIGHTS_BY_TERM>(weights, terms + d, stride, n, scale, out + d);
  }
  if (d < stride) combine_tile<kRows, 1, WEIGHTS_BY_TERM>(weights, terms + d, stride, n, scale, out + d);
}

}  // namespace REFORMER_ISA
}  // namespace reformer
