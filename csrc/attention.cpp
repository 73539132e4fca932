// Runs the kernels over all rows, rounds and tiles, in an order that no number of threads changes.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "abi.h"
#include "kernels.h"
#include "parallel.h"

namespace reformer {

#define REFORMER_DECLARE(isa) namespace isa { extern const Kernels kernels; }
REFORMER_DECLARE(generic)
#ifdef REFORMER_HAS_AVX2
REFORMER_DECLARE(avx2)
#endif
#ifdef REFORMER_HAS_AVX512
REFORMER_DECLARE(avx512)
#endif

namespace {

// The best last.
const Kernels* const kAll[] = {
    &generic::kernels,
#ifdef REFORMER_HAS_AVX2
    &avx2::kernels,
#endif
#ifdef REFORMER_HAS_AVX512
    &avx512::kernels,
#endif
};
constexpr int kCount = sizeof kAll / sizeof kAll[0];

bool runs(const Kernels* kernels) {
#ifdef REFORMER_HAS_AVX2
  if (kernels == &avx2::kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#ifdef REFORMER_HAS_AVX512
  if (kernels == &avx512::kernels) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  }
#endif
  (void)kernels;
  return true;
}

const Kernels& chosen(int32_t isa) {
  if (isa >= 0 && isa < kCount) return *kAll[isa];
  int best = kCount - 1;
  while (!runs(kAll[best])) --best;
  return *kAll[best];
}

// Scratch memory of each thread, zeroed: the kernels compute on a few rows that they never use.
class ThreadScratch {
 public:
  ThreadScratch(int threads, size_t floats) : stride_((floats + 31) / 16 * 16) {
    memory_.reset(static_cast<float*>(std::calloc(threads * stride_ + 16, sizeof(float))));
    if (memory_ == nullptr) throw std::bad_alloc();
    const size_t past = reinterpret_cast<uintptr_t>(memory_.get()) % 64;
    base_ = memory_.get() + (past == 0 ? 0 : (64 - past) / sizeof(float));
  }
  float* of(int thread) const { return base_ + thread * stride_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  size_t stride_;
  std::unique_ptr<float, Free> memory_;
  float* base_;
};

constexpr int64_t kTokensPerTask = 1024;

// f(thread, n, first, last) over all tokens of all rows, kTokensPerTask at a time.
template <class F>
void for_tokens(const Attention& a, const Run& run, Interrupt& interrupt, const F& f) {
  const int64_t per_row = (a.length + kTokensPerTask - 1) / kTokensPerTask;
  parallel_for(run.threads, a.batch * a.heads * per_row, interrupt, [&](int thread, int64_t task) {
    const int64_t first = task % per_row * kTokensPerTask;
    f(thread, task / per_row, first, std::min(first + kTokensPerTask, a.length));
  });
}

// Every token is a query once in a round, and rounds follow one another: a query's running sums have one owner at a time.
void forward(const Attention& a, const Plan& plan, const Run& run, const Kernels& kernels, Interrupt& interrupt) {
  const ThreadScratch scratch(run.threads, kernels.attention_scratch(a, plan));
  if (a.shared) {
    for_tokens(a, run, interrupt, [&](int thread, int64_t n, int64_t first, int64_t last) {
      kernels.inverse_norms(a, scratch.of(thread), n, first, last);
    });
  }
  const int64_t tiles = (a.length + kQueryTile - 1) / kQueryTile;
  for (int32_t r = 0; r < plan.rounds; ++r) {
    parallel_for(run.threads, a.batch * a.heads * tiles, interrupt, [&](int thread, int64_t task) {
      kernels.forward_tile(a, plan, scratch.of(thread), task / tiles, r, task % tiles * kQueryTile);
    });
  }
}

// How a row's places are cut into spans whose tiles one thread takes in turn. A tile adds to the gradients of its own
// span and of the neighbours it can reach; spans of one colour reach no span in common, so that each gradient row has one
// owner at a time, and colours follow one another in a fixed order.
struct Spans {
  Spans(const Attention& a, const Plan& plan) {
    constexpr int64_t kShortest = 4 * kQueryTile;
    const int64_t reach = plan.wrap ? a.length : std::max(plan.reach_back, plan.reach_ahead);
    length = (std::max(reach, kShortest) + kQueryTile - 1) / kQueryTile * kQueryTile;
    count = (a.length + length - 1) / length;
    colours = count == 1 ? 1 : 1 + (plan.reach_back > 0) + (plan.reach_ahead > 0);
  }
  int64_t length, count, colours;
};

void backward(const Attention& a, const Plan& plan, const Run& run, const Kernels& kernels, Interrupt& interrupt) {
  const ThreadScratch scratch(run.threads, kernels.attention_scratch(a, plan));
  for_tokens(a, run, interrupt, [&](int thread, int64_t n, int64_t first, int64_t last) {
    if (a.shared) kernels.inverse_norms(a, scratch.of(thread), n, first, last);
    kernels.deltas(a, scratch.of(thread), n, first, last);
  });
  const Spans spans(a, plan);
  for (int32_t r = 0; r < plan.rounds; ++r) {
    for (int64_t colour = 0; colour < spans.colours; ++colour) {
      const int64_t of_colour = (spans.count - colour + spans.colours - 1) / spans.colours;
      parallel_for(run.threads, a.batch * a.heads * of_colour, interrupt, [&](int thread, int64_t task) {
        const int64_t first = (task % of_colour * spans.colours + colour) * spans.length;
        const int64_t last = std::min(first + spans.length, a.length);
        for (int64_t place = first; place < last && !interrupt.stopped(); place += kQueryTile) {
          kernels.backward_tile(a, plan, scratch.of(thread), task / of_colour, r, place);
          if (thread == 0) interrupt.ask();
        }
      });
    }
  }
  if (!a.exclude_self) return;
  // Last: rounds add many small numbers, which would be rounded to what is there already.
  for_tokens(a, run, interrupt, [&](int thread, int64_t n, int64_t first, int64_t last) {
    kernels.backward_alone(a, scratch.of(thread), n, first, last);
  });
}

template <class F>
int32_t guarded(const Run& run, const F& f) {
  try {
    Interrupt interrupt(run.poll);
    f(chosen(run.isa), interrupt);
    return interrupt.stopped() ? REFORMER_INTERRUPTED : REFORMER_OK;
  } catch (const std::bad_alloc&) {
    return REFORMER_NO_MEMORY;
  }
}

}  // namespace
}  // namespace reformer

using namespace reformer;

extern "C" int32_t reformer_struct_size(int32_t index) {
  const size_t sizes[] = {sizeof(Rows), sizeof(Run), sizeof(Plan), sizeof(PlanRequest), sizeof(Attention), sizeof(Hash), sizeof(Sort),
                          sizeof(Decode)};
  return index >= 0 && index < 8 ? static_cast<int32_t>(sizes[index]) : -1;
}

extern "C" const char* reformer_isa_name(int32_t isa) { return isa >= 0 && isa < kCount ? kAll[isa]->name : nullptr; }

extern "C" int32_t reformer_isa_runs(int32_t isa) { return isa >= 0 && isa < kCount && runs(kAll[isa]); }

extern "C" int32_t reformer_uses_openmp(void) {
#ifdef _OPENMP
  return 1;
#else
  return 0;
#endif
}

extern "C" int32_t reformer_hash(const Hash* hash, const Run* run) {
  return guarded(*run, [&](const Kernels& kernels, Interrupt& interrupt) {
    const ThreadScratch scratch(run->threads, kernels.hash_scratch(*hash));
    const int64_t tiles = (hash->length + kQueryTile - 1) / kQueryTile;
    parallel_for(run->threads, hash->batch * hash->heads * tiles, interrupt, [&](int thread, int64_t task) {
      kernels.hash_tile(*hash, scratch.of(thread), task / tiles, task % tiles * kQueryTile);
    });
  });
}

namespace {

// A step is short: its scratch memory is the caller's, who keeps it from call to call.
int32_t for_rows(const Decode& d, const Run& run, void (*Kernels::*work)(const Decode&, float*, int64_t)) {
  return guarded(run, [&](const Kernels& kernels, Interrupt& interrupt) {
    const size_t floats = kernels.decode_scratch(d);
    parallel_for(run.threads, d.batch * d.heads, interrupt, [&](int thread, int64_t n) {
      (kernels.*work)(d, d.scratch + thread * floats, n);
    });
  });
}

}  // namespace

extern "C" int64_t reformer_decode_scratch(const Decode* d) {
  size_t most = 0;
  for (const Kernels* kernels : kAll) most = std::max(most, kernels->decode_scratch(*d));
  return static_cast<int64_t>(most);
}

extern "C" int32_t reformer_decode(const Decode* d, const Run* run) { return for_rows(*d, *run, &Kernels::decode_row); }

extern "C" int32_t reformer_link(const Decode* d, const Run* run) { return for_rows(*d, *run, &Kernels::link_row); }

extern "C" int32_t reformer_forward(const Attention* a, const Plan* plan, const Run* run) {
  return guarded(*run, [&](const Kernels& kernels, Interrupt& interrupt) { forward(*a, *plan, *run, kernels, interrupt); });
}

extern "C" int32_t reformer_backward(const Attention* a, const Plan* plan, const Run* run) {
  return guarded(*run, [&](const Kernels& kernels, Interrupt& interrupt) { backward(*a, *plan, *run, kernels, interrupt); });
}
