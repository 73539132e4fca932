// What one instruction set offers: the work on one tile, called by the drivers in attention.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace reformer {

// Queries of one tile, and keys that are looked at together.
constexpr int kQueryTile = 64;

// The scalars of one token, in one place of Attention::state.
struct State {
  float inverse_norm;  // 1 / ||q||, 0 for a zero vector; if the keys are shared
  float largest;       // forward: of the logits so far; backward: lse
  float total;         // forward: Σ exp(logit - largest) so far; backward: delta = dO · O - dlse
  float unused;
};

inline State& state_of(const Attention& a, int64_t n, int64_t token) {
  return reinterpret_cast<State*>(a.state)[n * a.length + token];
}

struct Kernels {
  const char* name;
  // Floats of scratch memory that a thread needs.
  size_t (*attention_scratch)(const Attention&, const Plan&);
  size_t (*hash_scratch)(const Hash&);
  // 1 / ||q|| of the tokens [first, last) of attention row n; 0 for a zero vector.
  void (*inverse_norms)(const Attention&, float* scratch, int64_t n, int64_t first, int64_t last);
  // The queries at the places [place, place + kQueryTile) of round r.
  void (*forward_tile)(const Attention&, const Plan&, float* scratch, int64_t n, int32_t r, int64_t place);
  // lse and delta of the tokens [first, last).
  void (*deltas)(const Attention&, float* scratch, int64_t n, int64_t first, int64_t last);
  void (*backward_tile)(const Attention&, const Plan&, float* scratch, int64_t n, int32_t r, int64_t place);
  // What tokens that see only themselves pass on, of [first, last).
  void (*backward_alone)(const Attention&, float* scratch, int64_t n, int64_t first, int64_t last);
  // Buckets of the tokens [first, first + kQueryTile) of row n.
  void (*hash_tile)(const Hash&, float* scratch, int64_t n, int64_t first);
  size_t (*decode_scratch)(const Decode&);
  // The new tokens of row n; and the tokens it holds, into its lists.
  void (*decode_row)(const Decode&, float* scratch, int64_t n);
  void (*link_row)(const Decode&, float* scratch, int64_t n);
};

}  // namespace reformer
