// Rows to test with, and the min-max formula that they are tested against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "diffsort/projection.h"

namespace diffsort::testing {

using Vector = std::vector<double>;

constexpr Regularization kRegularizations[] = {Regularization::l2, Regularization::kl,
                                               Regularization::log_kl};

// The families that break solvers: ties, monotone rows, near-ties, wide and tiny scales, outliers.
inline std::vector<Vector> families(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> few(0, 3);
  std::vector<Vector> rows(9, Vector(static_cast<std::size_t>(n)));
  double walk = 0.0;
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const double x = normal(random);
    rows[0][i] = x;
    rows[1][i] = few(random);
    rows[2][i] = 1.5;
    rows[3][i] = static_cast<double>(i);
    rows[4][i] = -static_cast<double>(i);
    rows[5][i] = i % 2 == 0 ? 1.0 : -1.0;
    rows[6][i] = 1e-12 * x + 1e-3;
    rows[7][i] = x * x * x * 10.0;
    rows[8][i] = walk += x;
  }
  return rows;
}

// The larger of two errors, or NaN if one is.
inline double worse(double a, double b) {
  return std::isnan(a) || a >= b ? a : b;
}

inline Vector rho(std::int64_t n) {
  Vector values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = double(n - i);
  return values;
}

inline std::vector<std::size_t> descending_order(const Vector& x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return x[a] > x[b]; });
  return order;
}

// v_i = min over l <= i of max over u >= i of the value of block [l, u]: the solution of isotonic
// regression without pooling anything. O(n^3) here, for rows of a few dozen.
inline Vector min_max_projection(const Vector& z, const Vector& w, double strength,
                                 Regularization regularization) {
  const std::size_t n = z.size();
  const auto sigma = descending_order(z), tau = descending_order(w);
  std::vector<long double> s(n), sorted_w(n);
  for (std::size_t i = 0; i < n; ++i) {
    s[i] = static_cast<long double>(z[sigma[i]]) / strength;
    sorted_w[i] = w[tau[i]];
  }
  const auto block_value = [&](std::size_t l, std::size_t u) -> long double {
    const auto size = static_cast<long double>(u - l + 1);
    long double s_sum = 0.0L, w_sum = 0.0L;
    for (std::size_t i = l; i <= u; ++i) {
      switch (regularization) {
        case Regularization::l2:
          s_sum += s[i] - s[l];
          w_sum += sorted_w[i];
          break;
        case Regularization::kl:
          s_sum += std::exp(s[i] - s[l]);
          w_sum += sorted_w[i];
          break;
        case Regularization::log_kl:
          s_sum += std::exp(s[i] - s[l]);
          w_sum += std::exp(sorted_w[i] - sorted_w[l]);
          break;
      }
    }
    if (regularization == Regularization::l2) return s[l] + (s_sum - w_sum) / size;
    const long double w_first = regularization == Regularization::log_kl ? sorted_w[l] : 0.0L;
    return s[l] - w_first + std::log(s_sum) - std::log(w_sum);
  };
  Vector result(n);
  for (std::size_t i = 0; i < n; ++i) {
    long double best = std::numeric_limits<long double>::infinity();
    for (std::size_t l = 0; l <= i; ++l) {
      long double worst = -std::numeric_limits<long double>::infinity();
      for (std::size_t u = i; u < n; ++u) worst = std::max(worst, block_value(l, u));
      best = std::min(best, worst);
    }
    const long double log_result = s[i] - best;
    result[sigma[i]] = static_cast<double>(
        regularization == Regularization::kl ? std::exp(log_result) : log_result);
  }
  return result;
}

template <class T>
Rows<T> contiguous_rows(T* data, std::int64_t n) {
  Rows<T> rows;
  rows.data = data;
  rows.strides.along = 1;
  rows.strides.batch[0] = n;
  return rows;
}

inline Problem problem_of(std::int64_t rows, std::int64_t n, Regularization regularization,
                          double strength) {
  Problem problem;
  problem.space.batch_dims = 1;
  problem.space.batch_shape[0] = rows;
  problem.space.length = n;
  problem.regularization = regularization;
  problem.strength.value = strength;
  return problem;
}

// One row through the solver: result and blocks.
template <class T>
struct Solved {
  std::vector<T> result;
  std::vector<std::int32_t> block_z, block_w;
};

template <class T>
Solved<T> solve(const Problem& problem, const std::vector<T>& z, const std::vector<T>& w,
                int threads = 1) {
  const std::int64_t n = problem.space.length;
  const auto size = static_cast<std::size_t>(problem.space.rows() * n);
  Solved<T> solved{std::vector<T>(size), std::vector<std::int32_t>(size),
                   std::vector<std::int32_t>(size)};
  Projection<T> arrays;
  if (!z.empty()) arrays.z = contiguous_rows(z.data(), n);
  if (!w.empty()) arrays.w = contiguous_rows(w.data(), n);
  arrays.result = contiguous_rows(solved.result.data(), n);
  arrays.block_z = contiguous_rows(solved.block_z.data(), n);
  arrays.block_w = contiguous_rows(solved.block_w.data(), n);
  project(problem, arrays, threads);
  return solved;
}

}  // namespace diffsort::testing
