// The CPU's general way, which pools from left to right, for the fast ones to be held against.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/general_row.h"
#include "support.h"

namespace diffsort::testing {

template <class T>
Solved<T> solve_generally(const Problem& problem, const std::vector<T>& z,
                          const std::vector<T>& w) {
  const std::int64_t n = problem.space.length;
  const auto size = static_cast<std::size_t>(n);
  Solved<T> solved{std::vector<T>(size), std::vector<std::int32_t>(size),
                   std::vector<std::int32_t>(size)};
  const auto row = [](auto& values) {
    return Row<std::decay_t<decltype(values[0])>>{values.data(), 1};
  };
  project_general_row(GeneralRow<T>{n,
                                    problem.regularization,
                                    problem.z_sign,
                                    problem.w_sign,
                                    problem.strength.value,
                                    {z.empty() ? nullptr : z.data(), 1},
                                    {w.empty() ? nullptr : w.data(), 1},
                                    row(solved.result),
                                    row(solved.block_z),
                                    row(solved.block_w)});
  return solved;
}

template <class T>
void check_close(const std::vector<T>& found, const std::vector<T>& expected, double scale) {
  // Of the type, once for the result and once for what the two ways add up in another order, one of
  // them from left to right.
  const double sums = static_cast<double>(found.size()) * 0x1p-53;
  const double allowed = scale * (sizeof(T) == 4 ? 0x1p-23 : std::max(0x1p-44, sums));
  double worst = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double x = static_cast<double>(found[i]), y = static_cast<double>(expected[i]);
    if (std::isnan(x) && std::isnan(y)) continue;
    worst = worse(worst, std::abs(x - y));
  }
  CHECK(worst <= allowed);
}

template <class T>
std::vector<T> as(const Vector& values) {
  return std::vector<T>(values.begin(), values.end());
}

}  // namespace diffsort::testing
