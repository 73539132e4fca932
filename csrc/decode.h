// One decoding step of one attention row: who is seen, softmax over them, and the newest token's place in the lists.
#pragma once

#include <algorithm>

#include "scattered.h"

namespace reformer {
namespace REFORMER_ISA {

// Rotations come in rows of a multiple of this, of the widest register.
constexpr int64_t kColumns = 16;
static_assert(kColumns % W == 0, "a register of rotations must not reach beyond its row");

struct DecodeScratch {
  DecodeScratch(const Decode& d, Scratch& scratch)
      : seen(scratch.ints(d.most_seen + kAhead + W)), cursor(scratch.ints(d.rounds)), left(scratch.ints(d.rounds)),
        bucket(scratch.ints(d.rounds)), place(scratch.ints(d.rounds)), x(scratch.floats(padded(d.key_width))),
        products(scratch.floats(padded(d.columns))), weights(scratch.floats(d.most_seen + W)) {}
  int32_t *seen;                              // slots that the token sees, as often as it sees them
  int32_t *cursor, *left, *bucket, *place;    // [R]
  float *x, *products, *weights;
};

// One (batch row, head) of a call; T is the type of queries, keys and values.
template <class T>
class DecodeRow {
 public:
  DecodeRow(const Decode& d, float* memory, int64_t n) : DecodeRow(d, Scratch(memory), n) {}

  // The new tokens, one after another.
  void decode() {
    int64_t count = d_.counts[b_];
    for (int64_t t = 0; t < d_.tokens; ++t) {
      float* out = d_.out + ((b_ * d_.tokens + t) * d_.heads + h_) * d_.value_width;
      if (d_.is_real != nullptr && !d_.is_real[b_ * d_.tokens + t]) std::fill_n(out, d_.value_width, 0.0f);
      else step(t, count++, out);
    }
  }

  // Enters tokens whose buckets are there already, [first, last), into the lists.
  void link(int64_t first, int64_t last) {
    for (int64_t token = first; token < last; ++token) {
      for (int32_t r = 0; r < d_.rounds; ++r) s_.bucket[r] = d_.buckets[bucket_at(r, token)];
      enter(token);
    }
  }

 private:
  DecodeRow(const Decode& d, Scratch scratch, int64_t n)
      : d_(d), s_(d, scratch), n_(n), b_(n / d.heads), h_(n % d.heads), keys_(static_cast<T*>(d.keys) + n * d.slots * d.key_width),
        values_(static_cast<T*>(d.values) + n * d.slots * d.value_width) {}

  const T* new_row(const Rows& rows, int64_t t) const {
    return static_cast<const T*>(rows.data) + b_ * rows.batch + h_ * rows.head + t * rows.token;
  }

  void step(int64_t t, int64_t count, float* out) {
    const int64_t slot = count % d_.slots;
    load_row(new_row(d_.q, t), d_.dtype, d_.key_width, 1.0f, s_.x);
    keep(t, slot);
    int64_t n;
    if (d_.rounds == 0) {
      n = see_by_position(count);
    } else {
      hash(count);
      // "trax" sees chunks that its own token has entered; a list is walked before its token is put at its head.
      if (d_.order != nullptr) enter(count), n = see_in_trax(count);
      else n = see_by_bucket(count), enter(count);
    }
    if (n == 0) std::transform(new_row(d_.v, t), new_row(d_.v, t) + d_.value_width, out, [](T x) { return widen_one(x); });
    else average(n, out);
  }

  void keep(int64_t t, int64_t slot) {
    const T* v = new_row(d_.v, t);
    std::copy_n(v, d_.value_width, values_ + slot * d_.value_width);
    T* key = keys_ + slot * d_.key_width;
    if (!d_.shared) {
      std::copy_n(new_row(d_.k, t), d_.key_width, key);
      return;
    }
    const float squared = dot(s_.x, s_.x, padded(d_.key_width));
    const float inverse = squared == 0.0f ? 0.0f : 1.0f / std::sqrt(squared);
    for (int64_t d = 0; d < d_.key_width; ++d) narrow(s_.x[d] * inverse, key + d);
  }

