// Short rows side by side: against the general way, against the same rows one by one, the levels of
// vector instructions against each other, and that rows are in fact solved so. Derivatives of short
// rows against their formulas.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cpu/general_row.h"
#include "cpu/row.h"
#include "cpu/short_rows.h"
#include "cpu/solver.h"
#include "level.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

// Rows of one call: values side by side, and a strength for each.
template <class T>
struct Batch {
  std::int64_t rows, n;
  std::vector<T> values;
  Vector strengths;
};

enum class Operator { rank, sort };

// Of the operand that is given, and of the results: of ranks both are turned for some lengths.
double z_sign_of(Operator op, double sign) {
  return op == Operator::rank ? sign : 1.0;
}
double w_sign_of(Operator op, double sign, std::int64_t n) {
  return op == Operator::sort || n % 2 == 1 ? sign : 1.0;
}

template <class T>
Problem problem_of(const Batch<T>& batch, Regularization regularization, double sign, Operator op) {
  Problem problem = diffsort::testing::problem_of(batch.rows, batch.n, regularization, 0.0);
  problem.z_sign = z_sign_of(op, sign);
  problem.w_sign = w_sign_of(op, sign, batch.n);
  problem.strength.data = batch.strengths.data();
  problem.strength.strides.batch[0] = 1;
  return problem;
}

template <class T>
Solved<T> solve_batch(const Batch<T>& batch, Regularization regularization, double sign,
                      Operator op) {
  const auto problem = problem_of(batch, regularization, sign, op);
  return op == Operator::rank ? solve<T>(problem, batch.values, {})
                              : solve<T>(problem, {}, batch.values);
}

// Row r alone, by the general way or by that of single rows.
template <class T>
Solved<T> solve_row(const Batch<T>& batch, std::int64_t r, Regularization regularization,
                    double sign, Operator op, bool generally) {
  const auto size = static_cast<std::size_t>(batch.n);
  const T* const values = batch.values.data() + r * batch.n;
  const Batch<T> row{
      1, batch.n, {values, values + batch.n}, {batch.strengths[static_cast<std::size_t>(r)]}};
  if (!generally) return solve_batch(row, regularization, sign, op);
  Solved<T> solved{std::vector<T>(size), std::vector<std::int32_t>(size),
                   std::vector<std::int32_t>(size)};
  GeneralRow<T> general{};
  general.n = batch.n;
  general.regularization = regularization;
  general.z_sign = z_sign_of(op, sign);
  general.w_sign = w_sign_of(op, sign, batch.n);
  general.strength = row.strengths[0];
  (op == Operator::rank ? general.z : general.w) = Row<const T>{row.values.data(), 1};
  general.result = {solved.result.data(), 1};
  general.block_z = {solved.block_z.data(), 1};
  general.block_w = {solved.block_w.data(), 1};
  project_general_row(general);
  return solved;
}

template <class V>
std::vector<V> row_of(const std::vector<V>& all, std::int64_t r, std::int64_t n) {
  return {all.begin() + r * n, all.begin() + (r + 1) * n};
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), [](T x, T y) {
    return (x == y && std::signbit(x) == std::signbit(y)) || (std::isnan(x) && std::isnan(y));
  });
}

// The rows of a batch are those that each of them is alone, to the last bit; with the blocks of the
// general way, unless exponentials or inexact numbers may tie within rounding.
template <class T>
void check_batch(const Batch<T>& batch, Regularization regularization, bool exact) {
  for (const Operator op : {Operator::rank, Operator::sort}) {
    if (regularization == (op == Operator::rank ? Regularization::log_kl : Regularization::kl))
      continue;
    for (const double sign : {1.0, -1.0}) {
      CAPTURE(batch.n);
      CAPTURE(batch.rows);
      CAPTURE(sign);
      CAPTURE(static_cast<int>(op));
      CAPTURE(static_cast<int>(regularization));
      const auto found = solve_batch(batch, regularization, sign, op);
      for (std::int64_t r = 0; r < batch.rows; ++r) {
        CAPTURE(r);
        CAPTURE(batch.strengths[static_cast<std::size_t>(r)]);
        const auto alone = solve_row(batch, r, regularization, sign, op, false);
        CHECK(same_bits(row_of(found.result, r, batch.n), alone.result));
        CHECK(row_of(found.block_z, r, batch.n) == alone.block_z);
        CHECK(row_of(found.block_w, r, batch.n) == alone.block_w);
        if (!exact) continue;
        const auto general = solve_row(batch, r, regularization, sign, op, true);
        CHECK(alone.block_z == general.block_z);
        CHECK(alone.block_w == general.block_w);
      }
    }
  }
}

