// The values of a block's elements, in forms that subtract nearby numbers only (never s - v):
//
//     l2      mean_B(w) + (s_i - mean_B(s))
//     kl      softmax_B(s)_i * sum_B(w)
//     log_kl  (s_i - lse_B(s)) + lse_B(w)
//
// An element alone in its block comes to w_i in all three. Sums are in double: in order in rows that
// short_rows.h solves side by side, where a row alone is to have the same bits, else in 16 parts.
// Cost: one read of the block for its sums, unless those of pooling serve, and one for its values.
#pragma once

#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "log.h"
#include "operand.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// A block [a, b) and how sums over it are added up.
struct BlockRange {
  std::int64_t a, b;
  bool in_order;

  double size() const { return static_cast<double>(b - a); }
  template <class Term>
  double sum_of(const Term& term) const {
    return in_order ? sum_in_order_of(a, b, term) : padded_sum_of(a, b, term);
  }
};

// Mean over the block of x_i - x_a.
template <class X>
double mean_above(const BlockRange& block, const X& x) {
  const double first = x(block.a);
  return block.sum_of([&](std::int64_t i) { return x.vector(i) - first; }) / block.size();
}

inline double mean_above(const BlockRange& block, const Rho&) {
  return -0.5 * (block.size() - 1.0);
}

// Sum over the block of x_i. Of weights, which may differ by orders of magnitude.
template <class X>
double plain_sum(const BlockRange& block, const X& x) {
  return block.sum_of([&](std::int64_t i) { return x.vector(i); });
}

inline double plain_sum(const BlockRange& block, const Rho& rho) {
  return 0.5 * block.size() * (rho(block.a) + rho(block.b - 1));
}

// Sum over the block of exp(scale (x_i - x_a)), as exact as T.
template <class T, class X>
double sum_of_exp(const BlockRange& block, double scale, const X& x) {
  const double first = x(block.a);
  return block.sum_of(
      [&](std::int64_t i) { return exp_nonpositive<T>((x.vector(i) - first) * scale); });
}

// The values of one block, multiplied by `sign`, as exact as T.
template <class T, Regularization R>
class BlockValues {
 public:
  BlockValues() = default;

  // scale: 1 / strength. pooled: the sums by which the block was found.
  template <class Z, class W>
  BlockValues(const BlockRange& block, double scale, const Z& z, const W& w,
              const BlockSums<R>& pooled, double sign)
      : first_(z(block.a)), scale_(scale), sign_(sign) {
    if constexpr (R == Regularization::l2) {
      below_ = mean_above(block, z) * scale_;
      shift_ = w(block.a) + mean_above(block, w);
    } else {
      const BlockSums<R> sums =
          pooled_sums_serve(block)
              ? pooled
              : BlockSums<R>{sum_of_exp<T>(block, scale_, z), weight(block, w)};
      if (R == Regularization::kl) {
        sign_ *= sums.w / sums.s;
      } else {
        shift_ = w(block.a) + log_of(sums.w / sums.s);  // each is between 1 and the block's size
      }
    }
  }

  // Of the elements from i on, side by side; what lies beyond the block means nothing.
  template <class Z>
  Doubles from(std::int64_t i, const Z& z) const {
    if constexpr (kPartsAreKnown<Z>) return load(z.parts + i) * sign_;
    const Doubles s = (z.vector(i) - first_) * scale_;
    if (R == Regularization::kl) return exp_nonpositive<T>(s) * sign_;
    return (shift_ + (s - below_)) * sign_;
  }

 private:
  template <class Z>
  static constexpr bool kPartsAreKnown = std::is_same_v<Z, KnownParts<T>>;

  // Sums of pooling round once per element, those of this file once per sixteenth of them.
  static bool pooled_sums_serve(const BlockRange& block) {
    return !block.in_order && (sizeof(T) == sizeof(float) || block.b - block.a <= 256);
  }
  template <class W>
  static double weight(const BlockRange& block, const W& w) {
    return R == Regularization::kl ? plain_sum(block, w) : sum_of_exp<T>(block, 1.0, w);
  }

  double first_ = 0.0, scale_ = 0.0, below_ = 0.0, shift_ = 0.0, sign_ = 0.0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
