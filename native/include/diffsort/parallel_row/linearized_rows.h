// Rows at the point where their linear maps are taken, element by element and block by block.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/dense_rows.h"
#include "diffsort/parallel_row/group.h"
#include "diffsort/projection.h"

namespace diffsort {

// As Problem and Linearization of projection.h; read in the terms of P itself, signs applied.
template <class T, Regularization R>
struct LinearizedRows {
  RowSet set;
  double z_sign = 1.0, w_sign = 1.0;
  DensePerRow strength;
  DenseRows<const T> z, w, result;  // an absent z or w is rho
  DenseRows<const std::int32_t> block_z, block_w;

  DIFFSORT_HD double z_at(std::int64_t e) const { return operand(z, z_sign, e); }
  DIFFSORT_HD double w_at(std::int64_t e) const { return operand(w, w_sign, e); }
  DIFFSORT_HD double result_at(std::int64_t e) const {
    return w_sign * static_cast<double>(set.read(result, e));
  }
  // kl is exp(log_kl): the derivative of exp multiplies by the result.
  DIFFSORT_HD double outer(std::int64_t e) const {
    return R == Regularization::kl ? result_at(e) : 1.0;
  }

  // Rows [first, first + rows).
  DIFFSORT_HD LinearizedRows part(std::int64_t first, std::int64_t rows) const {
    LinearizedRows some = *this;
    some.set.rows = rows;
    some.strength = strength.from(first);
    some.z = z.from(first);
    some.w = w.from(first);
    some.result = result.from(first);
    some.block_z = block_z.from(first);
    some.block_w = block_w.from(first);
    return some;
  }

 private:
  DIFFSORT_HD double operand(const DenseRows<const T>& values, double sign, std::int64_t e) const {
    if (values.data == nullptr) return static_cast<double>(set.n - (e - set.row(e) * set.n));
    return sign * static_cast<double>(set.read(values, e));
  }
};

}  // namespace diffsort
