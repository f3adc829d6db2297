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

#include "diffsort/arithmetic.h"
#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/partition/sorted_row.h"

namespace diffsort {

// Of the elements of a block of at least two.
template <Regularization R>
class SharedResult;

template <>
class SharedResult<Regularization::l2> {
 public:
  SharedResult() = default;
  template <class Row>
  DIFFSORT_HD SharedResult(const Row& row, const BlockSums<Regularization::l2>& sums, Block block)
      : z_first_(row.z(block.start)),
        w_first_(row.w(block.start)),
        size_(count_to_double(block.size())),
        sum_(sums.y) {
    if (!row.units.of_z) w_last_ = row.w(block.end - 1);
  }

  template <class Row>
  DIFFSORT_HD double operator()(const Row& row, std::int64_t i) const {
    const double z = row.z(i);
    if (row.units.of_z) {
      const double above = z == z_first_ ? 0.0 : z - z_first_;
      return w_first_ + plain_quotient(above * size_ - sum_, size_ * row.strength);
    }
    // At strength 0 an infinite w may share a block with others; with both signs there is no mean.
    if (std::isinf(w_first_)) return w_first_ + w_last_;
    if (std::isinf(w_last_)) return w_last_;
    return w_first_ + (scaled_difference(z, z_first_, row.strength) - sum_ / size_);
  }

 private:
  double z_first_ = 0.0, w_first_ = 0.0, w_last_ = 0.0, size_ = 1.0, sum_ = 0.0;
};

template <>
class SharedResult<Regularization::kl> {
 public:
  SharedResult() = default;
  template <class Row>
  DIFFSORT_HD SharedResult(const Row& row, const BlockSums<Regularization::kl>& sums, Block block)
      : z_first_(row.z(block.start)), sums_(sums) {}

  template <class Row>
  DIFFSORT_HD double operator()(const Row& row, std::int64_t i) const {
    return std::exp(scaled_difference(row.z(i), z_first_, row.strength)) / sums_.s * sums_.w;
  }

 private:
  double z_first_ = 0.0;
  BlockSums<Regularization::kl> sums_{1.0, 1.0};
};

template <>
class SharedResult<Regularization::log_kl> {
 public:
  SharedResult() = default;
  template <class Row>
  DIFFSORT_HD SharedResult(const Row& row, const BlockSums<Regularization::log_kl>& sums,
                           Block block)
      : z_first_(row.z(block.start)),
        first_(row.w(block.start) + (std::log(sums.w) - std::log(sums.s))) {}

  template <class Row>
  DIFFSORT_HD double operator()(const Row& row, std::int64_t i) const {
    return first_ + scaled_difference(row.z(i), z_first_, row.strength);
  }

 private:
  double z_first_ = 0.0, first_ = 0.0;
};

// The value of element i, which lies in `block`.
template <Regularization R, class Z, class W>
DIFFSORT_HD double block_result(const SortedRow<R, Z, W>& row, const BlockSums<R>& sums,
                                Block block, std::int64_t i) {
  // Alone in its block, an element of w comes through unchanged.
  return block.size() == 1 ? row.w(i) : SharedResult<R>(row, sums, block)(row, i);
}

}  // namespace diffsort
