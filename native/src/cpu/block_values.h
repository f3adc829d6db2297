// The values of a block's elements, in forms that subtract nearby numbers only (never s - v):
//
//     l2      mean_B(w) + (s_i - mean_B(s))
//     kl      softmax_B(s)_i * sum_B(w)
//     log_kl  (s_i - lse_B(s)) + lse_B(w)
//
// An element alone in its block comes to w_i in all three. Sums are in double, in 16 parts.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/projection.h"
#include "exp.h"
#include "operand.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// Sum over [a, b) of x_i - x_a.
template <class X>
double sum_above(std::int64_t a, std::int64_t b, const X& x) {
  const double first = x(a);
  return sum_of(
      a, b, [&](std::int64_t i) { return x.vector(i) - first; },
      [&](std::int64_t i) { return x(i) - first; });
}

inline double sum_above(std::int64_t a, std::int64_t b, const Rho&) {
  const auto size = static_cast<double>(b - a);
  return -0.5 * size * (size - 1.0);
}

// Sum over [a, b) of exp(scale (x_i - x_a)).
template <class X>
double sum_of_exp(std::int64_t a, std::int64_t b, double scale, const X& x) {
  const double first = x(a);
  return sum_of(
      a, b, [&](std::int64_t i) { return exp_nonpositive((x.vector(i) - first) * scale); },
      [&](std::int64_t i) { return exp_of((x(i) - first) * scale); });
}

// out[i - a] = sign * f(scale (z_i - z_a)) for i in [a, b); never -0. May overwrite z.
template <class T, class Z, class F>
void map_block(std::int64_t a, std::int64_t b, double scale, const Z& z, const F& f, double sign,
               T* out) {
  const double first = z(a);
  std::int64_t i = a;
  for (; i + kLanes <= b; i += kLanes) {
    store(out + (i - a), sign * f((z.vector(i) - first) * scale) + 0.0);
  }
  for (; i < b; ++i) {
    out[i - a] = static_cast<T>(sign * f(broadcast((z(i) - first) * scale))[0] + 0.0);
  }
}

template <Regularization R, class T, class Z, class W>
void block_values(std::int64_t a, std::int64_t b, double strength, const Z& z, const W& w,
                  double sign, T* out) {
  const double scale = 1.0 / strength;
  if (R == Regularization::l2) {
    const auto size = static_cast<double>(b - a);
    const double s_mean = sum_above(a, b, z) / size * scale;
    const double w_mean = w(a) + sum_above(a, b, w) / size;
    map_block(a, b, scale, z, [&](Doubles s) { return w_mean + (s - s_mean); }, sign, out);
  } else if (R == Regularization::kl) {
    const double w_sum = static_cast<double>(b - a) * w(a) + sum_above(a, b, w);
    const double factor = w_sum / sum_of_exp(a, b, scale, z);
    map_block(a, b, scale, z, [&](Doubles s) { return exp_nonpositive(s) * factor; }, sign, out);
  } else {
    const double shift = w(a) + (std::log(sum_of_exp(a, b, 1.0, w)) - std::log(sum_of_exp(a, b, scale, z)));
    map_block(a, b, scale, z, [&](Doubles s) { return shift + s; }, sign, out);
  }
}

}  // namespace diffsort::DIFFSORT_LEVEL
