// What vectors of AVX2 need instructions of their own for: see instructions_portable.h.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace diffsort::DIFFSORT_LEVEL {

// GCC 12 converts halves of the vector one by one, through memory.
#if defined(__clang__)
inline Doubles widen(HalfFloats v) {
  return __builtin_convertvector(v, Doubles);
}
inline HalfFloats narrow(Doubles v) {
  return __builtin_convertvector(v, HalfFloats);
}
inline Longs widen(HalfInts mask) {
  return __builtin_convertvector(mask, Longs);
}
#else
inline Doubles widen(HalfFloats v) {
  return __builtin_ia32_cvtps2pd256(v);
}
inline HalfFloats narrow(Doubles v) {
  return __builtin_ia32_cvtpd2ps256(v);
}
inline Longs widen(HalfInts mask) {
  return reinterpret_cast<Longs>(__builtin_ia32_pmovsxdq256(mask));
}
#endif

inline Doubles larger(Doubles x, Doubles y) {
  return __builtin_ia32_maxpd256(x, y);
}
inline Doubles smaller(Doubles x, Doubles y) {
  return __builtin_ia32_minpd256(x, y);
}
inline Floats larger(Floats x, Floats y) {
  return __builtin_ia32_maxps256(x, y);
}
inline Floats smaller(Floats x, Floats y) {
  return __builtin_ia32_minps256(x, y);
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
  return static_cast<unsigned>(__builtin_ia32_movmskpd256(reinterpret_cast<Doubles>(mask)));
}

}  // namespace diffsort::DIFFSORT_LEVEL
