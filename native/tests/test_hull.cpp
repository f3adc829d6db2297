// Partitions by prefix sums in fixed point against the sequential solver.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "diffsort/parallel_row/partition/hull.h"
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

  template <Regularization R>
  static HullScratch of(std::int64_t n) {
    HullScratch scratch;
    scratch.bits.assign(static_cast<std::size_t>((n + 31) / 32), 0xdeadbeef);
    Arena size;
    HullMemory::of<R>(size, n, nullptr);
    scratch.bytes.assign(size.bytes(), static_cast<char>(0xab));
    Arena arena(scratch.bytes.data());
    scratch.memory = HullMemory::of<R>(arena, n, scratch.bits.data());
    return scratch;
  }
};

template <Regularization R>
using Row = SortedRow<R, CheckedOperand, CheckedOperand>;

struct Found {
  Starts starts;
  std::vector<double> results;
};

// run_hull(hull, y, x) on whatever team.
template <Regularization R, class RunHull>
Found solve(const Row<R>& row, const HullPoints<R>& points, const RunHull& run_hull) {
  const HullScratch scratch = HullScratch::of<R>(row.n);
  const Hull hull(R, scratch.memory, row.n, row.n);
  run_hull(
      hull, [&](std::int32_t i) { return points.y(row, i); },
      [&](std::int32_t i) { return points.x(row, i); });
  Found found;
  for (std::int32_t start = 0; start < row.n;) {
    const Block block = hull.block_from(start);
    found.starts.push_back(start);
    for (std::int32_t i = start; i < block.end; ++i) {
      found.results.push_back(points.result(row, i, hull.sums_of(i), hull.sums(block)));
    }
    start = block.end;
  }
  return found;
}

// From the value of each block, less s of its first element.
template <Regularization R>
std::vector<double> results_of(const SortedCase& c, const Starts& starts) {
  std::vector<double> results;
  for (std::size_t b = 0; b < starts.size(); ++b) {
    const auto first = static_cast<std::size_t>(starts[b]);
    const auto last = b + 1 < starts.size() ? static_cast<std::size_t>(starts[b + 1]) : c.z.size();
    const long double value = block_value<R>(c, first, last);
    for (std::size_t i = first; i < last; ++i) {
      const long double result = distance(c, i, first) - value;
      results.push_back(static_cast<double>(R == Regularization::kl ? std::exp(result) : result));
    }
  }
  return results;
}

int compared = 0, left_out = 0;

// Exponents of kl in the range that hulls are for; weights of kl are rho.
template <Regularization R>
SortedCase fitted(const SortedCase& c, std::uint64_t seed) {
  SortedCase fit = c;
  if (R == Regularization::l2) return fit;
  std::mt19937_64 random(seed);
  const auto range = [&] {
    return std::pow(10.0, std::uniform_real_distribution<>(-3.0, 1.2)(random));
  };
  const double z_range = c.z.front() - c.z.back(), w_range = c.w.front() - c.w.back();
  fit.strength = z_range > 0.0 ? z_range / range() : 1.0;
  const double factor = w_range > 0.0 ? range() / w_range : 1.0;
  for (std::size_t i = 0; i < c.w.size(); ++i) {
    fit.w[i] = R == Regularization::kl ? static_cast<double>(c.w.size() - i) : factor * c.w[i];
  }
  return fit;
}

void check_l2(const SortedCase& c, double unit, const Found& found) {
  const Starts starts = sequential_starts<Regularization::l2>(c);
  if (is_exact(c)) REQUIRE(found.starts == starts);
  const std::vector<double> expected = results_of<Regularization::l2>(c, starts);
  const double range = c.w.front() - c.w.back();
  const auto largest = [](const std::vector<double>& x) {
    return std::max(std::abs(x.front()), std::abs(x.back()));
  };
  const double size = largest(c.w) + largest(c.z) / c.strength;
  // Half a unit for y, and no more for their means; the double's roundings of y, of the mean and of the
  // result, some ten of 2^-53 each, leave room in 1e-14.
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(std::abs(found.results[i] - expected[i]) <= unit / c.strength + 1e-14 * size);
    REQUIRE(unit / c.strength <= std::ldexp(range, -26) / static_cast<double>(c.n()));
  }
}

