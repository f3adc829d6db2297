// Isotonic regression by pooling adjacent violators, on sorted s = z / strength and sorted w.
//
// Minimises the isotonic problem of Blondel et al. (2020), section 4: the block value is
//     l2: mean_B(s - w)      kl: lse_B(s) - log sum_B(w)      log_kl: lse_B(s) - lse_B(w)
// and two neighbouring blocks pool when v(left) <= v(right). Ties pool, so the partition is unique.
//
// Numerics: a block keeps its sums relative to its own first element, so that neither a common
// offset of the row nor its range costs digits, and exponentials stay within a factor n of 1.
// Infinite z need no special case: their distance to finite ones is infinite, so they never pool
// with them, and their distance to each other is taken as 0.
// Cost: O(n); at most n - 1 merges. Scratch: 12 bytes per block (l2), 20 (kl, log_kl).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "diffsort/projection.h"

namespace diffsort {

// (a - b) / strength, with 0 / 0 = 0: at strength 0 equal values stay equal and all others are
// infinitely far apart, which is the limit. Equal infinities count as equal values.
inline double scaled_difference(double a, double b, double strength) {
  if (a == b) return 0.0;
  const double difference = (a - b) / strength;
  if (std::isfinite(difference) || !(std::isfinite(a) && std::isfinite(b))) return difference;
  // a - b may have overflowed where the quotient does not.
  const double apart = a / strength - b / strength;
  return std::isnan(apart) ? difference : apart;
}

// What differences between blocks are measured in. l2 compares in the units of z, strength times
// those of s, where nothing can overflow: integers then compare exactly, without a quotient.
struct Units {
  double strength;
  bool of_z;

  template <class Z, class W>
  Units(std::int64_t n, double strength, const Z& z, const W& w) : strength(strength) {
    constexpr double moderate = 1e100;
    std::int64_t first = 0, last = n - 1;  // of the finite z, which alone share blocks with others
    while (first < last && std::isinf(z(first))) ++first;
    while (first < last && std::isinf(z(last))) --last;
    of_z = n > 0 && strength > 1.0 / moderate && strength < moderate &&
           !(z(first) - z(last) >= moderate) && w(0) - w(n - 1) < moderate;
  }
};

// Sums of one block, relative to its first element: the pair (S, W) whose quotient is its value.
template <Regularization R>
struct BlockSums {
  double s;  // sum of exp(s_i - s_first)
  double w;  // sum of W_i; in log_kl of exp(w_i - w_first)

  static constexpr double kUnderflow = 1e-280;

  static BlockSums singleton(double w_first) {
    return {1.0, R == Regularization::kl ? w_first : 1.0};
  }

  // What brings the sums of a block to the first element of its left neighbour, which lies ds above
  // in s and dw above in w.
  struct Shift {
    double ds, dw, s, w;
    Shift(const Units& units, double z_left, double z_right, double dw)
        : ds(scaled_difference(z_left, z_right, units.strength)),
          dw(dw),
          s(std::exp(-ds)),
          w(R == Regularization::kl ? 1.0 : std::exp(-dw)) {}
  };

  // v(left) <= v(right). Zero weights need no special case: their value is +inf. Blocks that
  // are infinitely far apart stay so even then: in a common softmax the right one would have 0.
  static bool violates(const BlockSums& left, std::int64_t, const BlockSums& right, std::int64_t,
                       const Shift& shift) {
    if (shift.ds == std::numeric_limits<double>::infinity()) return false;
    constexpr bool linear_w = R == Regularization::kl;
    if (shift.s < kUnderflow && (linear_w || shift.w < kUnderflow)) {
      // What is left of these factors has few digits, or none: compare logarithms.
      const double apart = linear_w ? shift.ds : shift.ds - shift.dw;
      return apart + std::log(left.s / left.w) <= std::log(right.s / right.w);
    }
    return left.s * (right.w * shift.w) <= left.w * (right.s * shift.s);
  }

  void absorb(const BlockSums& right, std::int64_t, const Shift& shift) {
    s += right.s * shift.s;
    w += right.w * shift.w;
  }
};

template <>
struct BlockSums<Regularization::l2> {
  double y;  // sum of (s_i - s_first) - (w_i - w_first), in the row's units

  static BlockSums singleton(double) { return {0.0}; }

  struct Shift {
    double y;
    Shift(const Units& units, double z_left, double z_right, double dw)
        : y(units.of_z ? (z_left == z_right ? 0.0 : z_left - z_right) - units.strength * dw
                       : scaled_difference(z_left, z_right, units.strength) - dw) {}
  };

  // shift + mean(left) - mean(right) <= 0, times both sizes: no division.
  static bool violates(const BlockSums& left, std::int64_t left_size, const BlockSums& right,
                       std::int64_t right_size, const Shift& shift) {
    const auto m = static_cast<double>(left_size), n = static_cast<double>(right_size);
    return shift.y * m * n + left.y * n - right.y * m <= 0.0;
  }

  void absorb(const BlockSums& right, std::int64_t right_size, const Shift& shift) {
    y += right.y - static_cast<double>(right_size) * shift.y;
  }
};

// The partition of [0, n) into blocks; its memory is kept from row to row.
template <Regularization R>
class Pooling {
 public:
  // z(i) and w(i): the i-th largest of each, as double.
  template <class Z, class W>
  void run(std::int64_t n, double strength, const Z& z, const W& w) {
    const Units units(n, strength, z, w);
    starts_.clear();
    sums_.clear();
    starts_.reserve(static_cast<std::size_t>(n));  // pages that no block reaches stay untouched
    sums_.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t start = i;
      BlockSums<R> block = BlockSums<R>::singleton(w(i));
      while (!starts_.empty()) {
        const std::int64_t left_start = starts_.back();
        const std::int64_t left_size = start - left_start, size = i + 1 - start;
        const typename BlockSums<R>::Shift shift(units, z(left_start), z(start),
                                                 w(left_start) - w(start));
        const bool pools = strength > 0.0
                               ? BlockSums<R>::violates(sums_.back(), left_size, block, size, shift)
                               : z(left_start) == z(start);  // whatever w is, and be it infinite
        if (!pools) break;
        BlockSums<R> merged = sums_.back();
        merged.absorb(block, size, shift);
        block = merged;
        start = left_start;
        starts_.pop_back();
        sums_.pop_back();
      }
      starts_.push_back(static_cast<std::int32_t>(start));
      sums_.push_back(block);
    }
    if (static_cast<std::size_t>(n) >= kReleaseLength) std::vector<BlockSums<R>>().swap(sums_);
  }

  std::size_t blocks() const { return starts_.size(); }
  std::int64_t start(std::size_t block) const { return starts_[block]; }
  std::int64_t end(std::size_t block, std::int64_t n) const {
    return block + 1 < starts_.size() ? starts_[block + 1] : n;
  }

 private:
  std::vector<std::int32_t> starts_;
  std::vector<BlockSums<R>> sums_;
};

}  // namespace diffsort
