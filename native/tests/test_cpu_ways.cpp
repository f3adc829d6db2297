// The ways of the CPU's solver, each called by itself: that it does its part of the work, and does not
// leave it to the one behind it, whose results would be as right and hide that it gave up.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/block_sums_by_id.h"
#include "cpu/bucket_sort.h"
#include "cpu/bucket_split.h"
#include "cpu/long_rank_vjp.h"
#include "cpu/long_sort_vjp.h"
#include "cpu/one_block.h"
#include "cpu/row_solver.h"
#include "cpu/short_vjp.h"
#include "cpu/sort_row.h"
#include "cpu/sorted_row.h"
#include "cpu/vjp_solver.h"
#include "hostile_derivatives.h"
#include "level.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::DIFFSORT_LEVEL;
using namespace diffsort::testing;

namespace {

using Ids = std::vector<std::int32_t>;

template <class T>
std::vector<T> normal_row(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<T> row(static_cast<std::size_t>(n));
  for (T& x : row) x = static_cast<T>(normal(random));
  return row;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// --- sorting

// Zeros of both signs, which are equal, among other values.
template <class T>
std::vector<T> with_zeros(std::vector<T> row, std::size_t step = 7) {
  for (std::size_t i = 0; i < row.size(); i += step) row[i] = i % 2 == 0 ? T(0) : -T(0);
  return row;
}

template <class T>
struct SortedPairsOf {
  std::vector<T> values;
  Ids index;
};

// Stable, by comparisons.
template <class T>
SortedPairsOf<T> sorted(const std::vector<T>& row, T sign) {
  SortedPairsOf<T> result{{}, Ids(row.size())};
  std::iota(result.index.begin(), result.index.end(), 0);
  const auto value = [&](std::int32_t i) { return sign * row[static_cast<std::size_t>(i)]; };
  std::stable_sort(result.index.begin(), result.index.end(),
                   [&](std::int32_t a, std::int32_t b) { return value(a) > value(b); });
  for (const std::int32_t i : result.index) result.values.push_back(value(i));
  return result;
}

// What keeps the sign of zeros is not the sort by bits, which makes them all +0.
enum class Way { keeps_zeros, by_bits };

template <class T>
void check_sorted(const SortedPairsOf<T>& found, const SortedPairsOf<T>& expected, Way way) {
  CHECK(found.index == expected.index);
  CHECK(found.values == expected.values);
  CHECK(same_bits(found.values, expected.values) == (way == Way::keeps_zeros));
}

template <class T>
void check_row_sort(const std::vector<T>& row, Way way) {
  CAPTURE(row.size());
  const auto n = static_cast<std::int64_t>(row.size());
  const auto [low, high] = std::minmax_element(row.begin(), row.end());
  RowSorter<T> sorter;
  for (const T sign : {T(1), T(-1)}) {
    SortedPairsOf<T> found{std::vector<T>(row.size()), Ids(row.size())};
    sorter.sort(row.data(), n, sign, static_cast<double>(*low), static_cast<double>(*high),
                found.values.data(), found.index.data());
    check_sorted(found, sorted(row, sign), way);
  }
}

// A value that crowds all others into one cell.
template <class T>
std::vector<T> with_outlier(std::vector<T> row) {
  row[row.size() / 3] = T(1e30);
  return row;
}

template <class T>
void check_bucket_sort(const std::vector<T>& row, Way way) {
  CAPTURE(row.size());
  const auto n = static_cast<std::int64_t>(row.size());
  SortedPairsOf<T> found{row, Ids(row.size())};
  BucketSorter<T> sorter;
  sorter.sort(found.values.data(), n, scan(row.data(), n), found.index.data());
  check_sorted(found, sorted(row, T(1)), way);
}

}  // namespace

TEST_CASE_TEMPLATE("rows are sorted by counting and by cells, and only crowded ones by bits", T,
                   float, double) {
  std::mt19937_64 random(71);
  for (const std::int64_t n :
       {2, 40, 64, 65, 96, 97, 160, 192, 193, 500, 2047, 2048, 4096, 4097, 16384, 16385, 65536}) {
    const bool counted = n <= 192;
    const auto row = with_zeros(normal_row<T>(n, random));
    check_row_sort(row, Way::keeps_zeros);
    check_row_sort(with_outlier(row), counted ? Way::keeps_zeros : Way::by_bits);
  }
  check_row_sort(with_zeros(normal_row<T>(65537, random)), Way::by_bits);
  // Equal values, and values that share one of the 2^16 cells of a short row, in descending order and not.
  std::uniform_int_distribution<int> few(0, 9);
  for (const std::int64_t n : {5, 33, 100, 192}) {
    std::vector<T> row(static_cast<std::size_t>(n));
    for (const double step : {0.0, 1e-6, -1e-6}) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        row[i] = static_cast<T>(few(random) + step * static_cast<double>(i));
      }
      row[0] = T(0);
      check_row_sort(row, Way::keeps_zeros);
    }
    check_row_sort(std::vector<T>(row.size(), T(3)), Way::keeps_zeros);
  }
}

