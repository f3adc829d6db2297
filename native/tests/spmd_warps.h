// A team of real warps: 32 threads each, that meet at every ballot.
//
// SpmdTeam has a single thread for the lanes of a warp. Here every lane is a thread, so that what
// lanes would need to tell each other, and what one writes too early, shows.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "spmd_team.h"

namespace diffsort {

struct Warp {
  Barrier barrier{32};
  bool votes[32] = {};
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

 private:
  int lane_;
  Warp* warp_;
};

class WarpsTeam {
 public:
  WarpsTeam(int thread, int warps, Barrier* barrier, Warp* warp)
      : thread_(thread), warps_(warps), barrier_(barrier), warp_(warp) {}

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

 private:
  int thread_, warps_;
  Barrier* barrier_;
  Warp* warp_;
};

// program(team) on each thread of `warps` warps.
template <class Program>
void run_warps(int warps, const Program& program) {
  Barrier barrier(32 * warps);
  std::vector<std::unique_ptr<Warp>> groups;
  for (int w = 0; w < warps; ++w) groups.push_back(std::make_unique<Warp>());
  std::vector<std::thread> threads;
  for (int t = 0; t < 32 * warps; ++t) {
    threads.emplace_back([&, t] {
      WarpsTeam team(t, warps, &barrier, groups[static_cast<std::size_t>(t / 32)].get());
      program(team);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace diffsort
