// Ranks of l2 that lie densely beside the strength: what is not sorted, and that it has the blocks of
// rows that are.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/certified_cells.h"
#include "cpu/scan.h"
#include "cpu/sorted_row.h"
#include "general_solution.h"
#include "level.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::DIFFSORT_LEVEL;
using namespace diffsort::testing;

namespace {

using Ids = std::vector<std::int32_t>;

double range_of(const Vector& x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  return *high - *low;
}

// Rows of whole numbers and of others, in several orders.
std::vector<Vector> dense_families(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::uniform_int_distribution<std::int64_t> whole(0, n);
  std::vector<Vector> rows(7, Vector(static_cast<std::size_t>(n)));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const auto place = static_cast<double>(i);
    rows[0][i] = normal(random);
    rows[1][i] = 1000.0 + uniform(random);
    rows[2][i] = static_cast<double>(whole(random));
    rows[3][i] = std::floor(place / 3.0) * 4.0;      // each three times, with gaps
    rows[4][i] = -place * (i % 2 == 0 ? 1.0 : 0.5);  // two sorted rows in one
    rows[5][i] = i == 7 ? 1.0 : 1e-3 * uniform(random);
    rows[6][i] = (i % 5 == 0 ? 1.0 : 0.2) * normal(random);
  }
  return rows;
}

template <class T>
bool solve_by_cells(const Problem& problem, const std::vector<T>& x, Solved<T>& found) {
  const auto n = static_cast<std::int64_t>(x.size());
  const DenseOutput<T> out{found.result.data(), found.block_z.data(), found.block_w.data(),
                           problem.w_sign};
  CertifiedCells<T> cells;
  return cells.solve(n, {x.data(), static_cast<T>(problem.z_sign)}, scan(x.data(), n),
                     problem.strength.value, out);
}

template <class T>
Solved<T> unsolved(std::size_t n) {
  return {std::vector<T>(n), Ids(n, -7), Ids(n, -7)};
}

template <class T>
void check_cells(const std::vector<T>& x, double strength) {
  CAPTURE(strength);
  auto problem = problem_of(1, static_cast<std::int64_t>(x.size()), Regularization::l2, strength);
  for (const double z_sign : {1.0, -1.0}) {
    for (const double w_sign : {1.0, -1.0}) {
      problem.z_sign = z_sign;
      problem.w_sign = w_sign;
      auto found = unsolved<T>(x.size());
      CHECK(solve_by_cells(problem, x, found));
      const auto expected = solve_generally<T>(problem, x, {});
      CHECK(found.block_z == expected.block_z);
      CHECK(found.block_w == expected.block_w);
      check_close(found.result, expected.result, static_cast<double>(x.size()));
    }
  }
}

// Largest power of two that is not above x: differences of whole numbers are compared with it exactly.
double power_of_two_below(double x) {
  return std::exp2(std::floor(std::log2(x)));
}

}  // namespace

