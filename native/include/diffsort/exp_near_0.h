// exp near 0, of a number or of a vector of numbers: the polynomial with the least maximal error where
// |r| <= log(2) / 2, evaluated in pairs (Estrin) because a chain of products would wait for itself: of
// degree 11, error 2^-55, or, where the result is to be a float32, of degree 6, error 2^-28.
// Cost: 13 (float32) or 23 (float64) instructions. For vectors this file has to be
// included where their instructions are switched on, unlike others that levels have in common (levels.h).
#pragma once

#include "diffsort/host_device.h"

namespace diffsort {

// exp(r), as exact as T.
template <class T, class V>
DIFFSORT_HD __attribute__((always_inline)) inline V exp_near_0(V r) {
  const V r2 = r * r;
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
    const V r4 = r2 * r2;
    const V q2 = (p[4] + p[5] * r) + (p[6] + p[7] * r) * r2;
    const V q3 = (p[8] + p[9] * r) + (p[10] + p[11] * r) * r2;
    const V tail = (p[2] + p[3] * r) + (q2 + q3 * r4) * r2;
    return 1.0 + (r + tail * r2);
  }
}

}  // namespace diffsort
