// The projection of any row, whatever it holds: infinities, NaN, strength 0, numbers of any size.
#pragma once

#include "diffsort/projection.h"

namespace diffsort {

template <class T>
struct GeneralRow {
  std::int64_t n;
  Regularization regularization;
  double z_sign, w_sign, strength;
  Row<const T> z, w;  // absent: rho
  Row<T> result;
  Row<std::int32_t> block_z, block_w;
};

// Cost: O(n): a radix sort of the bits of all values and sequential pooling (diffsort/isotonic.h).
template <class T>
void project_general_row(const GeneralRow<T>& row);

}  // namespace diffsort
