// Sorts a short row by one thread: descending, stable.
//
// A word per element holds the leading 27 bits of its key, whose order is that of the values, and
// its index. A network sorts the words in registers by two instructions per exchange, while keys
// of full length, with their indices, would take six. Where elements agree in the leading bits
// they are in the order of their index, which is right for equal ones; those that are not, which
// are few unless the row is made of near ties, are put right by insertion.
//
// Cost: 19, 63 or 191 exchanges for up to 8, 16 or 32 elements; insertion visits each once, and a
// pair of elements for each that the words have in the wrong order.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/parallel_row/short_rows/tile.h"

namespace diffsort {

// Batcher's network of merges of the odd and the even elements. By templates, because every index
// has to be a constant for the words to stay in registers.
template <int kFirst, int kSize, int kStep>
struct MergeNetwork {
  DIFFSORT_HD static void exchange(std::uint32_t& a, std::uint32_t& b) {
    const std::uint32_t least = a < b ? a : b;
    b = a < b ? b : a;
    a = least;
  }

  DIFFSORT_HD static void run(std::uint32_t* words) {
    if constexpr (2 * kStep < kSize) {
      MergeNetwork<kFirst, kSize, 2 * kStep>::run(words);
      MergeNetwork<kFirst + kStep, kSize, 2 * kStep>::run(words);
      DIFFSORT_UNROLLED
      for (int i = kFirst + kStep; i + kStep < kFirst + kSize; i += 2 * kStep) {
        exchange(words[i], words[i + kStep]);
      }
    } else {
      exchange(words[kFirst], words[kFirst + kStep]);
    }
  }
};

template <int kFirst, int kSize>
struct SortNetwork {
  DIFFSORT_HD static void run(std::uint32_t* words) {
    if constexpr (kSize > 1) {
      SortNetwork<kFirst, kSize / 2>::run(words);
      SortNetwork<kFirst + kSize / 2, kSize / 2>::run(words);
      MergeNetwork<kFirst, kSize, 1>::run(words);
    }
  }
};

// What is sorted, and where to: values[i] is the i-th largest, which was element index[i].
template <class T>
struct ShortSort {
  const T* row;
  int n;
  T sign;
  Column<T> values;
  Column<std::uint8_t> index;

  // False if the row holds a NaN; then the order is any.
  DIFFSORT_HD bool run() const {
    return n <= 8 ? run_network<8>() : n <= 16 ? run_network<16>() : run_network<32>();
  }

 private:
  static constexpr std::uint32_t kIndexBits = 31;

  DIFFSORT_HD T value(int i) const { return sign * row[i] + T(0); }  // never -0

  DIFFSORT_HD static std::uint32_t leading_bits(T value) {
    const auto key = to_descending_key(value);
    return static_cast<std::uint32_t>(key >> (8 * sizeof key - 32));
  }

  template <int kCapacity>
  DIFFSORT_HD bool run_network() const {
    std::uint32_t words[kCapacity];
    bool has_nan = false;
    DIFFSORT_UNROLLED
    for (int i = 0; i < kCapacity; ++i) {
      words[i] = ~std::uint32_t{0};
      if (i < n) {
        const T x = value(i);
        has_nan |= std::isnan(x);
        words[i] = (leading_bits(x) & ~kIndexBits) | static_cast<std::uint32_t>(i);
      }
    }
    SortNetwork<0, kCapacity>::run(words);
    bool in_order = true;
    T last = std::numeric_limits<T>::infinity();
    DIFFSORT_UNROLLED
    for (int i = 0; i < kCapacity; ++i) {
      if (i < n) {
        const std::uint32_t from = words[i] & kIndexBits;
        const T x = value(static_cast<int>(from));
        in_order &= !(last < x);
        values[i] = last = x;
        index[i] = static_cast<std::uint8_t>(from);
      }
    }
    if (!in_order) insert_all();
    return !has_nan;
  }

  DIFFSORT_HD void insert_all() const {
    DIFFSORT_ROLLED
    for (int k = 1; k < n; ++k) {
      const T x = values[k];
      const std::uint8_t from = index[k];
      int i = k;
      DIFFSORT_ROLLED
      for (; i > 0 && values[i - 1] < x; --i) {
        values[i] = values[i - 1];
        index[i] = index[i - 1];
      }
      values[i] = x;
      index[i] = from;
    }
  }
};

// Sorts by all networks, whose code a kernel is to have once.
template <class T>
DIFFSORT_HD DIFFSORT_NOINLINE bool sort_short_row(const T* row, int n, T sign, Column<T> values,
                                                  Column<std::uint8_t> index) {
  return ShortSort<T>{row, n, sign, values, index}.run();
}

}  // namespace diffsort
