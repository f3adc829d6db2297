// Stable descending sort of a row of finite numbers: the values and where each came from.
//
// Three ways.
//
// Up to kCountingLimit elements, every element is put behind those that are larger: n^2 comparisons
// side by side. Elements that are equal are found by the sum of all counts, and then counted by
// position as well.
//
// Longer rows are spread over cells of equal width between the largest and the smallest value,
//     cell(x) = floor((high - x) * (cells - 1) / (high - low)),
// which falls where x rises, rounding included. Two passes of a radix sort by least significant digits
// order the cells; what shares a cell is then put right by insertion. Equal values share a cell and
// keep their order.
//
// Where values crowd into few cells (heavy tails, an outlier), insertion stops after a few moves
// per element, and the row is sorted by the bits of its values instead (diffsort/sort.h). So is a
// long one that buckets do not divide: its cells would crowd as well.
// Cost: O(n). Scratch: 8 bytes per element for cells (16 from 4097 elements on), 16 (float32) or 32
// (float64) for bits.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "cells.h"
#include "diffsort/sort.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// The most elements that go by cells at once; rows with more are partitioned first.
constexpr std::int64_t kLongestSort = std::int64_t{1} << 16;

template <class T>
class RowSorter {
 public:
  // Sorts sign * x, which is finite and lies in [low, high].
  void sort(const T* x, std::int64_t n, T sign, double low, double high, T* values,
            std::int32_t* index, const AnyOrder& any_order = {}) {
    if (n <= kCountingLimit) return sort_by_counting(x, n, sign, values, index);
    if (sort_by_cells(x, n, sign, low, high, any_order, values, index)) return;
    pairs_.sort({x, 1}, sign < T(0), n);
    for (std::int64_t i = 0; i < n; ++i) {
      values[i] = pairs_.value(i);
      index[i] = static_cast<std::int32_t>(pairs_.index(i));
    }
  }

 private:
  static constexpr std::int64_t kCountingLimit = sizeof(T) == 4 ? 160 : 96;
  static constexpr std::int64_t kManyCells = 2048;  // from where on 2^20 cells pay, not 2^18

  void sort_by_counting(const T* x, std::int64_t n, T sign, T* values, std::int32_t* index) {
    using Values = typename Lanes<T>::Values;
    using Counts = typename Lanes<T>::Counts;
    constexpr std::int64_t kStep = kVectorBytes / sizeof(T), kVectors = 4;
    constexpr std::int64_t kPadded = kCountingLimit + kVectors * kStep;
    alignas(64) T keys[kPadded];
    alignas(64) Counts counts[kPadded / kStep];
    for (std::int64_t i = 0; i < n; ++i) keys[i] = sign * x[i];
    for (std::int64_t i = n; i < n + kVectors * kStep && i < kPadded; ++i) keys[i] = keys[0];
    for (std::int64_t i = 0; i < n; i += kVectors * kStep) {
      Values v[kVectors];
      Counts above[kVectors] = {};
      std::memcpy(v, keys + i, sizeof v);
      for (std::int64_t j = 0; j < n; ++j) {
        for (int k = 0; k < kVectors; ++k) above[k] -= keys[j] > v[k];
      }
      std::memcpy(&counts[i / kStep], above, sizeof above);
    }
    const auto* count =
        reinterpret_cast<const std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>*>(
            counts);
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += count[i];
    const bool ties = sum != n * (n - 1) / 2;
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t place = count[i];
      if (ties) {
        for (std::int64_t j = 0; j < i; ++j) place += keys[j] == keys[i];
      }
      values[place] = keys[i];
      index[place] = static_cast<std::int32_t>(i);
    }
  }

  bool sort_by_cells(const T* x, std::int64_t n, T sign, double low, double high,
                     const AnyOrder& any_order, T* values, std::int32_t* index) {
    if (n < kManyCells || (n > longest<10>() && n <= longest<9>())) {
      return sort_by_cells<9>(x, n, sign, low, high, any_order, values, index, entries_);
    }
    if (n <= longest<10>()) {
      return sort_by_cells<10>(x, n, sign, low, high, any_order, values, index, entries_);
    }
    return n <= kLongestSort &&
           sort_by_cells<10>(x, n, sign, low, high, any_order, values, index, long_entries_);
  }

  // Whose indices leave room for a cell in 32 bits.
  template <int kDigitBits>
  static constexpr std::int64_t longest() {
    return std::int64_t{1} << (32 - 2 * kDigitBits);
  }

  // Entries hold a cell, which has two digits, and the row's index above it.
  template <int kDigitBits, class Entry>
  static bool sort_by_cells(const T* x, std::int64_t n, T sign, double low, double high,
                            const AnyOrder& any_order, T* values, std::int32_t* index,
                            Buffer<Entry>& buffer) {
    constexpr std::uint32_t kDigits = 1u << kDigitBits, kMask = kDigits - 1;
    const T top = static_cast<T>(sign < T(0) ? -low : high);
    const T scale = cell_scale<T>(kDigits * kDigits, high - low);
    if (scale == T(0)) return false;
    Entry* const entries = buffer.get(static_cast<std::size_t>(2 * n));
    Entry* const passed = entries + n;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto cell = static_cast<std::int32_t>((top - sign * x[i]) * scale);
      entries[i] = static_cast<Entry>(i) << 2 * kDigitBits | static_cast<Entry>(cell);
    }
    std::uint32_t low_digits[kDigits] = {}, high_digits[kDigits] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      const Entry entry = entries[i];
      ++low_digits[entry & kMask];
      ++high_digits[entry >> kDigitBits & kMask];
    }
    counts_to_places(kDigits, low_digits, high_digits);
    for (std::int64_t i = 0; i < n; ++i) passed[low_digits[entries[i] & kMask]++] = entries[i];
    for (std::int64_t i = 0; i < n; ++i) {
      const Entry entry = passed[i];
      const std::uint32_t place = high_digits[entry >> kDigitBits & kMask]++;
      const Entry from = entry >> 2 * kDigitBits;
      index[place] = static_cast<std::int32_t>(from);
      values[place] = sign * x[from];
    }
    return any_order.holds_cells(scale) || insert_rises(n, values, index);
  }

  Buffer<std::uint32_t> entries_;
  Buffer<std::uint64_t> long_entries_;
  SortedPairs<T> pairs_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
