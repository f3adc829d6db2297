#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The oracle subtracts s - v, so its own error grows with |s|; the solver's does not.
void check_close(const Vector& actual, const Vector& expected, double scale) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    REQUIRE(std::abs(actual[i] - expected[i]) <= 1e-11 * scale);
  }
}

double largest(const Vector& values) {
  double result = 1.0;
  for (const double value : values) result = std::max(result, std::abs(value));
  return result;
}

}  // namespace

TEST_CASE("the projection is the min-max formula, for arbitrary w") {
  std::mt19937_64 random(2);
  for (const std::int64_t n : {1, 2, 3, 5, 8, 13, 24}) {
    for (const auto& z : families(n, random)) {
      for (auto w : families(n, random)) {
        for (const Regularization regularization : kRegularizations) {
          if (regularization == Regularization::kl) {
            for (double& value : w) value = std::abs(value) + 1e-3;
          }
          for (const double strength : {1e-2, 0.3, 1.0, 10.0, 1e3}) {
            CAPTURE(n);
            CAPTURE(strength);
            const auto problem = problem_of(1, n, regularization, strength);
            const auto solved = solve<double>(problem, z, w);
            const Vector expected = min_max_projection(z, w, strength, regularization);
            check_close(solved.result, expected, largest(expected) + largest(z) / strength);
          }
        }
      }
    }
  }
}

TEST_CASE("an absent operand is rho") {
  std::mt19937_64 random(3);
  const std::int64_t n = 20;
  for (const auto& x : families(n, random)) {
    for (const Regularization regularization : kRegularizations) {
      const auto problem = problem_of(1, n, regularization, 0.7);
      const auto ranks = solve<double>(problem, x, {}), general = solve<double>(problem, x, rho(n));
      CHECK(ranks.block_z == general.block_z);
      check_close(ranks.result, general.result, static_cast<double>(n));
      if (regularization == Regularization::kl) continue;  // x has negative entries
      CHECK(solve<double>(problem, {}, x).result == solve<double>(problem, rho(n), x).result);
    }
  }
}

TEST_CASE("blocks are contiguous, canonical and shared by z and w") {
  std::mt19937_64 random(4);
  const std::int64_t n = 40;
  for (const auto& z : families(n, random)) {
    const auto problem = problem_of(1, n, Regularization::l2, 0.5);
    const auto solved = solve<double>(problem, z, {});
    const auto order = descending_order(z);
    std::int32_t previous = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int32_t id = solved.block_z[order[static_cast<std::size_t>(i)]];
      CHECK((id == previous || id == i));  // a block's id is where it starts
      CHECK(id == solved.block_w[static_cast<std::size_t>(i)]);
      previous = id;
    }
  }
}

TEST_CASE("l2 blocks of exactly equal value pool") {
  // Values 1/3 and 1/3, whose quotients by the strength are no floats.
  CHECK(solve<double>(problem_of(1, 3, Regularization::l2, 3.0), {8, 9, 4}, {}).block_z ==
        std::vector<std::int32_t>{0, 0, 0});
  CHECK(solve<double>(problem_of(1, 3, Regularization::l2, 5.0), {9, 8, 1}, {}).block_z ==
        std::vector<std::int32_t>{0, 0, 0});
}

TEST_CASE("strength 0 is the hard limit, with mean ranks at ties") {
  const Vector x{1, 1, 2, 0, 2};
  for (const Regularization regularization : {Regularization::l2, Regularization::kl}) {
    const auto ranks = solve<double>(problem_of(1, 5, regularization, 0.0), x, {});
    CHECK(ranks.result == Vector{2.5, 2.5, 4.5, 1, 4.5});
  }
  for (const Regularization regularization : {Regularization::l2, Regularization::log_kl}) {
    const auto sorted =
        solve<double>(problem_of(1, 5, regularization, 0.0), {}, {1, kInf, 3, -kInf, 2});
    CHECK(sorted.result == Vector{kInf, 3, 2, 1, -kInf});
    CHECK(sorted.block_w == std::vector<std::int32_t>{3, 0, 1, 4, 2});
  }
}

