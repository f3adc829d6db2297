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

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/projection_rows.h"
#include "diffsort/parallel_row/tile.h"

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
  double sign;
  Column<T> values;
  Column<std::uint8_t> index;

  // False if the row holds a NaN; then nothing is sorted.
  DIFFSORT_HD bool run() const {
    const bool has_nan = n <= 8 ? order<8>() : n <= 16 ? order<16>() : order<32>();
    if (!has_nan) place();
    return !has_nan;
  }

 private:
  static constexpr std::uint32_t kIndexBits = 31;

  DIFFSORT_HD static std::uint32_t leading_bits(T value) {
    const auto key = to_descending_key(value);
    return static_cast<std::uint32_t>(key >> (8 * sizeof key - 32));
  }

  // The order of the words, into index. Whether there is a NaN.
  template <int kCapacity>
  DIFFSORT_HD bool order() const {
    std::uint32_t words[kCapacity];
    bool has_nan = false;
    DIFFSORT_UNROLLED
    for (int i = 0; i < kCapacity; ++i) {
      words[i] = ~std::uint32_t{0};
      if (i < n) {
        const T value = row[i];
        has_nan = has_nan || std::isnan(value);
        words[i] = (leading_bits(sign < 0.0 ? -value : value) & ~kIndexBits) | i;
      }
    }
    SortNetwork<0, kCapacity>::run(words);
    DIFFSORT_UNROLLED
    for (int i = 0; i < kCapacity; ++i) {
      if (i < n) index[i] = static_cast<std::uint8_t>(words[i] & kIndexBits);
    }
    return has_nan;
  }

  // The values in that order, which is put right.
  DIFFSORT_HD void place() const {
    T smallest = T(0);  // of those placed
    DIFFSORT_ROLLED
    for (int i = 0; i < n; ++i) {
      const std::uint8_t from = index[i];
      const T value = (sign < 0.0 ? -row[from] : row[from]) + T(0);  // never -0
      if (i > 0 && smallest < value) {
        insert(i, value, from);
      } else {
        values[i] = smallest = value;
      }
    }
  }

  DIFFSORT_HD void insert(int i, T value, std::uint8_t from) const {
    DIFFSORT_ROLLED
    for (; i > 0 && values[i - 1] < value; --i) {
      values[i] = values[i - 1];
      index[i] = index[i - 1];
    }
    values[i] = value;
    index[i] = from;
  }
};

}  // namespace diffsort
