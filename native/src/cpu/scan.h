// One pass over a row: what decides by which way it is solved.
// Cost: one read of the row.
#pragma once

#include <cstdint>

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

struct RowFacts {
  double low, high;
  double first, sum;  // sum: of x - first, so that a common offset costs no digits
  bool finite;        // otherwise low, high and sum mean nothing

  double range() const { return high - low; }
};

template <class T>
RowFacts scan(const T* x, std::int64_t n) {
  const double first = static_cast<double>(x[0]);
  Doubles sums[kSums] = {}, lows[kSums], highs[kSums];
  for (int k = 0; k < kSums; ++k) lows[k] = highs[k] = broadcast(first);
  std::int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int k = 0; k < kSums; ++k) {
      const Doubles v = load(x + i + k * kLanes);
      lows[k] = v < lows[k] ? v : lows[k];
      highs[k] = v > highs[k] ? v : highs[k];
      sums[k] += v - first;
    }
  }
  double parts[3][kSumLanes];
  std::memcpy(parts[0], sums, sizeof sums);
  std::memcpy(parts[1], lows, sizeof lows);
  std::memcpy(parts[2], highs, sizeof highs);
  for (int k = 0; i < n; ++i, ++k) {
    const double v = static_cast<double>(x[i]);
    parts[0][k] += v - first;
    parts[1][k] = v < parts[1][k] ? v : parts[1][k];
    parts[2][k] = v > parts[2][k] ? v : parts[2][k];
  }
  RowFacts facts{first, first, first, add_up(parts[0]), true};
  for (int k = 0; k < kSumLanes; ++k) {
    facts.low = parts[1][k] < facts.low ? parts[1][k] : facts.low;
    facts.high = parts[2][k] > facts.high ? parts[2][k] : facts.high;
  }
  // Not finite if any element is not, nor if the sum overflows.
  facts.finite = facts.sum - facts.sum == 0.0;
  return facts;
}

// Most rows are told within a few elements.
template <class T>
bool is_descending(const T* x, std::int64_t n, T sign) {
  for (std::int64_t i = 1; i < n; ++i) {
    if (!(sign * x[i - 1] >= sign * x[i])) return false;
  }
  return true;
}

}  // namespace diffsort::DIFFSORT_LEVEL
