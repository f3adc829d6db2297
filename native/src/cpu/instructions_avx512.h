// What vectors of AVX-512 need instructions of their own for: see instructions_portable.h.
//
// Those for all lanes are written as masked ones: of the others GCC 12 warns that they read what is not
// initialized. The code is the same.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "lanes.h"

namespace diffsort::DIFFSORT_LEVEL {

inline Doubles widen(HalfFloats v) {
  return _mm512_maskz_cvtps_pd(0xff, v);
}
inline HalfFloats narrow(Doubles v) {
  return _mm512_maskz_cvtpd_ps(0xff, v);
}
inline Longs widen(HalfInts mask) {
  return reinterpret_cast<Longs>(
      _mm512_maskz_cvtepi32_epi64(0xff, reinterpret_cast<__m256i>(mask)));
}

inline Doubles larger(Doubles x, Doubles y) {
  return _mm512_maskz_max_pd(0xff, x, y);
}
inline Doubles smaller(Doubles x, Doubles y) {
  return _mm512_maskz_min_pd(0xff, x, y);
}
inline Floats larger(Floats x, Floats y) {
  return _mm512_maskz_max_ps(0xffff, x, y);
}
inline Floats smaller(Floats x, Floats y) {
  return _mm512_maskz_min_ps(0xffff, x, y);
}

template <class At>
Doubles gather(const At& at) {
  return Doubles{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
}

// Elements change places within pairs of vectors, then within pairs of pairs, then halves do.
inline void transpose(Doubles* x) {
  Doubles a[8], b[8];
  for (int k = 0; k < 8; k += 2) {
    a[k] = __builtin_shufflevector(x[k], x[k + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    a[k + 1] = __builtin_shufflevector(x[k], x[k + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int k = 0; k < 8; k += 4) {
    for (int j = k; j < k + 2; ++j) {
      b[j] = __builtin_shufflevector(a[j], a[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      b[j + 2] = __builtin_shufflevector(a[j], a[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int j = 0; j < 4; ++j) {
    x[j] = __builtin_shufflevector(b[j], b[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    x[j + 4] = __builtin_shufflevector(b[j], b[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

inline unsigned mask_bits(Longs mask) {
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(mask));
}

}  // namespace diffsort::DIFFSORT_LEVEL
