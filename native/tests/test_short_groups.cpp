// Short rows side by side: against the general way, against the same rows one by one, and that they are
// in fact solved so.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cpu/general_row.h"
#include "cpu/row.h"
#include "cpu/short_rows.h"
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

template <class T>
Problem problem_of(const Batch<T>& batch, Regularization regularization, double sign,
                   Operator op) {
  Problem problem = diffsort::testing::problem_of(batch.rows, batch.n, regularization, 0.0);
  (op == Operator::rank ? problem.z_sign : problem.w_sign) = sign;
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
  const Batch<T> row{1,
                     batch.n,
                     {values, values + batch.n},
                     {batch.strengths[static_cast<std::size_t>(r)]}};
  if (!generally) return solve_batch(row, regularization, sign, op);
  Solved<T> solved{std::vector<T>(size), std::vector<std::int32_t>(size),
                   std::vector<std::int32_t>(size)};
  GeneralRow<T> general{};
  general.n = batch.n;
  general.regularization = regularization;
  general.z_sign = op == Operator::rank ? sign : 1.0;
  general.w_sign = op == Operator::rank ? 1.0 : sign;
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
    CAPTURE(family.name);
    for (std::int64_t n = 1; n <= 65; n += n < 33 ? 1 : n < 60 ? 9 : 1) {
      const std::int64_t rows = 1 + die(random, 20);
      const auto batch = batch_of(family, rows, n, random);
      for (const Regularization regularization : kRegularizations) {
        check_batch(batch, regularization, family.exact && regularization == Regularization::l2);
      }
    }
  }
}
