// One row in plain numbers, and what checks of it share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "diffsort/projection.h"

namespace diffsort::testing {

// One row, in the terms of projection.h: signs are applied, and an absent operand is rho.
struct PlainRow {
  Regularization regularization;
  double strength;
  std::vector<double> z, w;

  bool has_value() const {
    const auto is_nan = [](double x) { return std::isnan(x); };
    const auto is_inf = [](double x) { return std::isinf(x); };
    if (!(strength >= 0.0) || std::isinf(strength)) return false;
    if (std::any_of(z.begin(), z.end(), is_nan) || std::any_of(w.begin(), w.end(), is_nan))
      return false;
    if (strength > 0.0 && std::any_of(w.begin(), w.end(), is_inf)) return false;
    return regularization != Regularization::kl ||
           std::none_of(w.begin(), w.end(), [](double x) { return x < 0.0; });
  }
};

inline std::string digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

}  // namespace diffsort::testing