// Values of one family, and whether ways that add in another order agree on its ties.
template <class T>
struct Family {
  const char* name;
  bool exact;
  T (*value)(std::mt19937_64& random, std::int64_t i);
};

double normal(std::mt19937_64& random) {
  return std::normal_distribution<double>()(random);
}
std::int64_t die(std::mt19937_64& random, std::int64_t faces) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(faces));
}

template <class T>
const std::vector<Family<T>>& all_families() {
  using Limits = std::numeric_limits<T>;
  using Random = std::mt19937_64;
  static const std::vector<Family<T>> families = {
      {"normal", true, [](Random& r, std::int64_t) { return T(normal(r)); }},
      {"few integers", true, [](Random& r, std::int64_t) { return T(die(r, 4)); }},
      {"integers", true, [](Random& r, std::int64_t) { return T(die(r, 40) - 20); }},
      {"constant", true, [](Random&, std::int64_t) { return T(1.5); }},
      {"ascending", true, [](Random&, std::int64_t i) { return T(i); }},
      {"descending in steps", true, [](Random&, std::int64_t i) { return T(-(i / 3)); }},
      {"heavy tails", true,
       [](Random& r, std::int64_t) { return T(std::cauchy_distribution<double>()(r)); }},
      {"an outlier", true,
       [](Random& r, std::int64_t i) { return i == 4 ? T(1e30) : T(normal(r)); }},
      {"a low outlier", true,
       [](Random& r, std::int64_t i) { return i == 4 ? T(-1e30) : T(normal(r)); }},
      {"near the limit", true,
       [](Random& r, std::int64_t) { return die(r, 2) ? Limits::max() : Limits::lowest(); }},
      {"denormal", true,
       [](Random& r, std::int64_t) { return T(die(r, 9) - 4) * Limits::denorm_min(); }},
      {"zeros of both signs", true,
       [](Random& r, std::int64_t) { return die(r, 2) ? T(-0.0) : T(0.0); }},
      {"zeros and others", true,
       [](Random& r, std::int64_t) {
         return die(r, 3) ? T(normal(r)) : die(r, 2) ? T(-0.0) : T(0.0);
       }},
      {"with NaN", true,
       [](Random& r, std::int64_t) { return die(r, 40) ? T(normal(r)) : Limits::quiet_NaN(); }},
      {"with infinities", true,
       [](Random& r, std::int64_t) {
         return die(r, 40) ? T(normal(r)) : die(r, 2) ? Limits::infinity() : -Limits::infinity();
       }},
      {"near neighbours, ascending", true,
       [](Random& r, std::int64_t i) { return T(0.7 * double(die(r, 5)) + 1e-6 * double(i)); }},
      {"with an offset", true, [](Random& r, std::int64_t) { return T(1000 + normal(r)); }},
      {"decimals", false, [](Random& r, std::int64_t) { return T(0.1 * double(die(r, 30))); }}};
  return families;
}

template <class T>
Batch<T> batch_of(const Family<T>& family, std::int64_t rows, std::int64_t n,
                  std::mt19937_64& random) {
  Batch<T> batch{rows, n, {}, {}};
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) batch.values.push_back(family.value(random, i));
    // Powers of two, so that ties of integers are ties whatever the order of additions.
    const std::int64_t kind = die(random, 8);
    batch.strengths.push_back(kind == 0   ? 1e-30
                              : kind == 1 ? 1e30
                              : kind == 2 ? 0.0
                                          : std::ldexp(1.0, static_cast<int>(die(random, 12)) - 8));
  }
  return batch;
}

}  // namespace

TEST_CASE_TEMPLATE("rows in a group are what they are alone", T, float, double) {
  std::mt19937_64 random(41);
  for (const Family<T>& family : all_families<T>()) {
    CAPTURE(std::string(family.name));
    for (std::int64_t n = 1; n <= 34; ++n) {
      const std::int64_t rows = 1 + die(random, 20);
      const auto batch = batch_of(family, rows, n, random);
      for (const Regularization regularization : kRegularizations) {
        check_batch(batch, regularization, family.exact && regularization == Regularization::l2);
      }
    }
  }
}

