// The order of every round (a stable counting sort) and what each token sees in it.

#include <algorithm>
#include <new>
#include <vector>

#include "abi.h"
#include "parallel.h"

namespace reformer {
namespace {

// A histogram of this many counters stays in the first-level cache.
constexpr int kDigitBits = 11;
// Wider ranges are sorted digit by digit.
constexpr int64_t kWidestHistogram = 65536;

template <class T>
struct Range {
  T low, high;
};

template <class T>
Range<T> range_of(const T* values, int64_t length) {
  const auto [low, high] = std::minmax_element(values, values + length);
  return {*low, *high};
}

// One stable pass: `to` holds the tokens of `from` (null: by position) in the order of digit(token).
template <class Digit>
void counting_pass(const int32_t* from, int32_t* to, int64_t length, std::vector<int32_t>& counts, const Digit& digit) {
  std::fill(counts.begin(), counts.end(), 0);
  for (int64_t token = 0; token < length; ++token) ++counts[digit(token)];
  int32_t first = 0;
  for (auto& count : counts) {
    const int32_t here = count;
    count = first;
    first += here;
  }
  for (int64_t place = 0; place < length; ++place) {
    const int32_t token = from == nullptr ? static_cast<int32_t>(place) : from[place];
    to[counts[digit(token)]++] = token;
  }
}

class RowSorter {
 public:
  explicit RowSorter(int64_t length) : length_(length), a_(length), b_(length) {}

  template <class T>
  void by(const T* values) {
    const auto [low, high] = range_of(values, length_);
    const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
    const T base = low;
    const auto key = [=](int64_t token) {
      return static_cast<uint64_t>(values[token]) - static_cast<uint64_t>(base);
    };
    if (range < static_cast<uint64_t>(std::min(kWidestHistogram, std::max<int64_t>(2048, 4 * length_)))) {
      pass(range + 1, [=](int64_t token) { return key(token); });
      return;
    }
    for (int shift = 0; shift < 64 && (range >> shift) != 0; shift += kDigitBits) {
      pass(uint64_t{1} << kDigitBits, [=](int64_t token) { return (key(token) >> shift) & ((1u << kDigitBits) - 1); });
    }
  }

  // Segments in the order of their ids, padding last.
  void by_segment(const int32_t* segments) {
    // As unsigned numbers negative ids are the largest; they must not be told apart.
    keys_.resize(length_);
    const int32_t highest = *std::max_element(segments, segments + length_);
    for (int64_t token = 0; token < length_; ++token) {
      keys_[token] = segments[token] < 0 ? int64_t{highest} + 1 : int64_t{segments[token]};
    }
    by(keys_.data());
  }

  const int32_t* sorted() const { return from_; }

 private:
  template <class Digit>
  void pass(uint64_t n_digits, const Digit& digit) {
    counts_.assign(n_digits, 0);
    int32_t* to = from_ == a_.data() ? b_.data() : a_.data();
    counting_pass(from_, to, length_, counts_, digit);
    from_ = to;
  }

