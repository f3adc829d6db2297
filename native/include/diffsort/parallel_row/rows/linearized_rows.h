// Rows at the point where their linear maps are taken, and the directions along which.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/dense_rows.h"
#include "diffsort/parallel_row/rows/float_rows.h"
#include "diffsort/parallel_row/rows/row_set.h"
#include "diffsort/projection.h"

namespace diffsort {

// As Problem and Linearization of projection.h; read in the terms of P itself, signs applied. Set:
// as RowSet, Values: as FloatRows, Ids: what the set finds places by.
template <class Set, class Values, class Ids>
struct LinearizedSet {
  Set set;
  double z_sign, w_sign;
  DensePerRow strength;
  Values z, w, result;  // an absent z or w is rho
  Ids block_z, block_w;

  template <class Position>
  DIFFSORT_HD double result_at(Position e) const {
    return w_sign * set.read(result, e);
  }

  template <class Position>
  DIFFSORT_HD double operand(const Values& values, double sign, Position e) const {
    if (!values) return count_to_double(set.n - (e - set.row(e) * set.n));
    return sign * set.read(values, e);
  }

  // Rows [first, first + rows).
  DIFFSORT_HD LinearizedSet part(std::int64_t first, std::int64_t rows) const {
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

using LinearizedRows = LinearizedSet<RowSet, FloatRows, DenseRows<const std::int32_t>>;

// z = J_z^T g, w = J_w^T g, strength = J_strength^T g; absent outputs are not computed.
template <class Values, class Output>
struct CotangentSet {
  Values g;
  Output z, w;
  double* strength = nullptr;
};

// out = J_z z + J_w w + J_strength strength; absent tangents are zero.
template <class Values, class Output>
struct TangentSet {
  Values z, w;
  DensePerRow strength;
  bool has_strength = false;
  Output out;
};

// J along tangents if it is forward, else J^T along cotangents; the other ones are empty.
template <class Values, class Output>
struct DirectionSet {
  bool forward = false;
  CotangentSet<Values, Output> cotangents;
  TangentSet<Values, Output> tangents;

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
  DIFFSORT_HD DirectionSet from(std::int64_t first, std::int64_t n) const {
    const auto& c = cotangents;
    const auto& t = tangents;
    return {forward,
            {c.g.from(first), c.z.from(first * n), c.w.from(first * n),
             c.strength == nullptr ? nullptr : c.strength + first},
            {t.z.from(first), t.w.from(first), t.strength.from(first), t.has_strength,
             t.out.from(first * n)}};
  }
};

using RowDirections = DirectionSet<FloatRows, FloatOutput>;

// Whether it is what training asks for: the cotangent of one operand, of z for ranks (l2, kl) and of w
// for sorted values (l2, log_kl), and nothing else. It has ways of its own.
template <Regularization R>
bool is_one_cotangent(const LinearizedRows& at, const RowDirections& along) {
  if (along.forward || along.wants_strength() || along.wants_z() == along.wants_w()) return false;
  if (along.wants_z()) return R != Regularization::log_kl;
  return R == Regularization::l2 || (R == Regularization::log_kl && at.w);
}

}  // namespace diffsort