TEST_CASE_TEMPLATE("nearly all random rows are solved in their group", T, float, double) {
  std::mt19937_64 random(42);
  const std::int64_t rows = 4000;
  for (const std::int64_t n : {2, 5, 8, 16, 17, 31, 32}) {
    Batch<T> batch{rows, n, {}, Vector(rows)};
    for (std::int64_t i = 0; i < rows * n; ++i) batch.values.push_back(T(normal(random)));
    std::vector<T> result(batch.values.size());
    // The ways of ranks and of sorted values, where neither is one block as a rule.
    const auto rows_alone = [&](auto short_rows, Regularization regularization, Operator op,
                                double strength) {
      std::fill(batch.strengths.begin(), batch.strengths.end(), strength);
      Projection<T> arrays;
      (op == Operator::rank ? arrays.z : arrays.w) =
          contiguous_rows<const T>(batch.values.data(), n);
      arrays.result = contiguous_rows(result.data(), n);
      const auto problem = problem_of(batch, regularization, 1.0, op);
      REQUIRE(short_rows.serves(problem, arrays, rows));
      std::int64_t alone = 0;
      short_rows.solve(problem, arrays, 0, rows,
                       [&](std::int64_t first, std::int64_t last) { alone += last - first; });
      return alone;
    };
    const double spacing = 1.0 / static_cast<double>(n);
    using L2 = DIFFSORT_LEVEL::ShortRows<T, Regularization::l2>;
    using Kl = DIFFSORT_LEVEL::ShortRows<T, Regularization::kl>;
    using LogKl = DIFFSORT_LEVEL::ShortRows<T, Regularization::log_kl>;
    CAPTURE(n);
    CHECK(rows_alone(L2(), Regularization::l2, Operator::rank, 100.0) == 0);  // all are one block
    CHECK(rows_alone(Kl(), Regularization::kl, Operator::rank, 100.0) == 0);
    CHECK(rows_alone(L2(), Regularization::l2, Operator::rank, 2.0 * spacing) <
          rows / 50);  // some are
    CHECK(rows_alone(L2(), Regularization::l2, Operator::rank, 0.01 * spacing) < rows / 50);
    CHECK(rows_alone(L2(), Regularization::l2, Operator::sort, 4.0 / spacing) < rows / 50);
    CHECK(rows_alone(L2(), Regularization::l2, Operator::sort, 0.1 / spacing) < rows / 50);
    CHECK(rows_alone(Kl(), Regularization::kl, Operator::rank, 1e-2) < rows / 50);
    CHECK(rows_alone(LogKl(), Regularization::log_kl, Operator::sort, 4.0 / spacing) < rows / 50);
    CHECK(rows_alone(LogKl(), Regularization::log_kl, Operator::sort, 0.25 / spacing) < rows / 50);
    CHECK(rows_alone(LogKl(), Regularization::log_kl, Operator::sort, 0.005 / spacing) < rows / 50);
    if (n < 8) continue;  // else random rows often are one block
    CHECK(rows_alone(L2(), Regularization::l2, Operator::rank, spacing) < rows / 50);
    CHECK(rows_alone(Kl(), Regularization::kl, Operator::rank, 0.5) < rows / 50);
  }
}

TEST_CASE_TEMPLATE("levels of vector instructions give groups the same bits", T, float, double) {
  std::mt19937_64 random(43);
  for (const Family<T>& family : all_families<T>()) {
    for (const std::int64_t n : {2, 7, 16, 20, 32}) {
      const auto batch =
          batch_of(family, 37, n, random);  // several groups of each level, and a part
      for (const Regularization regularization : kRegularizations) {
        const bool is_rank = regularization != Regularization::log_kl;
        const auto solve_with = [&](const Solver& solver) {
          const auto problem =
              problem_of(batch, regularization, 1.0, is_rank ? Operator::rank : Operator::sort);
          Solved<T> solved{std::vector<T>(batch.values.size()),
                           std::vector<std::int32_t>(batch.values.size()),
                           {}};
          Projection<T> arrays;
          (is_rank ? arrays.z : arrays.w) = contiguous_rows(batch.values.data(), n);
          arrays.result = contiguous_rows(solved.result.data(), n);
          arrays.block_z = contiguous_rows(solved.block_z.data(), n);
          solver.project(problem, arrays, 0, batch.rows, Workers(1));
          return solved;
        };
        const auto expected = solve_with(portable::kSolver);
        for (const Solver* level : solver_levels()) {
          const auto found = solve_with(*level);
          CAPTURE(std::string(family.name));
          CAPTURE(std::string(level->level));
          CHECK(same_bits(found.result, expected.result));
          CHECK(found.block_z == expected.block_z);
        }
      }
    }
  }
}

