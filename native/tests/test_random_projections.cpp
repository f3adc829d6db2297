// Whole projections by every way of the kernels, run on the CPU: rows of huge range and with spikes,
// and random calls, as many as one has time for.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "pool_support.h"
#include "projection_cases.h"
#include "wide_rows.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

// One of the rows that a solver may be given, and whether numbers of any size are in it.
struct AnyRow {
  Vector values;
  bool wide;
};

AnyRow any_row(std::int64_t n, std::mt19937_64& random) {
  const bool wide = random() % 3 == 0;
  std::vector<Vector> rows = wide ? wide_families(n, random) : families(n, random);
  return {std::move(rows[random() % rows.size()]), wide};
}

double any_strength(bool wide, std::mt19937_64& random) {
  if (random() % 8 == 0) return 0.0;
  const double most = wide ? 30.0 : 3.0;
  return std::pow(10.0, std::uniform_real_distribution<double>(-most, most)(random));
}

template <class T>
ProjectionCase<T> any_call(std::int64_t rows, std::int64_t n, std::mt19937_64& random) {
  ProjectionCase<T> c{rows, n, kRegularizations[random() % 3], {}, {}, {}};
  const bool kl = c.regularization == Regularization::kl;
  const std::uint64_t operands = 1 + random() % 3;
  for (std::int64_t r = 0; r < rows; ++r) {
    const AnyRow z = any_row(n, random), w = any_row(n, random);
    for (std::size_t i = 0; i < z.values.size(); ++i) {
      if (operands & 1) c.z.push_back(static_cast<T>(z.values[i]));
      if (operands & 2) c.w.push_back(static_cast<T>(kl ? std::abs(w.values[i]) : w.values[i]));
    }
    c.strength.push_back(static_cast<T>(any_strength(z.wide || w.wide, random)));
  }
  c.z_sign = random() % 2 == 0 ? 1.0 : -1.0;
  if (!kl) c.w_sign = random() % 2 == 0 ? 1.0 : -1.0;
  return c;
}

// A row as pooling sees it.
template <class T>
SortedCase sorted_row(const ProjectionCase<T>& c, std::int64_t r) {
  const auto operand = [&](const std::vector<T>& x, double sign) {
    if (x.empty()) return rho(c.n);
    Vector values(x.begin() + r * c.n, x.begin() + (r + 1) * c.n);
    for (double& value : values) value *= sign;
    std::sort(values.rbegin(), values.rend());
    return values;
  };
  const T strength = c.strength[c.strength.size() > 1 ? static_cast<std::size_t>(r) : 0];
  return {operand(c.z, c.z_sign), operand(c.w, c.w_sign), static_cast<double>(strength)};
}

Starts starts_of(const std::vector<std::int32_t>& blocks, std::int64_t r, std::int64_t n) {
  Starts starts(blocks.begin() + r * n, blocks.begin() + (r + 1) * n);
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  return starts;
}

template <class T>
bool close_row(const ProjectionCase<T>& c, const Solved<T>& actual, const Solved<T>& expected,
               std::int64_t r, const SortedCase& row) {
  double scale = std::max({1.0, std::abs(row.w.front()), std::abs(row.w.back())});
  if (c.regularization == Regularization::kl) scale *= static_cast<double>(c.n);
  for (std::int64_t i = r * c.n; i < (r + 1) * c.n; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (!close(actual.result[k], expected.result[k], scale)) return false;
  }
  return true;
}

// How far apart values may lie that fixed point takes for equal (hull_points.h): two units in l2, and in
// kl 2^-27 of a block's weight, or in long rows, whose joins take over what tiles have rounded, twice
// that. Tiles of long rows may be short.
template <class T>
double tie_of_hulls(const ProjectionCase<T>& c, const SortedCase& row) {
  if (sizeof(T) != sizeof(float)) return 0.0;
  if (c.regularization != Regularization::l2) return std::ldexp(1.0, -26);
  const double range = std::ldexp(row.w.front() - row.w.back(), -25);
  return c.n <= kTile ? range / static_cast<double>(c.n) : range;
}

// The same results up to rounding, and the same blocks but for near ties.
template <class T>
void compare_rows(const ProjectionCase<T>& c, const Solved<T>& actual, const Solved<T>& expected) {
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const SortedCase row = sorted_row(c, r);
    CAPTURE(r);
    CAPTURE(c.n);
    CAPTURE(sizeof(T));
    CAPTURE(row.strength);
    CAPTURE(static_cast<int>(c.regularization));
    CAPTURE(c.z.empty());
    CAPTURE(c.w.empty());
    CHECK(close_row(c, actual, expected, r, row));
    const Starts found = starts_of(actual.block_z, r, c.n);
    CHECK(found == starts_of(actual.block_w, r, c.n));
    const Starts wanted = starts_of(expected.block_z, r, c.n);
    if (found == wanted) continue;
    with_regularization(c.regularization, [&](auto regularization) {
      CHECK(differ_in_near_ties_only<decltype(regularization)::value>(row, found, wanted,
                                                                      tie_of_hulls(c, row)));
    });
  }
}

// By dispatch, by teams as far as they go, and by the steps of long rows in chunks of any size.
template <class T>
void check_call(const ProjectionCase<T>& c, std::mt19937_64& random) {
  const Solved<T> expected = solve_sequentially(c);
  HostExecutor in_chunks = long_path();
  in_chunks.chunk = std::array<std::int64_t, 3>{1, 2 * c.n, std::int64_t{1} << 27}[random() % 3];
  for (HostExecutor executor : {HostExecutor{}, team_path(), in_chunks}) {
    executor.order = static_cast<HostTeam::Order>(random() % 3);
    compare_rows(c, solve_in_parallel(c, executor), expected);
  }
}

void check_random_calls(std::uint64_t count, double longest) {
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const double digits = std::uniform_real_distribution<double>(0.0, std::log10(longest))(random);
    const auto n = static_cast<std::int64_t>(std::pow(10.0, digits));
    const auto rows = static_cast<std::int64_t>(1 + random() % 5);
    if (seed % 2 == 0) {
      check_call(any_call<float>(rows, n, random), random);
    } else {
      check_call(any_call<double>(rows, n, random), random);
    }
  }
}

// Every wide family as z and as w, at strengths as wide.
template <class T>
void check_wide_rows(std::int64_t n, std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    for (int operands = 1; operands < 4; ++operands) {
      const bool kl = regularization == Regularization::kl;
      ProjectionCase<T> c{0, n, regularization, {}, {}, {}};
      for (const Vector& row : wide_families(n, random)) {
        for (const double x : row) {
          if (operands & 1) c.z.push_back(static_cast<T>(x));
          if (operands & 2) c.w.push_back(static_cast<T>(kl ? std::abs(x) : x));
        }
        c.strength.push_back(static_cast<T>(any_strength(true, random)));
        ++c.rows;
      }
      check_call(c, random);
    }
  }
}

}  // namespace

TEST_CASE("kernels' projection: rows of huge range and with spikes") {
  std::mt19937_64 random(81);
  for (const std::int64_t n : {2, 9, 32, 33, 300, 4097, 8193}) {
    check_wide_rows<float>(n, random);
    check_wide_rows<double>(n, random);
  }
}

TEST_CASE("kernels' projection: random calls") {
  check_random_calls(600, 2000.0);
}

TEST_CASE("kernels' projection: 100,000 random calls" * doctest::skip()) {
  check_random_calls(100'000, 3000.0);
}

TEST_CASE("kernels' projection: random calls of long rows" * doctest::skip()) {
  check_random_calls(1000, 300'000.0);
}
