// What sorts by cells of equal width share: the cells themselves, the counts of a radix sort of two
// digits, and the insertion that puts right what shares a cell.
// Cost: O(n), and 4 moves per element and 64 more of insertion at most.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// What takes distances within a range to cells 0, ..., cells - 1; 0 where T cannot: the values are
// one, or too near or too far apart. Two roundings do not reach the next cell, for cells < 2^22.
template <class T>
T cell_scale(std::int64_t cells, double range) {
  const T distance = static_cast<T>(range), scale = static_cast<T>(cells - 1) / distance;
  constexpr T kMax = std::numeric_limits<T>::max();
  return distance <= kMax && scale <= kMax ? scale : T(0);
}

// What of a sorted row may stay in any order: values no further apart than `within`, and parts of the row
// that have `density` elements or more per unit of their range. By default nothing.
struct AnyOrder {
  double within = 0.0, density = std::numeric_limits<double>::infinity();

  // Whether what shares a cell is within that distance. (An eighth for each of the two roundings.)
  template <class T>
  bool holds_cells(T scale) const {
    return 1.25 <= within * static_cast<double>(scale);
  }
  // (An infinite density times a range of 0 is NaN, and false.)
  bool holds_part(double range, std::int64_t size) const {
    return static_cast<double>(size) >= density * range;
  }
};

// Numbers of elements with a digit, for the lower and the upper one, become the places where they begin.
inline void counts_to_places(std::uint32_t digits, std::uint32_t* low, std::uint32_t* high) {
  std::uint32_t low_sum = 0, high_sum = 0;
  for (std::uint32_t d = 0; d < digits; ++d) {
    const std::uint32_t a = low[d], b = high[d];
    low[d] = low_sum;
    high[d] = high_sum;
    low_sum += a;
    high_sum += b;
  }
}

// The first i from here on whose value is above that of its left neighbour, or n.
template <class T>
std::int64_t next_rise(std::int64_t n, std::int64_t i, const T* values) {
  using Values = typename Lanes<T>::Values;
  constexpr std::int64_t kStep = kVectorBytes / sizeof(T);
  for (; i + kStep <= n; i += kStep) {
    Values left, right;
    std::memcpy(&left, values + i - 1, sizeof left);
    std::memcpy(&right, values + i, sizeof right);
    if (any_lane(left < right)) break;
  }
  while (i < n && !(values[i - 1] < values[i])) ++i;
  return i;
}

// Brings every value, with its index, before those that it is above; equal ones keep their order. False
// after a few moves per element: the values crowd.
template <class T>
bool insert_rises(std::int64_t n, T* values, std::int32_t* index) {
  std::int64_t moves = 4 * n + 64;
  for (std::int64_t i = 1; (i = next_rise(n, i, values)) < n; ++i) {
    const T value = values[i];
    const std::int32_t from = index[i];
    std::int64_t j = i;
    for (; j > 0 && values[j - 1] < value; --j) {
      values[j] = values[j - 1];
      index[j] = index[j - 1];
    }
    values[j] = value;
    index[j] = from;
    if ((moves -= i - j) < 0) return false;
  }
  return true;
}

}  // namespace diffsort::DIFFSORT_LEVEL
