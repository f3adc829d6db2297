// One pass over a row: what decides by which way it is solved.
// Cost: one read of the row.
#pragma once

#include <cstdint>
#include <cstring>

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
  using Values = typename Lanes<T>::Values;
  constexpr int kStep = kVectorBytes / sizeof(T), kVectors = kSumLanes / kStep;
  const double first = static_cast<double>(x[0]);
  RowFacts facts{first, first, first, 0.0, true};
  T low = x[0], high = x[0];
  Values lows[kVectors], highs[kVectors];
  for (int k = 0; k < kVectors; ++k) lows[k] = highs[k] = Values{} + x[0];
  Doubles sums[kSums] = {};
  std::int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int k = 0; k < kVectors; ++k) {
      Values v;
      std::memcpy(&v, x + i + k * kStep, sizeof v);
      lows[k] = smaller(v, lows[k]);
      highs[k] = larger(v, highs[k]);
    }
    for (int k = 0; k < kSums; ++k) sums[k] += load(x + i + k * kLanes) - first;
  }
  double rest[kSumLanes] = {};
  for (int k = 0; i < n; ++i, ++k) {
    rest[k] = static_cast<double>(x[i]) - first;
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  for (int k = 0; k < kSums; ++k) sums[k] += load(rest + k * kLanes);
  for (int k = 1; k < kVectors; ++k) {
    lows[0] = smaller(lows[k], lows[0]);
    highs[0] = larger(highs[k], highs[0]);
  }
  for (int lane = 0; lane < kStep; ++lane) {
    low = lows[0][lane] < low ? lows[0][lane] : low;
    high = highs[0][lane] > high ? highs[0][lane] : high;
  }
  facts.low = static_cast<double>(low);
  facts.high = static_cast<double>(high);
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
