// Sums in fixed point: of integers, so that they are the same in whatever order terms come.
//
// The unit is a fraction of the largest term's power of two: 2^-41 of it for float terms, 2^-55 for
// double, less than a sum in float64 is off by. Integers are cut into words so narrow that
// kLongestSum terms do not overflow them, since 32 bits are what devices add fastest to shared
// memory: two low words of 19 bits and a signed top one. Counted sums have the number of terms in the
// top word as well.
//
// Infinite and NaN terms are counted by their sign instead; NaN counts as either, so that the sum of
// both infinities is NaN too.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "diffsort/host_device.h"

namespace diffsort {

constexpr std::int64_t kLongestSum = 8192;

template <class T>
struct FloatBits;

template <>
struct FloatBits<float> {
  using Bits = std::uint32_t;
  static constexpr int kFraction = 23, kSpecial = 255, kBias = 127;
};

template <>
struct FloatBits<double> {
  using Bits = std::uint64_t;
  static constexpr int kFraction = 52, kSpecial = 2047, kBias = 1023;
};

template <class To, class From>
DIFFSORT_HD To copy_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// The power of two, biased: from 1, which is that of denormals too, to kSpecial: infinite or NaN.
template <class T>
DIFFSORT_HD int exponent_of(T x) {
  using F = FloatBits<T>;
  const int exponent =
      static_cast<int>(copy_bits<typename F::Bits>(x) >> F::kFraction) & F::kSpecial;
  return exponent == 0 ? 1 : exponent;
}

// x in multiples of the smallest number with its power of two, without its sign.
template <class T>
DIFFSORT_HD std::uint64_t significand_of(T x) {
  using F = FloatBits<T>;
  constexpr auto kOne = typename F::Bits{1} << F::kFraction;
  const auto bits = copy_bits<typename F::Bits>(x);
  const bool normal = (bits << 1 >> 1) >= kOne;
  return static_cast<std::uint64_t>((bits & (kOne - 1)) | (normal ? kOne : 0));
}
template <class T>
DIFFSORT_HD bool has_sign(T x) {
  return copy_bits<typename FloatBits<T>::Bits>(x) >> (8 * sizeof(T) - 1) != 0;
}

// Of a block with infinite or NaN terms: which terms count as infinity of either sign, NaN as both, and
// their sum.
template <class T>
DIFFSORT_HD bool counts_as_positive(T x) {
  return !(x <= std::numeric_limits<T>::max());
}
template <class T>
DIFFSORT_HD bool counts_as_negative(T x) {
  return !(x >= -std::numeric_limits<T>::max());
}
DIFFSORT_HD inline double special_sum(bool positive, bool negative) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  return (positive ? kInfinite : 0.0) + (negative ? -kInfinite : 0.0);
}

// Of normal numbers.
DIFFSORT_HD inline double power_of_two(int exponent) {
  using F = FloatBits<double>;
  return copy_bits<double>(static_cast<std::uint64_t>(exponent + F::kBias) << F::kFraction);
}

// Of terms of type T.
template <class T, bool kCounted>
class FixedPoint {
  using F = FloatBits<T>;
  static constexpr int kLowBits = 19;
  static constexpr int kCountBits = kCounted ? 14 : 0;
  static constexpr int kTopBits = 18 - kCountBits;
  static constexpr int kShift = 2 * kLowBits + kTopBits - (F::kFraction + 1);
  static_assert(kShift >= 0);
  static_assert(kLongestSum << kLowBits <= std::int64_t{1} << 32);
  static_assert(kLongestSum << (kTopBits + kCountBits) <= std::int64_t{1} << 31);

 public:
  static constexpr int kWords = 3;

  // exponent: of the largest term, or more. Writes kWords words.
  DIFFSORT_HD static void split(T x, int exponent, std::uint32_t* words) {
    if (exponent == F::kSpecial) return split_special(x, words);
    const int shift = exponent - exponent_of(x);
    std::uint64_t value = significand_of(x) << kShift >> (shift < 63 ? shift : 63);
    if (has_sign(x)) value = ~value + 1;
    constexpr std::uint32_t kMask = (1u << kLowBits) - 1;
    words[0] = static_cast<std::uint32_t>(value) & kMask;
    words[1] = static_cast<std::uint32_t>(value >> kLowBits) & kMask;
    const auto top = static_cast<std::int64_t>(value) >> (2 * kLowBits);
    words[2] = top_word(static_cast<std::uint32_t>(top));
  }

  // Sums: words by [].
  template <class Words>
  DIFFSORT_HD static int count(const Words& sums) {
    static_assert(kCounted);
    return static_cast<int>(sums[2] & ((1u << kCountBits) - 1));
  }

  // What the sum is in units, rounded once, and the unit.
  template <class Words>
  DIFFSORT_HD static double units(const Words& sums, int exponent) {
    if (exponent == F::kSpecial) return special_sum(sums[0] != 0, sums[1] != 0);
    const auto low =
        static_cast<std::int64_t>(sums[0]) + (static_cast<std::int64_t>(sums[1]) << kLowBits);
    const std::int32_t high = static_cast<std::int32_t>(sums[2]) >> kCountBits;
    constexpr double kHigh = static_cast<double>(std::int64_t{1} << (2 * kLowBits));
    return static_cast<double>(high) * kHigh + static_cast<double>(low);
  }
  // In two steps, since the unit itself may be smaller than the smallest double.
  DIFFSORT_HD static double from_units(double units, int exponent) {
    constexpr double kUnit = 1.0 / static_cast<double>(std::int64_t{1} << (F::kFraction + kShift));
    return units * kUnit * power_of_two(exponent == F::kSpecial ? 0 : exponent - F::kBias);
  }
  template <class Words>
  DIFFSORT_HD static double sum(const Words& sums, int exponent) {
    return from_units(units(sums, exponent), exponent);
  }

 private:
  DIFFSORT_HD static std::uint32_t top_word(std::uint32_t top) {
    return (top << kCountBits) + (kCounted ? 1 : 0);
  }
  DIFFSORT_HD static void split_special(T x, std::uint32_t* words) {
    words[0] = counts_as_positive(x) ? 1 : 0;
    words[1] = counts_as_negative(x) ? 1 : 0;
    words[2] = top_word(0);
  }
};

}  // namespace diffsort
