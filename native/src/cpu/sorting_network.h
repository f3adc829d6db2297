// Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 5.3.4): a fixed list of pairs
// of positions that sorts any row of N elements when each pair is put in order in turn. What is fixed
// can be done for many rows side by side, and in registers.
// Cost: 19 pairs for 8 elements, 63 for 16, 191 for 32.
// Chosen: by group_sort.h, the smallest of the three that has room for a row.
#pragma once

#include <cstddef>
#include <utility>

namespace diffsort::DIFFSORT_LEVEL {

template <int N>  // a power of two
class SortingNetwork {
 public:
  constexpr SortingNetwork() { sort(0, N); }

  // Calls order(first, second) for every pair, first < second.
  template <class Order>
  __attribute__((always_inline)) static void run(const Order& order) {
    run(order, std::make_index_sequence<SortingNetwork().size_>());
  }

 private:
  struct Pair {
    int first, second;
  };

  template <class Order, std::size_t... I>
  __attribute__((always_inline)) static void run(const Order& order, std::index_sequence<I...>) {
    constexpr SortingNetwork network;
    (order(network.pairs_[I].first, network.pairs_[I].second), ...);
  }

  // Halves first, so that what follows one another shares elements.
  constexpr void sort(int start, int count) {
    if (count == 1) return;
    const int half = count / 2;
    sort(start, half);
    sort(start + half, half);
    for (int i = 0; i < half; ++i) add(start + i, start + i + half);
    for (int d = half / 2; d > 0; d /= 2) {
      for (int i = d; i + d < count; ++i) {
        if (i / d % 2 == 1) add(start + i, start + i + d);
      }
    }
  }
  constexpr void add(int first, int second) {
    pairs_[size_].first = first;
    pairs_[size_].second = second;
    ++size_;
  }

  Pair pairs_[N * 6] = {};  // enough for N = 32
  std::size_t size_ = 0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
