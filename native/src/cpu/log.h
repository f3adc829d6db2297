// log of vectors of positive normal numbers.
//
// x = 2^k m with m in [sqrt(1/2), sqrt(2)), and with f = m - 1 and s = f / (2 + f), where |s| < 0.172,
//
//     log(m) = 2 atanh(s) = f - s (f - s^2 q(s^2))
//
// q is the polynomial of degree 6 with the least maximal error of log(m) relative to itself, 2^-59.
// Error: below 2 units in the last place; exactly 0 at 1. Cost: about 30 instructions, one a division.
#pragma once

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

inline Doubles log_positive(Doubles x) {
  constexpr double kLn2High = 0x1.62e42fefa38p-1;  // few enough bits for exact products with k
  constexpr double kLn2Low = 0x1.ef35793c7673p-45;
  constexpr double q[] = {0x1.5555555555592p-1, 0x1.999999997fdb7p-2, 0x1.24924941f124fp-2,
                          0x1.c71c52095d16fp-3, 0x1.74663ee86e841p-3, 0x1.39a1bab73fcacp-3,
                          0x1.2f0563862e5fdp-3};
  constexpr std::uint64_t kRootOfHalf = 0x3fe6a09e667f3bcd;  // bits of sqrt(1/2)
  constexpr std::uint64_t kBias = 1023, kTwo52 = 0x4330000000000000;
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits biased = (bits - kRootOfHalf + (kBias << 52)) >> 52;  // k + kBias
  const Doubles k = reinterpret_cast<Doubles>(biased | kTwo52) - (0x1p52 + kBias);
  const Doubles m = reinterpret_cast<Doubles>(bits - (biased << 52) + (kBias << 52));
  const Doubles f = m - 1.0, s = f / (2.0 + f), z = s * s, z2 = z * z;
  const Doubles tail =
      (q[0] + q[1] * z) + ((q[2] + q[3] * z) + (q[4] + (q[5] + q[6] * z) * z) * z2) * z2;
  return k * kLn2High - ((s * (f - tail * z) - k * kLn2Low) - f);
}

inline double log_of(double x) {
  return log_positive(broadcast(x))[0];
}

}  // namespace diffsort::DIFFSORT_LEVEL
