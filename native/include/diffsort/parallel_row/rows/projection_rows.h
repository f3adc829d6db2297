// A projection on dense rows, as kernels are given it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/dense_rows.h"
#include "diffsort/projection.h"
#include "diffsort/sort.h"

namespace diffsort {

template <class T>
DIFFSORT_HD typename SortKey<T>::Bits signed_key(T value, double sign) {
  return to_descending_key(sign < 0.0 ? -value : value);
}

// A value of P as the result holds it; + 0: never -0. In T, where signs cost no digits, and float's
// instructions are faster.
template <class T>
DIFFSORT_HD T signed_result(double w_sign, double value) {
  return static_cast<T>(w_sign) * static_cast<T>(value) + T(0);
}

// One row; absent operands and outputs are null.
template <class T>
struct ProjectionRow {
  std::int64_t n;
  double strength, z_sign, w_sign;
  const T *z, *w;
  T* result;
  std::int32_t *block_z, *block_w;

  DIFFSORT_HD T signed_result(double value) const {
    return diffsort::signed_result<T>(w_sign, value);
  }

  // Element i of a row that is one block.
  DIFFSORT_HD void write_one_block(std::int64_t i, double value) const {
    if (result) result[i] = signed_result(value);
    if (block_z) block_z[i] = 0;
    if (block_w) block_w[i] = 0;
  }

  // What element i of a row without a value is.
  DIFFSORT_HD void write_nan(std::int64_t i) const {
    if (result) result[i] = std::numeric_limits<T>::quiet_NaN();
    if (block_z) block_z[i] = kNanRow;
    if (block_w) block_w[i] = kNanRow;
  }
};

template <class T>
struct ProjectionRows {
  std::int64_t rows, n;
  double z_sign, w_sign;
  DensePerRow strength;
  DenseRows<const T> z, w;
  DenseRows<T> result;
  DenseRows<std::int32_t> block_z, block_w;

  // The `count` rows from row r on.
  DIFFSORT_HD ProjectionRows part(std::int64_t r, std::int64_t count) const {
    return {count,     n,         z_sign,         w_sign,          strength.from(r),
            z.from(r), w.from(r), result.from(r), block_z.from(r), block_w.from(r)};
  }

  DIFFSORT_HD ProjectionRow<T> row(std::int64_t r) const {
    return {n,        strength.row(r), z_sign,         w_sign,        z.row(r),
            w.row(r), result.row(r),   block_z.row(r), block_w.row(r)};
  }
};

}  // namespace diffsort
