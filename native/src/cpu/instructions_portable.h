// What the vector extensions of compilers do not say, or not well, in what every processor has. Levels with
// wider vectors have the same functions in instructions of theirs.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace diffsort::DIFFSORT_LEVEL {

inline Doubles widen(HalfFloats v) {
  return __builtin_convertvector(v, Doubles);
}
inline HalfFloats narrow(Doubles v) {
  return __builtin_convertvector(v, HalfFloats);
}
// Lanes of all ones or all zeros, twice as wide.
inline Longs widen(HalfInts mask) {
  return __builtin_convertvector(mask, Longs);
}

// x > y ? x : y and x < y ? x : y, which GCC does not see to be one instruction each.
template <class V>
V larger(V x, V y) {
  return x > y ? x : y;
}
template <class V>
V smaller(V x, V y) {
  return x < y ? x : y;
}

// (at(0), at(1), ...)
template <class At>
Doubles gather(const At& at) {
  return Doubles{at(0), at(1)};
}

// Element j of x[i] becomes element i of x[j], for kLanes vectors.
inline void transpose(Doubles* x) {
  const Doubles a = x[0], b = x[1];
  x[0] = Doubles{a[0], b[0]};
  x[1] = Doubles{a[1], b[1]};
}

// Bit k is set where lane k of a comparison holds.
inline unsigned mask_bits(Longs mask) {
  unsigned bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= static_cast<unsigned>(mask[k] & 1) << k;
  return bits;
}

}  // namespace diffsort::DIFFSORT_LEVEL