// An exponential is off by 2^-29 of itself at most, so a sum is, and the logarithm of a quotient of two by
// 2^-28, or by as much of the largest w of log_kl, if that is less than 1. Two values within that are
// taken for equal, or for what they are not.
template <Regularization R>
void check_kl(const SortedCase& c, const Found& found) {
  const Starts starts = sequential_starts<R>(c);
  REQUIRE(differ_in_near_ties_only<R>(c, found.starts, starts, std::ldexp(1.0, -27)));
  const std::vector<double> expected = results_of<R>(c, starts);
  const double largest = std::max(std::abs(c.w.front()), std::abs(c.w.back()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double size = R == Regularization::kl ? expected[i] : std::min(1.0, largest);
    const double allowed = std::ldexp(size, -27) + 1e-15 * largest;
    REQUIRE(std::abs(found.results[i] - expected[i]) <= allowed);
  }
}

template <Regularization R, class RunHull>
Starts compare_fit(const SortedCase& c, const RunHull& run_hull) {
  const auto row = row_of<R>(c, CheckedOperand{&c.z}, CheckedOperand{&c.w});
  const HullPoints<R> points(row, 0, row.n);
  ++(points.fits() ? compared : left_out);
  if (!points.fits()) return {};
  const Found found = solve<R>(row, points, run_hull);
  if constexpr (R == Regularization::l2) {
    check_l2(c, points.unit, found);
  } else {
    check_kl<R>(c, found);
  }
  return found.starts;
}

// In all regularizations, where the row is one for fixed point.
template <class RunHull>
void compare(const SortedCase& c, const RunHull& run_hull) {
  if (c.n() == 0) return;
  for_each_regularization([&](auto r) {
    constexpr Regularization R = decltype(r)::value;
    CAPTURE(static_cast<int>(R));
    compare_fit<R>(fitted<R>(c, static_cast<std::uint64_t>(c.n())), run_hull);
  });
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
    compare(c, [&](const Hull& hull, const auto& y, const auto& x) {
      HostTeam team(order, maker.random()());
      hull.run(team, y, x);
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
        compare(c, [&](const Hull& hull, const auto& y, const auto& x) {
          run_spmd(threads, [&](SpmdTeam& team) { hull.run(team, y, x); });
        });
      });
    }
  }
}

TEST_CASE("hulls by warps of threads") {
  CaseMaker maker(24);
  for (const std::int64_t n : {129, 1500}) {  // a group of words, and several
    for_each_row(maker, n, [&](const SortedCase& c) {
      compare(c, [&](const Hull& hull, const auto& y, const auto& x) {
        run_warps(2, [&](WarpsTeam& team) { hull.run(team, y, x); });
      });
    });
  }
}

// A wrong comparison depends on the order in which threads come by.
TEST_CASE("hulls are the same ones in whatever order") {
  CaseMaker maker(25);
  for (const std::int64_t n : {40, 333, 2000}) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      for_each_row(maker, n, [&](const SortedCase& c) {
        for_each_regularization([&](auto r) {
          constexpr Regularization R = decltype(r)::value;
          const SortedCase fit = fitted<R>(c, maker.random()());
          const auto starts_in = [&](Order order) {
            return compare_fit<R>(fit, [&](const Hull& hull, const auto& y, const auto& x) {
              HostTeam team(order, maker.random()());
              hull.run(team, y, x);
            });
          };
          const Starts starts = starts_in(Order::forward);
          REQUIRE(starts == starts_in(Order::backward));
          REQUIRE(starts == starts_in(Order::shuffled));
        });
      });
    }
  }
}

TEST_CASE("hulls where all is tied") {
  // s = w: blocks of log_kl are all worth the same.
  for (const std::int64_t n : {2, 33, 1000}) {
    SortedCase c;
    c.strength = 0.5;
    for (std::int64_t i = 0; i < n; ++i) {
      c.w.push_back(-8.0 * static_cast<double>(i * i) / static_cast<double>(n * n));
      c.z.push_back(0.5 * c.w.back());
    }
    const Starts starts =
        compare_fit<Regularization::log_kl>(c, [&](const Hull& hull, const auto& y, const auto& x) {
          HostTeam team;
          hull.run(team, y, x);
        });
    CHECK(starts == Starts{0});
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
      compare(c, [&](const Hull& hull, const auto& y, const auto& x) {
        HostTeam team;
        hull.run(team, y, x);
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
  const HullScratch scratch = HullScratch::of<Regularization::l2>(size);
  const OpenHull hull(Regularization::l2, scratch.memory, size, size);
  scratch.memory.y[0] = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    scratch.memory.y[i + 1] = scratch.memory.y[i] + static_cast<std::int64_t>(y[i]);
  }
  std::fill_n(&scratch.memory.bits[0], 5, 0u);
  scratch.memory.upper[0] = 31;
  std::fill_n(&scratch.memory.suspects[0], 5, 0u);
  for (const int corner : {0, 30, 32, 65, 67, 100}) {
    set_bits(scratch.memory.bits + corner / 32, 1u << (corner % 32));
  }
  REQUIRE(hull.before(65) == 32);
  REQUIRE(hull.goes(32, 65, hull.behind(65)) == hull.goes(32, 65, 67));
  hull.take_away(32);
  std::fill_n(&scratch.memory.suspects[0], 5, 0u);  // the thread of 30 looks, and still sees 65
  hull.look_at(30);
  REQUIRE(hull.behind(0) == 30);
  hull.take_away(65);
  hull.grow_blocks(SerialLanes{});
  // What one thread finds in order.
  const HullScratch other = HullScratch::of<Regularization::l2>(size);
  HostTeam team;
  const auto y_of = [&](std::int32_t i) {
    return static_cast<std::int64_t>(y[static_cast<std::size_t>(i)]);
  };
  Hull(Regularization::l2, other.memory, size, size).run(team, y_of, y_of);
  CHECK(scratch.bits == other.bits);
}

TEST_CASE("hulls of 100,000 rows" * doctest::skip()) {
  for_each_random_row(100'000, [](const SortedCase& c, std::uint64_t seed) {
    compare(c, [&](const Hull& hull, const auto& y, const auto& x) {
      HostTeam team(static_cast<Order>(seed % 3), seed);
      hull.run(team, y, x);
    });
  });
}
