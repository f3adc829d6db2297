// Stable descending sort of one strided row, as pairs (order-preserving key, index).
//
// Keys: IEEE floats of one sign order like their bits; flipping bits makes unsigned keys ascend
// while values descend. -0 and +0 get one key, so they tie. NaN is not sorted but reported.
// Cost: least-significant-digit radix, 8 bits a pass, O(n); std::sort for rows too short to pay for
// its counters, and counting smaller pairs up to 32 elements. Pairs are unique, since the index is
// part of the order, so all three are stable.
// Scratch: two pairs per element (16 bytes in float32, 32 in float64), one after sorting a
// long row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "diffsort/host_device.h"
#include "diffsort/rows.h"
#include "diffsort/scratch.h"

namespace diffsort {

template <class T>
struct SortKey;

template <>
struct SortKey<float> {
  using Bits = std::uint32_t;

  // Key in the high half, index in the low half: one integer comparison orders a pair.
  using Pair = std::uint64_t;
  static Pair pair(Bits key, std::uint32_t index) { return (Pair{key} << 32) | index; }
  static Bits key(Pair p) { return static_cast<Bits>(p >> 32); }
  static std::uint32_t index(Pair p) { return static_cast<std::uint32_t>(p); }
};

template <>
struct SortKey<double> {
  using Bits = std::uint64_t;

  struct Pair {
    Bits key;
    std::uint32_t index;
    bool operator<(const Pair& other) const {
      return key != other.key ? key < other.key : index < other.index;
    }
  };
  static Pair pair(Bits key, std::uint32_t index) { return {key, index}; }
  static Bits key(const Pair& p) { return p.key; }
  static std::uint32_t index(const Pair& p) { return p.index; }
};

template <class T>
DIFFSORT_HD typename SortKey<T>::Bits to_descending_key(T value) {
  using Bits = typename SortKey<T>::Bits;
  constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  value += T(0);  // -0 becomes +0
  Bits bits;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits & sign) ? bits : static_cast<Bits>(~bits & ~sign);
}

template <class T>
DIFFSORT_HD T from_descending_key(typename SortKey<T>::Bits key) {
  using Bits = typename SortKey<T>::Bits;
  constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  const Bits bits = (key & sign) ? key : static_cast<Bits>(~key & ~sign);
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
class SortedPairs {
  using Key = SortKey<T>;
  using Bits = typename Key::Bits;
  using Pair = typename Key::Pair;

 public:
  // Sorts sign * row; false if the row holds a NaN (nothing is sorted then).
  bool sort(Row<const T> row, bool negate, std::int64_t n) {
    size_ = static_cast<std::size_t>(n);
    grow(pairs_, size_);
    bool has_nan = false;
    for (std::int64_t i = 0; i < n; ++i) {
      const T value = negate ? -row[i] : row[i];
      has_nan |= std::isnan(value);
      pairs_[static_cast<std::size_t>(i)] =
          Key::pair(to_descending_key(value), static_cast<std::uint32_t>(i));
    }
    if (has_nan) return false;
    if (n <= kRankSortLimit) {
      rank_sort();
    } else if (n <= kComparisonSortLimit) {
      std::sort(pairs_.begin(), pairs_.begin() + n);
    } else {
      radix_sort();
    }
    return true;
  }

  T value(std::int64_t position) const {
    return from_descending_key<T>(Key::key(pairs_[static_cast<std::size_t>(position)]));
  }
  std::int64_t index(std::int64_t position) const {
    return Key::index(pairs_[static_cast<std::size_t>(position)]);
  }

 private:
  static constexpr std::int64_t kRankSortLimit = 32;
  static constexpr std::int64_t kComparisonSortLimit = 16 * sizeof(Bits);
  static constexpr int kDigitBits = 8;
  static constexpr int kPasses = static_cast<int>(8 * sizeof(Bits) / kDigitBits);
  static constexpr std::size_t kBuckets = std::size_t{1} << kDigitBits;

  static std::size_t digit(Bits key, int pass) {
    return static_cast<std::size_t>(key >> (pass * kDigitBits)) & (kBuckets - 1);
  }

  // Every pair goes to the number of pairs below it: quadratic, but without a branch to mispredict.
  void rank_sort() {
    grow(spare_, size_);
    for (std::size_t i = 0; i < size_; ++i) {
      const Pair p = pairs_[i];
      std::size_t rank = 0;
      for (std::size_t j = 0; j < size_; ++j) rank += pairs_[j] < p;
      spare_[rank] = p;
    }
    pairs_.swap(spare_);
  }

  void radix_sort() {
    grow(spare_, size_);
    std::uint32_t counts[kPasses][kBuckets] = {};
    for (std::size_t i = 0; i < size_; ++i) {
      const Bits key = Key::key(pairs_[i]);
      for (int pass = 0; pass < kPasses; ++pass) ++counts[pass][digit(key, pass)];
    }
    for (int pass = 0; pass < kPasses; ++pass) {
      // A digit that all keys share moves nothing.
      if (counts[pass][digit(Key::key(pairs_[0]), pass)] == size_) continue;
      std::uint32_t offsets[kBuckets];
      std::uint32_t sum = 0;
      for (std::size_t b = 0; b < kBuckets; ++b) {
        offsets[b] = sum;
        sum += counts[pass][b];
      }
      for (std::size_t i = 0; i < size_; ++i) {
        const Pair p = pairs_[i];
        spare_[offsets[digit(Key::key(p), pass)]++] = p;
      }
      pairs_.swap(spare_);
    }
    release_if_long(size_, spare_);
  }

  static void grow(std::vector<Pair>& pairs, std::size_t size) {
    if (pairs.size() < size) pairs.resize(size);
  }

  std::size_t size_ = 0;
  std::vector<Pair> pairs_, spare_;
};

}  // namespace diffsort
