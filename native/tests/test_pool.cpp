// Partitions by teams against the sequential solver, which pools the same rows one by one.
#include <doctest/doctest.h>

#include <cmath>

#include "pool_support.h"
#include "spmd_team.h"
#include "spmd_warps.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using Order = HostTeam::Order;

template <Regularization R>
void compare(const SortedCase& c, const Starts& actual) {
  const Starts expected = sequential_starts<R>(c);
  if (actual == expected) return;
  CAPTURE(static_cast<int>(R));
  const bool exact = c.strength == 0.0 || (R == Regularization::l2 && is_exact(c));
  REQUIRE_FALSE(exact);
  REQUIRE(differ_in_near_ties_only<R>(c, actual, expected));
}

// Rows of n elements of every family, for every regularization: f(c, r).
template <class F>
void for_each_family(CaseMaker& maker, std::int64_t n, const F& f) {
  for (int family = 0; family < static_cast<int>(Family::count); ++family) {
    const SortedCase c = maker.make(static_cast<Family>(family), n);
    CAPTURE(n);
    CAPTURE(family);
    for_each_regularization([&](auto r) { f(c, r); });
  }
}

void check_families(CaseMaker& maker, std::int64_t n, Order order) {
  for_each_family(maker, n, [&](const SortedCase& c, auto r) {
    HostTeam team(order, maker.random()());
    compare<decltype(r)::value>(c, pooled_starts<decltype(r)::value>(c, team));
  });
}

}  // namespace

TEST_CASE("pooling by a team, for all short rows and in any order") {
  CaseMaker maker(1);
  for (std::int64_t n = 0; n <= 70; ++n) {
    for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
      check_families(maker, n, order);
    }
  }
}

TEST_CASE("pooling by a team, around the ends of words and levels") {
  CaseMaker maker(2);
  for (const std::int64_t length : {96, 128, 256, 512, 1024, 1088, 2048, 4096}) {
    for (const int beyond : {-9, -1, 0, 1, 9}) {
      check_families(maker, length + beyond, Order::shuffled);
    }
  }
}

TEST_CASE("pooling long rows by parts") {
  CaseMaker maker(3);
  for_each_family(maker, 100'003, [&](const SortedCase& c, auto r) {
    HostTeam team;
    compare<decltype(r)::value>(c, starts_by_parts<decltype(r)::value>(c, 4096, team));
  });
  for (const Family family : {Family::rank, Family::convex}) {
    const SortedCase c = maker.make(family, 1'000'000);
    CAPTURE(static_cast<int>(family));
    HostTeam team;
    compare<Regularization::l2>(c, starts_by_parts<Regularization::l2>(c, 4096, team));
  }
}

TEST_CASE("pooling by threads that share nothing but the row's memory") {
  CaseMaker maker(4);
  for (const std::int64_t n : {0, 1, 31, 70, 300, 1100}) {
    for (const int threads : {4, 7}) {
      for_each_family(maker, n, [&](const SortedCase& c, auto r) {
        compare<decltype(r)::value>(c, starts_after<decltype(r)::value, kKeptByTeam>(
                                           c, [&](const auto& row, const auto& memory) {
                                             const PoolScratch scratch(n, memory.bits);
                                             run_spmd(threads, [&](SpmdTeam& team) {
                                               pool(team, row, memory, scratch.get());
                                             });
                                           }));
      });
    }
  }
}

TEST_CASE("pooling by warps of threads") {
  CaseMaker maker(5);
  for (const std::int64_t n : {129, 700}) {
    for_each_family(maker, n, [&](const SortedCase& c, auto r) {
      compare<decltype(r)::value>(
          c, starts_after<decltype(r)::value, kKeptByTeam>(
                 c, [&](const auto& row, const auto& memory) {
                   const PoolScratch scratch(n, memory.bits);
                   run_warps(2, [&](WarpsTeam& team) { pool(team, row, memory, scratch.get()); });
                 }));
    });
  }
}

TEST_CASE("parts of a row pool on their own, in any order") {
  CaseMaker maker(6);
  for (const std::int64_t n : {5, 64, 1000, 5000, 9001}) {
    for (const std::int64_t length : {32, 64, 512, 4096}) {
      for_each_family(maker, n, [&](const SortedCase& c, auto r) {
        HostTeam team(Order::shuffled, maker.random()());
        compare<decltype(r)::value>(c, starts_by_parts<decltype(r)::value>(c, length, team));
      });
    }
  }
}

namespace {

struct CountingLanes {
  std::int64_t* rounds;

  template <class Predicate>
  std::uint32_t ballot(const Predicate& predicate) const {
    ++*rounds;
    return SerialLanes{}.ballot(predicate);
  }
};

// Pools all but the joins of the last level, and joins that pair by itself: rounds and reads.
struct LastJoin {
  std::int64_t rounds = 0, reads = 0;
};

template <Regularization R>
LastJoin last_join(const SortedCase& c, std::int64_t width) {
  LastJoin join;
  const auto row =
      row_of<R>(c, CheckedOperand{&c.z, &join.reads}, CheckedOperand{&c.w, &join.reads});
  RowMemory<R, kKeptInLongRow> memory(c.n());
  HostTeam team;
  const StartBits starts(memory.bits.data(), c.n());
  for (std::int64_t k = 0; k < StartBits::upper_words(c.n()); ++k) starts.fill(k);
  for (std::int64_t first : {std::int64_t{0}, width}) {
    pool_part(team, row, memory.get(), PoolScratch(width).get(), first, width);
    build_tree(team, RunTree<R>(memory.tree.data()), row, first, width);
  }
  join.reads = 0;
  join_pairs(CountingLanes{&join.rounds}, row, memory.get(), width, 0, 1);
  return join;
}

}  // namespace

// A join is a look, two barriers, and log32(m) + 2 rounds a side, with m the width. In a round a
// lane looks at a block of R, 4 numbers, in each of 2 log2(m) steps, sums a run, 4 numbers for each
// of 14 + 2 log2(m) pieces, and compares; so do the look and the last sum.
TEST_CASE("a join takes logarithmically many rounds and reads") {
  CaseMaker maker(7);
  for (int log_width = 6; log_width <= 14; ++log_width) {
    const std::int64_t width = std::int64_t{1} << log_width;
    for_each_family(maker, 2 * width, [&](const SortedCase& c, auto r) {
      const LastJoin join = last_join<decltype(r)::value>(c, width);
      const int rounds = 2 * (log_width / 5 + 2);
      REQUIRE(join.rounds <= 3 + rounds);
      const int lane_reads = 4 * (2 * log_width + 14 + 2 * log_width + 4);
      REQUIRE(join.reads <= 32 * (rounds + 2) * lane_reads);
    });
  }
}

TEST_CASE("pooling 100,000 rows by a team" * doctest::skip()) {
  for_each_random_row(100'000, [](const SortedCase& c, std::uint64_t seed) {
    for_each_regularization([&](auto r) {
      HostTeam team(static_cast<Order>(seed % 3), seed);
      compare<decltype(r)::value>(c, pooled_starts<decltype(r)::value>(c, team));
    });
  });
}

TEST_CASE("pooling a row of 10,000,000 elements by parts" * doctest::skip()) {
  CaseMaker maker(8);
  for (const Family family : {Family::rank, Family::sort, Family::random_walk}) {
    const SortedCase c = maker.make(family, 10'000'000);
    for_each_regularization([&](auto r) {
      HostTeam team;
      compare<decltype(r)::value>(c, starts_by_parts<decltype(r)::value>(c, 4096, team));
    });
  }
}
