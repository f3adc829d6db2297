// Calls of the projection, solved by the kernels' code on the CPU and by the sequential solver.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "arguments.h"
#include "diffsort/parallel_row/projection_dispatch.h"
#include "host_executor.h"
#include "support.h"

namespace diffsort::testing {

// Rows to project. An operand without numbers is rho; one of n numbers serves all rows.
template <class T>
struct ProjectionCase {
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
Solved<T> solve_sequentially(const ProjectionCase<T>& c) {
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
DiffsortProblem c_problem(const ProjectionCase<T>& c) {
  DiffsortProblem problem{};
  problem.rows = c.rows;
  problem.n = c.n;
  problem.type = std::is_same_v<T, float> ? DIFFSORT_FLOAT32 : DIFFSORT_FLOAT64;
  problem.regularization = static_cast<int>(c.regularization);
  problem.z_sign = c.z_sign;
  problem.w_sign = c.w_sign;
  problem.strength = {c.strength.data(), c.strength_stride(), problem.type, 0.0};
  return problem;
}

template <class T>
DiffsortProjection c_projection(const ProjectionCase<T>& c, Solved<T>& solved) {
  return {
      {c.z.empty() ? nullptr : c.z.data(), c.stride(c.z)},
      {c.w.empty() ? nullptr : c.w.data(), c.stride(c.w)},
      solved.result.data(),
      solved.block_z.data(),
      solved.block_w.data(),
  };
}

template <class T>
ProjectionRows<T> rows_of(const ProjectionCase<T>& c, Solved<T>& solved) {
  const DiffsortProblem problem = c_problem(c);
  const DiffsortProjection arrays = c_projection(c, solved);
  REQUIRE(check_projection(problem, arrays) == nullptr);
  return projection_rows<T>(problem, arrays);
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
Solved<T> solve_in_parallel(const ProjectionCase<T>& c, HostExecutor executor) {
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
double scale_of(const ProjectionCase<T>& c) {
  double scale = c.w.empty() ? static_cast<double>(c.n) : 1.0;
  for (const T value : c.w) {
    if (std::isfinite(value)) scale = std::max(scale, std::abs(static_cast<double>(value)));
  }
  // A block of kl has the sum of its w to share.
  return c.regularization == Regularization::kl ? scale * static_cast<double>(c.n) : scale;
}

template <class T>
bool agree(const Solved<T>& actual, const Solved<T>& expected, std::size_t i, double scale) {
  return actual.block_z[i] == expected.block_z[i] && actual.block_w[i] == expected.block_w[i] &&
         close(actual.result[i], expected.result[i], scale);
}

template <class T>
void compare(const ProjectionCase<T>& c, const Solved<T>& actual, const Solved<T>& expected) {
  const double scale = scale_of(c);
  std::size_t i = 0;
  while (i < c.size() && agree(actual, expected, i, scale)) ++i;
  if (i == c.size()) return;
  const double strength = c.strength[c.strength.size() > 1 ? i / static_cast<std::size_t>(c.n) : 0];
  FAIL_CHECK("element " << i << " of " << c.rows << " rows of " << c.n << ", regularization "
                        << static_cast<int>(c.regularization) << ", strength " << strength
                        << (c.z.empty() ? "" : ", z") << (c.w.empty() ? "" : ", w") << ", "
                        << sizeof(T) << " bytes: result " << actual.result[i] << " instead of "
                        << expected.result[i] << ", blocks " << actual.block_z[i] << " "
                        << actual.block_w[i] << " instead of " << expected.block_z[i] << " "
                        << expected.block_w[i]);
}

inline HostExecutor team_path() {
  HostExecutor executor;
  executor.longest_short = -1;
  return executor;
}

inline HostExecutor long_path() {
  HostExecutor executor = team_path();
  executor.team_capacity = 0;
  return executor;
}

}  // namespace diffsort::testing
