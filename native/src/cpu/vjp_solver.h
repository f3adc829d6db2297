// J^T of one row of moderate numbers, in memory without gaps, for the calls that training makes: the
// cotangent of z (ranks) or that of w (sorted values, where z is rho). The formulas are those of
// derivatives_cpu.cpp, which serves everything else.
#pragma once

#include <cstdint>

#include "block_ids.h"
#include "block_sums_by_id.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
struct DenseVjpRow {
  std::int64_t n;
  double strength, z_sign, w_sign;
  const T *g, *result, *w;  // result for kl, w for log_kl
  const std::int32_t *block_z, *block_w;
  T *z_out, *w_out;  // one of them is wanted
};

template <class T>
class VjpSolver {
 public:
  // False: this row is not for here, and nothing that counts was written.
  template <Regularization R>
  bool solve(const DenseVjpRow<T>& row) {
    if (row.z_out != nullptr) {
      if (R == Regularization::log_kl || !ids_.read(row.block_z, row.n)) return false;
      return R == Regularization::l2 ? ranks_l2(row) : ranks_kl(row);
    }
    if (R == Regularization::kl) return false;
    if (R == Regularization::log_kl && row.w == nullptr) return false;  // rho
    return sort<R>(row);
  }

 private:
  // (g_i - mean_B(g)) / strength
  bool ranks_l2(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    const double scale = row.z_sign * row.w_sign / row.strength;
    if (ids_.count() == n) {
      write_zeros(row);
      return true;
    }
    if (ids_.count() == 1) {
      const double mean = sum_of(
                              0, n, [&](std::int64_t i) { return load(row.g + i); },
                              [&](std::int64_t i) { return static_cast<double>(row.g[i]); }) /
                          static_cast<double>(n);
      map(row.g, n, row.z_out, [&](Doubles g) { return (g - mean) * scale; });
      return true;
    }
    sums_.add_up(row.block_z, n, [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
    for (std::int64_t b = 0; b < ids_.count(); ++b) {
      const std::int64_t size = ids_.size(b);
      if (size > 1) sums_[ids_.start(b)] /= static_cast<double>(size);
    }
    const double* const means = sums_.data();
    for (std::int64_t i = 0; i < n; ++i) {
      row.z_out[i] =
          static_cast<T>((static_cast<double>(row.g[i]) - means[row.block_z[i]]) * scale);
    }
    return true;
  }

  // Every element is alone in its block. What is not finite in g stays visible.
  static void write_zeros(const DenseVjpRow<T>& row) {
    map(row.g, row.n, row.z_out, [&](Doubles g) { return g - g; });
  }

  // r_i (g_i - sum_B(r g) / sum_B(r)) / strength
  bool ranks_kl(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    const double scale = row.z_sign / row.strength;  // the result has w's sign, twice
    if (ids_.count() == n) {
      write_zeros(row);
      return true;
    }
    const T *const g = row.g, *const r = row.result;
    if (ids_.count() == 1) return one_block_kl(row, scale);
    const auto weight = [&](std::int64_t i) { return static_cast<double>(r[i]); };
    const auto term = [&](std::int64_t i) { return weight(i) * static_cast<double>(g[i]); };
    weights_.add_up(row.block_z, n, weight);
    for (std::int64_t b = 0; b < ids_.count(); ++b) {
      if (weights_[ids_.start(b)] == 0.0) return false;  // results 0, which do not tell the softmax
    }
    sums_.add_up(row.block_z, n, term);
    const double *const sums = sums_.data(), *const weights = weights_.data();
    for (std::int64_t i = 0; i < n; ++i) {
      // Divided first: for an element alone in its block exactly 1, and the derivative exactly 0.
      const double share = weight(i) / weights[row.block_z[i]];
      row.z_out[i] = static_cast<T>((term(i) - share * sums[row.block_z[i]]) * scale);
    }
    return true;
  }

  bool one_block_kl(const DenseVjpRow<T>& row, double scale) {
    const T *const g = row.g, *const r = row.result;
    const double weight = sum_of(
        0, row.n, [&](std::int64_t i) { return load(r + i); },
        [&](std::int64_t i) { return static_cast<double>(r[i]); });
    if (weight == 0.0) return false;
    const double mean = sum_of(
                            0, row.n, [&](std::int64_t i) { return load(r + i) * load(g + i); },
                            [&](std::int64_t i) {
                              return static_cast<double>(r[i]) * static_cast<double>(g[i]);
                            }) /
                        weight;
    std::int64_t i = 0;
    for (; i + kLanes <= row.n; i += kLanes) {
      store(row.z_out + i, load(r + i) * ((load(g + i) - mean) * scale));
    }
    for (; i < row.n; ++i) {
      row.z_out[i] = static_cast<T>(static_cast<double>(r[i]) *
                                    ((static_cast<double>(g[i]) - mean) * scale));
    }
    return true;
  }

  // mean_B(g) (l2) or softmax_B(w)_j sum_B(g) (log_kl), where the blocks of z lie in order.
  template <Regularization R>
  bool sort(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    const auto size = static_cast<std::size_t>(n);
    if (!in_order(row.block_z, n)) return false;
    double* const values = values_.get(size);
    bool singletons = true;
    for (std::int64_t a = 0; a < n;) {
      std::int64_t b = a + 1;
      while (b < n && row.block_z[b] == a) ++b;
      values[a] = static_cast<double>(row.g[a]);
      if (b - a > 1) {
        singletons = false;
        const double sum = sum_of(
            a, b, [&](std::int64_t i) { return load(row.g + i); },
            [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
        values[a] = R == Regularization::l2 ? sum / static_cast<double>(b - a) : sum;
      }
      a = b;
    }
    // Ids of w come from outside: one that starts no block must not be followed.
    if (!starts_only(row.block_w, row.block_z, n)) return false;
    if (R == Regularization::log_kl && !singletons) weigh_by_softmax(row, values);
    else {
      for (std::int64_t j = 0; j < n; ++j) row.w_out[j] = static_cast<T>(values[row.block_w[j]]);
    }
    return true;
  }

  // Every id is the position at which a run of it starts.
  static bool in_order(const std::int32_t* ids, std::int64_t n) {
    bool ordered = ids[0] == 0;
    for (std::int64_t i = 1; i < n; ++i) ordered &= (ids[i] == ids[i - 1]) | (ids[i] == i);
    return ordered;
  }

  static bool starts_only(const std::int32_t* ids, const std::int32_t* ordered, std::int64_t n) {
    std::int32_t low = 0, high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      low = ids[i] < low ? ids[i] : low;
      high = ids[i] > high ? ids[i] : high;
    }
    if (low < 0 || high >= n) return false;
    bool starts = true;
    for (std::int64_t i = 0; i < n; ++i) starts &= ordered[ids[i]] == ids[i];
    return starts;
  }

  void weigh_by_softmax(const DenseVjpRow<T>& row, double* values) {
    const std::int64_t n = row.n;
    const auto size = static_cast<std::size_t>(n);
    T* const tops = tops_.get(size);
    for (std::int64_t b = 0; b < n; ++b) tops[b] = -std::numeric_limits<T>::infinity();
    const T sign = static_cast<T>(row.w_sign);
    for (std::int64_t j = 0; j < n; ++j) {
      T& top = tops[row.block_w[j]];
      const T value = sign * row.w[j];
      top = value > top ? value : top;
    }
    double* const shares = shares_.get(size);
    for (std::int64_t j = 0; j < n; ++j) {
      shares[j] = static_cast<double>(sign * row.w[j]) - static_cast<double>(tops[row.block_w[j]]);
    }
    map(shares, n, shares, [&](Doubles x) { return exp_nonpositive(x); });
    sums_.add_up(row.block_w, n, [&](std::int64_t j) { return shares[j]; });
    const double* const totals = sums_.data();
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int32_t id = row.block_w[j];
      row.w_out[j] = static_cast<T>(shares[j] / totals[id] * values[id]);
    }
  }

  BlockIds ids_;
  SumsById sums_, weights_;
  Buffer<double> values_, shares_;
  Buffer<T> tops_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
