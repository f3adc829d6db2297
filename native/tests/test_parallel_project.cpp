// The kernels' projection, run on the CPU, against the sequential solver.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "arguments.h"
#include "diffsort/parallel_row/dispatch.h"
#include "host_executor.h"
#include "spmd_team.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Rows to project. An operand without numbers is rho; one of n numbers serves all rows.
template <class T>
struct Case {
  std::int64_t rows, n;
  Regularization regularization = Regularization::l2;
  std::vector<T> z, w;
  std::vector<T> strength{T(1)};  // one, or one per row
  double z_sign = 1.0, w_sign = 1.0;

  std::size_t size() const { return static_cast<std::size_t>(rows * n); }
  std::int64_t stride(const std::vector<T>& x) const { return x.size() == size() ? n : 0; }
  std::int64_t strength_stride() const { return strength.size() > 1 ? 1 : 0; }
};

template <class T>
Solved<T> rubbish(std::size_t size) {
  return {std::vector<T>(size, T(-12345)), std::vector<std::int32_t>(size, -12345),
          std::vector<std::int32_t>(size, -12345)};
}

template <class T>
Solved<T> solve_sequentially(const Case<T>& c) {
  Problem problem = problem_of(c.rows, c.n, c.regularization, 0.0);
  problem.z_sign = c.z_sign;
  problem.w_sign = c.w_sign;
  problem.strength.data = c.strength.data();
  problem.strength.is_float32 = std::is_same_v<T, float>;
  problem.strength.strides.batch[0] = c.strength_stride();
  Solved<T> solved = rubbish<T>(c.size());
  Projection<T> arrays;
  if (!c.z.empty()) arrays.z = contiguous_rows(c.z.data(), c.stride(c.z));
  if (!c.w.empty()) arrays.w = contiguous_rows(c.w.data(), c.stride(c.w));
  arrays.result = contiguous_rows(solved.result.data(), c.n);
  arrays.block_z = contiguous_rows(solved.block_z.data(), c.n);
  arrays.block_w = contiguous_rows(solved.block_w.data(), c.n);
  project(problem, arrays, 1);
  return solved;
}

template <class T>
ProjectionRows<T> rows_of(const Case<T>& c, Solved<T>& solved) {
  DiffsortProblem problem{};
  problem.rows = c.rows;
  problem.n = c.n;
  problem.type = std::is_same_v<T, float> ? DIFFSORT_FLOAT32 : DIFFSORT_FLOAT64;
  problem.regularization = static_cast<int>(c.regularization);
  problem.z_sign = c.z_sign;
  problem.w_sign = c.w_sign;
  problem.strength = {c.strength.data(), c.strength_stride(), problem.type, 0.0};
  const DiffsortProjection arrays{
      {c.z.empty() ? nullptr : c.z.data(), c.stride(c.z)},
      {c.w.empty() ? nullptr : c.w.data(), c.stride(c.w)},
      solved.result.data(),
      solved.block_z.data(),
      solved.block_w.data(),
  };
  REQUIRE(check_projection(problem, arrays) == nullptr);
  return projection_rows<T>(problem, arrays);
}

template <class F>
auto with_regularization(Regularization regularization, const F& f) {
  switch (regularization) {
    case Regularization::l2:
      return f(std::integral_constant<Regularization, Regularization::l2>{});
    case Regularization::kl:
      return f(std::integral_constant<Regularization, Regularization::kl>{});
    default:
      return f(std::integral_constant<Regularization, Regularization::log_kl>{});
  }
}

template <class T>
void run(HostExecutor& executor, Regularization regularization, const ProjectionRows<T>& arrays) {
  with_regularization(regularization, [&](auto r) {
    constexpr Regularization R = decltype(r)::value;
    const std::size_t bytes = projection_workspace<R>(executor, arrays);
    std::vector<unsigned char> workspace(bytes, kRubbish);
    run_projection<R>(executor, arrays, workspace.data());
  });
}

template <class T>
Solved<T> solve_in_parallel(const Case<T>& c, HostExecutor executor) {
  Solved<T> solved = rubbish<T>(c.size());
  run(executor, c.regularization, rows_of(c, solved));
  return solved;
}

