// One tile: the queries of 64 places of a round's order, the keys they may see, and the test who sees whom.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.h"
#include "products.h"

namespace reformer {
namespace REFORMER_ISA {

constexpr int QT = kQueryTile;
constexpr int BLOCKS = QT / QB;
// dot_rows and combine_rows may work on a few rows more than asked for.
constexpr int kSlack = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline int64_t padded(int64_t width) { return (width + W - 1) / W * W; }

// Keys that are packed together: they and their gradients should stay in the second-level cache.
inline int64_t key_tile(const Attention& a) { return std::max(a.key_width, a.value_width) <= 128 ? 128 : 64; }

// Hands out pieces of a thread's scratch memory; with no memory it only counts.
class Scratch {
 public:
  explicit Scratch(float* memory) : memory_(memory) {}

  float* floats(int64_t n) {
    float* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (n + 15) / 16 * 16;
    return piece;
  }
  int32_t* ints(int64_t n) { return reinterpret_cast<int32_t*>(floats(n)); }
  size_t used() const { return used_; }

 private:
  float* memory_;
  size_t used_ = 0;
};

inline const void* row_of(const Rows& rows, int32_t dtype, int64_t b, int64_t h, int64_t token) {
  const int64_t offset = b * rows.batch + h * rows.head + token * rows.token;
  return dtype == REFORMER_BFLOAT16 ? static_cast<const void*>(static_cast<const uint16_t*>(rows.data) + offset)
                                    : static_cast<const void*>(static_cast<const float*>(rows.data) + offset);
}

inline float* float_row(const Rows& rows, int64_t b, int64_t h, int64_t token) {
  return static_cast<float*>(rows.data) + b * rows.batch + h * rows.head + token * rows.token;
}

// `to` = factor · row, filled up with zeros to a multiple of W.
inline void load_row(const void* from, int32_t dtype, int64_t width, float factor, float* to) {
  int64_t d = 0;
  if (dtype == REFORMER_BFLOAT16) {
    const uint16_t* bits = static_cast<const uint16_t*>(from);
    for (; d < width; ++d) to[d] = from_bfloat16(bits[d]) * factor;
  } else {
    const float* row = static_cast<const float*>(from);
    for (; d + W <= width; d += W) store(to + d, load(row + d) * factor);
    for (; d < width; ++d) to[d] = row[d] * factor;
  }
  for (; d < padded(width); ++d) to[d] = 0.0f;
}

// by_feature[d][q] of QB rows.
inline void turn_block(const float* rows, int64_t stride, float* by_feature) {
  for (int64_t d = 0; d < stride; d += W) {
    for (int v = 0; v < NV; ++v) {
      vf square[W];
      for (int i = 0; i < W; ++i) square[i] = load(rows + (v * W + i) * stride + d);
      transpose(square);
      for (int i = 0; i < W; ++i) store(by_feature + (d + i) * QB + v * W, square[i]);
    }
  }
}

inline float dot(const float* a, const float* b, int64_t n) {
  vf sums{};
  for (int64_t d = 0; d < n; d += W) sums += load(a + d) * load(b + d);
  return sum(sums);
}

// A half-open range of keys, empty if begin >= end.
struct Span {
  int64_t begin, end;
  bool empty() const { return begin >= end; }
};

class Tile {
 public:
  Tile(const Attention& a, const Plan& plan, Scratch& scratch)
      : a_(a), plan_(plan), D(padded(a.key_width)), E(padded(a.value_width)), capacity(key_tile(a)) {
    token = scratch.ints(QT), start_ = scratch.ints(QT), end_ = scratch.ints(QT), segment_ = scratch.ints(QT);
    row_key_ = reinterpret_cast<uint32_t*>(scratch.ints(QT));
    seen_ = scratch.ints(2 * QT * int64_t{plan.rounds});
    q = scratch.floats(QT * D), q_by_feature = scratch.floats(QT * D);
    key_token = scratch.ints(capacity + kSlack), key_segment_ = scratch.ints(capacity + kSlack);
    column_key_ = reinterpret_cast<uint32_t*>(scratch.ints(capacity + kSlack));
    k = scratch.floats((capacity + kSlack) * D), v = scratch.floats((capacity + kSlack) * E);
  }

