// The projection's values, element by element, from the sums of the blocks.
//
// With a the first element of block B, s = z / strength, and sums relative to a (block_sums.h):
//     l2      w_a + ((s_i - s_a) - y / |B|)           = mean_B(w) + (s_i - mean_B(s))
//     kl      exp(s_i - s_a) / S W                    = softmax_B(s)_i sum_B(w)
//     log_kl  (w_a + log(W / S)) + (s_i - s_a)        = (s_i - lse_B(s)) + lse_B(w)
// Within a block s ranges no further than w, so nothing far apart is subtracted.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition.h"
#include "diffsort/parallel_row/sorted_row.h"

namespace diffsort {

// s_i less that of the block's first element.
template <Regularization R, class Z, class W>
DIFFSORT_HD double distance(const SortedRow<R, Z, W>& row, Block block, std::int64_t i) {
  return scaled_difference(row.z(i), row.z(block.start), row.strength);
}

// Of an element of a block of at least two.
template <class Z, class W>
DIFFSORT_HD double shared_block_result(const SortedRow<Regularization::l2, Z, W>& row,
                                       const BlockSums<Regularization::l2>& sums, Block block,
                                       std::int64_t i) {
  const double w_first = row.w(block.start), w_last = row.w(block.end - 1);
  // At strength 0 an infinite w may share a block with others; with both signs there is no mean.
  if (std::isinf(w_first)) return w_first + w_last;
  if (std::isinf(w_last)) return w_last;
  const double size = count_to_double(block.size());
  if (!row.units.of_z) return w_first + (distance(row, block, i) - sums.y / size);
  // A division, of which there are few per second, instead of three.
  const double z_first = row.z(block.start), z = row.z(i);
  const double above = z == z_first ? 0.0 : z - z_first;
  return w_first + (above * size - sums.y) / (size * row.strength);
}

template <class Z, class W>
DIFFSORT_HD double shared_block_result(const SortedRow<Regularization::kl, Z, W>& row,
                                       const BlockSums<Regularization::kl>& sums, Block block,
                                       std::int64_t i) {
  return std::exp(distance(row, block, i)) / sums.s * sums.w;
}

template <class Z, class W>
DIFFSORT_HD double shared_block_result(const SortedRow<Regularization::log_kl, Z, W>& row,
                                       const BlockSums<Regularization::log_kl>& sums, Block block,
                                       std::int64_t i) {
  return row.w(block.start) + (std::log(sums.w) - std::log(sums.s)) + distance(row, block, i);
}

// The value of element i, which lies in `block`.
template <Regularization R, class Z, class W>
DIFFSORT_HD double block_result(const SortedRow<R, Z, W>& row, const BlockSums<R>& sums,
                                Block block, std::int64_t i) {
  // Alone in its block, an element of w comes through unchanged.
  return block.size() == 1 ? row.w(i) : shared_block_result(row, sums, block, i);
}

}  // namespace diffsort
