// What blocks of an isotonic regression are worth, and how they compare and combine.
//
// Block B of the sorted s = z / strength and the sorted w has the value
//     l2: mean_B(s - w)      kl: lse_B(s) - log sum_B(w)      log_kl: lse_B(s) - lse_B(w)
// and two neighbouring blocks pool when v(left) <= v(right).
//
// Numerics: a block keeps its sums relative to its own first element, so that neither a common
// offset of the row nor its range costs digits, and exponentials stay within a factor n of 1.
// Infinite z need no special case: their distance to finite ones is infinite, so they never pool
// with them, and their distance to each other is taken as 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/projection.h"

namespace diffsort {

// (a - b) / strength, with 0 / 0 = 0: at strength 0 equal values stay equal and all others are
// infinitely far apart, which is the limit. Equal infinities count as equal values.
DIFFSORT_HD inline double scaled_difference(double a, double b, double strength) {
  if (a == b) return 0.0;
  const double difference = (a - b) / strength;
  if (std::isfinite(difference) || !(std::isfinite(a) && std::isfinite(b))) return difference;
  // a - b may have overflowed where the quotient does not.
  const double apart = a / strength - b / strength;
  return std::isnan(apart) ? difference : apart;
}

// Products and differences of numbers beyond this, or its inverse, may be inexact, or overflow.
constexpr double kModerate = 1e100;

DIFFSORT_HD inline bool is_moderate(double strength) {
  return strength > 1.0 / kModerate && strength < kModerate;
}

// What differences between blocks are measured in. l2 compares in the units of z, strength times
// those of s, where nothing can overflow: integers then compare exactly, without a quotient.
struct Units {
  double strength;
  bool of_z;

  // The ranges of the finite z, which alone share blocks with others, and of w.
  DIFFSORT_HD Units(double strength, double z_range, double w_range)
      : strength(strength),
        of_z(is_moderate(strength) && !(z_range >= kModerate) && w_range < kModerate) {}

  // Reads the ranges off the sorted operands.
  template <class Z, class W>
  Units(std::int64_t n, double strength, const Z& z, const W& w)
      : Units(strength, finite_range(n, z), n > 0 ? w(0) - w(n - 1) : 0.0) {}

 private:
  template <class Z>
  static double finite_range(std::int64_t n, const Z& z) {
    std::int64_t first = 0, last = n - 1;
    while (first < last && std::isinf(z(first))) ++first;
    while (first < last && std::isinf(z(last))) --last;
    return n > 0 ? z(first) - z(last) : 0.0;
  }
};

// Sums of one block, relative to its first element: the pair (S, W) whose quotient is its value.
template <Regularization R>
struct BlockSums {
  double s;  // sum of exp(s_i - s_first)
  double w;  // sum of W_i; in log_kl of exp(w_i - w_first)

  static constexpr double kUnderflow = 1e-280;

  DIFFSORT_HD static BlockSums singleton(double w_first) {
    return {1.0, R == Regularization::kl ? w_first : 1.0};
  }

  // What brings the sums of a block to the first element of its left neighbour, which lies ds above
  // in s and dw above in w.
  struct Shift {
    double ds, dw, s, w;
    DIFFSORT_HD Shift(double ds, double dw, double s, double w) : ds(ds), dw(dw), s(s), w(w) {}
    DIFFSORT_HD Shift(const Units& units, double z_left, double z_right, double dw)
        : ds(scaled_difference(z_left, z_right, units.strength)),
          dw(dw),
          s(std::exp(-ds)),
          w(R == Regularization::kl ? 1.0 : std::exp(-dw)) {}
  };

  // v(left) <= v(right). Zero weights need no special case: their value is +inf. Blocks that
  // are infinitely far apart stay so even then: in a common softmax the right one would have 0.
  DIFFSORT_HD static bool violates(const BlockSums& left, std::int64_t, const BlockSums& right,
                                   std::int64_t, const Shift& shift) {
    if (shift.ds == std::numeric_limits<double>::infinity()) return false;
    constexpr bool linear_w = R == Regularization::kl;
    if (shift.s < kUnderflow && (linear_w || shift.w < kUnderflow)) {
      // What is left of these factors has few digits, or none: compare logarithms.
      const double apart = linear_w ? shift.ds : shift.ds - shift.dw;
      // (As w / s, which cannot overflow where w is denormal.)
      return apart + std::log(right.w / right.s) <= std::log(left.w / left.s);
    }
    return left.s * (right.w * shift.w) <= left.w * (right.s * shift.s);
  }

  DIFFSORT_HD void absorb(const BlockSums& right, std::int64_t, const Shift& shift) {
    s += right.s * shift.s;
    w += right.w * shift.w;
  }
};

template <>
struct BlockSums<Regularization::l2> {
  double y;  // sum of (s_i - s_first) - (w_i - w_first), in the row's units

  DIFFSORT_HD static BlockSums singleton(double) { return {0.0}; }

  struct Shift {
    double y;
    DIFFSORT_HD Shift(const Units& units, double z_left, double z_right, double dw)
        : y(units.of_z ? (z_left == z_right ? 0.0 : z_left - z_right) - units.strength * dw
                       : scaled_difference(z_left, z_right, units.strength) - dw) {}
  };

  // shift + mean(left) - mean(right) <= 0, times both sizes: no division.
  DIFFSORT_HD static bool violates(const BlockSums& left, std::int64_t left_size,
                                   const BlockSums& right, std::int64_t right_size,
                                   const Shift& shift) {
    const double m = count_to_double(left_size), n = count_to_double(right_size);
    return shift.y * m * n + left.y * n - right.y * m <= 0.0;
  }

  DIFFSORT_HD void absorb(const BlockSums& right, std::int64_t right_size, const Shift& shift) {
    y += right.y - count_to_double(right_size) * shift.y;
  }
};

}  // namespace diffsort
