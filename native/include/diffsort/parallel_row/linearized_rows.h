// Rows at the point where their linear maps are taken, and the directions along which.
#pragma once

#include <cstdint>

#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/dense_rows.h"
#include "diffsort/parallel_row/float_rows.h"
#include "diffsort/parallel_row/group.h"
#include "diffsort/projection.h"

namespace diffsort {

// As Problem and Linearization of projection.h; read in the terms of P itself, signs applied.
struct LinearizedRows {
  RowSet set = {0, 0};
  double z_sign = 1.0, w_sign = 1.0;
  DensePerRow strength;
  FloatRows z, w, result;  // an absent z or w is rho
  DenseRows<const std::int32_t> block_z, block_w;

  DIFFSORT_HD double result_at(std::int64_t e) const { return w_sign * set.read(result, e); }

  DIFFSORT_HD double operand(const FloatRows& values, double sign, std::int64_t e) const {
    if (!values) return static_cast<double>(set.n - (e - set.row(e) * set.n));
    return sign * set.read(values, e);
  }

  // Rows [first, first + rows).
  DIFFSORT_HD LinearizedRows part(std::int64_t first, std::int64_t rows) const {
    return {{rows, set.n},
            z_sign,
            w_sign,
            strength.from(first),
            z.from(first),
            w.from(first),
            result.from(first),
            block_z.from(first),
            block_w.from(first)};
  }
};

// z = J_z^T g, w = J_w^T g, strength = J_strength^T g; absent outputs are not computed.
struct RowCotangents {
  FloatRows g;
  FloatOutput z, w;
  double* strength = nullptr;
};

// out = J_z z + J_w w + J_strength strength; absent tangents are zero.
struct RowTangents {
  FloatRows z, w;
  DensePerRow strength;
  bool has_strength = false;
  FloatOutput out;
};

// J along tangents if it is forward, else J^T along cotangents; the other ones are empty.
struct RowDirections {
  bool forward = false;
  RowCotangents cotangents;
  RowTangents tangents;

  DIFFSORT_HD bool wants_z() const {
    return static_cast<bool>(tangents.z) || static_cast<bool>(cotangents.z);
  }
  DIFFSORT_HD bool wants_w() const {
    return static_cast<bool>(tangents.w) || static_cast<bool>(cotangents.w);
  }
  DIFFSORT_HD bool wants_strength() const {
    return tangents.has_strength || cotangents.strength != nullptr;
  }
  DIFFSORT_HD bool wants_s() const { return wants_z() || wants_strength(); }

  // Of the rows of n from `first` on.
  DIFFSORT_HD RowDirections from(std::int64_t first, std::int64_t n) const {
    const RowCotangents& c = cotangents;
    const RowTangents& t = tangents;
    return {forward,
            {c.g.from(first), c.z.from(first * n), c.w.from(first * n),
             c.strength == nullptr ? nullptr : c.strength + first},
            {t.z.from(first), t.w.from(first), t.strength.from(first), t.has_strength,
             t.out.from(first * n)}};
  }
};

}  // namespace diffsort
