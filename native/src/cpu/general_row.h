// The projection of any row, whatever it holds: infinities, NaN, strength 0, numbers of any size.
//
// A row with a NaN has no value, and strength 0 is the hard limit, with mean ranks at ties.
// Cost: O(n): a radix sort of the bits of all values and sequential pooling (diffsort/isotonic.h). Scratch:
// 16 (float32) or 32 (float64) bytes per element for the sort, and that of the blocks.
// Chosen: rows that row_solver.h refuses: what is not moderate, and kl with a negative w.
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

template <class T>
void project_general_row(const GeneralRow<T>& row);

}  // namespace diffsort
