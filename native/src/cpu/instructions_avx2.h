// What vectors of AVX2 need instructions of their own for: see instructions_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "lanes.h"

namespace diffsort::DIFFSORT_LEVEL {

// (GCC 12 converts halves of a vector one by one, through memory, unless it is told the instruction.)
inline Doubles widen(HalfFloats v) {
  return _mm256_cvtps_pd(v);
}
inline HalfFloats narrow(Doubles v) {
  return _mm256_cvtpd_ps(v);
}
inline Longs widen(HalfInts mask) {
  return reinterpret_cast<Longs>(_mm256_cvtepi32_epi64(reinterpret_cast<__m128i>(mask)));
}

inline Doubles larger(Doubles x, Doubles y) {
  return _mm256_max_pd(x, y);
}
inline Doubles smaller(Doubles x, Doubles y) {
  return _mm256_min_pd(x, y);
}
inline Floats larger(Floats x, Floats y) {
  return _mm256_max_ps(x, y);
}
inline Floats smaller(Floats x, Floats y) {
  return _mm256_min_ps(x, y);
}

template <class At>
Doubles gather(const At& at) {
  return Doubles{at(0), at(1), at(2), at(3)};
}

inline void transpose(Doubles* x) {
  const Doubles a = __builtin_shufflevector(x[0], x[1], 0, 4, 2, 6);
  const Doubles b = __builtin_shufflevector(x[0], x[1], 1, 5, 3, 7);
  const Doubles c = __builtin_shufflevector(x[2], x[3], 0, 4, 2, 6);
  const Doubles d = __builtin_shufflevector(x[2], x[3], 1, 5, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  x[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

inline unsigned mask_bits(Longs mask) {
  return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<Doubles>(mask)));
}

}  // namespace diffsort::DIFFSORT_LEVEL
