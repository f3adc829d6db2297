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
  double rest[kSumLanes] = {};
  RowFacts facts{first, first, first, 0.0, true};
  for (int k = 0; i < n; ++i, ++k) {
    const double v = static_cast<double>(x[i]);
    rest[k] = v - first;
    facts.low = v < facts.low ? v : facts.low;
    facts.high = v > facts.high ? v : facts.high;
  }
  for (int k = 0; k < kSums; ++k) {
    sums[k] += load(rest + k * kLanes);
    lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
    highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
  }
  for (int k = 0; k < kLanes; ++k) {
    facts.low = lows[0][k] < facts.low ? lows[0][k] : facts.low;
    facts.high = highs[0][k] > facts.high ? highs[0][k] : facts.high;
  }
  facts.sum = add_up(sums);
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