  int64_t length_;
  std::vector<int32_t> a_, b_, counts_;
  std::vector<int64_t> keys_;
  const int32_t* from_ = nullptr;
};

void sort_row(const Sort& sort, int64_t index) {
  const int64_t L = sort.length, row = index / sort.rounds;
  RowSorter sorter(L);
  if (sort.bucket_bytes == 4) {
    sorter.by(static_cast<const int32_t*>(sort.buckets) + index * L);
  } else {
    sorter.by(static_cast<const int64_t*>(sort.buckets) + index * L);
  }
  if (sort.segments != nullptr) sorter.by_segment(sort.segments + row / sort.sharing * L);
  std::copy_n(sorter.sorted(), L, sort.order + index * L);
}

struct Reach {
  int64_t back = 0, ahead = 0;
  bool is_permutation = true;
};

int64_t at(const void* values, int32_t bytes, int64_t index) {
  return bytes == 4 ? static_cast<const int32_t*>(values)[index] : static_cast<const int64_t*>(values)[index];
}

// The interval of one place of the run [low, high).
Range<int64_t> interval(const PlanRequest& request, int64_t place, int64_t low, int64_t high) {
  if (request.chunk_len > 0) {
    const int64_t base = request.chunks_per_run ? low : 0;
    const int64_t chunk = (place - base) / request.chunk_len;
    low = std::max(low, base + (chunk - request.chunks_before) * request.chunk_len);
    high = std::min(high, base + (chunk + request.chunks_after + 1) * request.chunk_len);
  } else if (request.window > 0) {
    low = std::max(low, place - request.window);
    high = std::min(high, place + request.window + 1);
  }
  // Within a run the order is by position, so "earlier token" is "smaller place".
  if (request.causal) high = std::min(high, request.exclude_self ? place : place + 1);
  return {low, high};
}

Reach plan_row(const PlanRequest& request, const Plan& plan, int64_t index) {
  const int64_t L = plan.length, R = plan.rounds, p = index / R, r = index % R;
  int32_t* order = plan.order + index * L;
  int32_t* places = plan.places + 3 * (p * L * R + r);
  const int32_t* segments = plan.segments == nullptr ? nullptr : plan.segments + p / request.batch_sharing * L;
  for (int64_t place = 0; place < L; ++place) {
    const int64_t token = request.order == nullptr ? place : at(request.order, request.order_bytes, index * L + place);
    if (token < 0 || token >= L) return {0, 0, false};
    order[place] = static_cast<int32_t>(token);
    places[3 * R * token] = static_cast<int32_t>(place);
  }
  // The order may be the user's own. A token that came twice has lost its first place.
  for (int64_t place = 0; place < L; ++place) {
    if (places[3 * R * order[place]] != place) return {0, 0, false};
  }
  Reach reach;
  if (plan.wrap) return reach;
  const auto bucket = [&](int64_t place) {
    return request.buckets == nullptr ? 0 : at(request.buckets, request.bucket_bytes, index * L + order[place]);
  };
  const auto segment = [&](int64_t place) { return segments == nullptr ? 0 : segments[order[place]]; };
  for (int64_t first = 0, last; first < L; first = last) {
    const int64_t its_bucket = bucket(first);
    const int32_t its_segment = segment(first);
    last = first + 1;
    while (last < L && segment(last) == its_segment && bucket(last) == its_bucket) ++last;
    for (int64_t place = first; place < last; ++place) {
      auto [start, end] = its_segment < 0 ? Range<int64_t>{0, 0} : interval(request, place, first, last);
      if (start >= end) start = end = 0;
      int32_t* of_token = places + 3 * R * order[place];
      of_token[1] = static_cast<int32_t>(start);
      of_token[2] = static_cast<int32_t>(end);
      if (start < end) {
        reach.back = std::max(reach.back, place - start);
        reach.ahead = std::max(reach.ahead, end - 1 - place);
      }
    }
  }
  return reach;
}

}  // namespace
}  // namespace reformer

extern "C" int32_t reformer_sort(const Sort* sort, const Run* run) try {
  reformer::Interrupt interrupt(run->poll);
  std::atomic<bool> no_memory{false};
  reformer::parallel_for(run->threads, sort->rows * sort->rounds, interrupt, [&](int, int64_t index) {
    try {
      reformer::sort_row(*sort, index);
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  });
  if (no_memory) return REFORMER_NO_MEMORY;
  return interrupt.stopped() ? REFORMER_INTERRUPTED : REFORMER_OK;
} catch (const std::bad_alloc&) {
  return REFORMER_NO_MEMORY;
}

extern "C" int32_t reformer_plan(const PlanRequest* request, Plan* plan, const Run* run) try {
  reformer::Interrupt interrupt(run->poll);
  const int64_t rows = plan->rows * plan->rounds;
  std::vector<reformer::Reach> reach(rows);
  reformer::parallel_for(run->threads, rows, interrupt, [&](int, int64_t index) {
    reach[index] = reformer::plan_row(*request, *plan, index);
  });
  if (interrupt.stopped()) return REFORMER_INTERRUPTED;
  plan->reach_back = plan->reach_ahead = 0;
  for (const auto& row : reach) {
    if (!row.is_permutation) return REFORMER_BAD_ORDER;
    plan->reach_back = std::max(plan->reach_back, row.back);
    plan->reach_ahead = std::max(plan->reach_ahead, row.ahead);
  }
  return REFORMER_OK;
} catch (const std::bad_alloc&) {
  return REFORMER_NO_MEMORY;
}
