// Short vectors of numbers, as wide as the registers of the level that is compiled (see levels.h).
//
// The vector extensions of GCC and Clang: operators work lane by lane, a comparison gives lanes of
// all ones or all zeros, and `mask ? a : b` selects.
#pragma once

#include <cstdint>

#include "levels.h"

namespace diffsort::DIFFSORT_LEVEL {

constexpr int kLanes = kVectorBytes / 8;  // doubles in a vector

typedef double Doubles __attribute__((vector_size(kVectorBytes)));
typedef std::int64_t Longs __attribute__((vector_size(kVectorBytes)));
typedef std::uint64_t Bits __attribute__((vector_size(kVectorBytes)));
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef std::int16_t Shorts __attribute__((vector_size(kVectorBytes)));
typedef float HalfFloats __attribute__((vector_size(kVectorBytes / 2)));
typedef std::int32_t HalfInts __attribute__((vector_size(kVectorBytes / 2)));

// Two sums side by side, whatever the level: of terms and of their weights.
typedef double Pair __attribute__((vector_size(16)));

// T side by side, and what comparing them gives.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef Floats Values;
  typedef Ints Counts;
  typedef std::int32_t Count;  // a lane of them
};
template <>
struct Lanes<double> {
  typedef Doubles Values;
  typedef Longs Counts;
  typedef std::int64_t Count;
};
template <>
struct Lanes<std::int16_t> {
  typedef Shorts Values;
  typedef Shorts Counts;
  typedef std::int16_t Count;
};

}  // namespace diffsort::DIFFSORT_LEVEL
