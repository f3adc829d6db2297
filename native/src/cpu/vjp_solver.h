// J^T of one row of moderate numbers, in memory without gaps, for the calls that training makes: the
// cotangent of z (ranks) or that of w (sorted values, where z is rho). The formulas are those of
// derivatives_cpu.cpp, which serves everything else.
//
//     one block             no table: a sum over the row
//     up to 131072          a table of sums by block id             block_sums_by_id.h
//     longer                what is not alone, by buckets           long_rank_vjp.h, long_sort_vjp.h
//     w wider than 64       the same for more than 1024 elements, for a softmax's top per block
//
// Cost: O(n), two reads of the row and one write. Scratch: 32 bytes per element for a table.
// Chosen: one operand's cotangent, finite operands and blocks without a sentinel (block_ids.h); what is none of
// these is derivatives_cpu.cpp's.
#pragma once

#include <cstdint>

#include "block_ids.h"
#include "block_sums_by_id.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "long_rank_vjp.h"
#include "long_sort_vjp.h"
#include "row.h"
#include "scan.h"
#include "simd.h"
#include "softmax_weights.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class VjpSolver {
 public:
  // False: this row is not for here; what was written does not count.
  template <Regularization R>
  bool solve(const DenseVjpRow<T>& row, const Workers& workers) {
    if (row.z_out == nullptr) {
      if (R == Regularization::kl || (R == Regularization::log_kl && row.w == nullptr))
        return false;
      RowFacts facts{};
      if (R == Regularization::log_kl && !(facts = scan(row.w, row.n)).finite) return false;
      if (row.n > kLongest) {
        if (!are_plain(row.block_w, row.n)) return false;
        return R == Regularization::l2 ? long_sort_.l2(row, workers)
                                       : long_sort_.log_kl(row, workers);
      }
      bool one_z = false, one_w = false;
      if (!are_plain(row.block_z, row.n, &one_z) || !are_plain(row.block_w, row.n, &one_w)) {
        return false;
      }
      const bool one_block = one_z && one_w && row.n > SumsById::kInOrder;
      if (R == Regularization::l2) return one_block ? sort_one_block_l2(row) : sort_l2(row);
      if (!share_a_top(facts)) return row.n > kShortest && long_sort_.log_kl(row, workers);
      return one_block ? sort_one_block_log_kl(row, facts) : sort_log_kl(row, facts);
    }
    bool one_block = false;
    if (R == Regularization::log_kl || !are_plain(row.block_z, row.n, &one_block)) {
      return false;
    }
    if (one_block && row.n > SumsById::kInOrder)
      return R == Regularization::l2 ? one_block_l2(row) : one_block_kl(row);
    if (row.n > kLongest) {
      return long_rank_.template solve<R>(
          row, R == Regularization::l2 ? scale_l2(row) : scale_kl(row), workers);
    }
    return R == Regularization::l2 ? ranks_l2(row) : ranks_kl(row);
  }

 private:
  static constexpr std::int64_t kLongest = std::int64_t{1} << 17;  // longer rows go by buckets
  static constexpr std::int64_t kShortest = 1024;                  // that buckets pay for

  static double scale_l2(const DenseVjpRow<T>& row) {
    return row.z_sign * row.w_sign / row.strength;
  }
  static double scale_kl(const DenseVjpRow<T>& row) {
    return row.z_sign / row.strength;  // the result has w's sign, twice
  }

  static double total(const T* x, std::int64_t n) {
    return sum_of(
        0, n, [&](std::int64_t i) { return load(x + i); },
        [&](std::int64_t i) { return static_cast<double>(x[i]); });
  }
  static double mean(const T* g, std::int64_t n) { return total(g, n) / static_cast<double>(n); }

  // (g_i - mean_B(g)) / strength
  bool ranks_l2(const DenseVjpRow<T>& row) {
    const T* const g = row.g;
    sums_.add_up(row.block_z, row.n,
                 [&](std::int64_t i) { return Pair{static_cast<double>(g[i]), 1.0}; });
    const double scale = scale_l2(row);
    std::int64_t i = 0;
    for (; i + kLanes <= row.n; i += kLanes) {
      Doubles sums, sizes;
      sums_.gather(row.block_z + i, &sums, &sizes);
      store(row.z_out + i, (load(g + i) - sums / sizes) * scale);
    }
    for (; i < row.n; ++i) {
      const Pair sum = sums_[row.block_z[i]];
      row.z_out[i] = static_cast<T>((static_cast<double>(g[i]) - sum[0] / sum[1]) * scale);
    }
    return true;
  }

  bool one_block_l2(const DenseVjpRow<T>& row) {
    const double scale = scale_l2(row);
    const double middle = mean(row.g, row.n);
    map(row.g, row.n, row.z_out, [&](Doubles g) { return (g - middle) * scale; });
    return true;
  }

  // r_i (g_i - sum_B(r g) / sum_B(r)) / strength
  bool ranks_kl(const DenseVjpRow<T>& row) {
    const T *const g = row.g, *const r = row.result;
    sums_.add_up(row.block_z, row.n, [&](std::int64_t i) {
      const auto weight = static_cast<double>(r[i]);
      return Pair{weight * static_cast<double>(g[i]), weight};
    });
    const double scale = scale_kl(row);
    bool told = true;  // results 0 do not tell the softmax
    std::int64_t i = 0;
    for (; i + kLanes <= row.n; i += kLanes) {
      Doubles sums, weights;
      sums_.gather(row.block_z + i, &sums, &weights);
      told &= mask_bits(weights == 0.0) == 0;
      // Divided first: for an element alone in its block exactly 1, and the derivative exactly 0.
      const Doubles weight = load(r + i), share = weight / weights;
      store(row.z_out + i, (weight * load(g + i) - share * sums) * scale);
    }
    for (; i < row.n; ++i) {
      const Pair sum = sums_[row.block_z[i]];
      told &= sum[1] != 0.0;
      const auto weight = static_cast<double>(r[i]);
      const double share = weight / sum[1];
      row.z_out[i] = static_cast<T>((weight * static_cast<double>(g[i]) - share * sum[0]) * scale);
    }
    return told;
  }

  bool one_block_kl(const DenseVjpRow<T>& row) {
    const double scale = scale_kl(row);
    const T *const g = row.g, *const r = row.result;
    const double weight = total(r, row.n);
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

  // mean_B(g)
  bool sort_l2(const DenseVjpRow<T>& row) {
    sums_.add_up(row.block_z, row.n,
                 [&](std::int64_t i) { return Pair{static_cast<double>(row.g[i]), 1.0}; });
    bool starts = true;  // ids of w come from outside: one that starts no block has no mean
    std::int64_t j = 0;
    for (; j + kLanes <= row.n; j += kLanes) {
      Doubles sums, sizes;
      sums_.gather(row.block_w + j, &sums, &sizes);
      starts &= mask_bits(sizes == 0.0) == 0;
      store(row.w_out + j, sums / sizes);
    }
    for (; j < row.n; ++j) {
      const Pair sum = sums_[row.block_w[j]];
      starts &= sum[1] != 0.0;
      row.w_out[j] = static_cast<T>(sum[0] / sum[1]);
    }
    return starts;
  }

  static bool sort_one_block_l2(const DenseVjpRow<T>& row) {
    fill(row.w_out, row.n, static_cast<T>(mean(row.g, row.n)));
    return true;
  }

  // softmax_B(w)_j sum_B(g)
  bool sort_log_kl(const DenseVjpRow<T>& row, const RowFacts& facts) {
    write_softmax_weights(row.w, row.n, row.w_sign, facts, row.w_out);
    T* const shares = row.w_out;
    sums_.add_up(row.block_z, row.n,
                 [&](std::int64_t i) { return Pair{static_cast<double>(row.g[i]), 0.0}; });
    sums_.add_more(row.block_w, row.n,
                   [&](std::int64_t j) { return Pair{0.0, static_cast<double>(shares[j])}; });
    std::int64_t j = 0;
    for (; j + kLanes <= row.n; j += kLanes) {
      Doubles sums, totals;
      sums_.gather(row.block_w + j, &sums, &totals);
      store(row.w_out + j, load(shares + j) / totals * sums);
    }
    for (; j < row.n; ++j) {
      const Pair sum = sums_[row.block_w[j]];
      row.w_out[j] = static_cast<T>(static_cast<double>(shares[j]) / sum[1] * sum[0]);
    }
    return true;
  }

  static bool sort_one_block_log_kl(const DenseVjpRow<T>& row, const RowFacts& facts) {
    write_softmax_weights(row.w, row.n, row.w_sign, facts, row.w_out);
    T* const shares = row.w_out;
    const double sum = total(row.g, row.n), shared = total(shares, row.n);
    map(shares, row.n, row.w_out, [&](Doubles share) { return share / shared * sum; });
    return true;
  }

  SumsById sums_;
  LongRankVjp<T> long_rank_;
  LongSortVjp<T> long_sort_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
