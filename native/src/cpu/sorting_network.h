// Batcher's merge exchange (Knuth, The Art of Computer Programming 5.2.2, algorithm M): a fixed list of
// pairs of positions that sorts any row of n elements when each pair is put in order in turn.
// What is fixed can be done for many rows side by side.
// Cost: about n (log2 n)^2 / 4 pairs: 63 for 16 elements, 191 for 32, 543 for 64.
#pragma once

#include <cstdint>
#include <vector>

namespace diffsort::DIFFSORT_LEVEL {

class SortingNetwork {
 public:
  struct Pair {
    std::int32_t first, second;  // first < second
  };

  const std::vector<Pair>& pairs(std::int64_t n) {
    if (n != n_) build(static_cast<std::int32_t>(n));
    return pairs_;
  }

 private:
  void build(std::int32_t n) {
    n_ = n;
    pairs_.clear();
    std::int32_t top = 1;
    while (top * 2 < n) top *= 2;
    for (std::int32_t p = top; p > 0; p /= 2) {
      std::int32_t r = 0, d = p;
      for (std::int32_t q = top;; q /= 2) {
        for (std::int32_t i = 0; i + d < n; ++i) {
          if ((i & p) == r) pairs_.push_back({i, i + d});
        }
        if (q == p) break;
        d = q - p;
        r = p;
      }
    }
  }

  std::int64_t n_ = 0;
  std::vector<Pair> pairs_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
