// The fast ways of the CPU against the general one, on the rows that choose between them, and the
// levels of vector instructions against each other.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cpu/solver.h"
#include "general_solution.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

// Families that take each way of the sort: by cells, by buckets, and by bits where values crowd.
std::vector<Vector> long_families(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::cauchy_distribution<double> cauchy;
  std::uniform_int_distribution<int> few(0, 999);
  std::vector<Vector> rows(6, Vector(static_cast<std::size_t>(n)));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    rows[0][i] = normal(random);
    rows[1][i] = few(random);
    rows[2][i] = cauchy(random);
    rows[3][i] = -static_cast<double>(i / 3);
    rows[4][i] = static_cast<double>(i);
    rows[5][i] = normal(random) * 1e-3 + (i % 2 == 0 ? 1e3 : 0.0);
  }
  return rows;
}

// Strengths are powers of two, so that ties of integers are ties for both.
template <class T>
void check_against_general(const Vector& values, double strength) {
  const auto n = static_cast<std::int64_t>(values.size());
  const auto x = as<T>(values);
  const double range = *std::max_element(values.begin(), values.end()) -
                       *std::min_element(values.begin(), values.end());
  for (const double sign : {1.0, -1.0}) {
    for (const Regularization regularization : kRegularizations) {
      // Exponentials know no exact ties: two ways of adding them up may part where there is one.
      const double factor = regularization == Regularization::log_kl ? 0.7 : 1.0;
      auto problem = problem_of(1, n, regularization, factor * strength);
      const bool sorts = regularization != Regularization::kl;
      if (regularization != Regularization::log_kl) {
        problem.z_sign = sign;
        const auto found = solve<T>(problem, x, {}), expected = solve_generally<T>(problem, x, {});
        CHECK(found.block_z == expected.block_z);
        CHECK(found.block_w == expected.block_w);
        check_close(found.result, expected.result, static_cast<double>(n));
      }
      if (sorts) {
        problem.z_sign = 1.0;
        problem.w_sign = sign;
        const auto found = solve<T>(problem, {}, x), expected = solve_generally<T>(problem, {}, x);
        CHECK(found.block_z == expected.block_z);
        CHECK(found.block_w == expected.block_w);
        check_close(found.result, expected.result, std::abs(values[0]) + range);
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("every way of sorting a row leads to the same projection", T, float, double) {
  std::mt19937_64 random(31);
  // Around the lengths where the way changes, for both types.
  for (const std::int64_t n :
       {1, 2, 7, 16, 95, 96, 97, 159, 160, 161, 500, 2047, 2048, 3000, 4096, 4097}) {
    for (const auto& family : long_families(n, random)) {
      for (const double strength : {0x1p-13, 0x1p-6, 1.0}) {
        check_against_general<T>(family, strength);
      }
    }
  }
}

TEST_CASE_TEMPLATE("rows longer than a sort takes at once go by buckets", T, float, double) {
  std::mt19937_64 random(32);
  for (const std::int64_t n : {65536, 65537, 300'000}) {
    for (const auto& family : long_families(n, random)) check_against_general<T>(family, 0x1p-13);
  }
}

// What partitions of long rows may trip over.
std::vector<Vector> hard_long_rows(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> few(0, 40);
  std::vector<Vector> rows(11, Vector(static_cast<std::size_t>(n)));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const double x = normal(random);
    rows[0][i] = x * x * x;
    rows[1][i] = few(random);  // buckets of one value, and none
    rows[2][i] = i % 2 == 0 ? 0.0 : -0.0;
    rows[3][i] = i % 3 == 0 ? (i % 2 == 0 ? 0.0 : -0.0) : x;
    rows[4][i] = few(random) * 0x1p-140;                      // denormal in float32
    rows[5][i] = i < 1000 ? x : 1.0 + few(random) * 0x1p-20;  // two far apart, one crowded
    rows[6][i] = i == rows[0].size() / 2 ? 1e30 : x;
    // Tied: what a ReLU leaves, few integers, mostly the lowest and mostly the highest value.
    rows[7][i] = std::max(0.0, x);
    rows[8][i] = few(random) % 3;
    rows[9][i] = few(random) < 30 ? -8.0 : x;
    rows[10][i] = few(random) < 30 ? 8.0 : few(random) < 20 ? -0.0 : 0.0;
  }
  return rows;
}

TEST_CASE_TEMPLATE("rows that partitions may trip over", T, float, double) {
  std::mt19937_64 random(36);
  for (const auto& row : hard_long_rows(70'001, random)) check_against_general<T>(row, 0x1p-13);
}

namespace {

template <class T>
struct Derived {
  Solved<T> solved;
  std::vector<T> cotangent;
};

// What the derivative of one row reads and writes: by z of ranks and by w of sorted values.
template <class T>
struct VjpCall {
  Linearization<T> at;
  Cotangents<T> cotangents;

  VjpCall(bool ranks, const std::vector<T>& x, const std::vector<T>& g, Derived<T>& derived) {
    const auto n = static_cast<std::int64_t>(x.size());
    (ranks ? at.z : at.w) = contiguous_rows(x.data(), n);
    at.result = contiguous_rows<const T>(derived.solved.result.data(), n);
    at.block_z = contiguous_rows<const std::int32_t>(derived.solved.block_z.data(), n);
    at.block_w = contiguous_rows<const std::int32_t>(derived.solved.block_w.data(), n);
    cotangents.g = contiguous_rows(g.data(), n);
    (ranks ? cotangents.z : cotangents.w) = contiguous_rows(derived.cotangent.data(), n);
  }
};

// One row and its derivative. `generally`: by the way that serves what else is asked for, here the
// strength's derivative as well.
template <class T>
Derived<T> solve_and_derive(const Problem& problem, const std::vector<T>& x,
                            const std::vector<T>& g, int threads, bool generally = false) {
  const bool ranks = problem.w_sign > 0.0;
  Derived<T> derived{ranks ? solve<T>(problem, x, {}, threads) : solve<T>(problem, {}, x, threads),
                     std::vector<T>(x.size())};
  double strength = 0.0;
  VjpCall<T> call(ranks, x, g, derived);
  if (generally) call.cotangents.strength = contiguous_rows(&strength, 1);
  project_vjp(problem, call.at, call.cotangents, threads);
  return derived;
}

template <class T, class Check>
void for_each_problem(std::int64_t n, std::mt19937_64& random, const Check& check) {
  std::normal_distribution<double> normal;
  std::vector<T> g(static_cast<std::size_t>(n));
  for (T& value : g) value = static_cast<T>(normal(random));
  auto rows = long_families(n, random);
  for (auto& row : hard_long_rows(n, random)) rows.push_back(std::move(row));
  for (const auto& row : rows) {
    const auto x = as<T>(row);
    for (const auto regularization :
         {Regularization::l2, Regularization::kl, Regularization::log_kl}) {
      const auto size = static_cast<double>(n);
      // In the middle, most of a normal row is one block, and the rest is not.
      for (const double strength : {1e-3 / size, 1e-5, 8.0 / size, 0.3, size}) {
        auto problem = problem_of(1, n, regularization, strength);
        if (regularization != Regularization::log_kl) check(problem, x, g);
        problem.w_sign = -1.0;  // of sorted values
        if (regularization != Regularization::kl) check(problem, x, g);
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("long rows come out the same on any number of threads", T, float, double) {
  std::mt19937_64 random(37);
  std::size_t problems = 0;
  for_each_problem<T>(140000, random, [&](const Problem& problem, const auto& x, const auto& g) {
    const int threads = std::array{2, 3, 8}[problems++ % 3];
    CAPTURE(threads);
    const auto expected = solve_and_derive<T>(problem, x, g, 1);
    const auto found = solve_and_derive<T>(problem, x, g, threads);
    CHECK(found.solved.result == expected.solved.result);
    CHECK(found.solved.block_z == expected.solved.block_z);
    CHECK(found.solved.block_w == expected.solved.block_w);
    CHECK(found.cotangent == expected.cotangent);
  });
}

TEST_CASE_TEMPLATE("derivatives are those of the general way", T, float, double) {
  std::mt19937_64 random(38);
  // Around the lengths where the way changes.
  for (const std::int64_t n : {64, 65, 66, 129, 1000, 3001, 20000, 140000}) {
    int longest = 0;
    for_each_problem<T>(n, random, [&](const Problem& problem, const auto& x, const auto& g) {
      if (n == 140000 && ++longest % 3 != 0) return;  // of 20 for each kind of row
      const auto found = solve_and_derive<T>(problem, x, g, 2).cotangent;
      const auto expected = solve_and_derive<T>(problem, x, g, 1, true).cotangent;
      double scale = 0.0;
      for (const T value : expected) scale = std::max(scale, std::abs(static_cast<double>(value)));
      check_close(found, expected, 2.0 * scale);  // twice: log_kl rounds weights to T, too
    });
  }
}

TEST_CASE_TEMPLATE("kl ranks in one block are found on both sides of the bound", T, float, double) {
  std::mt19937_64 random(33);
  for (const std::int64_t n : {2, 3, 10, 100}) {
    for (const auto& family : families(n, random)) {
      const auto x = as<T>(family);
      const double range = static_cast<double>(*std::max_element(x.begin(), x.end())) -
                           static_cast<double>(*std::min_element(x.begin(), x.end()));
      for (const double factor : {0.5, 1.0 - 1e-9, 1.0 + 1e-9, 2.0, 1e6}) {
        const double strength = range > 0.0 ? factor * range / std::log(2.0) : factor;
        const auto problem = problem_of(1, n, Regularization::kl, strength);
        const auto found = solve<T>(problem, x, {}), expected = solve_generally<T>(problem, x, {});
        CHECK(found.block_z == expected.block_z);
        check_close(found.result, expected.result, static_cast<double>(n));
      }
    }
  }
}

TEST_CASE_TEMPLATE("sorted values of kl are one block where the general way finds one", T, float,
                   double) {
  std::mt19937_64 random(39);
  std::normal_distribution<double> normal;
  std::int64_t one_block = 0, others = 0;
  for (const std::int64_t n : {2, 33, 34, 128, 129, 300, 1000, 70001}) {
    const auto size = static_cast<std::size_t>(n);
    std::vector<Vector> rows(5, Vector(size));
    for (std::size_t i = 0; i < size; ++i) {
      rows[0][i] = normal(random);
      rows[1][i] = static_cast<double>(i);
      rows[2][i] = i == size / 2 ? -5.0 : 0.0;  // a smaller last share alone
      rows[3][i] = i == size / 2 ? 5.0 : 0.0;   // a larger first one
      rows[4][i] = i < size / 3 ? normal(random) : 9.0 + 1e-3 * normal(random);
    }
    for (const auto& row : rows) {
      const auto x = as<T>(row);
      const double range = static_cast<double>(*std::max_element(x.begin(), x.end())) -
                           static_cast<double>(*std::min_element(x.begin(), x.end()));
      for (const double z_range : {1e-3, 0.1, 0.5, 0.9, 0.999, 1.001, 1.2, 4.0}) {
        const double strength = static_cast<double>(n - 1) / (z_range * range);
        const auto problem = problem_of(1, n, Regularization::log_kl, strength);
        const auto found = solve<T>(problem, {}, x), expected = solve_generally<T>(problem, {}, x);
        CHECK(found.block_z == expected.block_z);
        CHECK(found.block_w == expected.block_w);
        check_close(found.result, expected.result, 1.0 + std::abs(row[0]) + range);
        ++(expected.block_z.back() == 0 ? one_block : others);
      }
    }
  }
  CHECK(one_block > 100);
  CHECK(others > 100);
}

TEST_CASE_TEMPLATE("derivatives of long rows are sums over their blocks", T, float, double) {
  std::mt19937_64 random(34);
  std::normal_distribution<double> normal;
  const std::int64_t n = (1 << 17) + 5;
  Vector x(static_cast<std::size_t>(n)), g(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(random);
    g[i] = normal(random);
  }
  const auto values = as<T>(x), cotangent = as<T>(g);
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    const double strength = regularization == Regularization::l2 ? 2e-5 : 0.3;
    const auto problem = problem_of(1, n, regularization, strength);
    const auto solved = solve<T>(problem, values, {});
    std::vector<T> found(x.size());
    Linearization<T> at;
    at.block_z = contiguous_rows(solved.block_z.data(), n);
    at.result = contiguous_rows(solved.result.data(), n);
    Cotangents<T> cotangents;
    cotangents.g = contiguous_rows(cotangent.data(), n);
    cotangents.z = contiguous_rows(found.data(), n);
    project_vjp(problem, at, cotangents, 1);
    const auto weight = [&](std::size_t i) {
      return regularization == Regularization::kl ? static_cast<double>(solved.result[i]) : 1.0;
    };
    Vector sums(x.size()), totals(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto id = static_cast<std::size_t>(solved.block_z[i]);
      sums[id] += weight(i) * static_cast<double>(cotangent[i]);
      totals[id] += weight(i);
    }
    double worst = 0.0, scale = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto id = static_cast<std::size_t>(solved.block_z[i]);
      const double expected =
          weight(i) * (static_cast<double>(cotangent[i]) - sums[id] / totals[id]) / strength;
      worst = worse(worst, std::abs(static_cast<double>(found[i]) - expected));
      scale = std::max(scale, std::abs(expected));
    }
    CHECK(worst <= scale * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-46));
  }

  // soft_sort: the mean over the block of every value.
  auto problem = problem_of(1, n, Regularization::l2, 2e4);
  const auto solved = solve<T>(problem, {}, values);
  std::vector<T> found(x.size());
  Linearization<T> at;
  at.block_z = contiguous_rows(solved.block_z.data(), n);
  at.block_w = contiguous_rows(solved.block_w.data(), n);
  Cotangents<T> cotangents;
  cotangents.g = contiguous_rows(cotangent.data(), n);
  cotangents.w = contiguous_rows(found.data(), n);
  project_vjp(problem, at, cotangents, 1);
  Vector sums(x.size()), sizes(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    sums[static_cast<std::size_t>(solved.block_z[i])] += static_cast<double>(cotangent[i]);
    sizes[static_cast<std::size_t>(solved.block_z[i])] += 1.0;
  }
  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto id = static_cast<std::size_t>(solved.block_w[i]);
    worst = worse(worst, std::abs(static_cast<double>(found[i]) - sums[id] / sizes[id]));
  }
  CHECK(worst <= 8.0 * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-46));
}

namespace {

// One row and its derivatives by one level of vector instructions.
template <class T>
Derived<T> derive_by(const Solver& level, const Problem& problem, bool ranks,
                     const std::vector<T>& x, const std::vector<T>& g) {
  const std::int64_t n = problem.space.length;
  Derived<T> derived{{std::vector<T>(x.size()), std::vector<std::int32_t>(x.size()),
                      std::vector<std::int32_t>(x.size())},
                     std::vector<T>(x.size())};
  Projection<T> arrays;
  (ranks ? arrays.z : arrays.w) = contiguous_rows(x.data(), n);
  arrays.result = contiguous_rows(derived.solved.result.data(), n);
  arrays.block_z = contiguous_rows(derived.solved.block_z.data(), n);
  arrays.block_w = contiguous_rows(derived.solved.block_w.data(), n);
  level.project(problem, arrays, 0, 1, 1);
  const VjpCall<T> call(ranks, x, g, derived);
  const bool served = level.vjp(problem, call.at, call.cotangents, 0, 1, 1) == 1;
  // Where results of kl are 0, and where values of log_kl lie far apart, another way serves.
  const bool may_refuse = problem.regularization != Regularization::l2;
  CHECK((served || may_refuse));
  if (!served) derived.cotangent.clear();
  return derived;
}

}  // namespace

TEST_CASE_TEMPLATE("levels of vector instructions give the same bits", T, float, double) {
  std::mt19937_64 random(35);
  int longest = 0;
  for (const std::int64_t n : {1, 3, 5, 17, 64, 65, 100, 700, 70000, 300000}) {
    for (const auto& family : long_families(n, random)) {
      const auto x = as<T>(family), g = as<T>(long_families(n, random)[0]);
      for (const Regularization regularization : kRegularizations) {
        for (const double strength : {1e-3, 4.0 / static_cast<double>(n), 0.1, 1e3}) {
          if (n == 300000 && ++longest % 5 != 0) continue;  // of twelve: all have their turn
          auto problem = problem_of(1, n, regularization, strength);
          for (const bool ranks : {true, false}) {
            // What is no operator: ranks of log_kl, sorted values of kl.
            if (regularization == (ranks ? Regularization::log_kl : Regularization::kl)) continue;
            const auto expected = derive_by(portable::kSolver, problem, ranks, x, g);
            for (const Solver* level : solver_levels()) {
              const auto found = derive_by(*level, problem, ranks, x, g);
              CHECK(found.solved.result == expected.solved.result);
              CHECK(found.solved.block_z == expected.solved.block_z);
              CHECK(found.solved.block_w == expected.solved.block_w);
              CHECK(found.cotangent == expected.cotangent);
            }
          }
        }
      }
    }
  }
}
