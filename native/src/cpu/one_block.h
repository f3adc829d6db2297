// Ranks of rows that are one block, without a sort: the order within a block does not matter.
//
// l2: one block if (high - low) / strength <= n / 2, for the mean of the k largest exceeds the mean of
// all by at most (high - low) (n - k) / n, and that of rho by exactly (n - k) / 2.
// kl: one block if (high - low) / strength <= log 2. The exp(s) then lie in [m, 2m], so the k largest
// have at most the share 2k / (n + k) of their sum; one block is where that is never above the share
// k (2n - k + 1) / (n (n + 1)) of the k largest of rho, which is n <= k (n + 1 - k), true for all k.
// Cost: one write after the scan (l2), one read and one write (kl).
#pragma once

#include <cstdint>

#include "diffsort/projection.h"
#include "exp.h"
#include "row.h"
#include "scan.h"

namespace diffsort::DIFFSORT_LEVEL {

// Ranks of l2 or kl are one block where high - low is no larger; strength: a number or a vector.
template <Regularization R, class V>
V range_of_one_block(std::int64_t n, V strength) {
  constexpr double kLog2 = 0.6931471805599453;  // below log 2
  return (R == Regularization::l2 ? 0.5 * static_cast<double>(n) : kLog2) * strength;
}

template <Regularization R>
bool rank_is_one_block(const RowFacts& z, std::int64_t n, double strength) {
  return R != Regularization::log_kl && z.range() <= range_of_one_block<R>(n, strength);
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
    const double centre = 0.5 * (facts.low + facts.high);
    const auto part = [&](Doubles x) { return exp_near_0<T>((x - centre) * scale); };
    map(z.values, n, out.result, part);
    const double sum = sum_of(
        0, n, [&](std::int64_t i) { return load(out.result + i); },
        [&](std::int64_t i) { return static_cast<double>(out.result[i]); });
    const double factor = middle * size / sum * out.sign;
    map(out.result, n, out.result, [&](Doubles x) { return x * factor; });
  }
}

}  // namespace diffsort::DIFFSORT_LEVEL
