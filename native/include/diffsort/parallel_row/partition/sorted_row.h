// What the algorithms of a row read: two sorted operands, and the sums of a few of their elements.
#pragma once

#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"

namespace diffsort {

// A row of n elements, n <= 2^31 - 3. z(i) and w(i): the i-th largest of each, as double.
template <Regularization R, class Z, class W>
struct SortedRow {
  using Shift = typename BlockSums<R>::Shift;

  std::int64_t n;
  double strength;
  Units units;
  Z z;
  W w;

  DIFFSORT_HD BlockSums<R> singleton(std::int64_t i) const {
    return BlockSums<R>::singleton(R == Regularization::kl ? w(i) : 0.0);
  }

  // Brings sums of a run that starts at j to element i < j. In l2 it is a few instructions.
  DIFFSORT_HD Shift shift(std::int64_t i, std::int64_t j) const {
    if constexpr (R == Regularization::l2) return shift_between(i, j);
    return shared_shift(i, j);
  }

  // Whether two neighbours, each alone in its block, do not pool, and no rounding makes them: false says
  // nothing. They do at most where s is no farther apart than
  //     l2, log_kl    w_apart        kl    log(1 + w_apart / w_right) <= w_apart / w_right
  // so that most pairs of most rows take no exponential. Only l2, which compares so itself, is exact.
  DIFFSORT_HD bool surely_apart(double z_apart, double w_apart, double w_right) const {
    if (!units.of_z) return false;
    if (R == Regularization::l2) return z_apart > strength * w_apart;
    const double weight = R == Regularization::kl ? w_right : 1.0;
    if (!(weight > 1.0 / kModerate)) return false;  // products would lose digits
    return z_apart * weight > strength * (w_apart + kDoubt * (w_apart + weight));
  }

  // Whether the run that starts at i is worth no more than the one that starts at j > i, so that they
  // pool. At strength 0 equal z pool, whatever w is, and nothing else.
  DIFFSORT_HD bool pools(std::int64_t i, const BlockSums<R>& left, std::int64_t left_size,
                         std::int64_t j, const BlockSums<R>& right, std::int64_t right_size) const {
    if (!(strength > 0.0)) return z(i) == z(j);
    return BlockSums<R>::violates(left, left_size, right, right_size, shift(i, j));
  }

 private:
  static constexpr double kDoubt = 1e-9;  // exponentials compare s to some 1e-13

  DIFFSORT_HD Shift shift_between(std::int64_t i, std::int64_t j) const {
    const double left = w(i), right = w(j);
    return {units, z(i), z(j), left == right ? 0.0 : left - right};
  }
  DIFFSORT_HD DIFFSORT_NOINLINE Shift shared_shift(std::int64_t i, std::int64_t j) const {
    return shift_between(i, j);
  }
};

}  // namespace diffsort
