// A team of real threads that all run the whole program, as the threads of a CUDA block do.
//
// HostTeam has one thread, so what one call of a step leaves in a local variable is there for the
// next step, and a branch can depend on it. On a device it is not there: SpmdTeam shows that, as
// wrong results, a hang at a barrier that not all reach, or a race that ThreadSanitizer reports.
// For the last there is a program of its own:
//
//     cmake --preset tsan && cmake --build --preset tsan --target diffsort_team_tests
//     build/tsan/native/tests/diffsort_team_tests -tc="*thread*,*warps*"
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "diffsort/parallel_row/team/team.h"

namespace diffsort {

class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const std::uint64_t round = round_;
    if (++waiting_ == threads_) {
      waiting_ = 0;
      ++round_;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return round_ != round; });
    }
  }

 private:
  const int threads_;
  int waiting_ = 0;
  std::uint64_t round_ = 0;
  std::mutex mutex_;
  std::condition_variable all_here_;
};

class SpmdTeam {
 public:
  SpmdTeam(int thread, int threads, Barrier* barrier, const void** slots)
      : thread_(thread), threads_(threads), barrier_(barrier), slots_(slots) {}

  template <class F>
  void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = thread_; i < n; i += threads_) f(i);
    barrier_->wait();
  }

  template <class Predicate>
  bool any(int n, const Predicate& predicate) {
    return reduce(
        n, false, [&](std::int64_t i) { return predicate(static_cast<int>(i)); },
        [](bool a, bool b) { return a || b; });
  }

  template <class F>
  void for_each_lanes(std::int64_t n, const F& f) {
    for_each(n, [&](std::int64_t k) { f(SerialLanes{}, k); });
  }

  template <class V, class Map, class Combine>
  V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    V mine = identity;
    for (std::int64_t i = thread_; i < n; i += threads_) mine = combine(mine, map(i));
    slots_[thread_] = &mine;
    barrier_->wait();
    V all = identity;
    for (int t = 0; t < threads_; ++t) all = combine(all, *static_cast<const V*>(slots_[t]));
    barrier_->wait();
    return all;
  }

  template <class V, class Map, class Combine>
  V reduce_few(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return reduce(n, identity, map, combine);
  }

  template <class Value>
  void prefix_sums(std::int64_t n, const Value& value, std::int64_t* sums) {
    barrier_->wait();
    if (thread_ == 0) HostTeam().prefix_sums(n, value, sums);
    barrier_->wait();
  }

  void sort_words(std::int64_t n, std::uint32_t* words) {
    barrier_->wait();
    if (thread_ == 0) HostTeam().sort_words(n, words);
    barrier_->wait();
  }

  template <class Load, class Use>
  void stream(std::int64_t n, const Load& load, const Use& use) {
    for_each(n, [&](std::int64_t i) { use(i, load(i)); });
  }

  template <class V>
  struct Held {
    int n;
    std::vector<V> own;  // of this thread
  };

  template <class Load>
  auto hold(int n, const Load& load) {
    Held<decltype(load(n))> held{n, {}};
    for (int i = thread_; i < n; i += threads_) held.own.push_back(load(i));
    return held;
  }

  template <class V, class Predicate>
  bool any_held(const Held<V>& held, const Predicate& predicate) {
    return reduce_held(held, false, predicate, [](bool a, bool b) { return a || b; });
  }

  template <class H, class V, class Map, class Combine>
  V reduce_held(const Held<H>& held, V identity, const Map& map, const Combine& combine) {
    return reduce(
        held.n, identity,
        [&](std::int64_t i) { return map(held.own[static_cast<std::size_t>(i / threads_)]); },
        combine);
  }

  template <class V, class F>
  void for_each_held(const Held<V>& held, const F& f) {
    for_each(held.n, [&](std::int64_t i) {
      f(static_cast<int>(i), held.own[static_cast<std::size_t>(i / threads_)]);
    });
  }

  template <int kDigitBits, class Load, class Digit, class Begin, class Write>
  void split(int n, const Load& load, const Digit& digit, const Begin& begin, const Write& write) {
    barrier_->wait();
    if (thread_ == 0) HostTeam().split<kDigitBits>(n, load, digit, begin, write);
    barrier_->wait();
  }

 private:
  const int thread_, threads_;
  Barrier* const barrier_;
  const void** const slots_;
};

// program(team) on each of `threads` threads.
template <class Program>
void run_spmd(int threads, const Program& program) {
  Barrier barrier(threads);
  std::vector<const void*> slots(static_cast<std::size_t>(threads));
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      SpmdTeam team(t, threads, &barrier, slots.data());
      program(team);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

// An executor of long rows (see cuda/executor.cuh) whose teams are threads.
struct SpmdExecutor {
  int threads;

  std::int64_t chunk_elements() const { return std::int64_t{1} << 27; }
  template <class Program>
  bool fits_tile(const Program&) const {
    return false;
  }
  template <class Program>
  void for_each_tile(const char*, const Program&) {}
  template <class Program>
  bool fits(const Program&) const {
    return false;
  }
  template <class Program>
  void for_each_row(const char*, std::int64_t, const Program&) {}

  template <class Program>
  void for_each_team(const char*, std::int64_t count, const Program& program) {
    typename Program::Shared shared;
    run_spmd(threads, [&](SpmdTeam& team) {
      for (std::int64_t k = 0; k < count; ++k) program(team, shared, k);
    });
  }
  template <class F>
  void for_each(const char*, std::int64_t count, const F& f) {
    run_spmd(threads, [&](SpmdTeam& team) { team.for_each(count, f); });
  }
};

}  // namespace diffsort
