// Stable descending sort of a row of finite numbers: the values and where each came from.
//
// Three ways.
//
// Up to kCountingLimit elements, every element is put behind those that are larger: n^2 comparisons
// side by side, of cells of equal width that 16 bits tell apart. Elements that share a cell are found by the
// sum of all counts, placed in the order in which they are, and put right by insertion. Where values crowd
// into few cells, the values themselves are compared.
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
// Cost: O(n). Scratch: 8 bytes per element for cells (16 from 16385 elements on), 16 (float32) or 32
// (float64) for bits.
// Chosen: rows that short_rows.h does not solve beside others and sorted_row.h does not sort by buckets, and
// buckets that bucket_sort.h does not.
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
    if (n <= kCountingLimit) {
      return sort_by_counting(x, n, sign, low, high, any_order, values, index);
    }
    if (sort_by_cells(x, n, sign, low, high, any_order, values, index)) return;
    pairs_.sort({x, 1}, sign < T(0), n);
    for (std::int64_t i = 0; i < n; ++i) {
      values[i] = pairs_.value(i);
      index[i] = static_cast<std::int32_t>(pairs_.index(i));
    }
  }

 private:
  static constexpr std::int64_t kCountingLimit = 192;
  static constexpr std::int64_t kManyCells = 2048;  // from where on 2^20 cells pay, not 2^18

  // Counts cells first, of which there are as many as 16 bits tell: four times as many of them fit into a
  // vector as doubles do. Where they crowd, the values themselves.
  void sort_by_counting(const T* x, std::int64_t n, T sign, double low, double high,
                        const AnyOrder& any_order, T* values, std::int32_t* index) {
    constexpr std::int32_t kCells = 1 << 16;
    const T top = static_cast<T>(sign < T(0) ? -low : high);
    const T scale = cell_scale<T>(kCells, high - low);
    if (scale != T(0)) {
      const auto cell = [&](std::int64_t i) {
        const auto below = static_cast<std::int32_t>((top - sign * x[i]) * scale);
        return static_cast<std::int16_t>(kCells / 2 - 1 - below);
      };
      const bool ties = place_by_counting<std::int16_t>(x, n, sign, cell, values, index);
      if (!ties || any_order.holds_cells(scale) || insert_rises(n, values, index)) return;
    }
    place_by_counting<T>(x, n, sign, [&](std::int64_t i) { return sign * x[i]; }, values, index);
  }

  // In descending order of key(i), equal ones in the order in which they are; whether there are any.
  template <class Key, class KeyOf>
  static bool place_by_counting(const T* x, std::int64_t n, T sign, const KeyOf& key, T* values,
                                std::int32_t* index) {
    using Values = typename Lanes<Key>::Values;
    using Counts = typename Lanes<Key>::Counts;
    constexpr std::int64_t kStep = kVectorBytes / sizeof(Key), kVectors = 4;
    constexpr std::int64_t kPadded = kCountingLimit + kVectors * kStep;
    alignas(64) Key keys[kPadded];
    alignas(64) Counts counts[kPadded / kStep];
    for (std::int64_t i = 0; i < n; ++i) keys[i] = key(i);
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
    const auto* count = reinterpret_cast<const typename Lanes<Key>::Count*>(counts);
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += count[i];
    const bool ties = sum != n * (n - 1) / 2;
    std::uint8_t equal[kCountingLimit] = {};  // that were placed already, where they begin
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t place = count[i];
      if (ties) place += equal[place]++;
      values[place] = sign * x[i];
      index[place] = static_cast<std::int32_t>(i);
    }
    return ties;
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
