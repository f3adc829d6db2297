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

#include "diffsort/block_sums.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "operand.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// Mean over [a, b) of x_i - x_a.
template <class X>
double mean_above(std::int64_t a, std::int64_t b, const X& x) {
  const double first = x(a);
  return padded_sum_of(a, b, [&](std::int64_t i) { return x.vector(i) - first; }) /
         static_cast<double>(b - a);
}

inline double mean_above(std::int64_t a, std::int64_t b, const Rho&) {
  return -0.5 * static_cast<double>(b - a - 1);
}

// Sum over [a, b) of x_i. Of weights, which may differ by orders of magnitude.
template <class X>
double plain_sum(std::int64_t a, std::int64_t b, const X& x) {
  return padded_sum_of(a, b, [&](std::int64_t i) { return x.vector(i); });
}

inline double plain_sum(std::int64_t a, std::int64_t b, const Rho& rho) {
  return 0.5 * static_cast<double>(b - a) * (rho(a) + rho(b - 1));
}

// Sum over [a, b) of exp(scale (x_i - x_a)).
template <class X>
double sum_of_exp(std::int64_t a, std::int64_t b, double scale, const X& x) {
  const double first = x(a);
  return padded_sum_of(
      a, b, [&](std::int64_t i) { return exp_nonpositive((x.vector(i) - first) * scale); });
}

// The values of one block, multiplied by `sign`, as exact as T.
template <class T, Regularization R>
class BlockValues {
 public:
  BlockValues() = default;

  // scale: 1 / strength. pooled: the sums by which the block was found.
  template <class Z, class W>
  BlockValues(std::int64_t a, std::int64_t b, double scale, const Z& z, const W& w,
              const BlockSums<R>& pooled, double sign)
      : first_(z(a)), scale_(scale), sign_(sign) {
    if constexpr (R == Regularization::l2) {
      below_ = mean_above(a, b, z) * scale_;
      shift_ = w(a) + mean_above(a, b, w);
    } else {
      const BlockSums<R> sums = pooled_sums_serve(b - a)
                                    ? pooled
                                    : BlockSums<R>{sum_of_exp(a, b, scale_, z), weight(a, b, w)};
      if (R == Regularization::kl) {
        sign_ *= sums.w / sums.s;
      } else {
        shift_ = w(a) + (std::log(sums.w) - std::log(sums.s));
      }
    }
  }

  // Of the elements from i on, side by side; what lies beyond the block means nothing.
  template <class Z>
  Doubles from(std::int64_t i, const Z& z) const {
    const Doubles s = (z.vector(i) - first_) * scale_;
    if (R == Regularization::kl) return exp_nonpositive<T>(s) * sign_;
    return (shift_ + (s - below_)) * sign_;
  }

 private:
  // Sums of pooling round once per element, those of this file once per sixteenth of them.
  static bool pooled_sums_serve(std::int64_t size) {
    return sizeof(T) == sizeof(float) || size <= 256;
  }
  template <class W>
  static double weight(std::int64_t a, std::int64_t b, const W& w) {
    return R == Regularization::kl ? plain_sum(a, b, w) : sum_of_exp(a, b, 1.0, w);
  }

  double first_ = 0.0, scale_ = 0.0, below_ = 0.0, shift_ = 0.0, sign_ = 0.0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
