// exp of vectors of numbers that are not positive.
//
// exp(x) = 2^k exp(r) with k = round(x / ln 2), so that |r| <= ln(2) / 2; ln 2 is taken off in two
// parts (Cody and Waite).
// Error: below 2 units in the last place; exactly 1 at 0. Below -708 the result is 0, which drops
// denormal numbers. NaN is not looked for.
// Cost: about 20 (float32) or 28 (float64) instructions for a vector.
#pragma once

#include "diffsort/exp_near_0.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T = double>
__attribute__((always_inline)) inline Doubles exp_nonpositive(Doubles x) {
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kLn2High = 0x1.62e42fefa38p-1;  // few enough bits for exact products with k
  constexpr double kLn2Low = 0x1.ef35793c7673p-45;
  constexpr double kShift = 0x1.8p52;  // adding it rounds to an integer, in the last bits
  const Longs underflow = x < -708.0;
  x = underflow ? broadcast(-708.0) : x;
  const Doubles shifted = x * kLog2E + kShift;
  const Doubles k = shifted - kShift;
  const Doubles power = exp_near_0<T>((x - k * kLn2High) - k * kLn2Low);
  const Bits scaled = reinterpret_cast<Bits>(power) + (reinterpret_cast<Bits>(shifted) << 52);
  return underflow ? Doubles{} : reinterpret_cast<Doubles>(scaled);
}

inline double exp_of(double x) {
  return exp_nonpositive(broadcast(x))[0];
}

}  // namespace diffsort::DIFFSORT_LEVEL
