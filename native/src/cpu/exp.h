// exp of vectors of numbers that are not positive.
//
// exp(x) = 2^k exp(r) with k = round(x / ln 2), so that |r| <= ln(2) / 2; ln 2 is taken off in two
// parts (Cody and Waite). exp(r) is the polynomial with the least maximal error there, evaluated in
// pairs (Estrin) because a chain of products would wait for itself: of degree 11, error 2^-55, or, where
// the result is to be a float32, of degree 6, error 2^-28.
// Error: below 2 units in the last place; exactly 1 at 0. Below -708 the result is 0, which drops
// denormal numbers. NaN is not looked for.
// Cost: about 20 (float32) or 28 (float64) instructions for a vector.
#pragma once

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// exp(r) for |r| <= log(2) / 2, as exact as T.
template <class T>
__attribute__((always_inline)) inline Doubles exp_near_0(Doubles r) {
  const Doubles r2 = r * r;
  if constexpr (sizeof(T) == sizeof(float)) {
    constexpr double p[] = {0x1.0000000000000p+0, 0x1.000000a2f7194p+0, 0x1.00000028b7ad4p-1,
                            0x1.555402e3fd675p-3, 0x1.5554ac342f261p-5, 0x1.12705af4765e4p-7,
                            0x1.6d75e5bb8107bp-10};
    return (p[0] + p[1] * r) + ((p[2] + p[3] * r) + ((p[4] + p[5] * r) + p[6] * r2) * r2) * r2;
  } else {
    // p[i] belongs to r^i; p[0] and p[1] are 1.
    constexpr double p[] = {1.0,
                            1.0,
                            0x1.0000000000011p-1,
                            0x1.555555555555ap-3,
                            0x1.555555554f0bap-5,
                            0x1.111111110f21ep-7,
                            0x1.6c16c1880029fp-10,
                            0x1.a01a01b1461c5p-13,
                            0x1.a01991a10d9aep-16,
                            0x1.71ddf56d8deb5p-19,
                            0x1.28b4101c77212p-22,
                            0x1.af632a0f7e2cep-26};
    const Doubles r4 = r2 * r2;
    const Doubles q2 = (p[4] + p[5] * r) + (p[6] + p[7] * r) * r2;
    const Doubles q3 = (p[8] + p[9] * r) + (p[10] + p[11] * r) * r2;
    const Doubles tail = (p[2] + p[3] * r) + (q2 + q3 * r4) * r2;
    return 1.0 + (r + tail * r2);
  }
}

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