TEST_CASE_TEMPLATE("dense ranks have the blocks of sorted ones", T, float, double) {
  std::mt19937_64 random(101);
  for (const std::int64_t n : {2, 3, 33, 40, 100, 161, 1000, 4097, 70'000}) {
    CAPTURE(n);
    for (const auto& family : dense_families(n, random)) {
      const auto x = as<T>(family);
      const double least = range_of(family) / static_cast<double>(n);
      if (least == 0.0) continue;
      // Not such that whole numbers tie but for the rounding of the strength.
      for (const double steps : {0.3137, 0.9071, 1.2113, 1.9301}) check_cells(x, least / steps);
      const double whole = power_of_two_below(2.0 * least);  // at most 2 n steps, 4 n and 1 apart
      check_cells(x, whole);
    }
  }
}

TEST_CASE_TEMPLATE("cells are not wider than the strength, and share it up to a tie", T, float,
                   double) {
  for (const std::int64_t n : {40, 1000, 100'000}) {
    CAPTURE(n);
    std::vector<T> x;
    for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<T>(i * 7919 % n));
    const auto problem = [&](double strength) {
      return problem_of(1, n, Regularization::l2, strength);
    };
    auto found = unsolved<T>(x.size());
    // A little more than the strength apart, every one is alone, and its rank exact.
    REQUIRE(solve_by_cells(problem(1.0 - 0x1p-40), x, found));
    bool exact = true;
    for (std::size_t i = 0; i < x.size(); ++i) {
      exact &=
          found.result[i] == x[i] + T(1) &&
          found.block_z[i] == static_cast<std::int32_t>(n - 1) - static_cast<std::int32_t>(x[i]);
    }
    CHECK(exact);
    // No more than it, all are one block.
    REQUIRE(solve_by_cells(problem(1.0), x, found));
    CHECK(found.block_z == Ids(x.size(), 0));
    CHECK(found.block_w == Ids(x.size(), 0));
    // Around 0, where float has more digits than for distances from the top.
    std::mt19937_64 random(105);
    std::uniform_real_distribution<double> uniform;
    double least = 2.0;
    x[0] = static_cast<T>(-n / 2);
    for (std::size_t i = 1; i < x.size(); ++i) {
      x[i] = static_cast<T>(static_cast<double>(x[i - 1]) + 0x1.01p0 + 0.05 * uniform(random));
      least = std::min(least, static_cast<double>(x[i]) - static_cast<double>(x[i - 1]));
    }
    REQUIRE(solve_by_cells(problem(least * (1.0 - 0x1p-40)), x, found));
    exact = true;
    for (std::size_t i = 0; i < x.size(); ++i) exact &= found.result[i] == static_cast<T>(i + 1);
    CHECK(exact);
  }
}

TEST_CASE_TEMPLATE("elements apart by the strength and the least that is more share no cell", T,
                   float, double) {
  const std::int64_t n = 400;
  const T below_all = -std::numeric_limits<T>::max();
  // Strengths that a width of cells could be, were there no rounding.
  for (int digits = 32; digits < 64; ++digits) {
    const double strength = digits / 64.0;
    CAPTURE(digits);
    // The place of 0, about which floats are dense: more so than the sums can tell if they are doubles.
    for (int last = 0; last < (sizeof(T) == sizeof(float) ? 16 : 1); ++last) {
      std::vector<T> x;
      for (std::int64_t pair = 0; pair < n / 2; ++pair) {
        const double place = 3.0 * static_cast<double>(pair - last * n / 32) * strength;
        x.push_back(static_cast<T>(-place));
        x.push_back(std::nextafter(static_cast<T>(-place - strength), below_all));
      }
      auto found = unsolved<T>(x.size());
      REQUIRE(solve_by_cells(problem_of(1, n, Regularization::l2, strength), x, found));
      Ids alone(x.size());
      std::iota(alone.begin(), alone.end(), 0);
      CHECK(found.block_z == alone);
    }
  }
}

TEST_CASE_TEMPLATE("whole numbers and whole strengths tie exactly, whatever shares a cell", T,
                   float, double) {
  std::mt19937_64 random(106);
  for (const std::int64_t n : {33, 60, 300, 999, 5000, 30'000}) {
    CAPTURE(n);
    for (const int strength : {1, 2, 3, 5, 7}) {
      std::uniform_int_distribution<std::int64_t> whole(0, 3 * n * strength / 2);
      for (std::int64_t k = 0; k < 2 + 3000 / n; ++k) {
        std::vector<T> x(static_cast<std::size_t>(n));
        for (T& value : x) value = static_cast<T>(whole(random));
        check_cells(x, strength);
      }
    }
    std::vector<T> steps;  // one block, by ties alone
    for (std::int64_t i = 0; i < n / 3 * 3; ++i)
      steps.push_back(static_cast<T>(-6 * (i / 3) - (i % 3 > 0)));
    check_cells(steps, 2.0);
    auto found = unsolved<T>(steps.size());
    CHECK(solve_by_cells(problem_of(1, n / 3 * 3, Regularization::l2, 2.0), steps, found));
    CHECK(found.block_z == Ids(steps.size(), 0));
  }
}

TEST_CASE_TEMPLATE("cells pool together only where any order of their elements would", T, float,
                   double) {
  std::mt19937_64 random(107);
  std::uniform_int_distribution<int> few(1, 12);
  std::vector<T> x;
  for (int pair = 0; pair < 3000; ++pair) {
    // Often one element less than 8 cells need.
    const int above = few(random), below = pair % 3 == 0 ? few(random) : 15 - above;
    // They are one block up to half as far apart as they have elements.
    const double apart = 0.5 * (above + below) + (pair % 2 == 0 ? 0.05 : -0.05);
    x.insert(x.end(), static_cast<std::size_t>(above), static_cast<T>(-20.0 * pair));
    x.insert(x.end(), static_cast<std::size_t>(below), static_cast<T>(-20.0 * pair - apart));
  }
  std::shuffle(x.begin(), x.end(), random);
  check_cells(x, 1.0);
}

TEST_CASE_TEMPLATE("dense ranks: outputs that are not wanted, and memory that is kept", T, float,
                   double) {
  std::mt19937_64 random(102);
  CertifiedCells<T> cells;
  for (const std::int64_t n : {5000, 100, 333}) {
    const auto x = as<T>(dense_families(n, random)[0]);
    const double strength = 8.0 / static_cast<double>(n);
    const auto problem = problem_of(1, n, Regularization::l2, strength);
    auto expected = unsolved<T>(x.size());
    REQUIRE(solve_by_cells(problem, x, expected));
    for (int wanted = 0; wanted < 8; ++wanted) {
      auto found = unsolved<T>(x.size());
      const DenseOutput<T> out{(wanted & 1) != 0 ? found.result.data() : nullptr,
                               (wanted & 2) != 0 ? found.block_z.data() : nullptr,
                               (wanted & 4) != 0 ? found.block_w.data() : nullptr, 1.0};
      CHECK(cells.solve(n, {x.data(), T(1)}, scan(x.data(), n), strength, out));
      CHECK((found.result == expected.result) == ((wanted & 1) != 0));
      CHECK((found.block_z == expected.block_z) == ((wanted & 2) != 0));
      CHECK((found.block_w == expected.block_w) == ((wanted & 4) != 0));
    }
  }
}

TEST_CASE(
    "rows that are not dense, or too long, or whose range float32 cannot divide, have no cells") {
  const auto is_solved = [](const std::vector<float>& x, double strength) {
    const auto n = static_cast<std::int64_t>(x.size());
    auto found = unsolved<float>(x.size());
    const auto problem = problem_of(1, n, Regularization::l2, strength);
    const bool solved = solve_by_cells(problem, x, found);
    CHECK((found.block_z == Ids(x.size(), -7)) == !solved);
    return solved;
  };
  std::vector<float> x(100, 0.0f);
  x[3] = 1.0f;
  CHECK(is_solved(x, 0.00501));
  CHECK(!is_solved(x, 0.00499));
  CHECK(!is_solved(x, 1e-90));
  x[3] = 1e-42f;
  CHECK(!is_solved(x, 1e-44));
  x[3] = 1e30f;
  CHECK(is_solved(x, 1e28));
  x.assign((std::size_t{1} << 18) + 1, 0.0f);
  x[3] = 1.0f;
  CHECK(!is_solved(x, 1e-5));
  x.pop_back();
  CHECK(is_solved(x, 1e-5));
}

// --- cells of a sort

namespace {

// Clusters of a few values that lie within a cell of a sort.
Vector clustered_row(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  Vector x;
  double cluster = 0.0;
  while (static_cast<std::int64_t>(x.size()) < n) {
    if (uniform(random) < 0.4) cluster = normal(random);
    x.push_back(cluster + 1e-5 * uniform(random));
  }
  return x;
}

template <class T>
void check_ranks_of_cells(const Vector& values, Regularization regularization, double strength) {
  const auto n = static_cast<std::int64_t>(values.size());
  const auto problem = problem_of(1, n, regularization, strength);
  const auto found = solve<T>(problem, as<T>(values), {}, 1);
  const auto expected = solve_generally<T>(problem, as<T>(values), {});
  CHECK(found.block_z == expected.block_z);
  CHECK(found.block_w == expected.block_w);
  check_close(found.result, expected.result, static_cast<double>(n));
}

}  // namespace

TEST_CASE_TEMPLATE("what is not sorted within a cell has the same blocks", T, float, double) {
  std::mt19937_64 random(105);
  for (const std::int64_t n : {200, 1000, 3000, 9000, 30'000, 70'000}) {
    CAPTURE(n);
    const auto size = static_cast<double>(n);
    const auto clusters = clustered_row(n, random);
    for (const double cells : {0.02, 0.05, 0.5, 0.9, 1.2, 1.3, 2.0, 8.0, 100.0}) {
      const double within = cells * range_of(clusters) * 0x1p-18;
      check_ranks_of_cells<T>(clusters, Regularization::l2, within);
      check_ranks_of_cells<T>(clusters, Regularization::kl, within * size);
    }
  }
}

// --- buckets of long rows

namespace {

// Half of each period dense and half sparse, so that the whole is `density` per unit.
Vector uneven_row(std::int64_t n, double density, double period, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform;
  Vector x;
  const double length = static_cast<double>(n) / density;
  while (static_cast<std::int64_t>(x.size()) < n) {
    const bool sparse = uniform(random) < 0.1;
    const double periods = std::floor(uniform(random) * length / period);
    x.push_back(period * (periods + (sparse ? 1.0 : 0.5) - 0.5 * uniform(random)));
  }
  return x;
}

template <class T>
void check_long_ranks(const Vector& values, double strength) {
  auto problem =
      problem_of(1, static_cast<std::int64_t>(values.size()), Regularization::l2, strength);
  for (const double sign : {1.0, -1.0}) {
    problem.z_sign = sign;
    const auto found = solve<T>(problem, as<T>(values), {}, 1);
    const auto expected = solve_generally<T>(problem, as<T>(values), {});
    CHECK(found.block_z == expected.block_z);
    CHECK(found.block_w == expected.block_w);
    check_close(found.result, expected.result, static_cast<double>(values.size()));
    const auto shared = solve<T>(problem, as<T>(values), {}, 3);
    CHECK(shared.block_z == found.block_z);
    CHECK(shared.result == found.result);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("buckets that pool in any order are not sorted", T, float, double) {
  std::mt19937_64 random(103);
  const std::int64_t n = 300'000;
  const auto values = dense_families(n, random)[0];
  const auto x = as<T>(values);
  RowSorter<T> sorter;
  SortedRow<T> sorted, left;
  const double pools_at = 0.5 * static_cast<double>(n) / range_of(values) * 4.0;
  sorted.sort(n, {x.data(), T(1)}, scan(x.data(), n), sorter, 1);
  left.sort(n, {x.data(), T(1)}, scan(x.data(), n), sorter, 1, AnyOrder{0.0, pools_at});
  const BucketSplit* const buckets = left.buckets();
  REQUIRE(buckets != nullptr);
  REQUIRE(sorted.buckets()->buckets() == buckets->buckets());
  std::int64_t in_order = 0;
  for (std::int64_t b = 0; b < buckets->buckets(); ++b) {
    const std::int64_t begin = buckets->start(b), end = buckets->start(b + 1);
    REQUIRE(sorted.buckets()->start(b) == begin);
    if (begin == end) continue;
    std::vector<T> found(left.values().values + begin, left.values().values + end);
    const double range = static_cast<double>(*std::max_element(found.begin(), found.end())) -
                         static_cast<double>(*std::min_element(found.begin(), found.end()));
    const bool is_dense = static_cast<double>(end - begin) >= pools_at * range;
    CHECK((is_dense || std::is_sorted(found.rbegin(), found.rend())));
    if (end - begin > 2) CHECK(is_dense != std::is_sorted(found.rbegin(), found.rend()));
    std::vector<std::int64_t> from(left.values().from + begin, left.values().from + end);
    if (is_dense) {
      bool rises = from[0] == 0;
      for (std::size_t k = 1; k < from.size(); ++k) rises &= from[k] == from[k - 1] + 1;
      CHECK(rises);
      in_order += end - begin;
    }
    std::sort(found.rbegin(), found.rend());
    CHECK(std::equal(found.begin(), found.end(), sorted.values().values + begin));
  }
  CHECK(in_order > n / 2);
  CHECK(in_order < n);
}

TEST_CASE_TEMPLATE("long rows with buckets that are not sorted have the same blocks", T, float,
                   double) {
  std::mt19937_64 random(104);
  std::cauchy_distribution<double> cauchy;
  const std::int64_t n = 300'000;
  for (const auto& family : dense_families(n, random)) {
    check_long_ranks<T>(family, range_of(family) / static_cast<double>(n));
  }
  // As dense as is needed or less, with parts that are sparse.
  for (const double density : {1.05, 1.5, 1.9, 2.1, 3.0}) {
    for (const double period : {64.0, 1024.0}) {
      check_long_ranks<T>(uneven_row(n, density, period, random), 1.0);
    }
  }
  // Two clusters in a bucket, a tenth too far apart.
  std::uniform_real_distribution<double> uniform;
  Vector clusters;
  for (int k = 0; k < 4096 * 73; ++k) {
    clusters.push_back(-5000.0 * (k / 4096) - (k % 2 == 0 ? 2253.0 : 0.0) - uniform(random));
  }
  check_long_ranks<T>(clusters, 1.0);
  // Two in every fourth bucket, at both ends of it: a twentieth too far apart, for them as for the bucket.
  const int size = 1 << 14, groups = 18;
  REQUIRE(BucketSplit::buckets_for(size * groups, 4096) == 4 * groups + 1);
  Vector ends{0.0, -4.0 * groups};
  for (int k = 2; k < size * groups; ++k) {
    ends.push_back(-4.0 * (k / size) - (k % 2 == 0 ? 0.998 : 0.0) - 0.002 * uniform(random));
  }
  check_long_ranks<T>(ends, 1.9 / size);
  Vector heavy(static_cast<std::size_t>(n));
  for (double& x : heavy) x = cauchy(random);
  for (const double strength : {1e-5, 1e-4}) check_long_ranks<T>(heavy, strength);
}

TEST_CASE_TEMPLATE("values are sorted where they are projected onto others than ranks", T, float,
                   double) {
  std::mt19937_64 random(108);
  const std::int64_t n = 70'000;
  const auto z = as<T>(dense_families(n, random)[0]);
  std::vector<T> w;
  for (std::int64_t i = 0; i < n; ++i) w.push_back(static_cast<T>(i * 7919 % n) / T(16));
  const auto problem = problem_of(1, n, Regularization::l2, 8.0 / static_cast<double>(n));
  const auto found = solve<T>(problem, z, w), expected = solve_generally<T>(problem, z, w);
  CHECK(found.block_z == expected.block_z);
  CHECK(found.block_w == expected.block_w);
  check_close(found.result, expected.result, static_cast<double>(n));
}
