// J^T of one row of moderate numbers, in memory without gaps, for the calls that training makes: the
// cotangent of z (ranks) or that of w (sorted values, where z is rho). The formulas are those of
// derivatives_cpu.cpp, which serves everything else.
#pragma once

#include <cstdint>

#include "block_ids.h"
#include "block_sums_by_id.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "long_vjp.h"
#include "row.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class VjpSolver {
 public:
  // False: this row is not for here, and nothing was written.
  template <Regularization R>
  bool solve(const DenseVjpRow<T>& row, const Workers& workers) {
    if (row.z_out == nullptr) {
      if (R == Regularization::kl || (R == Regularization::log_kl && row.w == nullptr))
        return false;
      return sort<R>(row, workers);
    }
    bool one_block = false;
    if (R == Regularization::log_kl || !BlockIds::are_plain(row.block_z, row.n, &one_block)) {
      return false;
    }
    if (one_block) return R == Regularization::l2 ? one_block_l2(row) : one_block_kl(row);
    if (row.n > kLongest) {
      return long_.template ranks<R>(row, R == Regularization::l2 ? scale_l2(row) : scale_kl(row),
                                     workers);
    }
    ids_.read(row.block_z, row.n);
    if (ids_.count() == row.n) return singletons(row);
    return R == Regularization::l2 ? ranks_l2(row) : ranks_kl(row);
  }

 private:
  static constexpr std::int64_t kLongest = std::int64_t{1} << 17;  // longer rows go by buckets

  static double scale_l2(const DenseVjpRow<T>& row) {
    return row.z_sign * row.w_sign / row.strength;
  }
  static double scale_kl(const DenseVjpRow<T>& row) {
    return row.z_sign / row.strength;  // the result has w's sign, twice
  }

  // (g_i - mean_B(g)) / strength
  bool ranks_l2(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    sums_.add_up(row.block_z, n, n, [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
    for (std::int64_t b = 0; b < ids_.count(); ++b) {
      const std::int64_t size = ids_.size(b);
      if (size > 1) sums_[ids_.start(b)] /= static_cast<double>(size);
    }
    const double scale = scale_l2(row);
    const double* const means = sums_.data();
    for (std::int64_t i = 0; i < n; ++i) {
      row.z_out[i] =
          static_cast<T>((static_cast<double>(row.g[i]) - means[row.block_z[i]]) * scale);
    }
    return true;
  }

  bool one_block_l2(const DenseVjpRow<T>& row) {
    const double scale = scale_l2(row);
    const double sum = sum_of(
        0, row.n, [&](std::int64_t i) { return load(row.g + i); },
        [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
    const double mean = sum / static_cast<double>(row.n);
    map(row.g, row.n, row.z_out, [&](Doubles g) { return (g - mean) * scale; });
    return true;
  }

  // Every element is alone in its block. What is not finite in g stays visible.
  static bool singletons(const DenseVjpRow<T>& row) {
    map(row.g, row.n, row.z_out, [&](Doubles g) { return g - g; });
    return true;
  }

  // r_i (g_i - sum_B(r g) / sum_B(r)) / strength
  bool ranks_kl(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    const double scale = scale_kl(row);
    const T *const g = row.g, *const r = row.result;
    const auto weight = [&](std::int64_t i) { return static_cast<double>(r[i]); };
    const auto term = [&](std::int64_t i) { return weight(i) * static_cast<double>(g[i]); };
    weights_.add_up(row.block_z, n, n, weight);
    for (std::int64_t b = 0; b < ids_.count(); ++b) {
      if (weights_[ids_.start(b)] == 0.0) return false;  // results 0, which do not tell the softmax
    }
    sums_.add_up(row.block_z, n, n, term);
    const double *const sums = sums_.data(), *const weights = weights_.data();
    for (std::int64_t i = 0; i < n; ++i) {
      // Divided first: for an element alone in its block exactly 1, and the derivative exactly 0.
      const double share = weight(i) / weights[row.block_z[i]];
      row.z_out[i] = static_cast<T>((term(i) - share * sums[row.block_z[i]]) * scale);
    }
    return true;
  }

  bool one_block_kl(const DenseVjpRow<T>& row) {
    const double scale = scale_kl(row);
    const T *const g = row.g, *const r = row.result;
    const double weight = sum_of(
        0, row.n, [&](std::int64_t i) { return load(r + i); },
        [&](std::int64_t i) { return static_cast<double>(r[i]); });
    if (weight == 0.0) return false;
    const double mean =
        sum_of(
            0, row.n, [&](std::int64_t i) { return load(r + i) * load(g + i); },
            [&](std::int64_t i) { return static_cast<double>(r[i]) * static_cast<double>(g[i]); }) /
        weight;
    std::int64_t i = 0;
    for (; i + kLanes <= row.n; i += kLanes) {
      store(row.z_out + i, load(r + i) * ((load(g + i) - mean) * scale));
    }
    for (; i < row.n; ++i) {
      row.z_out[i] =
          static_cast<T>(static_cast<double>(r[i]) * ((static_cast<double>(g[i]) - mean) * scale));
    }
    return true;
  }

  // mean_B(g) (l2) or softmax_B(w)_j sum_B(g) (log_kl), where the blocks of z lie in order.
  template <Regularization R>
  bool sort(const DenseVjpRow<T>& row, const Workers& workers) {
    const std::int64_t n = row.n;
    const auto size = static_cast<std::size_t>(n);
    if (n > kLongest) {
      if (!BlockIds::are_plain(row.block_w, n)) return false;
      return R == Regularization::l2 ? long_.sorted_l2(row, workers)
                                     : long_.sorted_log_kl(row, workers);
    }
    if (!in_order(row.block_z, n)) return false;
    using Value = std::conditional_t<R == Regularization::l2, T, double>;
    Value* const values = std::get<Buffer<Value>>(values_).get(size);
    bool singletons = true;
    for (std::int64_t a = 0; a < n;) {
      std::int64_t b = a + 1;
      while (b < n && row.block_z[b] == a) ++b;
      values[a] = static_cast<Value>(row.g[a]);
      if (b - a > 1) {
        singletons = false;
        const double sum = sum_of(
            a, b, [&](std::int64_t i) { return load(row.g + i); },
            [&](std::int64_t i) { return static_cast<double>(row.g[i]); });
        values[a] =
            static_cast<Value>(R == Regularization::l2 ? sum / static_cast<double>(b - a) : sum);
      }
      a = b;
    }
    // Ids of w come from outside: one that starts no block must not be followed.
    if (!BlockIds::are_plain(row.block_w, n)) return false;
    bool starts = true;
    for (std::int64_t j = 0; j < n; ++j) starts &= is_start(row, row.block_w[j]);
    if (!starts) return false;
    if constexpr (R == Regularization::log_kl) {
      if (!singletons) weigh_by_softmax(row, values);
    }
    if (R == Regularization::l2 || singletons) {
      for (std::int64_t j = 0; j < n; ++j) row.w_out[j] = static_cast<T>(values[row.block_w[j]]);
    }
    return true;
  }

  static bool is_start(const DenseVjpRow<T>& row, std::int32_t id) { return row.block_z[id] == id; }

  // Every id is the position at which a run of it starts.
  static bool in_order(const std::int32_t* ids, std::int64_t n) {
    bool ordered = ids[0] == 0;
    for (std::int64_t i = 1; i < n; ++i) ordered &= (ids[i] == ids[i - 1]) | (ids[i] == i);
    return ordered;
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
    sums_.add_up(row.block_w, n, n, [&](std::int64_t j) { return shares[j]; });
    const double* const totals = sums_.data();
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int32_t id = row.block_w[j];
      row.w_out[j] = static_cast<T>(shares[j] / totals[id] * values[id]);
    }
  }

  BlockIds ids_;
  SumsById sums_, weights_;
  LongVjp<T> long_;
  std::conditional_t<std::is_same_v<T, double>, std::tuple<Buffer<double>>,
                     std::tuple<Buffer<double>, Buffer<float>>>
      values_;  // of blocks, at their ids
  Buffer<double> shares_;
  Buffer<T> tops_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
