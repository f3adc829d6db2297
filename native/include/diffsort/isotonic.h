// Isotonic regression by pooling adjacent violators, on sorted s = z / strength and sorted w.
//
// Minimises the isotonic problem of Blondel et al. (2020), section 4, by the block values and the
// numerics of block_sums.h: neighbouring blocks pool when v(left) <= v(right), ties too, so the
// partition is unique.
// Cost: O(n); at most n - 1 merges. Scratch: 12 bytes per block (l2), 20 (kl, log_kl).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "diffsort/block_sums.h"
#include "diffsort/scratch.h"

namespace diffsort {

// The partition of [0, n) into blocks; its memory is kept from row to row.
template <Regularization R>
class Pooling {
 public:
  // z(i) and w(i): the i-th largest of each, as double.
  template <class Z, class W>
  void run(std::int64_t n, double strength, const Z& z, const W& w) {
    const Units units(n, strength, z, w);
    starts_.clear();
    sums_.clear();
    starts_.reserve(static_cast<std::size_t>(n));  // pages that no block reaches stay untouched
    sums_.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t start = i;
      BlockSums<R> block = BlockSums<R>::singleton(w(i));
      while (!starts_.empty()) {
        const std::int64_t left_start = starts_.back();
        const std::int64_t left_size = start - left_start, size = i + 1 - start;
        const typename BlockSums<R>::Shift shift(units, z(left_start), z(start),
                                                 w(left_start) - w(start));
        const bool pools = strength > 0.0
                               ? BlockSums<R>::violates(sums_.back(), left_size, block, size, shift)
                               : z(left_start) == z(start);  // whatever w is, and be it infinite
        if (!pools) break;
        BlockSums<R> merged = sums_.back();
        merged.absorb(block, size, shift);
        block = merged;
        start = left_start;
        starts_.pop_back();
        sums_.pop_back();
      }
      starts_.push_back(static_cast<std::int32_t>(start));
      sums_.push_back(block);
    }
    release_if_long(static_cast<std::size_t>(n), sums_);
  }

  std::size_t blocks() const { return starts_.size(); }
  std::int64_t start(std::size_t block) const { return starts_[block]; }
  std::int64_t end(std::size_t block, std::int64_t n) const {
    return block + 1 < starts_.size() ? starts_[block + 1] : n;
  }

 private:
  std::vector<std::int32_t> starts_;
  std::vector<BlockSums<R>> sums_;
};

}  // namespace diffsort
