// Products with rows that lie scattered in memory, named by a list: what a decoding step reads of its cache.
#pragma once

#include <algorithm>

#include "tile.h"

namespace reformer {
namespace REFORMER_ISA {

inline vf widen(const float* p) { return load(p); }
inline vf widen(const uint16_t* p) {
  vf v;
  for (int i = 0; i < W; ++i) v[i] = from_bfloat16(p[i]);
  return v;
}
inline float widen_one(float x) { return x; }
inline float widen_one(uint16_t x) { return from_bfloat16(x); }

inline void narrow(float x, float* to) { *to = x; }
inline void narrow(float x, uint16_t* to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // To the nearest, ties to even, as torch rounds; what is no number stays none.
  if (x != x) *to = 0x7FC0;
  else *to = static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// The rows in memory order that a step reads are scattered: asked for this many before they are needed.
constexpr int64_t kAhead = 2 * W;

// Rows of `width` numbers of type T, one after another. Lists of rows hold kAhead + W more entries than they are long.
template <class T>
struct Scattered {
  const T* first;
  int64_t width;

  const T* row(int64_t i) const { return first + i * width; }

  void prefetch(int64_t i) const {
    for (int64_t d = 0; d < width; d += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row(i) + d);
  }

  // dots[i] = scale · x · row(list[i]), W rows at a time; returns the largest. The same rows of `next` will be read soon.
  float dots(const float* x, float scale, const int32_t* list, int64_t n, float* dots, const Scattered& next) const {
    float largest = -kInfinity;
    for (int64_t i = 0; i < n; i += W) {
      const T* rows[W];
      vf sums[W] = {};
      for (int j = 0; j < W; ++j) {
        rows[j] = row(list[i + j]);
        prefetch(list[i + j + kAhead]);
        next.prefetch(list[i + j]);
      }
      int64_t d = 0;
      for (; d + W <= width; d += W) {
        const vf part = load(x + d);
        for (int j = 0; j < W; ++j) sums[j] += part * widen(rows[j] + d);
      }
      transpose(sums);
      vf products = sums[0];
      for (int j = 1; j < W; ++j) products += sums[j];
      for (; d < width; ++d) {
        for (int j = 0; j < W; ++j) products[j] += x[d] * widen_one(rows[j][d]);
      }
      products *= scale;
      store(dots + i, products);
      for (int j = 0; j < W; ++j) largest = std::max(largest, products[j]);
    }
    return largest;
  }

  // out = factor · Σ weights[i] · row(list[i])
  void average(const float* weights, const int32_t* list, int64_t n, float factor, float* out) const {
    int64_t d = 0;
    for (; d + 4 * W <= width; d += 4 * W) columns<4>(weights, list, n, d, factor, out);
    for (; d + W <= width; d += W) columns<1>(weights, list, n, d, factor, out);
    for (; d < width; ++d) {
      float total = 0.0f;
      for (int64_t i = 0; i < n; ++i) total += weights[i] * widen_one(row(list[i])[d]);
      out[d] = total * factor;
    }
  }

 private:
  template <int VECTORS>
  void columns(const float* weights, const int32_t* list, int64_t n, int64_t d, float factor, float* out) const {
    vf sums[VECTORS] = {};
    for (int64_t i = 0; i < n; ++i) {
      for (int v = 0; v < VECTORS; ++v) sums[v] += widen(row(list[i]) + d + v * W) * weights[i];
    }
    for (int v = 0; v < VECTORS; ++v) store(out + d + v * W, sums[v] * factor);
  }
};

}  // namespace REFORMER_ISA
}  // namespace reformer
