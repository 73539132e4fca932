// Counter-based random bits: the same functions as reformer.ops.counter_rng (MurmurHash3's 32-bit finaliser).
#pragma once

#include <cstdint>

namespace reformer {
namespace REFORMER_ISA {  // a copy for each instruction set: one shared copy could hold instructions a processor lacks

template <class U>
inline U mix(U x) {
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

inline uint32_t combine(uint32_t key, uint32_t coordinate) {
  return mix((key ^ (coordinate * 0x9E3779B1u)) + 0x7F4A7C15u);
}

inline uint32_t row_key(uint32_t seed, int64_t b, int64_t h, int64_t i) {
  return combine(combine(combine(seed, static_cast<uint32_t>(b)), static_cast<uint32_t>(h)), static_cast<uint32_t>(i));
}

inline uint32_t column_key(uint32_t seed, int64_t j) {
  return combine(combine(seed, 0x2545F491u), static_cast<uint32_t>(j));
}

}  // namespace REFORMER_ISA
}  // namespace reformer
