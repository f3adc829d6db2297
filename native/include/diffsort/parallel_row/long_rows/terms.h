// Sums of the terms of blocks of long rows (long_rows/cotangent.h): integers of 96 bits, the same in
// whatever order terms come. (team/fixed_point.h has those of rows that a team holds.)
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/team/fixed_point.h"

namespace diffsort {

// Terms of a block as integers of 96 bits.
class LongTerms {
 public:
  using F = FloatBits<float>;

  struct Term {
    std::int64_t high;  // in units of 2^32
    std::uint32_t low;
  };

  // Of rows of n.
  explicit LongTerms(std::int64_t n) { shift_ = 94 - bits_below(n) - (F::kFraction + 1); }

  // exponent: of the largest term. Infinite and NaN ones are counted by their sign, NaN as either.
  DIFFSORT_HD Term split(float x, int exponent) const {
    if (exponent == F::kSpecial) {
      return {(counts_as_positive(x) ? 1 : 0) + (counts_as_negative(x) ? std::int64_t{1} << 32 : 0),
              0};
    }
    const std::uint64_t significand = significand_of(x);
    const int shift = shift_ - (exponent - exponent_of(x));
    Term size{0, 0};
    if (shift >= 32) {
      size.high = static_cast<std::int64_t>(significand << (shift - 32));
    } else if (shift > -32) {
      const std::uint64_t units = shift >= 0 ? significand << shift : significand >> -shift;
      size = {static_cast<std::int64_t>(units >> 32), static_cast<std::uint32_t>(units)};
    }
    if (!has_sign(x)) return size;
    return {-size.high - (size.low != 0 ? 1 : 0), 0 - size.low};
  }

  DIFFSORT_HD double mean(const Term& sum, int exponent, std::uint32_t count) const {
    if (exponent == F::kSpecial) {
      return special_sum((sum.high & 0xffffffff) != 0, sum.high >> 32 != 0);
    }
    const double units = static_cast<double>(sum.high) * 4294967296.0 + count_to_double(sum.low);
    return plain_quotient(units, count_to_double(count)) *
           power_of_two(exponent - F::kBias - F::kFraction - shift_);
  }

 private:
  int shift_;
};

}  // namespace diffsort
