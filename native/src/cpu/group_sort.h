// Stable descending sort of kGroup short rows side by side: values and where each came from.
//
// A sorting network compares whole vectors. An element of float32 and its index are one double: the 29
// bits that the value leaves free hold the index, written so that equal values descend where indices
// rise. Maximum and minimum then do everything. float64 leaves no bits free, and brings the indices
// along.
// Cost: per pair of the network and vector of lanes 2 instructions (float32) or 9, and the moves
// between registers and memory.
// Chosen: by short_rows.h, always.
#pragma once

#include <cstdint>
#include <limits>

#include "diffsort/rows.h"
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
 public:
  // Reads sign * row for every lane.
  void load(const Row<const T>* rows, std::int64_t n, T sign) {
    for (int half = 0; half < kHalves; ++half, rows += kLanes) {
      bool dense = true;
      for (int k = 0; k < kLanes; ++k) dense &= rows[k].stride == 1;
      Doubles* const x = values_[half];
      std::int64_t i = 0;
      for (; dense && i + kLanes <= n; i += kLanes) {
        for (int k = 0; k < kLanes; ++k) x[i + k] = load_from(rows[k].data + i);
        transpose(x + i);
      }
      for (; i < n; ++i) x[i] = gather([&](int k) { return static_cast<double>(rows[k][i]); });
      facts_[half] = find_facts(x, n, static_cast<double>(sign));
    }
  }

  const GroupFacts& facts(int half) const { return facts_[half]; }

  // Without kStable, equal values come in any order.
  template <bool kStable>
  void sort(std::int64_t n) {
    for (int half = 0; half < kHalves; ++half) {
      if (n <= 8) {
        sort_half<8, kStable>(half, n);
      } else if (n <= 16) {
        sort_half<16, kStable>(half, n);
      } else {
        sort_half<kLongestInGroup, kStable>(half, n);
      }
    }
  }

  const Column& values(int half) const { return values_[half]; }
  // Where the elements of a lane came from: that of element i at i * kLanes.
  const std::int64_t* indices(int l) const {
    return reinterpret_cast<const std::int64_t*>(&index_[l / kLanes][0]) + l % kLanes;
  }

 private:
  static constexpr std::int64_t kTagMask = kLongestInGroup - 1;

  static Doubles load_from(const T* x) { return diffsort::DIFFSORT_LEVEL::load(x); }

  static GroupFacts find_facts(Doubles* x, std::int64_t n, double sign) {
    GroupFacts facts{x[0] * sign, x[0] * sign, {}};
    Doubles rest{};
    for (std::int64_t i = 0; i < n; ++i) {
      const Doubles v = x[i] * sign + 0.0;  // -0 and 0 are equal
      facts.low = smaller(v, facts.low);
      facts.high = larger(v, facts.high);
      rest += v - v;
      x[i] = v;
    }
    facts.finite = rest == 0.0;
    return facts;
  }

  template <int N, bool kStable>
  void sort_half(int half, std::int64_t n) {
    Doubles* const x = values_[half];
    Longs* const index = index_[half];
    for (std::int64_t i = n; i < N; ++i) x[i] = broadcast(-std::numeric_limits<double>::infinity());
    if constexpr (sizeof(T) == 4) {
      for (std::int64_t i = 0; i < n; ++i) {
        Longs tag = Longs{} + i;
        if (kStable) tag = x[i] < 0.0 ? tag : tag ^ kTagMask;
        x[i] = reinterpret_cast<Doubles>(reinterpret_cast<Longs>(x[i]) | tag);
      }
      sort_tagged<N>(x);
      for (std::int64_t i = 0; i < n; ++i) {
        const Longs bits = reinterpret_cast<Longs>(x[i]);
        x[i] = reinterpret_cast<Doubles>(bits & ~kTagMask);
        index[i] = bits & kTagMask;
        if (kStable) index[i] = bits < 0 ? index[i] : index[i] ^ kTagMask;
      }
    } else {
      for (std::int64_t i = 0; i < N; ++i) index[i] = Longs{} + i;
      sort_pairs<N>(x, index);
    }
  }

  template <int N>
  static void sort_tagged(Doubles* x) {
    Doubles v[N];
    std::memcpy(v, x, sizeof v);
    SortingNetwork<N>::run([&](int first, int second) {
      const Doubles a = v[first], b = v[second];
      v[first] = larger(b, a);
      v[second] = smaller(b, a);
    });
    std::memcpy(x, v, sizeof v);
  }

  template <int N>
  static void sort_pairs(Doubles* x, Longs* index) {
    SortingNetwork<N>::run([&](int first, int second) {
      const Doubles a = x[first], b = x[second];
      const Longs i = index[first], j = index[second];
      const Longs swap = (a < b) | ((a == b) & (j < i));
      x[first] = swap ? b : a;
      x[second] = swap ? a : b;
      index[first] = swap ? j : i;
      index[second] = swap ? i : j;
    });
  }

  GroupFacts facts_[kHalves];
  Columns values_;
  Longs index_[kHalves][kLongestInGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