TEST_CASE_TEMPLATE("buckets are sorted by words of a cell and a place", T, float, double) {
  std::mt19937_64 random(72);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  for (const std::int64_t n : {200, 1000, 4096, 16384, 16385, 65536}) {
    std::vector<T> row(static_cast<std::size_t>(n));
    for (T& x : row) x = static_cast<T>(uniform(random));
    row = with_zeros(row);
    check_bucket_sort(row, Way::keeps_zeros);
    check_bucket_sort(with_outlier(row), Way::by_bits);
  }
}

namespace {

// That values are out of order by `within` at most, some of them, and come with their indices.
template <class T>
void check_nearly_sorted(const std::vector<T>& row, const SortedPairsOf<T>& found, double within) {
  Ids places = found.index;
  std::sort(places.begin(), places.end());
  bool is_permutation = true, same = true, near = true;
  double lowest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < row.size(); ++i) {
    is_permutation &= places[i] == static_cast<std::int32_t>(i);
    same &= found.values[i] == row[static_cast<std::size_t>(found.index[i])];
    lowest = std::min(lowest, static_cast<double>(found.values[i]));
    near &= static_cast<double>(found.values[i]) - lowest <= within;
  }
  CHECK(is_permutation);
  CHECK(same);
  CHECK(near);
  CHECK(!std::is_sorted(found.values.rbegin(), found.values.rend()));
}

}  // namespace

TEST_CASE_TEMPLATE("what shares a cell stays as it is where any order serves, and nothing else", T,
                   float, double) {
  std::mt19937_64 random(83);
  std::uniform_real_distribution<double> uniform;
  for (const std::int64_t n : {193, 2000, 3000, 10000, 65536}) {
    CAPTURE(n);
    // Pairs in ascending order, of which most share a cell.
    std::vector<T> row(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = i % 2 == 0 ? static_cast<T>(uniform(random)) : row[i - 1] + T(3e-7);
    }
    row[0] = T(1);
    row[1] = T(0);
    const double cell = n < 2048 || (n > 4096 && n <= 16384) ? 0x1p-18 : 0x1p-20;
    for (const double within : {1.3 * cell, 1.2 * cell}) {
      const bool any_order = within > 1.25 * cell;
      SortedPairsOf<T> found{std::vector<T>(row.size()), Ids(row.size())};
      RowSorter<T> sorter;
      sorter.sort(row.data(), n, T(1), 0.0, 1.0, found.values.data(), found.index.data(),
                  AnyOrder{within});
      any_order ? check_nearly_sorted(row, found, within)
                : check_sorted(found, sorted(row, T(1)), Way::keeps_zeros);
      const double bucket_cell = n <= 16384 ? 0x1p-18 : 0x1p-16, scaled = within / cell;
      BucketSorter<T> bucket_sorter;
      found.values = row;
      bucket_sorter.sort(found.values.data(), n, scan(row.data(), n), found.index.data(),
                         AnyOrder{scaled * bucket_cell});
      any_order ? check_nearly_sorted(row, found, scaled * bucket_cell)
                : check_sorted(found, sorted(row, T(1)), Way::keeps_zeros);
    }
  }
}

