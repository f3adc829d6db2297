#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "hostile_derivatives.h"
#include "hostile_rows.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

void check_hostile_calls(int count, unsigned seed, std::int64_t longest) {
  std::mt19937_64 random(seed);
  for (int call = 0; call < count; ++call) {
    std::vector<std::uint8_t> bytes(400);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const std::string complaint = complaint_of_hostile_call(bytes.data(), bytes.size(), longest);
    CAPTURE(seed);
    CAPTURE(call);
    CHECK_MESSAGE(complaint.empty(), complaint);
  }
}

template <class T>
struct Family {
  const char* name;
  T (*value)(std::mt19937_64& random, std::int64_t i);
};

double normal(std::mt19937_64& random) {
  return std::normal_distribution<double>()(random);
}

template <class T>
std::vector<Family<T>> long_families() {
  using Limits = std::numeric_limits<T>;
  return {
      {"normal", [](std::mt19937_64& random, std::int64_t) { return T(normal(random)); }},
      {"NaN", [](std::mt19937_64& random,
                 std::int64_t i) { return i == 30000 ? Limits::quiet_NaN() : T(normal(random)); }},
      {"infinities",
       [](std::mt19937_64& random, std::int64_t i) {
         const T sign = random() % 2 == 0 ? T(1) : T(-1);
         return i % 1000 == 7 ? sign * Limits::infinity() : T(normal(random));
       }},
      {"denormals",
       [](std::mt19937_64& random, std::int64_t) {
         return static_cast<T>(static_cast<double>(random() % 2001) - 1000.0) *
                Limits::denorm_min();
       }},
      {"Cauchy", [](std::mt19937_64& random,
                    std::int64_t) { return T(std::cauchy_distribution<double>()(random)); }},
      {"outlier", [](std::mt19937_64& random,
                     std::int64_t i) { return i == 40000 ? T(1e30) : T(normal(random)); }},
      {"constant", [](std::mt19937_64&, std::int64_t) { return T(1.7); }},
      {"two clusters",
       [](std::mt19937_64& random, std::int64_t) {
         return T(random() % 2 == 0 ? 1000.0 : -1000.0) + T(1e-2 * normal(random));
       }},
  };
}

enum class Operator { rank, sort };

// What is wrong with a row or with its derivative; empty: nothing.
template <class T>
std::string complaint_of_row(const Problem& problem, Operator op, const std::vector<T>& x,
                             const std::vector<T>& g) {
  const std::int64_t n = problem.space.length;
  const bool ranks = op == Operator::rank;
  const auto solved = ranks ? solve<T>(problem, x, {}, 2) : solve<T>(problem, {}, x, 2);
  PlainRow row{problem.regularization, problem.strength.value, rho(n), rho(n)};
  Vector& operand = ranks ? row.z : row.w;
  const double sign = problem.z_sign * problem.w_sign;
  for (std::size_t i = 0; i < x.size(); ++i) operand[i] = sign * static_cast<double>(x[i]);
  std::vector<T> result = solved.result;
  for (T& value : result) value *= static_cast<T>(problem.w_sign);
  const std::string complaint =
      RowCheck<T>(row, result, solved.block_z, solved.block_w).complaint();
  if (!complaint.empty()) return complaint;

  std::vector<T> found(x.size());
  Linearization<T> at;
  (ranks ? at.z : at.w) = contiguous_rows(x.data(), n);
  at.result = contiguous_rows<const T>(solved.result.data(), n);
  at.block_z = contiguous_rows<const std::int32_t>(solved.block_z.data(), n);
  at.block_w = contiguous_rows<const std::int32_t>(solved.block_w.data(), n);
  Cotangents<T> cotangents;
  cotangents.g = contiguous_rows(g.data(), n);
  (ranks ? cotangents.z : cotangents.w) = contiguous_rows(found.data(), n);
  project_vjp(problem, at, cotangents, 2);
  const CotangentReference<T> reference(row, result, solved.block_z, solved.block_w, g);
  const std::string of_derivative =
      ranks ? reference.complaint_of_z(found, sign, false) : reference.complaint_of_w(found);
  return of_derivative.empty() ? "" : "derivative: " + of_derivative;
}

// One at which finite values have several blocks, as a rule.
template <class T>
double telling_strength(const std::vector<T>& x, Regularization regularization, Operator op) {
  const auto is_between = [](T value) { return std::abs(value) < T(1e10); };
  double low = 0.0, high = 0.0;
  for (const T value : x) {
    if (!is_between(value)) continue;
    low = std::min(low, static_cast<double>(value));
    high = std::max(high, static_cast<double>(value));
  }
  const double per_element = (high - low) / static_cast<double>(x.size());
  if (!(per_element > 1e-300)) return 1.0;
  if (op == Operator::sort) return 0.3 / per_element;
  return regularization == Regularization::kl ? (high - low) / 20.0 : per_element;
}

template <class T>
void check_long_rows(std::int64_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<T> x(static_cast<std::size_t>(n)), g(x.size());
  double sign = 1.0;
  bool tiny = true;
  for (const Family<T>& family : long_families<T>()) {
    for (std::int64_t i = 0; i < n; ++i) {
      x[static_cast<std::size_t>(i)] = family.value(random, i);
      g[static_cast<std::size_t>(i)] = T(normal(random));
    }
    for (const auto& kind : {std::pair(Regularization::l2, Operator::rank),
                             std::pair(Regularization::kl, Operator::rank),
                             std::pair(Regularization::l2, Operator::sort),
                             std::pair(Regularization::log_kl, Operator::sort)}) {
      const Regularization regularization = kind.first;
      const Operator op = kind.second;
      sign = -sign;
      tiny = !tiny;
      for (const double strength : {telling_strength(x, regularization, op), tiny ? 1e-30 : 1e30}) {
        auto problem = problem_of(1, n, regularization, strength);
        (op == Operator::rank ? problem.z_sign : problem.w_sign) = sign;
        CAPTURE(n);
        CAPTURE(std::string(family.name));
        CAPTURE(static_cast<int>(regularization));
        CAPTURE(static_cast<int>(op));
        CAPTURE(strength);
        const std::string complaint = complaint_of_row(problem, op, x, g);
        CHECK_MESSAGE(complaint.empty(), complaint);
      }
    }
    sign = -sign;  // not the same for an operator of the next family
    if (sign > 0.0) tiny = !tiny;
  }
}

}  // namespace

TEST_CASE("blocks of kl that should have pooled are noticed, however little their values tell") {
  const PlainRow row{Regularization::kl, 1.0, {800.0, 0.0}, {1e90, 1e-320}};
  const std::vector<double> apart{1e90, 1e-320},
      pooled{1e90, 1e90 * std::exp(-400.0) * std::exp(-400.0)};
  const std::vector<std::int32_t> ids_apart{0, 1}, ids_pooled{0, 0};
  CHECK(!RowCheck<double>(row, apart, ids_apart, ids_apart).complaint().empty());
  CHECK(RowCheck<double>(row, pooled, ids_pooled, ids_pooled).complaint().empty());
}

TEST_CASE("hostile rows are solved right or marked, and disturb no others") {
  check_hostile_calls(1500, 1, 1000);
  check_hostile_calls(60, 2, 5000);
}

TEST_CASE("hostile rows of the lengths that go by buckets") {
  check_long_rows<float>(70000, 91);
  check_long_rows<double>(140000, 93);
}

TEST_CASE("a long form of hostile rows" * doctest::skip()) {
  for (unsigned seed = 3; seed < 13; ++seed) check_hostile_calls(20000, seed, 200'000);
}