TEST_CASE("infinite z are limits, infinite w have none") {
  const auto ranks = solve<double>(problem_of(1, 6, Regularization::l2, 1.0),
                                   {kInf, 0.5, -kInf, 1.0, kInf, 0.0}, {});
  CHECK(ranks.result[0] == 5.5);
  CHECK(ranks.result[4] == 5.5);
  CHECK(ranks.result[2] == 1.0);
  CHECK(ranks.block_z[0] == infinite_block(0));
  CHECK(ranks.block_z[2] == infinite_block(5));
  CHECK(ranks.result[1] + ranks.result[3] + ranks.result[5] == doctest::Approx(9.0));
  const auto sorted = solve<double>(problem_of(1, 2, Regularization::l2, 1.0), {}, {kInf, 0.0});
  CHECK(std::isnan(sorted.result[0]));
  CHECK(sorted.block_w[0] == kNanRow);
}

TEST_CASE("NaN and invalid strengths stay in their row") {
  const Vector x{1, 2, kNan, 3, 4, 5};
  for (const Regularization regularization : kRegularizations) {
    const auto solved = solve<double>(problem_of(3, 2, regularization, 1.0), x, {});
    CHECK(std::isfinite(solved.result[0]));
    CHECK(std::isnan(solved.result[2]));
    CHECK(std::isnan(solved.result[3]));
    CHECK(solved.block_z[3] == kNanRow);
    CHECK(std::isfinite(solved.result[5]));
  }
  for (const double strength : {-1.0, kNan, kInf, -kInf}) {
    const auto solved = solve<double>(problem_of(1, 2, Regularization::l2, strength), {1, 2}, {});
    CHECK(std::isnan(solved.result[1]));
  }
}

TEST_CASE("kl takes zero weights as a top-k mask does, and refuses negative ones") {
  const Vector z{3, 1, 2, 0.5};
  const auto mask = solve<double>(problem_of(1, 4, Regularization::kl, 1.0), z, {1, 1, 0, 0});
  double sum = 0.0;
  for (const double value : mask.result) {
    CHECK(value >= 0.0);
    CHECK(value <= 1.0 + 1e-15);
    sum += value;
  }
  CHECK(sum == doctest::Approx(2.0));
  const auto zero = solve<double>(problem_of(1, 4, Regularization::kl, 1.0), z, {0, 0, 0, 0});
  CHECK(zero.result == Vector(4, 0.0));
  const auto refused = solve<double>(problem_of(1, 2, Regularization::kl, 1.0), {1, 2}, {1, -1});
  CHECK(std::isnan(refused.result[0]));
}

TEST_CASE("kl compares blocks rightly where their exponentials underflow") {
  // Two elements, a gap of n in s against one of d in w: they pool iff s - w does not fall, and the
  // formula log exp(w1) + exp(w2) tells the result. Gaps around log(DBL_MIN) = 708 and 745.
  for (double gap = 690.0; gap < 770.0; gap += 0.7) {
    for (const double below : {-3.0, -0.4, -0.1, 0.0, 0.1, 0.4, 3.0}) {
      const double strength = 1.0 / gap;
      const auto problem = problem_of(1, 2, Regularization::log_kl, strength);
      const Vector w{0.0, gap + below};
      const auto solved = solve<double>(problem, {}, w);
      check_close(solved.result, min_max_projection(rho(2), w, strength, Regularization::log_kl),
                  gap);
    }
  }
}

TEST_CASE("kl pools weights that are smaller than their exponentials") {
  // Two elements pool iff the quotient of their weights exceeds exp(gap).
  for (const double gap : {600.0, 640.0, 660.0, 700.0, 720.0, 800.0, 940.0}) {
    for (const double log_quotient : {gap - 20.0, gap + 20.0, 2.0 * gap}) {
      const Vector w{1e90, std::exp(std::log(1e90) - log_quotient)};
      if (w[1] == 0.0) continue;
      const auto solved = solve<double>(problem_of(1, 2, Regularization::kl, 1.0), {gap, 0.0}, w);
      CAPTURE(gap);
      CAPTURE(log_quotient);
      CHECK(solved.block_z[1] == (log_quotient > gap ? 0 : 1));
    }
  }
}