TEST_CASE("a split into buckets is stable and the same for any number of threads") {
  std::mt19937_64 random(73);
  for (const std::int64_t n : {1, 1000, 32768, 200'000}) {
    for (const std::int64_t buckets : {1, 7, 1024}) {
      for (const std::int64_t gap : {0, 24}) {
        Ids in(static_cast<std::size_t>(n));
        for (auto& b : in) b = static_cast<std::int32_t>(random() % 3 * (buckets - 1) / 2);
        const auto bucket = [&](std::int64_t i) { return in[static_cast<std::size_t>(i)]; };
        for (const int threads : {1, 3}) {
          BucketSplit split;
          split.plan(n, buckets, gap, bucket, threads);
          std::vector<std::int64_t> places(in.size());
          split.for_each(bucket, threads, [&](std::int64_t i, std::int64_t place) {
            places[static_cast<std::size_t>(i)] = place;
          });
          std::vector<std::int64_t> next;
          for (std::int64_t b = 0; b < buckets; ++b) next.push_back(split.start(b));
          bool in_order = true;
          for (std::size_t i = 0; i < in.size(); ++i) {
            in_order &= places[i] == next[static_cast<std::size_t>(in[i])]++;
          }
          CHECK(in_order);
          for (std::int64_t b = 0; b < buckets; ++b) {
            REQUIRE(next[static_cast<std::size_t>(b)] == split.start(b) + split.size(b));
            REQUIRE(next[static_cast<std::size_t>(b)] + gap == split.start(b + 1));
          }
          CHECK(split.places() == n + buckets * gap);
        }
      }
    }
  }
}

namespace {

// Of values in descending order.
template <class Buckets>
void check_buckets(std::int64_t n, const Buckets& bucket, std::int64_t buckets) {
  for (std::int64_t i = 0; i < n; ++i) {
    CHECK(bucket(i) >= (i == 0 ? 0 : bucket(i - 1)));
  }
  CHECK(bucket(n - 1) < buckets);
}

}  // namespace

TEST_CASE_TEMPLATE("buckets follow the order of values", T, float, double) {
  std::mt19937_64 random(81);
  std::cauchy_distribution<double> cauchy;
  const std::int64_t n = 3000, buckets = 64;
  std::vector<T> row = normal_row<T>(n, random);
  for (int heavy = 0; heavy < 2; ++heavy) {
    std::sort(row.begin(), row.end(), std::greater<T>());
    const DenseOperand<T> x{row.data(), T(1)};
    const T high = row.front(), low = row.back();
    const BucketsByWidth<T> by_width(x, buckets, high, double(high) - double(low));
    const BucketsByBits<T> by_bits(x, buckets, high, low);
    check_buckets(n, by_width, buckets);
    check_buckets(n, by_bits, buckets);
    CHECK(by_width(n - 1) >= buckets - 2);  // may be rounded into the last but one
    CHECK(by_bits(n - 1) == buckets - 1);
    for (T& value : row) value = static_cast<T>(cauchy(random));
  }
}

TEST_CASE_TEMPLATE("values that many elements have get buckets of their own", T, float, double) {
  std::mt19937_64 random(91);
  std::cauchy_distribution<double> cauchy;
  const std::int64_t n = 8192, buckets = 64;  // elements stand in all pieces of the row
  // Each of `ties` has its share of the row, the last one some of an eighth as well; what is left of that has
  // heavy tails.
  const auto check = [&](const std::vector<T>& ties, std::int64_t expected) {
    CAPTURE(ties.size());
    std::vector<T> row(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = i % 8 != 0    ? ties[i / 8 % ties.size()]
               : i % 16 == 0 ? ties.back()
                             : static_cast<T>(cauchy(random));
    }
    for (const T sign : {T(1), T(-1)}) {
      std::sort(row.begin(), row.end(),
                [&](T left, T right) { return sign * left > sign * right; });
      const DenseOperand<T> x{row.data(), sign};
      const T high = sign * row.front(), low = sign * row.back();
      const BucketsByWidth<T> by_width(x, buckets, high, double(high) - double(low));
      const BucketsByBits<T> by_bits(x, buckets, high, low);
      const TiedValues<T> tied(x, n);
      CHECK(tied.buckets() == expected * 257);
      const std::int64_t all = buckets + tied.buckets();
      check_buckets(n, BesideTies<T, BucketsByWidth<T>>{by_width, tied}, all);
      const BesideTies<T, BucketsByBits<T>> bucket{by_bits, tied};
      check_buckets(n, bucket, all);
      BucketSplit split;
      split.plan(n, all, 0, bucket, 1);
      for (std::int64_t b = 0; b < split.buckets(); ++b) {
        if (expected > 0) CHECK(split.size(b) < n / 4);
      }
    }
  };
  constexpr T kNext = T(1) + std::numeric_limits<T>::epsilon();
  check({T(0.5)}, 1);
  check({T(-1e6)}, 1);
  check({T(0.0), T(-0.0)}, 1);
  check({T(1), kNext}, 2);
  check({T(1), T(-1), T(0)}, 3);
  check({T(1), T(-1), T(0), T(2), T(3)},
        3);  // four have a sixth or more of what is looked at, or nearly
  std::vector<T> many(16);
  std::iota(many.begin(), many.end(), T(-5));
  check(many, 0);
}

TEST_CASE_TEMPLATE("long rows are sorted by buckets, unless a bucket has too many", T, float,
                   double) {
  std::mt19937_64 random(74);
  std::cauchy_distribution<double> cauchy;
  RowSorter<T> sorter;
  const auto check = [&](const std::vector<T>& row, bool in_buckets, Way way) {
    CAPTURE(row.size());
    const auto n = static_cast<std::int64_t>(row.size());
    for (const T sign : {T(1), T(-1)}) {
      SortedRow<T> found;
      found.sort(n, {row.data(), sign}, scan(row.data(), n), sorter, 1);
      CHECK((found.buckets() != nullptr) == in_buckets);
      const auto expected = sorted(row, sign);
      const T* const values = found.values().values;
      const std::vector<T> found_values(values, values + n);
      CHECK(found_values == expected.values);
      CHECK(same_bits(found_values, expected.values) == (way == Way::keeps_zeros));
      if (in_buckets) continue;
      CHECK(Ids(found.values().from, found.values().from + n) == expected.index);
    }
  };
  auto row = with_zeros(normal_row<T>(70'000, random), 71);
  check(row, true, Way::keeps_zeros);
  check(with_outlier(normal_row<T>(70'000, random)), true, Way::keeps_zeros);
  row.resize(65536);
  check(row, false, Way::keeps_zeros);
  row.resize(300'000);
  for (T& x : row) x = static_cast<T>(cauchy(random));
  check(row, true, Way::keeps_zeros);
  // Tied in part, with heavy tails and without, and wholly.
  for (std::size_t i = 0; i < row.size(); i += 2) row[i] = T(1);
  check(with_zeros(row), true, Way::keeps_zeros);
  check(with_outlier(row), true, Way::keeps_zeros);
  for (T& x : row) x = std::max(T(0), x);
  check(with_zeros(row), true, Way::keeps_zeros);
  row = normal_row<T>(300'000, random);
  for (T& x : row) x = std::max(T(0), x);
  check(with_zeros(row), true, Way::keeps_zeros);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<T>(i % 7 * (i % 5) % 3);
  check(with_zeros(row), true, Way::keeps_zeros);
  // Five values, each of a sixth of the row or more; the one of a quarter is the largest, or the smallest.
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<T>(i % 100 < 26 ? 4 : i % 4) +
             (i % 1000 == 9 ? static_cast<T>(cauchy(random)) : T(0));
  }
  check(row, true, Way::keeps_zeros);
  // Numbers next to each other, of which none has many elements, and others far away.
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = i % 8 == 0 ? static_cast<T>(cauchy(random)) : T(1) + T(i % 5000) * T(0x1p-23);
  }
  check(with_zeros(row), false, Way::by_bits);
  // In pairs of equal ones, with both zeros: by `check` descending and ascending, for its two signs.
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = T(200) - static_cast<T>(i / 2 * 2);
  row[200] = -row[200];
  REQUIRE(std::signbit(row[200]));
  check(row, false, Way::keeps_zeros);
  std::reverse(row.begin(), row.end());
  check(row, false, Way::keeps_zeros);
  std::swap(row.front(), row.back());
  check(row, true, Way::keeps_zeros);
}

// --- one block

TEST_CASE("ranks are known to be one block up to the bound, and no further") {
  for (const std::int64_t n : {2, 3, 32, 1000}) {
    for (const double strength : {1e-3, 1.0, 7.0}) {
      const double l2 = 0.5 * static_cast<double>(n) * strength, kl = std::log(2.0) * strength;
      const auto facts = [](double range) { return RowFacts{1.0, 1.0 + range, 1.0, 0.0, true}; };
      CHECK(rank_is_one_block<Regularization::l2>(facts(0.0), n, strength));
      CHECK(rank_is_one_block<Regularization::l2>(facts(0.999 * l2), n, strength));
      CHECK(!rank_is_one_block<Regularization::l2>(facts(1.001 * l2), n, strength));
      CHECK(rank_is_one_block<Regularization::kl>(facts(0.999 * kl), n, strength));
      CHECK(!rank_is_one_block<Regularization::kl>(facts(1.001 * kl), n, strength));
      CHECK(!rank_is_one_block<Regularization::log_kl>(facts(0.0), n, strength));
    }
  }
}

namespace {

template <class T, Regularization R>
Solved<T> solve_row(const std::vector<T>& z, const std::vector<T>& w, double strength) {
  const auto n = static_cast<std::int64_t>(std::max(z.size(), w.size()));
  const auto size = static_cast<std::size_t>(n);
  Solved<T> solved{std::vector<T>(size), Ids(size, -7), Ids(size, -7)};
  const DenseOutput<T> out{solved.result.data(), solved.block_z.data(), solved.block_w.data(), 1.0};
  RowSolver<T, R> solver;
  CHECK(solver.solve(n, {z.empty() ? nullptr : z.data(), T(1)},
                     {w.empty() ? nullptr : w.data(), T(1)}, strength, out, 1));
  return solved;
}

template <class T, Regularization R>
void check_one_block(std::int64_t n, double strength, std::mt19937_64& random) {
  const auto z = normal_row<T>(n, random);
  const RowFacts facts = scan(z.data(), n);
  REQUIRE(rank_is_one_block<R>(facts, n, strength));
  std::vector<T> expected(z.size());
  write_one_block<R>(DenseOperand<T>{z.data(), T(1)}, facts, n, strength,
                     DenseOutput<T>{expected.data(), nullptr, nullptr, 1.0});
  const auto found = solve_row<T, R>(z, {}, strength);
  CHECK(same_bits(found.result, expected));
  CHECK(found.block_z == Ids(z.size(), 0));
  CHECK(found.block_w == Ids(z.size(), 0));
  // The way that sorts rounds otherwise, or this would tell nothing.
  const Vector rho_values = rho(n);
  const auto sorting = solve_row<T, R>(z, {rho_values.begin(), rho_values.end()}, strength);
  CHECK(sorting.block_z == found.block_z);
  if (sizeof(T) == sizeof(double)) CHECK(!same_bits(sorting.result, expected));
}

}  // namespace

TEST_CASE_TEMPLATE("ranks in one block are written without a sort", T, float, double) {
  std::mt19937_64 random(75);
  for (const std::int64_t n : {1000, 70000}) {
    check_one_block<T, Regularization::l2>(n, 1.0, random);
    check_one_block<T, Regularization::kl>(n, 20.0, random);
  }
}

TEST_CASE_TEMPLATE("moderate rows are solved by the fast ways, others are not", T, float, double) {
  std::mt19937_64 random(76);
  for (const std::int64_t n : {1, 2, 33, 100, 1000, 5000, 70000}) {
    const auto x = normal_row<T>(n, random);
    const auto scaled = [&](double factor) {
      std::vector<T> row = x;
      for (T& value : row) value *= static_cast<T>(factor);
      return row;
    };
    for (const double scale : {1e-30, 1.0, 1e30}) {
      const double strength = scale / static_cast<double>(n);
      solve_row<T, Regularization::l2>(scaled(scale), {}, strength);
      solve_row<T, Regularization::kl>(scaled(scale), {}, strength);
      solve_row<T, Regularization::l2>({}, scaled(scale), 1.0 / strength);
      solve_row<T, Regularization::log_kl>({}, scaled(scale), 1.0 / strength);
    }
    auto bad = x;
    std::vector<T> result(x.size());
    const DenseOutput<T> out{result.data(), nullptr, nullptr, 1.0};
    RowSolver<T, Regularization::l2> solver;
    CHECK(!solver.solve(n, {x.data(), T(1)}, {nullptr, T(1)}, 0.0, out, 1));
    for (const T value :
         {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
      bad.back() = value;
      CHECK(!solver.solve(n, {bad.data(), T(1)}, {nullptr, T(1)}, 1.0, out, 1));
    }
  }
}

// --- derivatives

namespace {

// Sums over blocks in the order of the elements, and in long double.
struct PlainSums {
  Vector in_order;
  std::vector<long double> exact, size;

  PlainSums(const Ids& ids, const Vector& terms)
      : in_order(ids.size()), exact(ids.size()), size(ids.size()) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto id = static_cast<std::size_t>(ids[i]);
      in_order[id] += terms[i];
      exact[id] += terms[i];
      size[id] += std::abs(terms[i]);
    }
  }
};

// Whether all sums are those of adding up in order, to the last bit.
bool adds_in_order(const Ids& ids, std::mt19937_64& random) {
  const auto n = static_cast<std::int64_t>(ids.size());
  if (n < 1) return true;
  const Vector terms = normal_row<double>(n, random), weights = normal_row<double>(n, random);
  const PlainSums of_terms(ids, terms), of_weights(ids, weights);
  SumsById sums;
  const auto pair = [&](std::int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    return Pair{terms[k], weights[k]};
  };
  const auto is_near = [&](double x, const PlainSums& plain, std::size_t id, long double times) {
    const long double allowed = times * static_cast<long double>(n) * 0x1p-53L * plain.size[id];
    return std::abs(x - times * plain.exact[id]) <= allowed;
  };
  sums.add_up(ids.data(), n, [](std::int64_t) { return Pair{7.0, 7.0}; });
  sums.add_up(ids.data(), n, pair);  // what was there does not count
  bool in_order = true, near = true;
  for (std::size_t id = 0; id < ids.size(); ++id) {
    const Pair sum = sums[static_cast<std::int64_t>(id)];
    near &= is_near(sum[0], of_terms, id, 1) && is_near(sum[1], of_weights, id, 1);
    in_order &= sum[0] == of_terms.in_order[id] && sum[1] == of_weights.in_order[id];
  }
  sums.add_more(ids.data(), n, pair);
  for (std::size_t id = 0; id < ids.size(); ++id) {
    const Pair sum = sums[static_cast<std::int64_t>(id)];
    near &= is_near(sum[0], of_terms, id, 2) && is_near(sum[1], of_weights, id, 2);
  }
  Doubles terms_side_by_side, weights_side_by_side;
  if (n >= kLanes) {
    sums.gather(ids.data(), &terms_side_by_side, &weights_side_by_side);
    for (int k = 0; k < kLanes; ++k) {
      const Pair sum = sums[ids[static_cast<std::size_t>(k)]];
      near &= terms_side_by_side[k] == sum[0] && weights_side_by_side[k] == sum[1];
    }
  }
  CHECK(near);
  return in_order;
}

}  // namespace

TEST_CASE("sums over blocks: one that has most, or many, neighbours of one block, and neither") {
  std::mt19937_64 random(77);
  for (const std::int64_t n : {1, 2, 17, 64, 65, 66, 1000, 20001}) {
    CAPTURE(n);
    const auto size = static_cast<std::size_t>(n);
    Ids most(size), many(size), apart(size), meeting(size);
    std::iota(apart.begin(), apart.end(), 0);
    std::shuffle(apart.begin(), apart.end(), random);
    for (auto& id : apart) id /= 3;
    const auto block = static_cast<std::int32_t>(n / 2);
    for (std::size_t i = 0; i < size; ++i) {
      most[i] = i % 8 == 5 ? static_cast<std::int32_t>(i) : block;
      // In every second sixteenth of the row.
      many[i] = 16 * i / size % 2 == 0 ? block : static_cast<std::int32_t>(i);
      // Runs of 8, several to a block.
      meeting[i] = static_cast<std::int32_t>(i / 8 * 7 % (size / 32 + 1));
    }
    // Another order of additions may round to the same sums, but not time and again.
    const auto times_in_order = [&](const Ids& ids) {
      int times = 0;
      for (int k = 0; k < 10; ++k) times += adds_in_order(ids, random);
      return times;
    };
    const bool is_short = n <= SumsById::kInOrder;
    CHECK((times_in_order(most) == 10) == is_short);
    CHECK((times_in_order(many) == 10) == is_short);
    CHECK((times_in_order(meeting) == 10) == is_short);
    if (n != 65 && n != 66) CHECK(times_in_order(apart) == 10);  // there, some may meet by chance
  }
}

namespace {

// A row and what its derivative reads.
template <class T>
struct VjpCase {
  std::int64_t n;
  double strength;
  bool ranks;
  std::vector<T> x, g, result;
  Ids block_z, block_w;

  DenseVjpRow<T> row(std::vector<T>& out) const {
    DenseVjpRow<T> row{n,       strength,       1.0,
                       1.0,     g.data(),       result.data(),
                       nullptr, block_z.data(), block_w.data(),
                       nullptr, nullptr};
    if (!ranks) row.w = x.data();
    (ranks ? row.z_out : row.w_out) = out.data();
    return row;
  }
};

template <class T>
VjpCase<T> vjp_case(Regularization regularization, std::int64_t n, double strength, bool ranks,
                    std::mt19937_64& random) {
  VjpCase<T> made{n,  strength, ranks, normal_row<T>(n, random), normal_row<T>(n, random),
                  {}, {},       {}};
  const auto problem = problem_of(1, n, regularization, strength);
  const auto solved = ranks ? solve<T>(problem, made.x, {}) : solve<T>(problem, {}, made.x);
  made.result = solved.result;
  made.block_z = solved.block_z;
  made.block_w = solved.block_w;
  return made;
}

template <class T>
void check_cotangent(const VjpCase<T>& made, Regularization regularization,
                     const std::vector<T>& found) {
  PlainRow row{regularization, made.strength, rho(made.n), rho(made.n)};
  (made.ranks ? row.z : row.w).assign(made.x.begin(), made.x.end());
  const CotangentReference<T> reference(row, made.result, made.block_z, made.block_w, made.g);
  const auto complaint =
      made.ranks ? reference.complaint_of_z(found, 1.0, false) : reference.complaint_of_w(found);
  CHECK_MESSAGE(complaint.empty(), complaint);
}

std::int64_t blocks_of(const Ids& ids) {
  Ids starts = ids;
  std::sort(starts.begin(), starts.end());
  return std::unique(starts.begin(), starts.end()) - starts.begin();
}

// From few blocks to blocks of one element.
template <class T, Regularization R>
void check_long_vjp(std::int64_t n, bool ranks, std::mt19937_64& random) {
  const auto size = static_cast<double>(n);
  for (const double factor : {1e-9, 0.5, 8.0}) {
    const double strength = R == Regularization::kl ? factor / 16.0
                            : ranks                 ? factor / size
                                                    : factor * size / 16.0;
    const auto made = vjp_case<T>(R, n, strength, ranks, random);
    std::vector<T> found(made.x.size());
    const DenseVjpRow<T> row = made.row(found);
    for (const int threads : {1, 3}) {
      LongRankVjp<T> rank_way;
      LongSortVjp<T> sort_way;
      bool solved = false;
      if constexpr (R == Regularization::log_kl) {
        solved = sort_way.log_kl(row, threads);
      } else {
        solved = ranks ? rank_way.template solve<R>(row, 1.0 / strength, threads)
                       : sort_way.l2(row, threads);
      }
      CHECK(solved);
      check_cotangent(made, R, found);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("derivatives by buckets of block ids", T, float, double) {
  std::mt19937_64 random(78);
  for (const std::int64_t n : {1, 100, 5000, 33000}) {
    CAPTURE(n);
    check_long_vjp<T, Regularization::l2>(n, true, random);
    check_long_vjp<T, Regularization::kl>(n, true, random);
    check_long_vjp<T, Regularization::l2>(n, false, random);
    check_long_vjp<T, Regularization::log_kl>(n, false, random);
  }
}

TEST_CASE_TEMPLATE("derivatives by buckets refuse what they cannot tell", T, float, double) {
  std::mt19937_64 random(79);
  const std::int64_t n = 5000;
  LongRankVjp<T> rank_way;
  LongSortVjp<T> sort_way;
  std::vector<T> found(static_cast<std::size_t>(n));
  auto weightless = vjp_case<T>(Regularization::kl, n, 0.1, true, random);
  std::fill(weightless.result.begin(), weightless.result.end(), T(0));
  CHECK(!rank_way.template solve<Regularization::kl>(weightless.row(found), 10.0, 1));
  for (const auto regularization : {Regularization::l2, Regularization::log_kl}) {
    auto unordered = vjp_case<T>(regularization, n, 300.0, false, random);
    std::reverse(unordered.block_z.begin(), unordered.block_z.end());
    CHECK(!(regularization == Regularization::l2 ? sort_way.l2(unordered.row(found), 1)
                                                 : sort_way.log_kl(unordered.row(found), 1)));
  }
}

TEST_CASE_TEMPLATE("derivatives of the longest rows go by buckets", T, float, double) {
  std::mt19937_64 random(80);
  const std::int64_t n = 140000;
  // One block has most: a table would take turns at it.
  auto made = vjp_case<T>(Regularization::l2, n, 4.0 / static_cast<double>(n), true, random);
  REQUIRE(blocks_of(made.block_z) > 1);
  std::vector<T> found(made.x.size()), by_buckets(found), by_table(found);
  VjpSolver<T> solver;
  LongRankVjp<T> rank_way;
  LongSortVjp<T> sort_way;
  const DenseVjpRow<T> row = made.row(by_buckets);
  CHECK(solver.template solve<Regularization::l2>(made.row(found), 1));
  CHECK(rank_way.template solve<Regularization::l2>(row, 1.0 / made.strength, 1));
  CHECK(same_bits(found, by_buckets));
  SumsById sums;
  sums.add_up(row.block_z, n,
              [&](std::int64_t i) { return Pair{static_cast<double>(row.g[i]), 1.0}; });
  for (std::int64_t i = 0; i < n; ++i) {
    const Pair sum = sums[row.block_z[i]];
    by_table[static_cast<std::size_t>(i)] =
        static_cast<T>((static_cast<double>(row.g[i]) - sum[0] / sum[1]) * (1.0 / made.strength));
  }
  if (sizeof(T) == sizeof(double)) CHECK(!same_bits(found, by_table));

  for (const auto regularization : {Regularization::l2, Regularization::log_kl}) {
    made = vjp_case<T>(regularization, n, static_cast<double>(n) / 4.0, false, random);
    CHECK((regularization == Regularization::l2
               ? solver.template solve<Regularization::l2>(made.row(found), 1)
               : solver.template solve<Regularization::log_kl>(made.row(found), 1)));
    CHECK((regularization == Regularization::l2 ? sort_way.l2(made.row(by_buckets), 1)
                                                : sort_way.log_kl(made.row(by_buckets), 1)));
    CHECK(same_bits(found, by_buckets));
  }
}

namespace {

// As found by the formulas of one block, whose sums are in 16 parts.
template <class T, Regularization R>
std::vector<T> cotangent_of_one_block(const VjpCase<T>& made) {
  const std::int64_t n = made.n;
  const auto sum = [&](const auto& term) {
    return sum_of(
        0, n,
        [&](std::int64_t i) {
          Doubles terms{};
          for (int k = 0; k < kLanes; ++k) terms[k] = term(i + k);
          return terms;
        },
        term);
  };
  const auto g = [&](std::int64_t i) {
    return static_cast<double>(made.g[static_cast<std::size_t>(i)]);
  };
  const auto r = [&](std::int64_t i) {
    return static_cast<double>(made.result[static_cast<std::size_t>(i)]);
  };
  const double scale = 1.0 / made.strength;
  std::vector<T> expected;
  if (R == Regularization::kl) {
    const double mean = sum([&](std::int64_t i) { return r(i) * g(i); }) / sum(r);
    for (std::int64_t i = 0; i < n; ++i)
      expected.push_back(static_cast<T>(r(i) * ((g(i) - mean) * scale)));
  } else {
    const double mean = sum(g) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i)
      expected.push_back(static_cast<T>(made.ranks ? (g(i) - mean) * scale : mean));
  }
  return expected;
}

template <class T, Regularization R>
void check_vjp_of_one_block(std::int64_t n, double strength, bool ranks, std::mt19937_64& random) {
  const auto made = vjp_case<T>(R, n, strength, ranks, random);
  REQUIRE(blocks_of(made.block_z) == 1);
  std::vector<T> found(made.x.size());
  VjpSolver<T> solver;
  CHECK(solver.template solve<R>(made.row(found), 1));
  CHECK(same_bits(found, cotangent_of_one_block<T, R>(made)));
}

}  // namespace

TEST_CASE("derivatives in one block need no table") {
  std::mt19937_64 random(81);
  for (const std::int64_t n : {65, 1003, 140000}) {
    const auto size = static_cast<double>(n);
    check_vjp_of_one_block<double, Regularization::l2>(n, 20.0 / size, true, random);
    check_vjp_of_one_block<double, Regularization::kl>(n, 20.0, true, random);
    if (n < 100'000)
      check_vjp_of_one_block<double, Regularization::l2>(n, size * size, false, random);
  }
}

namespace {

// Four rows, of which bad(r, ids of z, ids of w, results, strengths) has spoiled some.
template <class T, Regularization R, class Spoil>
unsigned rows_served(std::int64_t n, bool ranks, std::int64_t count, const Spoil& spoil) {
  std::mt19937_64 random(82);
  const std::int64_t rows = 4;
  std::vector<T> x = normal_row<T>(rows * n, random), g = normal_row<T>(rows * n, random);
  std::vector<T> out(x.size());
  Vector strengths(4, R == Regularization::kl ? 0.5 : ranks ? 4.0 / double(n) : double(n) / 4.0);
  Problem problem = problem_of(rows, n, R, 0.0);
  problem.strength.data = strengths.data();
  problem.strength.strides.batch[0] = 1;
  Solved<T> solved = ranks ? solve<T>(problem, x, {}) : solve<T>(problem, {}, x);
  spoil(solved, strengths);
  Linearization<T> at;
  at.result = contiguous_rows<const T>(solved.result.data(), n);
  at.block_z = contiguous_rows<const std::int32_t>(solved.block_z.data(), n);
  at.block_w = contiguous_rows<const std::int32_t>(solved.block_w.data(), n);
  Cotangents<T> cotangents;
  cotangents.g = contiguous_rows<const T>(g.data(), n);
  (ranks ? cotangents.z : cotangents.w) = contiguous_rows(out.data(), n);
  REQUIRE(ShortVjp<T, R>::serves(problem, at, cotangents));
  return ShortVjp<T, R>::solve(problem, at, cotangents, 0, count) & ((1u << count) - 1u);
}

}  // namespace

TEST_CASE_TEMPLATE("short rows take turns at their tables, but for those that are not plain", T,
                   float, double) {
  constexpr auto l2 = Regularization::l2, kl = Regularization::kl;
  const auto keep = [](Solved<T>&, Vector&) {};
  for (const std::int64_t n : {2, 3, 12, 63, 64}) {
    CAPTURE(n);
    for (const std::int64_t count : {1, 2, 3, 4}) {
      const unsigned all = (1u << count) - 1u;
      CHECK((rows_served<T, l2>(n, true, count, keep) == all));
      CHECK((rows_served<T, kl>(n, true, count, keep) == all));
      CHECK((rows_served<T, l2>(n, false, count, keep) == all));
    }
    const auto row_2 = static_cast<std::size_t>(2 * n);
    const auto no_strength = [](Solved<T>&, Vector& strengths) { strengths[1] = 0.0; };
    CHECK((rows_served<T, l2>(n, true, 4, no_strength) == 0b1101u));
    for (const auto id : {static_cast<std::int32_t>(n), -1, -2}) {
      const auto in_z = [&](Solved<T>& solved, Vector&) { solved.block_z[row_2 + 1] = id; };
      const auto in_w = [&](Solved<T>& solved, Vector&) { solved.block_w[row_2] = id; };
      CHECK((rows_served<T, l2>(n, true, 4, in_z) == 0b1011u));
      CHECK((rows_served<T, kl>(n, true, 4, in_z) == 0b1011u));
      CHECK((rows_served<T, l2>(n, false, 4, in_z) == 0b1011u));
      CHECK((rows_served<T, l2>(n, false, 4, in_w) == 0b1011u));
    }
    const auto no_block = [&](Solved<T>& solved, Vector&) {
      std::fill_n(solved.block_z.begin() + 2 * n, n, 0);
      solved.block_w[row_2] = 1;
    };
    CHECK((rows_served<T, l2>(n, false, 4, no_block) == 0b1011u));
    const auto weightless = [&](Solved<T>& solved, Vector&) {
      std::fill_n(solved.result.begin() + 2 * n, n, T(0));
    };
    CHECK((rows_served<T, kl>(n, true, 4, weightless) == 0b1011u));
  }
}

TEST_CASE("short rows with gaps, or longer ones, have no tables of their own") {
  const std::vector<float> values(400);
  const Ids ids(400);
  std::vector<float> out(400);
  Problem problem = problem_of(2, 64, Regularization::l2, 1.0);
  Linearization<float> at;
  at.block_z = contiguous_rows(ids.data(), 64);
  Cotangents<float> cotangents;
  cotangents.g = contiguous_rows(values.data(), 64);
  cotangents.z = contiguous_rows(out.data(), 64);
  using L2 = ShortVjp<float, Regularization::l2>;
  CHECK(L2::serves(problem, at, cotangents));
  CHECK(!(ShortVjp<float, Regularization::log_kl>::serves(problem, at, cotangents)));
  for (std::int64_t* stride :
       {&at.block_z.strides.along, &cotangents.g.strides.along, &cotangents.z.strides.along}) {
    *stride = 2;
    CHECK(!L2::serves(problem, at, cotangents));
    *stride = 1;
  }
  problem.space.length = 65;
  CHECK(!L2::serves(problem, at, cotangents));
}