  // The same products, summed in the same order, as hash.h: a vector falls into the same bucket here as there.
  void hash(int64_t count) {
    const int64_t stride = (d_.columns + kColumns - 1) / kColumns * kColumns;
    for (int32_t r = 0; r < d_.rounds; ++r) {
      const float* rotations = d_.rotations + (h_ * d_.rounds + r) * d_.key_width * stride;
      for (int64_t c = 0; c < d_.columns; c += W) {
        vf sum{};
        for (int64_t d = 0; d < d_.key_width; ++d) sum += load(rotations + d * stride + c) * s_.x[d];
        store(s_.products + c, sum);
      }
      int32_t bucket = 0, weight = 1;
      const float* products = s_.products;
      for (int32_t f = 0; f < d_.factors; ++f) {
        const int32_t columns = d_.factor[f] / 2;
        const float *highest = std::max_element(products, products + columns), *lowest = std::min_element(products, products + columns);
        bucket += weight * static_cast<int32_t>(*highest >= -*lowest ? highest - products : lowest - products + columns);
        weight *= d_.factor[f], products += columns;
      }
      s_.bucket[r] = bucket;
      d_.buckets[bucket_at(r, count)] = bucket;
    }
  }

  int64_t bucket_at(int32_t r, int64_t token) const { return (n_ * d_.rounds + r) * d_.slots + token; }
  int32_t* previous(int64_t token) const { return d_.previous + (n_ * d_.slots + token) * d_.rounds; }
  int32_t& newest(int32_t r, int64_t bucket) const { return d_.newest[(n_ * d_.rounds + r) * d_.n_buckets + bucket]; }
  int32_t* sizes(int32_t r) const { return d_.sizes + (n_ * d_.rounds + r) * (d_.n_buckets + 1); }

  int64_t see_by_position(int64_t count) {
    int64_t start = 0;
    if (d_.chunk_len > 0) start = (count / d_.chunk_len - d_.chunks_before) * d_.chunk_len;
    else if (d_.window > 0) start = count - d_.window;
    start = std::max<int64_t>(start, 0);
    const int64_t n = count - start + (d_.exclude_self ? 0 : 1);
    for (int64_t i = 0, slot = start % d_.slots; i < n; ++i) {
      s_.seen[i] = static_cast<int32_t>(slot);
      if (++slot == d_.slots) slot = 0;
    }
    return n;
  }

  // The members of a bucket are a list from the newest to the oldest; the rounds' lists are merged, so that a token that
  // stands in several is seen once.
  int64_t see_by_bucket(int64_t count) {
    for (int32_t r = 0; r < d_.rounds; ++r) {
      int64_t reach = count;
      if (d_.sizes != nullptr) reach = up_to(r, s_.bucket[r]) % d_.chunk_len + d_.chunks_before * d_.chunk_len;
      else if (d_.window > 0) reach = d_.window;
      s_.left[r] = static_cast<int32_t>(std::min(reach, count));
      s_.cursor[r] = s_.left[r] > 0 ? newest(r, s_.bucket[r]) : -1;
    }
    int64_t n = 0;
    while (true) {
      int32_t next = -1;
      for (int32_t r = 0; r < d_.rounds; ++r) next = std::max(next, s_.cursor[r]);
      if (next < 0) return n;
      s_.seen[n++] = next;
      __builtin_prefetch(keys_ + next * d_.key_width);
      const int32_t* before = previous(next);
      for (int32_t r = 0; r < d_.rounds; ++r) {
        if (s_.cursor[r] == next) s_.cursor[r] = --s_.left[r] > 0 ? before[r] : -1;
      }
    }
  }