  // Takes the queries at the places [place, place + QT) of round r of attention row n.
  void take_queries(int64_t n, int32_t r, int64_t place) {
    b = n / a_.heads, h = n % a_.heads, row_ = n, round_ = r;
    order_ = plan_.order + n / plan_.sharing * plan_.rounds * plan_.length;
    queries = std::min<int64_t>(QT, plan_.length - place);
    for (int i = 0; i < QT; ++i) {
      token[i] = i < queries ? order_[r * plan_.length + place + i] : 0;
      segment_[i] = i < queries ? segment(token[i]) : -1;
      take_intervals(i, place + i);
      if (i >= queries) std::fill_n(q + i * D, D, 0.0f);
      else load_row(row_of(a_.q, a_.dtype, b, h, token[i]), a_.dtype, a_.key_width, a_.scale, q + i * D);
      if (a_.drop) row_key_[i] = row_key(a_.drop_seed, b, h, token[i]);
    }
    for (int block = 0; block < BLOCKS; ++block) turn_block(q + block * QB * D, D, q_by_feature + block * QB * D);
    reach = keys_of(0, QT);
  }

  // The keys that the queries [first, last) of the tile may see.
  Span keys_of(int first, int last) const {
    Span span{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
    for (int i = first; i < last; ++i) {
      if (start_[i] >= end_[i]) continue;
      span.begin = std::min<int64_t>(span.begin, start_[i]);
      span.end = std::max<int64_t>(span.end, end_[i]);
    }
    return span;
  }

  // Takes the keys [first, last) of the order, at most `capacity`: unit vectors if they are shared with the queries.
  void take_keys(int64_t first, int64_t last) {
    first_key = first, keys = last - first;
    for (int64_t j = 0; j < keys; ++j) {
      const int32_t t = token_at(first + j);
      key_token[j] = t;
      if (t < 0) {
        key_segment_[j] = -1;
        std::fill_n(k + j * D, D, 0.0f);
        std::fill_n(v + j * E, E, 0.0f);
        continue;
      }
      key_segment_[j] = segment(t);
      if (a_.drop) column_key_[j] = column_key(a_.drop_seed, t);
      if (a_.shared) load_row(row_of(a_.q, a_.dtype, b, h, t), a_.dtype, a_.key_width, inverse_norm(t), k + j * D);
      else load_row(row_of(a_.k, a_.dtype, b, h, t), a_.dtype, a_.key_width, 1.0f, k + j * D);
      load_row(row_of(a_.v, a_.dtype, b, h, t), a_.dtype, a_.value_width, 1.0f, v + j * E);
    }
  }

  // Of the taken keys, those that the queries [first, last) may see, counted from the first taken one.
  Span taken_keys_of(int first, int last) const {
    const Span span = keys_of(first, last);
    if (span.empty()) return {0, 0};
    return {std::max<int64_t>(span.begin - first_key, 0), std::min<int64_t>(span.end - first_key, keys)};
  }

  // Which of a block's queries see the taken key j: in this round, and in no earlier one.
  void visible(int block, int64_t j, vi (&sees)[NV]) const {
    const vi place = splat(static_cast<int32_t>(first_key + j));
    for (int v = 0; v < NV; ++v) {
      sees[v] = (place >= load(start_ + block * QB + v * W)) & (place < load(end_ + block * QB + v * W));
    }
    if (plan_.wrap) return visible_by_position(block, j, sees);
    if (a_.exclude_self && !a_.causal) {
      for (int v = 0; v < NV; ++v) sees[v] &= splat(key_token[j]) != load(token + block * QB + v * W);
    }
    const int32_t* key_places = places_of(key_token[j]);
    for (int32_t earlier = 0; earlier < round_; ++earlier) {
      const int32_t* interval = seen_ + 2 * QT * earlier + block * QB;
      const vi rank = splat(key_places[3 * earlier]);
      for (int v = 0; v < NV; ++v) {
        sees[v] &= ~((rank >= load(interval + v * W)) & (rank < load(interval + QT + v * W)));
      }
    }
  }

  // The pairs of a block with the taken key j that dropout keeps.
  void kept(int block, int64_t j, vi (&keeps)[NV]) const {
    for (int v = 0; v < NV; ++v) {
      const vu bits = mix(load(row_key_ + block * QB + v * W) + column_key_[j]);
      keeps[v] = reinterpret_cast<vi>(bits >> 8) >= splat(static_cast<int32_t>(a_.drop_threshold));
    }
  }

  float inverse_norm(int64_t t) const { return state_of(a_, row_, t).inverse_norm; }

  int64_t b = 0, h = 0, queries = 0, first_key = 0, keys = 0;
  Span reach{0, 0};     // the keys that the tile's queries may see
  int32_t *token = nullptr, *key_token = nullptr;
  float *q = nullptr, *q_by_feature = nullptr;  // times the scale; [QT, D] and [BLOCKS, D, QB]
  float *k = nullptr, *v = nullptr;

 private:
  const int32_t* places_of(int64_t t) const {
    return plan_.places + 3 * (row_ / plan_.sharing * plan_.length + t) * plan_.rounds;
  }

  int32_t segment(int64_t t) const { return plan_.segments == nullptr ? 0 : plan_.segments[b * plan_.length + t]; }

  void take_intervals(int i, int64_t place) {
    start_[i] = end_[i] = 0;
    if (plan_.wrap) {
      if (segment_[i] < 0) return;
      const int64_t m = plan_.chunk_len, chunks = (plan_.length + m - 1) / m;
      const int64_t chunk = round_ * chunks + place / m;
      start_[i] = static_cast<int32_t>((chunk - plan_.chunks_before) * m);
      end_[i] = static_cast<int32_t>((chunk + plan_.chunks_after + 1) * m);
      return;
    }
    const int32_t* places = places_of(token[i]);
    if (i < queries) start_[i] = places[3 * round_ + 1], end_[i] = places[3 * round_ + 2];
    for (int32_t r = 0; r < round_; ++r) {
      seen_[2 * QT * r + i] = places[3 * r + 1];
      seen_[2 * QT * r + QT + i] = places[3 * r + 2];
    }
  }

  // The token at a place; "trax" places run over all rounds and around. -1: an empty place at the end of a round.
  int32_t token_at(int64_t place) const {
    if (!plan_.wrap) return order_[round_ * plan_.length + place];
    const int64_t m = plan_.chunk_len, round_length = (plan_.length + m - 1) / m * m;
    const int64_t total = round_length * plan_.rounds, around = ((place % total) + total) % total;
    const int64_t r = around / round_length, within = around % round_length;
    return within < plan_.length ? order_[r * plan_.length + within] : -1;
  }

  void visible_by_position(int block, int64_t j, vi (&sees)[NV]) const {
    for (int v = 0; v < NV; ++v) {
      const vi other = load(token + block * QB + v * W), segments = load(segment_ + block * QB + v * W);
      sees[v] &= a_.causal ? splat(key_token[j]) < other : splat(key_token[j]) != other;
      sees[v] &= splat(key_segment_[j]) == segments;
    }
  }

  const Attention& a_;
  const Plan& plan_;
  int64_t row_ = 0;
  int32_t round_ = 0;
  const int32_t* order_ = nullptr;
  int32_t *start_ = nullptr, *end_ = nullptr, *segment_ = nullptr, *seen_ = nullptr, *key_segment_ = nullptr;
  uint32_t *row_key_ = nullptr, *column_key_ = nullptr;

 public:
  const int64_t D, E, capacity;  // padded widths; the most keys taken together
};

}  // namespace REFORMER_ISA
}  // namespace reformer
