// Backward pass of one tile by recomputation: logits again, weights from the saved log-sum-exp.
//
// With P = exp(logits - lse), dP = dO · Vᵀ (times the dropout mask) and delta_i = dO_i · O_i - dlse_i:
// dS = P ∘ (dP - delta), dQ = scale · dS · K, dK = scale · dSᵀ · Q, dV = (P ∘ mask)ᵀ · dO.
#pragma once

#include "forward.h"

namespace reformer {
namespace REFORMER_ISA {

struct Gradients {
  Gradients(const Tile& tile, Scratch& scratch)
      : lse(scratch.floats(QT)), delta(scratch.floats(QT)), out(scratch.floats(QT * tile.E)),
        out_by_feature(scratch.floats(QT * tile.E)), q(scratch.floats(QT * tile.D)),
        k(scratch.floats((tile.capacity + kSlack) * tile.D)), v(scratch.floats((tile.capacity + kSlack) * tile.E)),
        weights(scratch.floats((tile.capacity + kSlack) * QB)), logits(scratch.floats((tile.capacity + kSlack) * QB)) {}
  float *lse, *delta;
  float *out, *out_by_feature;  // dO, [QT, E] and [BLOCKS, E, QB]
  float *q, *k, *v;             // sums of the tile
  float *weights, *logits;      // P ∘ mask and dS of a block, [keys, QB]
};

inline void take_gradients(const Attention& a, const Tile& tile, int64_t n, Gradients& g) {
  std::fill_n(g.q, QT * tile.D, 0.0f);
  for (int i = 0; i < QT; ++i) {
    const State& state = state_of(a, n, tile.token[i]);
    g.lse[i] = state.largest, g.delta[i] = state.total;
    float* out = g.out + i * tile.E;
    if (i >= tile.queries) std::fill_n(out, tile.E, 0.0f);
    else load_row(row_of(a.grad_out, a.dtype, tile.b, tile.h, tile.token[i]), a.dtype, a.value_width, 1.0f, out);
  }
  for (int block = 0; block < BLOCKS; ++block) {
    turn_block(g.out + block * QB * tile.E, tile.E, g.out_by_feature + block * QB * tile.E);
  }
}

// From the logits (in g.logits) and dP (in g.weights) of a block to dS and P ∘ mask, in the same places.
inline void differentiate(const Attention& a, const Tile& tile, int block, Span span, Gradients& g) {
  vf lse[NV], delta[NV];
  for (int v = 0; v < NV; ++v) {
    lse[v] = load(g.lse + block * QB + v * W), delta[v] = load(g.delta + block * QB + v * W);
  }
  for (int64_t j = span.begin; j < span.end; ++j) {
    float* logits = g.logits + (j - span.begin) * QB;
    float* weights = g.weights + (j - span.begin) * QB;
    vi sees[NV], keeps[NV] = {};
    tile.visible(block, j, sees);
    if (a.drop) tile.kept(block, j, keeps);
    for (int v = 0; v < NV; ++v) {
      const vf p = keep_if(sees[v], exp(load(logits + v * W) - lse[v]));
      vf weight = p, dp = load(weights + v * W);
      if (a.drop) {
        weight = keep_if(keeps[v], p * a.drop_factor);
        dp = keep_if(keeps[v], dp * a.drop_factor);
      }
      store(weights + v * W, weight);
      store(logits + v * W, keep_if(sees[v], p * (dp - delta[v])));
    }
  }
  // combine_rows takes keys by kRows.
  std::fill_n(g.logits + (span.end - span.begin) * QB, kRows * QB, 0.0f);
  std::fill_n(g.weights + (span.end - span.begin) * QB, kRows * QB, 0.0f);
}

// The queries of a block that see any of the taken keys [first, last).
inline Span queries_of(const Tile& tile, int block, int64_t first, int64_t last) {
  Span span{QB, 0};
  for (int i = 0; i < QB; ++i) {
    const Span keys = tile.taken_keys_of(block * QB + i, block * QB + i + 1);
    if (keys.begin < last && keys.end > first) {
      span.begin = std::min<int64_t>(span.begin, i);
      span.end = i + 1;
    }
  }
  return span;
}

inline void attend_backward(const Attention& a, const Tile& tile, int block, Gradients& g) {
  const Span span = tile.taken_keys_of(block * QB, (block + 1) * QB);
  if (span.empty()) return;
  const int64_t n = span.end - span.begin, D = tile.D, E = tile.E;
  dot_rows(tile.q_by_feature + block * QB * D, tile.k + span.begin * D, D, a.key_width, n, g.logits);
  dot_rows(g.out_by_feature + block * QB * E, tile.v + span.begin * E, E, a.value_width, n, g.weights);
  differentiate(a, tile, block, span, g);
  for (int first = 0; first < QB; first += kRows) {
    const Span own = tile.taken_keys_of(block * QB + first, block * QB + first + kRows);
    if (own.empty()) continue;
    combine_rows<true>(g.logits + (own.begin - span.begin) * QB + first, tile.k + own.begin * D, D, own.end - own.begin,
                       kOnes, g.q + (block * QB + first) * D);
  }
  for (int64_t first = span.begin; first < span.end; first += kRows) {
    const Span own = queries_of(tile, block, first, std::min<int64_t>(first + kRows, span.end));
    if (own.empty()) continue;
    const int64_t at = (first - span.begin) * QB + own.begin, query = block * QB + own.begin;
    combine_rows<false>(g.logits + at, tile.q + query * D, D, own.end - own.begin, kOnes, g.k + first * D);
    combine_rows<false>(g.weights + at, g.out + query * E, E, own.end - own.begin, kOnes, g.v + first * E);
  }
}

// Gradient of q from that of its unit vector: (g - k (k · g)) / ||q||.
inline void add_unit_gradient(const float* grad, const float* unit, float inverse, int64_t padded_width, int64_t width, float* to) {
  const float along = dot(grad, unit, padded_width);
  for (int64_t d = 0; d < width; ++d) to[d] += (grad[d] - unit[d] * along) * inverse;
}

inline void add_row(const float* from, float factor, int64_t width, float* to) {
  for (int64_t d = 0; d < width; ++d) to[d] += from[d] * factor;
}

inline void give_key_gradients(const Attention& a, const Tile& tile, const Gradients& g) {
  for (int64_t j = 0; j < tile.keys; ++j) {
    const int32_t token = tile.key_token[j];
    if (token < 0) continue;
    if (a.shared) {
      add_unit_gradient(g.k + j * tile.D, tile.k + j * tile.D, tile.inverse_norm(token), tile.D, a.key_width,
                        float_row(a.dq, tile.b, tile.h, token));
    } else {
      add_row(g.k + j * tile.D, 1.0f, a.key_width, float_row(a.dk, tile.b, tile.h, token));
    }
    add_row(g.v + j * tile.E, 1.0f, a.value_width, float_row(a.dv, tile.b, tile.h, token));
  }
}

inline void backward_tile(const Attention& a, const Plan& plan, float* memory, int64_t n, int32_t r, int64_t place) {
  Scratch scratch(memory);
  Tile tile(a, plan, scratch);
  Gradients g(tile, scratch);
  tile.take_queries(n, r, place);
  if (tile.reach.empty()) return;
  take_gradients(a, tile, n, g);
  for (int64_t first = tile.reach.begin; first < tile.reach.end; first += tile.capacity) {
    tile.take_keys(first, std::min(first + tile.capacity, tile.reach.end));
    std::fill_n(g.k, tile.keys * tile.D, 0.0f);
    std::fill_n(g.v, tile.keys * tile.E, 0.0f);
    for (int block = 0; block < BLOCKS; ++block) attend_backward(a, tile, block, g);
    give_key_gradients(a, tile, g);
  }
  for (int64_t i = 0; i < tile.queries; ++i) {
    add_row(g.q + i * tile.D, a.scale, a.key_width, float_row(a.dq, tile.b, tile.h, tile.token[i]));
  }
}

inline size_t backward_scratch(const Attention& a, const Plan& plan) {
  Scratch scratch(nullptr);
  Tile tile(a, plan, scratch);
  Gradients gradients(tile, scratch);
  return std::max<size_t>(scratch.used(), 4 * QB * tile.E);
}

inline float inverse_norm_of(const float* row, int64_t padded_width) {
  const float squared = dot(row, row, padded_width);
  return squared == 0.0f ? 0.0f : 1.0f / std::sqrt(squared);
}

inline void inverse_norms(const Attention& a, float* memory, int64_t n, int64_t first, int64_t last) {
  for (int64_t t = first; t < last; ++t) {
    load_row(row_of(a.q, a.dtype, n / a.heads, n % a.heads, t), a.dtype, a.key_width, 1.0f, memory);
    state_of(a, n, t).inverse_norm = inverse_norm_of(memory, padded(a.key_width));
  }
}

// Summed in the order of dot_rows: where a token sees one key alone, dP - delta must be 0 and not two roundings apart.
inline void deltas(const Attention& a, float* memory, int64_t n, int64_t first, int64_t last) {
  const int64_t b = n / a.heads, h = n % a.heads, E = padded(a.value_width);
  float *grads = memory, *outs = grads + QB * E, *grads_by_feature = outs + QB * E, *outs_by_feature = grads_by_feature + QB * E;
  for (int64_t block = first; block < last; block += QB) {
    const int64_t tokens = std::min<int64_t>(QB, last - block);
    for (int64_t i = 0; i < tokens; ++i) {
      load_row(row_of(a.grad_out, a.dtype, b, h, block + i), a.dtype, a.value_width, 1.0f, grads + i * E);
      load_row(row_of(a.out, a.dtype, b, h, block + i), a.dtype, a.value_width, 1.0f, outs + i * E);
    }
    turn_block(grads, E, grads_by_feature);
    turn_block(outs, E, outs_by_feature);
    vf sums[NV] = {};
    for (int64_t e = 0; e < E; ++e) {
      for (int v = 0; v < NV; ++v) sums[v] += load(grads_by_feature + e * QB + v * W) * load(outs_by_feature + e * QB + v * W);
    }
    for (int64_t i = 0; i < tokens; ++i) {
      State& state = state_of(a, n, block + i);
      state.largest = a.lse[n * a.length + block + i];
      state.total = sums[i / W][i % W] - a.grad_lse[n * a.length + block + i];
    }
  }
}

// The softmax over one pair is constant, so only lse = scale · q_i · k_i reaches q and k.
inline void backward_alone(const Attention& a, float* memory, int64_t n, int64_t first, int64_t last) {
  const int64_t b = n / a.heads, h = n % a.heads, D = padded(a.key_width);
  float *q = memory, *k = memory + D, *out = memory + 2 * D;
  for (int64_t t = first; t < last; ++t) {
    const int64_t at = n * a.length + t;
    if (!a.alone[at]) continue;
    const float ds = a.grad_lse[at] * a.scale;
    load_row(row_of(a.q, a.dtype, b, h, t), a.dtype, a.key_width, 1.0f, q);
    if (a.shared) {
      // scale · ||q||: its gradient is along the key.
      for (int64_t d = 0; d < D; ++d) k[d] = q[d] * state_of(a, n, t).inverse_norm;
    } else {
      load_row(row_of(a.k, a.dtype, b, h, t), a.dtype, a.key_width, 1.0f, k);
      add_row(q, ds, a.key_width, float_row(a.dk, b, h, t));
    }
    add_row(k, ds, a.key_width, float_row(a.dq, b, h, t));
    load_row(row_of(a.grad_out, a.dtype, b, h, t), a.dtype, a.value_width, self_keep(a, b, h, t), out);
    add_row(out, 1.0f, a.value_width, float_row(a.dv, b, h, t));
  }
}

}  // namespace REFORMER_ISA
}  // namespace reformer