  // Every chunk that some round's own chunk looks at, all of it; only the token itself is left out.
  int64_t see_in_trax(int64_t count) {
    const int64_t m = d_.chunk_len, length = count + 1, chunks = (length + m - 1) / m, total = chunks * d_.rounds;
    int64_t n = 0;
    for (int32_t r = 0; r < d_.rounds; ++r) {
      for (int64_t ahead = -d_.chunks_before; ahead <= d_.chunks_after; ++ahead) {
        const int64_t chunk = ((r * chunks + s_.place[r] / m + ahead) % total + total) % total;
        const int32_t* order = d_.order + (n_ * d_.rounds + chunk / chunks) * d_.slots;
        const int64_t first = chunk % chunks * m, last = std::min(first + m, length);
        for (int64_t place = first; place < last; ++place) {
          if (order[place] != count) s_.seen[n++] = order[place];
        }
      }
    }
    return n;
  }

  // Tokens in the buckets up to this one: a Fenwick tree, whose node i counts the buckets (i - (i & -i), i].
  int32_t up_to(int32_t r, int64_t bucket) const {
    const int32_t* tree = sizes(r);
    int32_t total = 0;
    for (int64_t i = bucket + 1; i > 0; i -= i & -i) total += tree[i];
    return total;
  }

  void enter(int64_t token) {
    for (int32_t r = 0; r < d_.rounds; ++r) {
      const int64_t bucket = s_.bucket[r];
      if (d_.order != nullptr) {
        s_.place[r] = up_to(r, bucket);
        int32_t* order = d_.order + (n_ * d_.rounds + r) * d_.slots;
        std::copy_backward(order + s_.place[r], order + token, order + token + 1);
        order[s_.place[r]] = static_cast<int32_t>(token);
      } else {
        previous(token)[r] = newest(r, bucket);
        newest(r, bucket) = static_cast<int32_t>(token);
      }
      if (d_.sizes != nullptr) {
        for (int64_t i = bucket + 1; i <= d_.n_buckets; i += i & -i) ++sizes(r)[i];
      }
    }
  }

  // out = Σ softmax(scale · q·k) v over the seen slots.
  void average(int64_t n, float* out) {
    // Rows beyond the last are the last again: whole vectors of rows are read.
    std::fill_n(s_.seen + n, kAhead + W, s_.seen[n - 1]);
    const Scattered<T> keys{keys_, d_.key_width}, values{values_, d_.value_width};
    const float largest = keys.dots(s_.x, d_.scale, s_.seen, n, s_.weights, values);
    vf sums{};
    for (int64_t i = 0; i < n; i += W) {
      vf weight = exp(load(s_.weights + i) - splat(largest));
      for (int64_t j = n; j < i + W; ++j) weight[j - i] = 0.0f;
      sums += weight;
      store(s_.weights + i, weight);
    }
    values.average(s_.weights, s_.seen, n, 1.0f / sum(sums), out);
  }

  const Decode& d_;
  DecodeScratch s_;
  const int64_t n_, b_, h_;
  T *keys_, *values_;
};

template <class F>
inline void with_row(const Decode& d, float* memory, int64_t n, const F& f) {
  if (d.dtype == REFORMER_BFLOAT16) {
    DecodeRow<uint16_t> row(d, memory, n);
    f(row);
  } else {
    DecodeRow<float> row(d, memory, n);
    f(row);
  }
}

inline void decode_row(const Decode& d, float* memory, int64_t n) {
  with_row(d, memory, n, [](auto& row) { row.decode(); });
}

inline void link_row(const Decode& d, float* memory, int64_t n) {
  with_row(d, memory, n, [&](auto& row) { row.link(0, d.counts[n / d.heads]); });
}

inline size_t decode_scratch(const Decode& d) {
  Scratch scratch(nullptr);
  DecodeScratch s(d, scratch);
  return scratch.used();
}

}  // namespace REFORMER_ISA
}  // namespace reformer
