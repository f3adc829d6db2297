// A team of real warps: 32 threads each, that meet at every ballot.
//
// SpmdTeam has a single thread for the lanes of a warp. Here every lane is a thread, so that what
// lanes would need to tell each other, and what one writes too early, shows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "spmd_team.h"

namespace diffsort {

struct Warp {
  Barrier barrier{32};
  bool votes[32] = {};
  const void* slots[32] = {};
};

class ThreadLanes {
 public:
  ThreadLanes(int lane, Warp* warp) : lane_(lane), warp_(warp) {}

  template <class Predicate>
  std::uint32_t ballot(const Predicate& predicate) const {
    warp_->votes[lane_] = predicate(lane_);
    warp_->barrier.wait();
    std::uint32_t mask = 0;
    for (int lane = 0; lane < 32; ++lane) mask |= std::uint32_t{warp_->votes[lane]} << lane;
    warp_->barrier.wait();
    return mask;
  }

  template <class F>
  void for_each(const F& f) const {
    f(lane_);
    warp_->barrier.wait();
  }

  template <class V, class Load, class Combine, class Holds>
  int absorb_while(V& total, const Load& load, const Combine& combine, const Holds& holds) const {
    const V mine = load(lane_);
    warp_->slots[lane_] = &mine;
    warp_->barrier.wait();
    int lane = 0;
    for (; lane < 32; ++lane) {
      const V& next = *static_cast<const V*>(warp_->slots[lane]);
      if (!holds(total, next)) break;
      total = combine(total, next);
    }
    warp_->barrier.wait();
    return lane;
  }

  template <class V>
  OwnValue<V> each() const {
    return {};
  }

  void sort(OwnValue<LaneWords<4>>& words) const {
    const LaneWords<4> own = words.own;
    warp_->slots[lane_] = &own;
    warp_->barrier.wait();
    std::vector<std::uint32_t> all;
    for (const void* slot : warp_->slots) {
      const auto& word = static_cast<const LaneWords<4>*>(slot)->word;
      all.insert(all.end(), word, word + 4);
    }
    warp_->barrier.wait();
    std::sort(all.begin(), all.end());
    std::copy_n(all.begin() + 4 * lane_, 4, words.own.word);
  }

  // Nobody stands for others.
  template <Gather kHow, class Value, class Use>
  void gather(std::uint32_t some, std::uint32_t, const Value& value, const Use& use) const {
    if (has_lane(some, lane_)) use(lane_, value(lane_));
  }

 private:
  int lane_;
  Warp* warp_;
};

class WarpsTeam {
 public:
  WarpsTeam(int thread, int warps, Barrier* barrier, const void** slots, Warp* warp)
      : thread_(thread), warps_(warps), barrier_(barrier), slots_(slots), warp_(warp) {}

  template <class V, class Map, class Combine>
  V reduce(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return threads().reduce(n, identity, map, combine);
  }
  template <class V, class Map, class Combine>
  V reduce_few(std::int64_t n, V identity, const Map& map, const Combine& combine) {
    return reduce(n, identity, map, combine);
  }
  template <class Value>
  void prefix_sums(std::int64_t n, const Value& value, std::int64_t* sums) {
    threads().prefix_sums(n, value, sums);
  }

  template <class F>
  void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = thread_; i < n; i += 32 * warps_) f(i);
    barrier_->wait();
  }

  template <class F>
  void for_each_lanes(std::int64_t n, const F& f) {
    for (std::int64_t k = thread_ / 32; k < n; k += warps_) {
      f(ThreadLanes(thread_ % 32, warp_), k);
    }
    barrier_->wait();
  }

  template <class Load, class Use>
  void stream(std::int64_t n, const Load& load, const Use& use) {
    for_each(n, [&](std::int64_t i) { use(i, load(i)); });
  }

  template <class Load>
  auto hold(int n, const Load& load) {
    return threads().hold(n, load);
  }
  template <class Held, class Predicate>
  bool any_held(const Held& held, const Predicate& predicate) {
    return threads().any_held(held, predicate);
  }
  template <class Held, class V, class Map, class Combine>
  V reduce_held(const Held& held, V identity, const Map& map, const Combine& combine) {
    return threads().reduce_held(held, identity, map, combine);
  }
  template <class Held, class F>
  void for_each_held(const Held& held, const F& f) {
    threads().for_each_held(held, f);
  }

 private:
  // The same threads, whatever warps they are in.
  SpmdTeam threads() const { return {thread_, 32 * warps_, barrier_, slots_}; }

  int thread_, warps_;
  Barrier* barrier_;
  const void** slots_;
  Warp* warp_;
};

// program(team) on each thread of `warps` warps.
template <class Program>
void run_warps(int warps, const Program& program) {
  Barrier barrier(32 * warps);
  std::vector<const void*> slots(static_cast<std::size_t>(32 * warps));
  std::vector<std::unique_ptr<Warp>> groups;
  for (int w = 0; w < warps; ++w) groups.push_back(std::make_unique<Warp>());
  std::vector<std::thread> threads;
  for (int t = 0; t < 32 * warps; ++t) {
    threads.emplace_back([&, t] {
      WarpsTeam team(t, warps, &barrier, slots.data(),
                     groups[static_cast<std::size_t>(t / 32)].get());
      program(team);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace diffsort
