// Hashing: the product with the rotations and the argmax over [xR ; -xR] in one pass.
#pragma once

#include "tile.h"

namespace reformer {
namespace REFORMER_ISA {

constexpr int64_t kColumnTile = 128;

struct HashScratch {
  HashScratch(const Hash& hash, Scratch& scratch)
      : x(scratch.floats(QB * padded(hash.width))), by_feature(scratch.floats(QB * padded(hash.width))),
        products(scratch.floats((kColumnTile + kSlack) * QB)) {}
  float *x, *by_feature, *products;
};

// Bucket of each query of a block under `columns` rotations, ties to the lower index.
inline void argmax_of_both_signs(const Hash& hash, const HashScratch& s, const float* rotations, int64_t columns, int32_t* index) {
  vf highest[NV], lowest[NV];
  vi at_highest[NV] = {}, at_lowest[NV] = {};
  for (int v = 0; v < NV; ++v) highest[v] = splat(-kInfinity), lowest[v] = splat(kInfinity);
  for (int64_t first = 0; first < columns; first += kColumnTile) {
    const int64_t n = std::min(kColumnTile, columns - first);
    dot_rows(s.by_feature, rotations + first * hash.width, hash.width, hash.width, n, s.products);
    for (int64_t c = 0; c < n; ++c) {
      const vi column = splat(static_cast<int32_t>(first + c));
      for (int v = 0; v < NV; ++v) {
        const vf product = load(s.products + c * QB + v * W);
        at_highest[v] = product > highest[v] ? column : at_highest[v];
        highest[v] = product > highest[v] ? product : highest[v];
        at_lowest[v] = product < lowest[v] ? column : at_lowest[v];
        lowest[v] = product < lowest[v] ? product : lowest[v];
      }
    }
  }
  for (int v = 0; v < NV; ++v) {
    const vi negative = at_lowest[v] + splat(static_cast<int32_t>(columns));
    store(index + v * W, highest[v] >= -lowest[v] ? at_highest[v] : negative);
  }
}

inline void hash_block(const Hash& hash, const HashScratch& s, int64_t n, int64_t first, int64_t tokens) {
  const int64_t h = n % hash.heads, stride = padded(hash.width);
  for (int64_t i = 0; i < QB; ++i) {
    if (i >= tokens) std::fill_n(s.x + i * stride, stride, 0.0f);
    else load_row(row_of(hash.x, hash.dtype, n / hash.heads, h, first + i), hash.dtype, hash.width, 1.0f, s.x + i * stride);
  }
  turn_block(s.x, stride, s.by_feature);
  const float* rotations = hash.rotations + h * hash.rounds * hash.columns * hash.width;
  for (int64_t r = 0; r < hash.rounds; ++r) {
    int64_t bucket[QB] = {}, weight = 1;
    for (int32_t f = 0; f < hash.factors; ++f) {
      alignas(64) int32_t index[QB];
      const int64_t columns = hash.factor[f] / 2;
      argmax_of_both_signs(hash, s, rotations, columns, index);
      for (int i = 0; i < QB; ++i) bucket[i] += weight * index[i];
      weight *= hash.factor[f];
      rotations += columns * hash.width;
    }
    std::copy_n(bucket, tokens, hash.buckets + (n * hash.rounds + r) * hash.length + first);
  }
}

inline void hash_tile(const Hash& hash, float* memory, int64_t n, int64_t first) {
  Scratch scratch(memory);
  const HashScratch s(hash, scratch);
  const int64_t last = std::min<int64_t>(first + QT, hash.length);
  for (int64_t t = first; t < last; t += QB) hash_block(hash, s, n, t, std::min<int64_t>(QB, last - t));
}

inline size_t hash_scratch(const Hash& hash) {
  Scratch scratch(nullptr);
  HashScratch s(hash, scratch);
  return scratch.used();
}

}  // namespace REFORMER_ISA
}  // namespace reformer
