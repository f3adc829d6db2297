// When ranks are one block, whatever the order of their values: if these differ by no more than
//     l2      n strength / 2
//     kl      log(2) strength
// l2: the mean of the k largest exceeds the mean of all by at most (high - low) (n - k) / n, and that of
// rho by exactly (n - k) / 2.
// kl: the exp(s) lie in [m, 2m], so the k largest have at most the share 2k / (n + k) of their sum; one
// block is where that is never above the share k (2n - k + 1) / (n (n + 1)) of the k largest of rho,
// which is n <= k (n + 1 - k), true for all k.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/projection.h"

namespace diffsort {

// In units of the strength; l2 or kl.
DIFFSORT_HD constexpr double range_of_one_block(Regularization regularization, double n) {
  constexpr double kLog2 = 0.6931471805599453;  // below log 2
  return regularization == Regularization::l2 ? 0.5 * n : kLog2;
}

}  // namespace diffsort
