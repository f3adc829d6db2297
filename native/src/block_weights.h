// What the linear maps of one row need to know about its blocks: sums over them, and the weights of
// elements within them. The formulas are in derivatives_cpu.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "diffsort/derivative_formulas.h"
#include "diffsort/projection.h"

namespace diffsort {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// One number per block of a row, addressed by block id.
template <class V = double>
class PerBlock {
 public:
  void reset(std::int64_t n, V value = V(0)) { values_.assign(static_cast<std::size_t>(n), value); }
  V& operator[](std::int32_t id) { return values_[static_cast<std::size_t>(block_start(id))]; }

  // Positions at which no block starts hold 0 / 0 afterwards; nobody reads them.
  void divide(const PerBlock& by) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] /= by.values_[i];
  }

 private:
  std::vector<V> values_;
};

// One thread's memory, kept from row to row; only what a call needs is ever sized.
template <class T>
struct Scratch {
  PerBlock<> sum, total, z_max;
  PerBlock<T> w_max;
  std::vector<T> z_softmax, w_softmax;
};

inline bool valid_ids(Row<const std::int32_t> ids, std::int64_t n) {
  bool valid = true;
  for (std::int64_t i = 0; i < n; ++i) valid &= is_valid_id(ids[i], n);
  return valid;
}

template <class T>
struct Operand {
  Row<const T> data;  // absent: rho
  std::int64_t n;
  double sign;

  double operator[](std::int64_t i) const {
    return data ? sign * static_cast<double>(data[i]) : static_cast<double>(n - i);
  }
};

// One row in the terms of P itself: the signs are applied on the way in and on the way out.
template <class T, Regularization R>
struct RowProblem {
  std::int64_t n;
  double strength, z_sign, w_sign;
  Operand<T> z, w;
  Row<const T> result_data;
  Row<const std::int32_t> block_z, block_w;

  double result(std::int64_t i) const { return w_sign * static_cast<double>(result_data[i]); }
  // kl is exp(log_kl): the derivative of exp multiplies by the result.
  double outer(std::int64_t i) const { return R == Regularization::kl ? result(i) : 1.0; }
};

// softmax_B(scale x) into out. x(i) is a double that V holds exactly.
template <class T, class V, class X, class Out>
void block_softmax(std::int64_t n, Row<const std::int32_t> block, const X& x, double scale,
                   PerBlock<V>& max, PerBlock<>& total, const Out& out) {
  max.reset(n, -std::numeric_limits<V>::infinity());
  for (std::int64_t i = 0; i < n; ++i) {
    max[block[i]] = std::max(max[block[i]], static_cast<V>(x(i)));
  }
  total.reset(n);
  for (std::int64_t i = 0; i < n; ++i) {
    const double share = softmax_part(x(i), static_cast<double>(max[block[i]]), scale);
    total[block[i]] += share;
    out(i) = static_cast<T>(share);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    out(i) = static_cast<T>(static_cast<double>(out(i)) / total[block[i]]);
  }
}

// p, the weights of z's elements within their blocks. l2 has the same weight for all of a block and
// divides the block's sum instead of every term.
template <class T, Regularization R>
class ZWeights {
 public:
  ZWeights(const RowProblem<T, R>& row, Scratch<T>& scratch)
      : row_(row), total_(scratch.total), softmax_(scratch.z_softmax) {
    if (R == Regularization::log_kl) softmax(scratch);
    bool weightless = false;
    if (R == Regularization::kl) {
      sum_weights();
      for (std::int64_t i = 0; i < row.n; ++i) weightless |= total_[row.block_z[i]] == 0.0;
    }
    if (R == Regularization::kl && weightless) {
      // A block without weight in w has results 0, which do not tell its softmax: z does.
      softmax(scratch);
      sum_weights();
    }
    if (R == Regularization::l2) {
      total_.reset(row.n);
      for (std::int64_t i = 0; i < row.n; ++i) total_[row.block_z[i]] += 1.0;
    }
  }

  double operator[](std::int64_t i) const {
    if (R == Regularization::l2) return 1.0;
    if (R == Regularization::kl) {
      // For an element alone in its block exactly 1, so that its derivative is exactly 0.
      const double total = total_[row_.block_z[i]];
      if (total != 0.0) return weight(i) / total;
    }
    return static_cast<double>(softmax_[static_cast<std::size_t>(i)]);
  }
  // sums of terms that were weighted with [] become <p, terms>_B.
  void finish(PerBlock<>& sums) const {
    if (R == Regularization::l2) sums.divide(total_);
  }

 private:
  // Of s = z / strength. Not of the result, though the two differ by a constant of the block: the
  // result is rounded to T, by much where w is far from zero.
  void softmax(Scratch<T>& scratch) {
    const double scale = row_.strength > 0.0 ? 1.0 / row_.strength : 0.0;
    const auto z = [&](std::int64_t i) { return row_.z[i]; };  // rho is no float32 beyond 2^24
    softmax_.resize(static_cast<std::size_t>(row_.n));
    const auto out = [&](std::int64_t i) -> T& { return softmax_[static_cast<std::size_t>(i)]; };
    block_softmax<T>(row_.n, row_.block_z, z, scale, scratch.z_max, scratch.total, out);
  }
  // kl: the results. At strength 0, where they may be infinite, a block's z are equal and share alike.
  double weight(std::int64_t i) const { return row_.strength > 0.0 ? row_.result(i) : 1.0; }
  void sum_weights() {
    total_.reset(row_.n);
    for (std::int64_t i = 0; i < row_.n; ++i) total_[row_.block_z[i]] += weight(i);
  }

  const RowProblem<T, R>& row_;
  PerBlock<>& total_;
  std::vector<T>& softmax_;
};

// q of log_kl, softmax_B(w), into out.
template <class T, Regularization R, class Out>
void w_softmax(const RowProblem<T, R>& row, const Out& out, Scratch<T>& scratch) {
  const auto w = [&](std::int64_t j) { return row.w[j]; };
  block_softmax<T>(row.n, row.block_w, w, 1.0, scratch.w_max, scratch.total, out);
}

// z less the largest z of its block. Any z of the block would do but for rounding: in kl the
// largest has weight, while others may lie far away without any.
template <class T, Regularization R>
class RelativeZ {
 public:
  RelativeZ(const RowProblem<T, R>& row, Scratch<T>& scratch)
      : row_(row), reference_(scratch.z_max) {
    reference_.reset(row.n, -std::numeric_limits<double>::infinity());
    for (std::int64_t i = 0; i < row.n; ++i) {
      double& reference = reference_[row.block_z[i]];
      reference = std::max(reference, row.z[i]);
    }
  }
  double operator[](std::int64_t i) const { return row_.z[i] - reference_[row_.block_z[i]]; }

 private:
  const RowProblem<T, R>& row_;
  PerBlock<>& reference_;
};

}  // namespace diffsort