TEST_CASE("kl ranks of equal values are one block, however large the values") {
  for (const double x : {1e300, 1.7e308, -1.7e308}) {
    const auto solved = solve<double>(problem_of(1, 3, Regularization::kl, 1.0), {x, x, x}, {});
    CHECK(solved.result == Vector(3, 2.0));
    CHECK(solved.block_z == std::vector<std::int32_t>(3, 0));
  }
}

TEST_CASE_TEMPLATE("extreme scales neither overflow nor lose their rows", T, float, double) {
  constexpr T huge = std::numeric_limits<T>::max();
  for (const Regularization regularization : kRegularizations) {
    for (const double strength : {1e-300, 1e-30, 1.0, 1e30, 1e300}) {
      const auto problem = problem_of(1, 5, regularization, strength);
      const std::vector<T> outlier{1, T(1e30), 2, -T(1e30), std::numeric_limits<T>::denorm_min()};
      for (const auto& x : {outlier, std::vector<T>{huge, -huge, 0, huge, T(-0.0)}}) {
        double sum = 0.0;
        for (const T value : solve<T>(problem, x, {}).result) {
          CHECK(std::isfinite(value));
          sum += regularization == Regularization::log_kl ? 3.0 : static_cast<double>(value);
        }
        CHECK(sum == doctest::Approx(15.0).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("threads change nothing, bit for bit, and strided outputs are written in place") {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  const std::int64_t rows = 300, n = 200;
  std::vector<float> x(static_cast<std::size_t>(rows * n));
  for (float& value : x) value = normal(random);
  const auto problem = problem_of(rows, n, Regularization::kl, 0.1);
  const auto expected = solve<float>(problem, x, {}, 1);
  for (const int threads : {2, 5, 16}) {
    const auto solved = solve<float>(problem, x, {}, threads);
    CHECK(solved.result == expected.result);
    CHECK(solved.block_z == expected.block_z);
  }

  // The transposed array, rows along its first axis, into a transposed output.
  std::vector<float> transposed(x.size()), result(x.size(), -1.0f);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      transposed[static_cast<std::size_t>(i * rows + r)] = x[static_cast<std::size_t>(r * n + i)];
    }
  }
  Projection<float> arrays;
  arrays.z.data = transposed.data();
  arrays.z.strides.along = rows;
  arrays.z.strides.batch[0] = 1;
  arrays.result.data = result.data();
  arrays.result.strides = arrays.z.strides;
  project(problem, arrays, 3);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      REQUIRE(result[static_cast<std::size_t>(i * rows + r)] ==
              expected.result[static_cast<std::size_t>(r * n + i)]);
    }
  }
}

TEST_CASE("float32 stays within n 2^-22 ranks at n = 10^6, where blocks pool") {
  std::mt19937_64 random(6);
  std::normal_distribution<double> normal(1000.0, 1.0);
  const std::int64_t n = 1000000;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = static_cast<float>(normal(random));
  const Vector wide(x.begin(), x.end());
  for (const double strength : {1e-6, 1e-4, 1e-2}) {
    const auto problem = problem_of(1, n, Regularization::l2, strength);
    const auto single = solve<float>(problem, x, {});
    const auto twice = solve<double>(problem, wide, {});
    double worst = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = worse(worst, std::abs(single.result[i] - twice.result[i]));
    }
    CHECK(worst <= static_cast<double>(n) / (1 << 22));
    CHECK(single.block_z == twice.block_z);
  }
}

TEST_CASE("l2 ranks in one block, found without a sort, are those found with one") {
  std::mt19937_64 random(9);
  for (const std::int64_t n : {1, 2, 3, 10, 100}) {
    for (const auto& z : families(n, random)) {
      const auto [low, high] = std::minmax_element(z.begin(), z.end());
      const double limit = 2.0 * (*high - *low) / static_cast<double>(n);
      // On both sides of the bound; the general w takes the road that sorts.
      for (const double factor : {0.5, 1.0 - 1e-9, 1.0 + 1e-9, 2.0, 1e6}) {
        const double strength = limit > 0.0 ? factor * limit : factor;
        const auto problem = problem_of(1, n, Regularization::l2, strength);
        const auto found = solve<double>(problem, z, {}),
                   sorted = solve<double>(problem, z, rho(n));
        CHECK(found.block_z == sorted.block_z);
        check_close(found.result, sorted.result, static_cast<double>(n));
      }
    }
  }
}