// Sums are added up in another order, in double; results are rounded to T once.
template <class T>
bool close(T actual, T expected, double scale) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (actual == expected) return true;
  const double rounding = std::is_same_v<T, float> ? 1.5e-7 : 0.0;
  return std::abs(double(actual) - double(expected)) <= (1e-11 + rounding) * scale;
}

template <class T>
double scale_of(const Case<T>& c) {
  double scale = c.w.empty() ? static_cast<double>(c.n) : 1.0;
  for (const T value : c.w) {
    if (std::isfinite(value)) scale = std::max(scale, std::abs(static_cast<double>(value)));
  }
  // A block of kl has the sum of its w to share.
  return c.regularization == Regularization::kl ? scale * static_cast<double>(c.n) : scale;
}

template <class T>
void compare(const Case<T>& c, const Solved<T>& actual, const Solved<T>& expected) {
  const double scale = scale_of(c);
  CAPTURE(c.n);
  CAPTURE(c.rows);
  CAPTURE(static_cast<int>(c.regularization));
  CAPTURE(c.z.size());
  CAPTURE(c.w.size());
  CAPTURE(sizeof(T));
  for (std::size_t i = 0; i < c.size(); ++i) {
    CAPTURE(i);
    CAPTURE(c.strength[c.strength.size() > 1 ? i / static_cast<std::size_t>(c.n) : 0]);
    REQUIRE(actual.block_z[i] == expected.block_z[i]);
    REQUIRE(actual.block_w[i] == expected.block_w[i]);
    CAPTURE(actual.result[i]);
    CAPTURE(expected.result[i]);
    REQUIRE(close(actual.result[i], expected.result[i], scale));
  }
}

HostExecutor long_path() {
  HostExecutor executor;
  executor.team_capacity = 0;
  return executor;
}

template <class T>
void check_paths(const Case<T>& c) {
  const Solved<T> expected = solve_sequentially(c);
  compare(c, solve_in_parallel(c, HostExecutor{}), expected);
  compare(c, solve_in_parallel(c, long_path()), expected);
}

// All families as the rows of one array; for w of kl without negative numbers.
template <class T>
std::vector<T> family_rows(std::int64_t n, std::mt19937_64& random, bool nonnegative = false) {
  std::vector<T> values;
  for (const Vector& row : families(n, random)) {
    for (const double x : row) values.push_back(static_cast<T>(nonnegative ? std::abs(x) : x));
  }
  return values;
}

constexpr std::int64_t kFamilies = 9;

// Every choice of sorted operands, signs, and strengths that differ from row to row.
template <class T>
void check_length(std::int64_t n, std::mt19937_64& random) {
  for (const Regularization regularization : kRegularizations) {
    for (int operands = 0; operands < 4; ++operands) {
      Case<T> c{kFamilies, n, regularization, {}, {}, {}};
      if (operands & 1) c.z = family_rows<T>(n, random);
      if (operands & 2) {
        c.w = family_rows<T>(n, random, regularization == Regularization::kl);
        std::rotate(c.w.begin(), c.w.begin() + static_cast<std::ptrdiff_t>(c.w.size() / 3),
                    c.w.end());
      }
      for (std::int64_t r = 0; r < c.rows; ++r) {
        const double power = std::uniform_real_distribution<double>(-3, 3)(random);
        c.strength.push_back(r % 5 == 4 ? T(0) : static_cast<T>(std::pow(10.0, power)));
      }
      c.z_sign = random() % 2 ? 1.0 : -1.0;
      if (regularization != Regularization::kl) c.w_sign = random() % 2 ? 1.0 : -1.0;
      check_paths(c);
    }
  }
}

}  // namespace

TEST_CASE("kernels' projection: every short length") {
  std::mt19937_64 random(11);
  for (std::int64_t n = 0; n <= 70; ++n) {
    check_length<double>(n, random);
    check_length<float>(n, random);
  }
}

TEST_CASE("kernels' projection: lengths around those of the teams") {
  std::mt19937_64 random(12);
  for (const std::int64_t boundary : {128, 256, 512, 1024, 2048}) {
    for (const std::int64_t n : {boundary - 1, boundary, boundary + 1}) {
      check_length<double>(n, random);
      check_length<float>(n, random);
    }
  }
}
