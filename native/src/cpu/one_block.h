// Rows that are one block, found without pooling.
//
// Ranks, without a sort even: the order within a block does not matter (diffsort/one_block_range.h).
// Cost: one write after the scan (l2), one read and one write (kl).
// Chosen: ranks of l2 and kl whose range / strength is below the bound of one_block_range.h.
//
// Sorted values of log_kl, after the sort: one block if the k first elements never have a larger share
// of the sum of exp(z) than of that of exp(w). For k = 1 and k = n - 1 that says that exp(z) has neither
// the larger first share nor the smaller last one, so that its range is not larger, which is told at
// once, or by one sum. (exp(w) majorizes exp(z): Marshall, Olkin, Arnold 2011.)
// Cost: three exponentials per element; rows that are refused take none, one, or those up to where
// they are.
// Chosen: sorted values of log_kl, and at once refused where z's range is above that of w.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/one_block_range.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "operand.h"
#include "row.h"
#include "scan.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <Regularization R>
bool rank_is_one_block(const RowFacts& z, std::int64_t n, double strength) {
  return R != Regularization::log_kl &&
         z.range() <= range_of_one_block(R, static_cast<double>(n)) * strength;
}

// Where it is certain. `sums` gets those of the block.
template <class T>
bool sort_is_one_block(std::int64_t n, double strength, const SortedValues<T>& w,
                       BlockSums<Regularization::log_kl>* sums) {
  const double step = 1.0 / strength, first = w(0);
  const double z_range = static_cast<double>(n - 1) * step, w_range = first - w(n - 1);
  if (n < 2 || z_range > w_range)
    return false;  // (sums read two vectors, and one is behind the row)
  const auto z_part = [&](std::int64_t i) {
    return exp_nonpositive<T>((static_cast<double>(-i) - iota()) * step);
  };
  const auto w_part = [&](std::int64_t i) { return exp_nonpositive<T>(w.vector(i) - first); };
  // Of exponentials, and of adding up.
  const double error =
      (sizeof(T) == sizeof(float) ? 0x1p-26 : 0x1p-50) + static_cast<double>(n) * 0x1p-51;
  const double z_sum = std::expm1(-static_cast<double>(n) * step) / std::expm1(-step);
  const double w_sum = padded_sum_of(0, n, w_part), at_most = w_sum / z_sum * (1.0 + error);
  if (at_most > 1.0 || std::exp(w_range - z_range) * at_most < 1.0) return false;
  double z_share = 0.0, w_share = 0.0;
  constexpr std::int64_t kChunk = 128;
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    double z_parts[kChunk], w_parts[kChunk];
    const std::int64_t size = n - begin < kChunk ? n - begin : kChunk;
    for (std::int64_t k = 0; k < size; k += kLanes) {
      store(z_parts + k, z_part(begin + k) * at_most);
      store(w_parts + k, w_part(begin + k));
    }
    bool more = false;
    const std::int64_t last = begin + size == n ? size - 1 : size;  // all of both is not compared
    for (std::int64_t k = 0; k < last; ++k) {
      z_share += z_parts[k];
      w_share += w_parts[k];
      more |= z_share > w_share;
    }
    if (more) return false;
  }
  *sums = {z_sum, w_sum};
  return true;
}

template <Regularization R, class T>
void write_one_block(DenseOperand<T> z, const RowFacts& facts, std::int64_t n, double strength,
                     const DenseOutput<T>& out) {
  const double scale = static_cast<double>(z.sign) / strength;
  const auto size = static_cast<double>(n);
  const double middle = 0.5 * (size + 1.0);
  if (R == Regularization::l2) {
    const double mean = facts.sum / size;
    const double centre = middle * out.sign, slope = scale * out.sign;
    map(z.values, n, out.result,
        [&](Doubles x) { return centre + ((x - facts.first) - mean) * slope; });
  } else {
    // Around the middle, where the exponents lie within log(2) / 2. A first pass leaves them in out.
    // Half the range is exact; the middle itself may not be.
    const double low = facts.low, half = 0.5 * facts.range();
    const auto part = [&](Doubles x) { return exp_near_0<T>(((x - low) - half) * scale); };
    map(z.values, n, out.result, part);
    const double sum = sum_of(
        0, n, [&](std::int64_t i) { return load(out.result + i); },
        [&](std::int64_t i) { return static_cast<double>(out.result[i]); });
    const double factor = middle * size / sum * out.sign;
    map(out.result, n, out.result, [&](Doubles x) { return x * factor; });
  }
}

}  // namespace diffsort::DIFFSORT_LEVEL