namespace {

// log_kl, by w: softmax_B(w)_j sum_B(g), the blocks of z in order.
template <class T>
std::vector<long double> softmax_cotangent_of(const Batch<T>& batch, const Solved<T>& solved,
                                              const std::vector<T>& g, std::int64_t r) {
  const auto size = static_cast<std::size_t>(batch.n), first = static_cast<std::size_t>(r) * size;
  const T* const w = batch.values.data() + first;
  const long double top = *std::max_element(w, w + size);
  std::vector<long double> sums(size), totals(size), shares(size), cotangent(size);
  for (std::size_t i = 0; i < size; ++i) {
    sums[static_cast<std::size_t>(solved.block_z[first + i])] += g[first + i];
    shares[i] = std::exp(w[i] - top);
    totals[static_cast<std::size_t>(solved.block_w[first + i])] += shares[i];
  }
  for (std::size_t i = 0; i < size; ++i) {
    const auto id = static_cast<std::size_t>(solved.block_w[first + i]);
    cotangent[i] = shares[i] / totals[id] * sums[id];
  }
  return cotangent;
}

// J^T g of one row, from its blocks; l2 and kl.
template <class T>
std::vector<long double> cotangent_of(const Solved<T>& solved, const std::vector<T>& g,
                                      std::int64_t r, std::int64_t n, Regularization regularization,
                                      Operator op, double strength) {
  const auto size = static_cast<std::size_t>(n), first = static_cast<std::size_t>(r * n);
  std::vector<long double> sums(size), weights(size), cotangent(size);
  const auto weight = [&](std::size_t i) -> long double {
    return regularization == Regularization::kl ? solved.result[first + i] : 1.0L;
  };
  for (std::size_t i = 0; i < size; ++i) {
    const auto id = static_cast<std::size_t>(solved.block_z[first + i]);
    sums[id] += weight(i) * g[first + i];
    weights[id] += weight(i);
  }
  for (std::size_t i = 0; i < size; ++i) {
    const auto id = static_cast<std::size_t>(
        (op == Operator::rank ? solved.block_z : solved.block_w)[first + i]);
    const long double mean = sums[id] / weights[id];
    cotangent[i] = op == Operator::rank ? weight(i) * (g[first + i] - mean) / strength : mean;
  }
  return cotangent;
}

template <class T>
void check_derivatives(const Batch<T>& batch, Regularization regularization, Operator op,
                       std::mt19937_64& random) {
  const std::int64_t n = batch.n;
  std::vector<T> g(batch.values.size()), found(g.size());
  for (T& x : g) x = T(normal(random));
  const auto problem = problem_of(batch, regularization, 1.0, op);
  const auto solved = solve_batch(batch, regularization, 1.0, op);
  Linearization<T> at;
  at.block_z = contiguous_rows(solved.block_z.data(), n);
  at.block_w = contiguous_rows(solved.block_w.data(), n);
  at.result = contiguous_rows(solved.result.data(), n);
  if (op == Operator::sort) at.w = contiguous_rows(batch.values.data(), n);
  Cotangents<T> cotangents;
  cotangents.g = contiguous_rows<const T>(g.data(), n);
  (op == Operator::rank ? cotangents.z : cotangents.w) = contiguous_rows(found.data(), n);
  project_vjp(problem, at, cotangents, 1);
  for (std::int64_t r = 0; r < batch.rows; ++r) {
    const double strength = batch.strengths[static_cast<std::size_t>(r)];
    const bool softmax = regularization == Regularization::log_kl;
    const auto expected = softmax ? softmax_cotangent_of(batch, solved, g, r)
                                  : cotangent_of(solved, g, r, n, regularization, op, strength);
    const double size = static_cast<double>(n);
    const double scale = softmax ? size : op == Operator::rank ? size / strength : 1.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const long double error = found[static_cast<std::size_t>(r * n) + i] - expected[i];
      CHECK(std::abs(static_cast<double>(error)) <=
            8.0 * scale * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-50));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("derivatives of short rows are sums over their blocks", T, float, double) {
  std::mt19937_64 random(44);
  for (std::int64_t n = 1; n <= 66; n += n < 20 ? 1 : 5) {
    for (std::int64_t rows = 1; rows <= 9; ++rows) {
      Batch<T> batch{rows, n, {}, {}};
      for (std::int64_t i = 0; i < rows * n; ++i) batch.values.push_back(T(normal(random)));
      for (std::int64_t r = 0; r < rows; ++r) batch.strengths.push_back(2.0 / double(n + r));
      CAPTURE(n);
      CAPTURE(rows);
      check_derivatives(batch, Regularization::l2, Operator::rank, random);
      check_derivatives(batch, Regularization::kl, Operator::rank, random);
      for (double& strength : batch.strengths) strength = 0.5 / strength;
      check_derivatives(batch, Regularization::l2, Operator::rank, random);  // mostly one block
      check_derivatives(batch, Regularization::l2, Operator::sort, random);
      check_derivatives(batch, Regularization::log_kl, Operator::sort, random);
    }
  }
}

TEST_CASE_TEMPLATE("derivatives of ranks in one block have the same bits alone and beside others",
                   T, float, double) {
  std::mt19937_64 random(46);
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    for (std::int64_t n = 2; n <= 65; n += n < 20 ? 1 : 9) {
      const std::int64_t rows = 6;  // four and a part
      Batch<T> batch{rows, n, {}, Vector(rows, 100.0)};
      for (std::int64_t i = 0; i < rows * n; ++i) batch.values.push_back(T(normal(random)));
      std::vector<T> g(batch.values.size()), found(g.size());
      for (T& x : g) x = T(normal(random));
      const auto problem = problem_of(batch, regularization, 1.0, Operator::rank);
      const auto solved = solve_batch(batch, regularization, 1.0, Operator::rank);
      REQUIRE(solved.block_z == std::vector<std::int32_t>(g.size(), 0));
      const auto at = [&](std::int64_t first) {
        Linearization<T> result;
        result.block_z = contiguous_rows(solved.block_z.data() + first, n);
        result.result = contiguous_rows(solved.result.data() + first, n);
        return result;
      };
      const auto cotangents = [&](std::int64_t first, T* out) {
        Cotangents<T> result;
        result.g = contiguous_rows<const T>(g.data() + first, n);
        result.z = contiguous_rows(out, n);
        return result;
      };
      project_vjp(problem, at(0), cotangents(0, found.data()), Workers(1));
      Problem single = problem;
      single.space.batch_shape[0] = 1;
      for (std::int64_t r = 0; r < rows; ++r) {
        std::vector<T> alone(static_cast<std::size_t>(n));
        project_vjp(single, at(r * n), cotangents(r * n, alone.data()), Workers(1));
        CAPTURE(n);
        CHECK(same_bits(alone, row_of(found, r, n)));
      }
    }
  }
}

// The sums of the exponentials of rho are kept from call to call, for a length and strengths.
TEST_CASE_TEMPLATE("groups of sorted values by kl after those of other lengths", T, float, double) {
  std::mt19937_64 random(45);
  for (const std::int64_t n : {9, 5, 32, 31, 2, 20}) {
    Batch<T> batch{8, n, {}, Vector(8, 3.0)};
    for (std::int64_t i = 0; i < batch.rows * n; ++i) batch.values.push_back(T(normal(random)));
    check_batch(batch, Regularization::log_kl, true);
  }
}

TEST_CASE_TEMPLATE("ids that are no blocks spoil the derivatives of their row only", T, float,
                   double) {
  const std::int64_t rows = 7, n = 12;
  std::mt19937_64 random(45);
  Batch<T> batch{rows, n, {}, Vector(rows, 0.2)};
  for (std::int64_t i = 0; i < rows * n; ++i) batch.values.push_back(T(normal(random)));
  const std::vector<T> g(batch.values);
  const auto problem = problem_of(batch, Regularization::l2, 1.0, Operator::rank);
  const auto solved = solve_batch(batch, Regularization::l2, 1.0, Operator::rank);
  const auto vjp = [&](const std::vector<std::int32_t>& ids) {
    std::vector<T> found(g.size());
    Linearization<T> at;
    at.block_z = contiguous_rows(ids.data(), n);
    Cotangents<T> cotangents;
    cotangents.g = contiguous_rows(g.data(), n);
    cotangents.z = contiguous_rows(found.data(), n);
    project_vjp(problem, at, cotangents, 1);
    return found;
  };
  const auto expected = vjp(solved.block_z);
  for (const std::int32_t bad : {-1, 12, std::numeric_limits<std::int32_t>::max(),
                                 std::numeric_limits<std::int32_t>::min()}) {
    for (std::int64_t r = 0; r < rows; ++r) {
      auto ids = solved.block_z;
      ids[static_cast<std::size_t>(r * n + r)] = bad;
      const auto found = vjp(ids);
      for (std::int64_t other = 0; other < rows; ++other) {
        if (other != r) CHECK(same_bits(row_of(found, other, n), row_of(expected, other, n)));
      }
      CHECK(std::isnan(found[static_cast<std::size_t>(r * n)]));
    }
  }
}
