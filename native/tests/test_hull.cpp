// Partitions of l2 by prefix sums in fixed point against the sequential solver.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "diffsort/parallel_row/hull.h"
#include "pool_support.h"
#include "spmd_team.h"
#include "spmd_warps.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using Order = HostTeam::Order;

// Memory of exactly the sizes that the header asks for.
struct HullScratch {
  std::vector<std::uint32_t> bits;
  std::vector<char> bytes;
  HullMemory memory;

  explicit HullScratch(std::int64_t n) : bits(static_cast<std::size_t>((n + 31) / 32), 0xdeadbeef) {
    Arena size;
    HullMemory::of(size, n, nullptr);
    bytes.assign(size.bytes(), static_cast<char>(0xab));
    Arena arena(bytes.data());
    memory = HullMemory::of(arena, n, bits.data());
  }
};

using Row = SortedRow<Regularization::l2, CheckedOperand, CheckedOperand>;

struct Found {
  Starts starts;
  std::vector<double> results;
};

// run_hull(hull, value) on whatever team.
template <class RunHull>
Found solve(const Row& row, const HullPoints& fixed, const RunHull& run_hull) {
  const HullScratch scratch(row.n);
  const Hull hull(scratch.memory, row.n);
  run_hull(hull, [&](std::int32_t i) { return fixed.y(row, i); });
  Found found;
  for (std::int32_t start = 0; start < row.n;) {
    const Block block = hull.block_from(start);
    found.starts.push_back(start);
    for (std::int32_t i = start; i < block.end; ++i) {
      found.results.push_back(fixed.result(row, i, hull.sum(block), block.size()));
    }
    start = block.end;
  }
  return found;
}

// Means of s - w over blocks, taken from the row itself.
std::vector<double> results_of(const SortedCase& c, const Starts& starts) {
  std::vector<double> results;
  for (std::size_t b = 0; b < starts.size(); ++b) {
    const std::int64_t first = starts[b], last = b + 1 < starts.size() ? starts[b + 1] : c.n();
    long double sum = 0.0;
    const auto at = [](const std::vector<double>& x, std::int64_t i) {
      return static_cast<long double>(x[static_cast<std::size_t>(i)]);
    };
    for (std::int64_t i = first; i < last; ++i) sum += at(c.w, i) - at(c.z, i) / c.strength;
    for (std::int64_t i = first; i < last; ++i) {
      results.push_back(static_cast<double>(at(c.z, i) / c.strength +
                                            sum / static_cast<long double>(last - first)));
    }
  }
  return results;
}

int compared = 0, left_out = 0;

// Whether the row was one for fixed point.
template <class RunHull>
void compare(const SortedCase& c, const RunHull& run_hull) {
  if (c.n() == 0) return;
  const auto row = row_of<Regularization::l2>(c, CheckedOperand{&c.z}, CheckedOperand{&c.w});
  const HullPoints fixed(row, 0, row.n);
  ++(fixed.fits() ? compared : left_out);
  if (!fixed.fits()) return;
  const Found found = solve(row, fixed, run_hull);
  const Starts starts = sequential_starts<Regularization::l2>(c);
  if (is_exact(c)) REQUIRE(found.starts == starts);
  const std::vector<double> expected = results_of(c, starts);
  const double range = c.w.front() - c.w.back();
  const auto largest = [](const std::vector<double>& x) {
    return std::max(std::abs(x.front()), std::abs(x.back()));
  };
  const double size = largest(c.w) + largest(c.z) / c.strength;
  // Half a unit for y, and no more for their means; the double's roundings of y, of the mean and of the
  // result, some ten of 2^-53 each, leave room in 1e-14.
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(std::abs(found.results[i] - expected[i]) <= fixed.unit / c.strength + 1e-14 * size);
    REQUIRE(fixed.unit / c.strength <= std::ldexp(range, -26) / static_cast<double>(c.n()));
  }
}

template <class F>
void for_each_row(CaseMaker& maker, std::int64_t n, const F& f) {
  for (int family = 0; family < static_cast<int>(Family::count); ++family) {
    CAPTURE(n);
    CAPTURE(family);
    f(maker.make(static_cast<Family>(family), n));
  }
}

void check(CaseMaker& maker, std::int64_t n, Order order) {
  for_each_row(maker, n, [&](const SortedCase& c) {
    compare(c, [&](const Hull& hull, const auto& value) {
      HostTeam team(order, maker.random()());
      hull.run(team, value);
    });
  });
}

}  // namespace

TEST_CASE("hulls of all short rows, in any order") {
  CaseMaker maker(21);
  compared = left_out = 0;
  for (std::int64_t n = 0; n <= 70; ++n) {
    for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
      check(maker, n, order);
    }
  }
  CHECK(compared > 2 * left_out);
}

