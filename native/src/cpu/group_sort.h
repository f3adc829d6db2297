// Stable descending sort of kGroup short rows side by side: values and where each came from.
//
// A sorting network compares whole vectors. An element of float32 and its index are one double: the 29
// bits that the value leaves free hold the index, written so that equal values descend where indices
// rise. Maximum and minimum then do everything. float64 leaves no bits free, and brings the indices
// along.
// Cost: per pair of the network and vector of lanes 2 instructions (float32) or 9, and the moves.
#pragma once

#include <cstdint>
#include <vector>

#include "group.h"
#include "sorting_network.h"

namespace diffsort::DIFFSORT_LEVEL {

// What decides whether a row is solved in its group.
struct GroupFacts {
  Doubles low, high;
  Longs finite;
};

template <class T>
class GroupSort {
  static constexpr bool kTagged = sizeof(T) == 4;

 public:
  // Reads sign * row for every lane.
  void load(const Row<const T>* rows, std::int64_t n, T sign) {
    for (int l = 0; l < kGroup; ++l) {
      const T* x = rows[l].data;
      double* to = reinterpret_cast<double*>(&values_[l / kLanes][0]) + l % kLanes;
      for (std::int64_t i = 0; i < n; ++i, x += rows[l].stride) {
        to[i * kLanes] = static_cast<double>(sign * *x);
      }
    }
  }

  GroupFacts facts(int half, std::int64_t n) const {
    const Doubles* const x = values_[half];
    Doubles low = x[0], high = x[0], rest = x[0] - x[0];
    for (std::int64_t i = 1; i < n; ++i) {
      low = smaller(x[i], low);
      high = larger(x[i], high);
      rest += x[i] - x[i];
    }
    return {low, high, rest == 0.0};
  }

  void sort(std::int64_t n, const std::vector<SortingNetwork::Pair>& network) {
    for (int half = 0; half < kHalves; ++half) tag(half, n);
    for (const SortingNetwork::Pair pair : network) {
      for (int half = 0; half < kHalves; ++half) put_in_order(half, pair.first, pair.second);
    }
    if (!kTagged) return;
    for (int half = 0; half < kHalves; ++half) untag(half, n);
  }

  const Column& values(int half) const { return values_[half]; }
  std::int64_t index(std::int64_t i, int l) const {
    return index_[l / kLanes][i][l % kLanes];
  }

 private:
  static constexpr std::int64_t kTags = kLongestInGroup;  // a power of two

  void tag(int half, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (kTagged) {
        const Doubles x = values_[half][i] + 0.0;  // -0 and 0 are equal
        const Longs tag = x < 0.0 ? Longs{} + i : Longs{} + (kTags - 1 - i);
        values_[half][i] = reinterpret_cast<Doubles>(reinterpret_cast<Longs>(x) | tag);
      } else {
        index_[half][i] = Longs{} + i;
      }
    }
  }

  void untag(int half, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const Longs bits = reinterpret_cast<Longs>(values_[half][i]);
      const Longs tag = bits & (kTags - 1);
      values_[half][i] = reinterpret_cast<Doubles>(bits & -kTags);
      index_[half][i] = bits < 0 ? tag : tag ^ (kTags - 1);
    }
  }

  void put_in_order(int half, std::int32_t first, std::int32_t second) {
    Doubles &a = values_[half][first], &b = values_[half][second];
    const Doubles x = a, y = b;
    if (!kTagged) {
      Longs &i = index_[half][first], &j = index_[half][second];
      const Longs p = i, q = j;
      const Longs swap = (x < y) | ((x == y) & (q < p));
      i = swap ? q : p;
      j = swap ? p : q;
      a = swap ? y : x;
      b = swap ? x : y;
    } else {
      a = larger(y, x);
      b = smaller(y, x);
    }
  }

  Columns values_;
  Longs index_[kHalves][kLongestInGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
