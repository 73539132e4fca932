// Forward pass of one tile: softmax over keys as they come, merged into what earlier rounds left.
#pragma once

#include "tile.h"

namespace reformer {
namespace REFORMER_ISA {

// The running softmax of a tile's queries.
struct Softmax {
  Softmax(const Tile& tile, Scratch& scratch)
      : largest(scratch.floats(QT)), total(scratch.floats(QT)), out(scratch.floats(QT * tile.E)) {}
  float *largest, *total;  // of the logits; Σ exp(logit - largest)
  float* out;              // [QT, E] Σ exp(logit - largest) · v
};

inline void load_softmax(const Attention& a, const Tile& tile, int64_t n, bool first_round, Softmax& s) {
  for (int i = 0; i < QT; ++i) {
    const bool fresh = first_round || i >= tile.queries;
    const State& state = state_of(a, n, tile.token[i]);
    s.largest[i] = fresh ? -kInfinity : state.largest;
    s.total[i] = fresh ? 0.0f : state.total;
    float* out = s.out + i * tile.E;
    if (fresh) std::fill_n(out, tile.E, 0.0f);
    else load_row(float_row(a.accumulator, tile.b, tile.h, tile.token[i]), REFORMER_FLOAT32, a.value_width, 1.0f, out);
  }
}

// Logits of a block against the taken keys `span` become weights exp(logit - largest); `rescale` is what earlier sums
// are multiplied with.
inline void weigh(const Attention& a, const Tile& tile, int block, Span span, float* scores, Softmax& s, float* rescale) {
  vf largest[NV], total[NV] = {}, shift[NV];
  for (int v = 0; v < NV; ++v) largest[v] = load(s.largest + block * QB + v * W);
  for (int64_t j = span.begin; j < span.end; ++j) {
    float* row = scores + (j - span.begin) * QB;
    vi sees[NV];
    tile.visible(block, j, sees);
    for (int v = 0; v < NV; ++v) {
      const vf logit = sees[v] ? load(row + v * W) : splat(-kInfinity);
      largest[v] = maximum(largest[v], logit);
      store(row + v * W, logit);
    }
  }
  for (int v = 0; v < NV; ++v) {
    // Where nothing is visible yet, shifting by 0 keeps exp(-inf) = 0.
    shift[v] = largest[v] == splat(-kInfinity) ? vf{} : largest[v];
    const vf factor = exp(load(s.largest + block * QB + v * W) - shift[v]);
    store(rescale + v * W, factor);
    store(s.largest + block * QB + v * W, largest[v]);
  }
  for (int64_t j = span.begin; j < span.end; ++j) {
    float* row = scores + (j - span.begin) * QB;
    vf weight[NV];
    for (int v = 0; v < NV; ++v) {
      weight[v] = exp(load(row + v * W) - shift[v]);
      total[v] += weight[v];
    }
    if (a.drop) {
      vi keeps[NV] = {};
      tile.kept(block, j, keeps);
      for (int v = 0; v < NV; ++v) weight[v] = keep_if(keeps[v], weight[v]);
    }
    for (int v = 0; v < NV; ++v) store(row + v * W, weight[v]);
  }
  for (int v = 0; v < NV; ++v) {
    float* sum = s.total + block * QB + v * W;
    store(sum, load(sum) * load(rescale + v * W) + total[v]);
  }
}

inline void attend(const Attention& a, const Tile& tile, int block, float* scores, Softmax& s) {
  const Span span = tile.taken_keys_of(block * QB, (block + 1) * QB);
  if (span.empty()) return;
  dot_rows(tile.q_by_feature + block * QB * tile.D, tile.k + span.begin * tile.D, tile.D, a.key_width,
           span.end - span.begin, scores);
  alignas(64) float rescale[QB];
  weigh(a, tile, block, span, scores, s, rescale);
  for (int first = 0; first < QB; first += kRows) {
    const int query = block * QB + first;
    Span own = tile.taken_keys_of(query, query + kRows);
    if (own.empty()) own = {span.begin, span.begin};
    combine_rows<true>(scores + (own.begin - span.begin) * QB + first, tile.v + own.begin * tile.E, tile.E,
                       own.end - own.begin, rescale + first, s.out + query * tile.E);
  }
}

// How often a token meets itself in "trax": its chunk in one round may neighbour its chunk in another.
inline int64_t times_seen(const Plan& plan, int64_t n, int64_t token) {
  const int64_t m = plan.chunk_len, chunks = (plan.length + m - 1) / m, total = chunks * plan.rounds;
  const int32_t* places = plan.places + 3 * (n / plan.sharing * plan.length + token) * plan.rounds;
  int64_t count = 0;
  for (int64_t r = 0; r < plan.rounds; ++r) {
    for (int64_t ahead = -plan.chunks_before; ahead <= plan.chunks_after; ++ahead) {
      const int64_t looked_at = (((r * chunks + places[3 * r] / m + ahead) % total) + total) % total;
      for (int64_t other = 0; other < plan.rounds; ++other) {
        count += other * chunks + places[3 * other] / m == looked_at;
      }
    }
  }
  return count;
}

inline float self_keep(const Attention& a, int64_t b, int64_t h, int64_t token) {
  if (!a.drop) return 1.0f;
  const uint32_t bits = mix(row_key(a.drop_seed, b, h, token) + column_key(a.drop_seed, token));
  return (bits >> 8) >= a.drop_threshold ? a.drop_factor : 0.0f;
}

// The last round is over: the sums become the average, its lse, and what tokens see that see nobody else.
inline void finish(const Attention& a, const Plan& plan, const Tile& tile, int64_t n, const Softmax& s) {
  for (int64_t i = 0; i < tile.queries; ++i) {
    const int64_t token = tile.token[i], at = n * a.length + token;
    float* out = float_row(a.accumulator, tile.b, tile.h, token);
    const float total = s.total[i];
    const bool is_padding = plan.segments != nullptr && plan.segments[tile.b * plan.length + token] < 0;
    const bool alone = total == 0.0f && !is_padding && a.exclude_self;
    a.alone[at] = alone;
    if (alone) {
      const float keep = self_keep(a, tile.b, tile.h, token);
      load_row(row_of(a.v, a.dtype, tile.b, tile.h, token), a.dtype, a.value_width, keep, s.out + i * tile.E);
      std::copy_n(s.out + i * tile.E, a.value_width, out);
      float logit;
      if (a.shared) {
        logit = dot(tile.q + i * tile.D, tile.q + i * tile.D, tile.D) * tile.inverse_norm(token) / a.scale;
        if (a.scale == 0.0f) logit = 0.0f;
      } else {
        load_row(row_of(a.k, a.dtype, tile.b, tile.h, token), a.dtype, a.key_width, 1.0f, tile.k);
        logit = dot(tile.q + i * tile.D, tile.k, tile.D);
      }
      a.lse[at] = plan.wrap ? logit + std::log(static_cast<float>(times_seen(plan, n, token))) : logit;
      continue;
    }
    const float factor = total == 0.0f ? 0.0f : (a.drop ? a.drop_factor : 1.0f) / total;
    const float* sums = s.out + i * tile.E;
    for (int64_t e = 0; e < a.value_width; ++e) out[e] = sums[e] * factor;
    a.lse[at] = total == 0.0f ? -kInfinity : s.largest[i] + std::log(total);
  }
}

inline void store_softmax(const Attention& a, const Tile& tile, int64_t n, const Softmax& s) {
  for (int64_t i = 0; i < tile.queries; ++i) {
    const int64_t token = tile.token[i];
    State& state = state_of(a, n, token);
    state.largest = s.largest[i], state.total = s.total[i];
    std::copy_n(s.out + i * tile.E, a.value_width, float_row(a.accumulator, tile.b, tile.h, token));
  }
}

inline void forward_tile(const Attention& a, const Plan& plan, float* memory, int64_t n, int32_t r, int64_t place) {
  Scratch scratch(memory);
  Tile tile(a, plan, scratch);
  Softmax softmax(tile, scratch);
  float* scores = scratch.floats((tile.capacity + kSlack) * QB);
  tile.take_queries(n, r, place);
  load_softmax(a, tile, n, r == 0, softmax);
  for (int64_t first = tile.reach.begin; first < tile.reach.end; first += tile.capacity) {
    tile.take_keys(first, std::min(first + tile.capacity, tile.reach.end));
    for (int block = 0; block < BLOCKS; ++block) attend(a, tile, block, scores, softmax);
  }
  if (r == plan.rounds - 1) finish(a, plan, tile, n, softmax);
  else store_softmax(a, tile, n, softmax);
}

inline size_t forward_scratch(const Attention& a, const Plan& plan) {
  Scratch scratch(nullptr);
  Tile tile(a, plan, scratch);
  Softmax softmax(tile, scratch);
  scratch.floats((tile.capacity + kSlack) * QB);
  return scratch.used();
}

}  // namespace REFORMER_ISA
}  // namespace reformer
