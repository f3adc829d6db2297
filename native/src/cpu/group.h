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

// One vector for each element of kLanes rows; or of kGroup, as two halves.
using Column = Doubles[kLongestInGroup];
using Columns = Column[kHalves];

}  // namespace diffsort::DIFFSORT_LEVEL
