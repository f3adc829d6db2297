// Rows over sixty orders of magnitude, and rows with spikes: beside the families of support.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>

#include "support.h"

namespace diffsort::testing {

inline std::vector<Vector> wide_families(std::int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> power(-30.0, 30.0);
  std::uniform_int_distribution<int> hundred(0, 99);
  std::vector<Vector> rows(6, Vector(static_cast<std::size_t>(n)));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const double x = normal(random), sign = x < 0.0 ? -1.0 : 1.0;
    const int percent = hundred(random);
    rows[0][i] = sign * std::pow(10.0, power(random));
    rows[1][i] = percent < 50 ? sign * 1e30 : x;
    rows[2][i] = percent < 2 ? sign * 1e6 : x;
    rows[3][i] = percent < 2 ? sign * 1e30 : std::floor(2.0 * x);
    rows[4][i] = sign * std::pow(10.0, 60.0 * double(i) / double(n) - 30.0);
    rows[5][i] = x;
  }
  if (n > 0) rows[5][random() % static_cast<std::uint64_t>(n)] = 1e30;
  return rows;
}

}  // namespace diffsort::testing
