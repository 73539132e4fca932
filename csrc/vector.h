// Vectors of the compiler's own (GCC and Clang): one source for AVX-512, AVX2, NEON and anything else.
//
// A file that includes this is compiled once per instruction set, with REFORMER_ISA its name and REFORMER_LANES the
// number of floats in a register.
#pragma once

#include <cstdint>
#include <cstring>

#include "random.h"

namespace reformer {
namespace REFORMER_ISA {

constexpr int W = REFORMER_LANES;

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));

inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vi load(const int32_t* p) {
  vi v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline vu load(const uint32_t* p) {
  vu v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class V, class T>
inline void store(T* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

inline vf splat(float x) { return x - vf{}; }
inline vi splat(int32_t x) { return x - vi{}; }

inline vf keep_if(vi mask, vf a) { return reinterpret_cast<vf>(mask & reinterpret_cast<vi>(a)); }
inline vf maximum(vf a, vf b) { return a > b ? a : b; }

inline float sum(vf v) {
  float total = 0.0f;
  for (int i = 0; i < W; ++i) total += v[i];
  return total;
}

// e^x to about two units in the last place; 0 below -87.3 (where float32 results turn subnormal); NaN stays NaN.
inline vf exp(vf x) {
  const vf magic = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
  const vf t = x * 1.44269504088896341f + magic;
  const vf n = t - magic;
  vf r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const vi exponent = (reinterpret_cast<vi>(t) - reinterpret_cast<vi>(magic)) << 23;
  const vf power = reinterpret_cast<vf>(reinterpret_cast<vi>(p) + exponent);
  return x > splat(-87.3f) ? power : keep_if(x != x, x);
}

#define REFORMER_LO4 0, 4, 1, 5
#define REFORMER_HI4 2, 6, 3, 7
#define REFORMER_LO8 0, 8, 1, 9, 2, 10, 3, 11
#define REFORMER_HI8 4, 12, 5, 13, 6, 14, 7, 15
#define REFORMER_LO16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define REFORMER_HI16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define REFORMER_PASTE_(a, b) a##b
#define REFORMER_PASTE(a, b) REFORMER_PASTE_(a, b)

// The W × W matrix in `rows`, transposed: log2 W perfect shuffles.
inline void transpose(vf (&rows)[W]) {
  for (int stage = 1; stage < W; stage *= 2) {
    vf shuffled[W];
    for (int i = 0; i < W / 2; ++i) {
      const vf a = rows[i], b = rows[i + W / 2];
      shuffled[2 * i] = __builtin_shufflevector(a, b, REFORMER_PASTE(REFORMER_LO, REFORMER_LANES));
      shuffled[2 * i + 1] = __builtin_shufflevector(a, b, REFORMER_PASTE(REFORMER_HI, REFORMER_LANES));
    }
    for (int i = 0; i < W; ++i) rows[i] = shuffled[i];
  }
}

inline float from_bfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}

}  // namespace REFORMER_ISA
}  // namespace reformer
