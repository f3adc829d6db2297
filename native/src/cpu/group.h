// Rows side by side: element i of kGroup rows in the lanes of vectors, a row to a lane.
//
// Two vectors of doubles hold a group, and one of floats.
#pragma once

#include <cstdint>

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

constexpr int kHalves = 2;
constexpr int kGroup = kHalves * kLanes;
constexpr std::int64_t kLongestInGroup = 32;  // elements of a row; a power of two

typedef std::int32_t HalfInts __attribute__((vector_size(kVectorBytes / 2)));

// Lanes of all ones or all zeros, twice as wide. (GCC 12 takes four instructions to convert them.)
inline Longs widen(HalfInts mask) {
#if defined(DIFFSORT_LEVEL_IS_AVX2) && !defined(__clang__)
  return reinterpret_cast<Longs>(__builtin_ia32_pmovsxdq256(mask));
#else
  return __builtin_convertvector(mask, Longs);
#endif
}

// One vector for each element of kLanes rows; or of kGroup, as two halves.
using Column = Doubles[kLongestInGroup];
using Columns = Column[kHalves];

}  // namespace diffsort::DIFFSORT_LEVEL
