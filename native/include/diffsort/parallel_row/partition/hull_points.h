// The points of a hull (hull.h): what the elements of a part add to X and Y, as integers, and what a
// block's sums are worth.
//
// l2: y in multiples of a power of two. Isotonic regression enlarges no error: values that are off by
// half a unit at most give means that are off by no more, beside the rounding of y. HullPoints admits
// rows where a unit is next to nothing beside the range of w. That is for ranks and sorted values, where
// z or w is rho; where neither is, elements far from all others would hide how near these are.
//
// kl, log_kl: exponentials relative to the part's first element, the largest. HullPoints admits parts
// whose smallest one has 28 bits, which is a range of s, and of w, up to some ln(2^33 / n): 14.5 for
// n = 4096, 18 for n = 100. Where all w of log_kl are less than 1, so are results, and it has more bits.
// Weights of kl are rho, whose sums are integers that need no array.
//
// Other rows, and float64, go by pool.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "diffsort/arithmetic.h"
#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/team/fixed_point.h"

namespace diffsort {

// Which arrays have rows for this, of an operand z, or w, or both.
template <class T>
constexpr bool kHasHull = std::is_same_v<T, float>;

template <Regularization R>
constexpr bool has_hull_of(bool z, bool w) {
  return R == Regularization::l2 ? !(z && w) : R == Regularization::kl ? !w : true;
}

constexpr int kHullBits = 61;  // of all sums

// A block's sums, in units.
struct HullSums {
  std::int64_t y, x;
};

// A part's first element, and units; none where the part does not fit.
struct HullOrigin {
  std::int64_t first;
  double z_first, w_first, per_unit, per_strength;

  HullOrigin() = default;
  template <class Row>
  DIFFSORT_HD HullOrigin(const Row& row, std::int64_t first)
      : first(first),
        z_first(row.z(first)),
        w_first(row.w(first)),
        per_unit(0.0),
        per_strength(0.0) {}

  DIFFSORT_HD bool fits() const { return per_unit > 0.0; }
};

template <Regularization R>
struct HullPoints : HullOrigin {
  static_assert(R != Regularization::l2);

  HullPoints() = default;

  // Of the n elements of a row from `first` on.
  template <class Row>
  DIFFSORT_HD HullPoints(const Row& row, std::int64_t first, std::int64_t n)
      : HullOrigin(row, first) {
    if (!is_moderate(row.strength)) return;
    const std::int64_t last = first + n - 1;
    const double z_range = (z_first - row.z(last)) / row.strength;
    const double w_range = R == Regularization::log_kl ? w_first - row.w(last) : 0.0;
    // n <= 2^exponent
    const int exponent = n > 1 ? highest_bit(static_cast<std::uint32_t>(n - 1)) + 1 : 0;
    const int fewest =
        kFewestBits + bits_below_1(std::fmax(std::fabs(w_first), std::fabs(row.w(last))));
    const double most = (kHullBits - fewest - exponent) * kLog2;
    if (!(z_range <= most && w_range <= most)) return;  // nor where z are infinite, and equal
    per_unit = power_of_two(kHullBits - exponent);
    per_strength = 1.0 / row.strength;
  }

  // Of element `first` + i.
  template <class Row>
  DIFFSORT_HD std::int64_t y(const Row& row, std::int32_t i) const {
    return units(s(row, i));
  }
  template <class Row>
  DIFFSORT_HD std::int64_t x(const Row& row, std::int32_t i) const {
    return units(row.w(first + i) - w_first);
  }

  // The value of element `first` + i, whose own sums are `own`, in a block with these sums.
  template <class Row>
  DIFFSORT_HD double result(const Row& row, std::int32_t i, const HullSums& own,
                            const HullSums& sums) const {
    const double shares = plain_quotient(to_double(sums.x), to_double(sums.y));
    if (R == Regularization::kl) return to_double(own.y) * shares;
    return w_first + (s(row, i) + std::log(shares));
  }

  // A block's sums relative to its first element, whose own sums are these.
  DIFFSORT_HD BlockSums<R> block_sums(const HullSums& of_first, const HullSums& sums) const {
    const double x = to_double(sums.x);
    return {plain_quotient(to_double(sums.y), to_double(of_first.y)),
            R == Regularization::kl ? x : plain_quotient(x, to_double(of_first.x))};
  }

 private:
  // Results of log_kl are logarithms: where all w are small, so must their errors be.
  DIFFSORT_HD static int bits_below_1(double largest_w) {
    const int bits = R == Regularization::log_kl ? 1022 - exponent_of(largest_w) : 0;
    return bits > 0 ? bits : 0;
  }

  template <class Row>
  DIFFSORT_HD double s(const Row& row, std::int32_t i) const {
    return (row.z(first + i) - z_first) * per_strength;
  }
  DIFFSORT_HD std::int64_t units(double exponent) const {
    return round_to_integer(std::exp(exponent) * per_unit);
  }
  DIFFSORT_HD static double to_double(std::int64_t sum) { return static_cast<double>(sum); }

  static constexpr int kFewestBits = 28;
  static constexpr double kLog2 = 0.69314718055994531;
};

template <>
struct HullPoints<Regularization::l2> : HullOrigin {
  double unit;

  HullPoints() = default;

  // Of the n elements of a row from `first` on.
  template <class Row>
  DIFFSORT_HD HullPoints(const Row& row, std::int64_t first, std::int64_t n)
      : HullOrigin(row, first), unit(0.0) {
    const double z_range = z_first - row.z(first + n - 1);
    const double w_range = row.strength * (w_first - row.w(first + n - 1));
    const double size = count_to_double(n < kShortest ? kShortest : n), range = z_range + w_range;
    // Neither if a range is not finite, or at strength 0.
    if (!row.units.of_z || !(w_range > 0.0) || !(size * size * range <= kFinest * w_range)) return;
    const int exponent = exponent_of(size * range) - 1022;  // size * range < 2^exponent
    unit = power_of_two(exponent - kHullBits);
    per_unit = power_of_two(kHullBits - exponent);
    per_strength = 1.0 / row.strength;
  }

  // Of element `first` + i.
  template <class Row>
  DIFFSORT_HD std::int64_t y(const Row& row, std::int32_t i) const {
    const double y = (row.z(first + i) - z_first) - row.strength * (row.w(first + i) - w_first);
    return round_to_integer(y * per_unit);
  }

  template <class Row>
  DIFFSORT_HD std::int64_t x(const Row&, std::int32_t) const {
    return 1;
  }

  // The value of element `first` + i, whose own sums are `own`, in a block with these sums.
  template <class Row>
  DIFFSORT_HD double result(const Row& row, std::int32_t i, const HullSums&,
                            const HullSums& sums) const {
    const double mean = plain_quotient(static_cast<double>(sums.y) * unit, count_to_double(sums.x));
    return w_first + ((row.z(first + i) - z_first) - mean) * per_strength;
  }

  // A block's sums relative to its first element, whose own sums are these.
  DIFFSORT_HD BlockSums<Regularization::l2> block_sums(const HullSums& of_first,
                                                       const HullSums& sums) const {
    return {static_cast<double>(sums.y - sums.x * of_first.y) * unit};
  }

 private:
  // In shorter tiles doubles round coarser than units.
  static constexpr std::int64_t kShortest = 32;
  // n times a unit, at most n (z's range + w's) / 2^60, is at most 2^-26 of w's range.
  static constexpr double kFinest = 17179869184.0;  // 2^34
};

}  // namespace diffsort
