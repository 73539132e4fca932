// A parallel loop over independent tasks. Which thread takes which task changes nothing in the results.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "abi.h"

#ifdef _OPENMP
#include <omp.h>
#else
#include <thread>
#include <vector>
#endif

namespace reformer {

// Whether the caller wants to stop; asked by the first thread only, at most every 50 ms.
class Interrupt {
 public:
  explicit Interrupt(reformer_poll poll) : poll_(poll), asked_(Clock::now()) {}

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

  void ask() {
    if (poll_ == nullptr || stopped()) return;
    const auto now = Clock::now();
    if (now - asked_ < std::chrono::milliseconds(50)) return;
    asked_ = now;
    if (poll_() != 0) stopped_.store(true, std::memory_order_relaxed);
  }

 private:
  using Clock = std::chrono::steady_clock;
  reformer_poll poll_;
  Clock::time_point asked_;
  std::atomic<bool> stopped_{false};
};

// f(thread, task) for every task below `tasks`.
template <class F>
void parallel_for(int threads, int64_t tasks, Interrupt& interrupt, const F& f) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      if (interrupt.stopped()) return;
      f(thread, task);
      if (thread == 0) interrupt.ask();
    }
  };
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    work(0);
    return;
  }
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    // The calling thread must be number 0: it holds what `poll` needs.
    work(omp_get_thread_num());
  }
#else
  std::vector<std::thread> pool;
  for (int thread = 1; thread < threads; ++thread) pool.emplace_back(work, thread);
  work(0);
  for (auto& thread : pool) thread.join();
#endif
}

}  // namespace reformer