TEST_CASE("hulls around the ends of words, and of long rows") {
  CaseMaker maker(22);
  for (const std::int64_t length : {96, 128, 256, 1024, 1088, 4096, 8192}) {
    for (const int beyond : {-9, -1, 0, 1}) check(maker, length + beyond, Order::shuffled);
  }
}

TEST_CASE("hulls by threads that share nothing but the row's memory") {
  CaseMaker maker(23);
  for (const std::int64_t n : {1, 31, 70, 300, 1100}) {
    for (const int threads : {4, 7}) {
      for_each_row(maker, n, [&](const SortedCase& c) {
        compare(c, [&](const Hull& hull, const auto& value) {
          run_spmd(threads, [&](SpmdTeam& team) { hull.run(team, value); });
        });
      });
    }
  }
}

TEST_CASE("hulls by warps of threads") {
  CaseMaker maker(24);
  for (const std::int64_t n : {129, 700}) {
    for_each_row(maker, n, [&](const SortedCase& c) {
      compare(c, [&](const Hull& hull, const auto& value) {
        run_warps(2, [&](WarpsTeam& team) { hull.run(team, value); });
      });
    });
  }
}

TEST_CASE("hulls where a block grows by one element a round") {
  // A last element that pulls in all of a falling row, bit by bit, and the same from the front.
  for (const std::int64_t n : {64, 1000, 4096, 8192}) {
    for (const bool at_front : {false, true}) {
      SortedCase c;
      for (std::int64_t i = 0; i < n; ++i) {
        c.w.push_back(static_cast<double>(n - i));
        const double fall = at_front ? static_cast<double>(i) : static_cast<double>(n - 1 - i);
        c.z.push_back(c.w.back() +
                      (at_front ? -fall * fall : fall * fall) / static_cast<double>(n));
      }
      std::sort(c.z.rbegin(), c.z.rend());
      CAPTURE(n);
      compare(c, [&](const Hull& hull, const auto& value) {
        HostTeam team;
        hull.run(team, value);
      });
    }
  }
}

namespace {

// A hull in whose steps threads can be taken apart.
struct OpenHull : Hull {
  using Hull::before;
  using Hull::behind;
  using Hull::goes;
  using Hull::grow_blocks;
  using Hull::Hull;
  using Hull::look_at;
  using Hull::suspect;
  using Hull::take_away;
};

}  // namespace

// Both corners at once, each with the other one still in sight; that before them has been looked at in between.
TEST_CASE("hulls of neighbours that go at the same time") {
  std::vector<double> y(130, 100.0);
  const auto fill = [&](std::size_t first, std::size_t last, double value) {
    std::fill(y.begin() + static_cast<std::ptrdiff_t>(first),
              y.begin() + static_cast<std::ptrdiff_t>(last), value);
  };
  fill(0, 30, 500.0);
  fill(30, 32, 0.0);
  fill(32, 33, 900.0);
  fill(33, 65, 320.0);
  fill(65, 66, 330.0);
  fill(66, 67, 325.0);
  fill(67, 100, 10000.0);
  const auto size = static_cast<std::int64_t>(y.size());
  const HullScratch scratch(size);
  const OpenHull hull(scratch.memory, size);
  scratch.memory.sums[0] = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    scratch.memory.sums[i + 1] = scratch.memory.sums[i] + static_cast<std::int64_t>(y[i]);
  }
  std::fill_n(scratch.memory.bits, 5, 0u);
  std::fill_n(scratch.memory.suspects, 5, 0u);
  for (const int corner : {0, 30, 32, 65, 67, 100}) {
    set_bits(scratch.memory.bits + corner / 32, 1u << (corner % 32));
  }
  REQUIRE(hull.before(65) == 32);
  REQUIRE(hull.goes(32, 65, hull.behind(65)) == hull.goes(32, 65, 67));
  hull.take_away(32);
  std::fill_n(scratch.memory.suspects, 5, 0u);  // the thread of 30 looks, and still sees 65
  hull.look_at(30);
  REQUIRE(hull.behind(0) == 30);
  hull.take_away(65);
  hull.grow_blocks(SerialLanes{});
  // What one thread finds in order.
  const HullScratch other(size);
  HostTeam team;
  Hull(other.memory, size).run(team, [&](std::int32_t i) {
    return static_cast<std::int64_t>(y[static_cast<std::size_t>(i)]);
  });
  CHECK(scratch.bits == other.bits);
}

TEST_CASE("hulls of 100,000 rows" * doctest::skip()) {
  for_each_random_row(100'000, [](const SortedCase& c, std::uint64_t seed) {
    compare(c, [&](const Hull& hull, const auto& value) {
      HostTeam team(static_cast<Order>(seed % 3), seed);
      hull.run(team, value);
    });
  });
}
