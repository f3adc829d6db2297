// Stable descending sort, in place, of one bucket of a long row (sorted_row.h): a few thousand values.
//
// An element is one word of 32 bits: its cell of equal width between the largest and the smallest, which
// falls where values rise, above its place in the bucket. Two passes of a radix sort by least significant digits
// order the cells, in memory that stays in the cache; insertion puts right what shares a cell. Equal
// values share a cell and keep their order. Where values crowd into few cells, and where a bucket has
// more elements than a word can number, sort_row.h sorts it.
// Cost: O(n). Scratch: 8 bytes per element and a copy of the values.
// Chosen: every bucket of sorted_row.h but those of ranks that may stay in any order.
#pragma once

#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "cells.h"
#include "scan.h"
#include "sort_row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class BucketSorter {
 public:
  // x gets the values in order and index the place of each before. `facts` are those of x.
  void sort(T* x, std::int64_t n, const RowFacts& facts, std::int32_t* index,
            const AnyOrder& any_order = {}) {
    T* const copy = copy_.get(static_cast<std::size_t>(n));
    std::memcpy(copy, x, static_cast<std::size_t>(n) * sizeof(T));
    if (n <= longest<9>()
            ? sort_by_cells<9>(copy, n, facts, any_order, x, index)
            : n <= longest<8>() && sort_by_cells<8>(copy, n, facts, any_order, x, index)) {
      return;
    }
    sorter_.sort(copy, n, T(1), facts.low, facts.high, x, index, any_order);
  }

 private:
  template <int kDigitBits>
  static constexpr std::int64_t longest() {
    return std::int64_t{1} << (32 - 2 * kDigitBits);
  }

  template <int kDigitBits>
  bool sort_by_cells(const T* x, std::int64_t n, const RowFacts& facts, const AnyOrder& any_order,
                     T* values, std::int32_t* index) {
    constexpr std::uint32_t kDigits = 1u << kDigitBits, kMask = kDigits - 1;
    constexpr int kPlaceBits = 32 - 2 * kDigitBits;
    constexpr std::uint32_t kPlaces = 1u << kPlaceBits;
    const T top = static_cast<T>(facts.high),
            scale = cell_scale<T>(kDigits * kDigits, facts.range());
    if (scale == T(0)) return false;
    std::uint32_t* const words = words_.get(static_cast<std::size_t>(2 * n));
    std::uint32_t* const passed = words + n;
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(n); ++i) {
      const auto cell = static_cast<std::int32_t>((top - x[i]) * scale);
      words[i] = static_cast<std::uint32_t>(cell) * kPlaces + static_cast<std::uint32_t>(i);
    }
    std::uint32_t low_digits[kDigits] = {}, high_digits[kDigits] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      ++low_digits[words[i] >> kPlaceBits & kMask];
      ++high_digits[words[i] >> (kPlaceBits + kDigitBits)];
    }
    counts_to_places(kDigits, low_digits, high_digits);
    for (std::int64_t i = 0; i < n; ++i) {
      passed[low_digits[words[i] >> kPlaceBits & kMask]++] = words[i];
    }
    for (std::int64_t i = 0; i < n; ++i) {
      words[high_digits[passed[i] >> (kPlaceBits + kDigitBits)]++] = passed[i];
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const std::uint32_t place = words[i] & (kPlaces - 1);
      index[i] = static_cast<std::int32_t>(place);
      values[i] = x[place];
    }
    return any_order.holds_cells(scale) || insert_rises(n, values, index);
  }

  Buffer<T> copy_;
  Buffer<std::uint32_t> words_;
  RowSorter<T> sorter_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
