// The values of a block's elements, in forms that subtract nearby numbers only (never s - v):
//
//     l2      mean_B(w) + (s_i - mean_B(s))
//     kl      softmax_B(s)_i * sum_B(w)
//     log_kl  (s_i - lse_B(s)) + lse_B(w)
//
// An element alone in its block comes to w_i in all three. Sums are in double: in order in rows that
// short_rows.h solves side by side, where a row alone is to have the same bits, else in 16 parts.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/projection.h"
#include "exp.h"
#include "operand.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// A block [a, b) and how sums over it are added up.
struct BlockRange {
  std::int64_t a, b;
  bool in_order;

  template <class Term>
  double sum_of(const Term& term) const {
    return in_order ? sum_in_order_of(a, b, term) : padded_sum_of(a, b, term);
  }
};

// Sum over the block of x_i - x_a.
template <class X>
double sum_above(const BlockRange& block, const X& x) {
  const double first = x(block.a);
  return block.sum_of([&](std::int64_t i) { return x.vector(i) - first; });
}

inline double sum_above(const BlockRange& block, const Rho&) {
  const auto size = static_cast<double>(block.b - block.a);
  return -0.5 * size * (size - 1.0);
}

// Sum over the block of x_i. Of weights, which may differ by orders of magnitude.
template <class X>
double plain_sum(const BlockRange& block, const X& x) {
  return block.sum_of([&](std::int64_t i) { return x.vector(i); });
}

inline double plain_sum(const BlockRange& block, const Rho& rho) {
  return 0.5 * static_cast<double>(block.b - block.a) * (rho(block.a) + rho(block.b - 1));
}

// Sum over the block of exp(scale (x_i - x_a)).
template <class X>
double sum_of_exp(const BlockRange& block, double scale, const X& x) {
  const double first = x(block.a);
  return block.sum_of(
      [&](std::int64_t i) { return exp_nonpositive((x.vector(i) - first) * scale); });
}

// The values of one block, multiplied by `sign`.
template <Regularization R>
class BlockValues {
 public:
  BlockValues() = default;

  template <class Z, class W>
  BlockValues(const BlockRange& block, double strength, const Z& z, const W& w, double sign)
      : first_(z(block.a)), scale_(1.0 / strength), sign_(sign) {
    if (R == Regularization::l2) {
      const auto size = static_cast<double>(block.b - block.a);
      below_ = sum_above(block, z) / size * scale_;
      shift_ = w(block.a) + sum_above(block, w) / size;
    } else if (R == Regularization::kl) {
      sign_ *= plain_sum(block, w) / sum_of_exp(block, scale_, z);
    } else {
      shift_ = w(block.a) +
               (std::log(sum_of_exp(block, 1.0, w)) - std::log(sum_of_exp(block, scale_, z)));
    }
  }

  // Of the elements from i on, side by side; what lies beyond the block means nothing.
  template <class Z>
  Doubles from(std::int64_t i, const Z& z) const {
    const Doubles s = (z.vector(i) - first_) * scale_;
    if (R == Regularization::kl) return exp_nonpositive(s) * sign_;
    return (shift_ + (s - below_)) * sign_;
  }

 private:
  double first_ = 0.0, scale_ = 0.0, below_ = 0.0, shift_ = 0.0, sign_ = 0.0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
