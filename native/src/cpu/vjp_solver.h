// J^T of one row of moderate numbers, in memory without gaps, for the calls that training makes: the
// cotangent of z (ranks) or that of w (sorted values, where z is rho). The formulas are those of
// derivatives_cpu.cpp, which serves everything else.
#pragma once

#include <cstdint>

#include "block_ids.h"
#include "block_sums_by_id.h"
#include "diffsort/projection.h"
#include "exp.h"
#include "partition.h"
#include "row.h"
#include "scan.h"
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
  // False: this row is not for here, and nothing was written.
  template <Regularization R>
  bool solve(const DenseVjpRow<T>& row) {
    if (row.z_out == nullptr) {
      if (R == Regularization::kl || (R == Regularization::log_kl && row.w == nullptr))
        return false;
      if (R == Regularization::l2 && row.n > kLongest) return sort<R>(row);
      bool one_z = false, one_w = false;
      if (!BlockIds::are_plain(row.block_z, row.n, &one_z) ||
          !BlockIds::are_plain(row.block_w, row.n, &one_w)) {
        return false;
      }
      if (R == Regularization::l2) return one_z && one_w ? sort_one_block(row) : sort_l2(row);
      return sort_log_kl(row) || sort<R>(row);
    }
    bool one_block = false;
    if (R == Regularization::log_kl || !BlockIds::are_plain(row.block_z, row.n, &one_block)) {
      return false;
    }
    if (one_block) return R == Regularization::l2 ? one_block_l2(row) : one_block_kl(row);
    if (row.n > kLongest) return long_ranks<R>(row);
    return R == Regularization::l2 ? ranks_l2(row) : ranks_kl(row);
  }

 private:
  // exp(w - top) rounds w - top: as many digits are lost as its exponent has.
  static constexpr double kNearTop = 32.0;
  static constexpr std::int64_t kLongest = std::int64_t{1} << 17;  // longer rows go by buckets

  static double scale_l2(const DenseVjpRow<T>& row) {
    return row.z_sign * row.w_sign / row.strength;
  }
  static double scale_kl(const DenseVjpRow<T>& row) {
    return row.z_sign / row.strength;  // the result has w's sign, twice
  }

  static double mean(const T* g, std::int64_t n) {
    const double sum = sum_of(
        0, n, [&](std::int64_t i) { return load(g + i); },
        [&](std::int64_t i) { return static_cast<double>(g[i]); });
    return sum / static_cast<double>(n);
  }

  // (g_i - mean_B(g)) / strength
  bool ranks_l2(const DenseVjpRow<T>& row) {
    const T* const g = row.g;
    sums_.add_up(row.block_z, row.n, row.n,
                 [&](std::int64_t i) { return SumsById::Pair{static_cast<double>(g[i]), 1.0}; });
    const double scale = scale_l2(row);
    std::int64_t i = 0;
    for (; i + kLanes <= row.n; i += kLanes) {
      Doubles sums, sizes;
      sums_.gather(row.block_z + i, &sums, &sizes);
      store(row.z_out + i, (load(g + i) - sums / sizes) * scale);
    }
    for (; i < row.n; ++i) {
      const SumsById::Pair sum = sums_[row.block_z[i]];
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
    sums_.add_up(row.block_z, row.n, row.n, [&](std::int64_t i) {
      const auto weight = static_cast<double>(r[i]);
      return SumsById::Pair{weight * static_cast<double>(g[i]), weight};
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
      const SumsById::Pair sum = sums_[row.block_z[i]];
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

  // Both, bucket by bucket of block ids; a block lies within one bucket.
  template <Regularization R>
  bool long_ranks(const DenseVjpRow<T>& row) {
    constexpr bool kl = R == Regularization::kl;
    const auto size = static_cast<std::size_t>(row.n);
    const int shift = plan_by_id(row.block_z, row.n);
    const std::int32_t width = 1 << shift;
    const auto bucket = [&](std::int64_t i) { return row.block_z[i] >> shift; };
    std::int32_t* const ids = local_ids_.get(size);
    T *const g = bucketed_.get(size), *const r = kl ? tops_.get(size) : nullptr;
    partition_.for_each(bucket, [&](std::int64_t i, std::int64_t place) {
      ids[place] = row.block_z[i] & (width - 1);
      g[place] = row.g[i];
      if (kl) r[place] = row.result[i];
    });
    const double scale = kl ? scale_kl(row) : scale_l2(row);
    for (std::int64_t b = 0; b < partition_.buckets(); ++b) {
      const std::int64_t start = partition_.start(b), count = partition_.size(b);
      const std::int32_t* const id = ids + start;
      T *const gb = g + start, *const rb = r + start;
      const auto weight = [&](std::int64_t i) { return kl ? static_cast<double>(rb[i]) : 1.0; };
      sums_.add_up(id, count, width, [&](std::int64_t i) {
        return SumsById::Pair{weight(i) * static_cast<double>(gb[i]), weight(i)};
      });
      for (std::int64_t i = 0; i < count; ++i) {
        const SumsById::Pair sum = sums_[id[i]];
        const double own = weight(i);
        if (sum[1] == 0.0) return false;  // results 0, which do not tell the softmax
        gb[i] = static_cast<T>((own * static_cast<double>(gb[i]) - own / sum[1] * sum[0]) * scale);
      }
    }
    partition_.for_each(bucket,
                        [&](std::int64_t i, std::int64_t place) { row.z_out[i] = g[place]; });
    return true;
  }

  // Buckets of blocks, by the upper bits of their ids; returns the number of lower bits.
  int plan_by_id(const std::int32_t* ids, std::int64_t n) {
    int shift = 12;
    while (((n - 1) >> shift) >= Partition::kMostBuckets) ++shift;
    partition_.plan(n, ((n - 1) >> shift) + 1, [&](std::int64_t i) { return ids[i] >> shift; });
    return shift;
  }

  // mean_B(g)
  bool sort_l2(const DenseVjpRow<T>& row) {
    sums_.add_up(row.block_z, row.n, row.n, [&](std::int64_t i) {
      return SumsById::Pair{static_cast<double>(row.g[i]), 1.0};
    });
    bool starts = true;  // ids of w come from outside: one that starts no block has no mean
    std::int64_t j = 0;
    for (; j + kLanes <= row.n; j += kLanes) {
      Doubles sums, sizes;
      sums_.gather(row.block_w + j, &sums, &sizes);
      starts &= mask_bits(sizes == 0.0) == 0;
      store(row.w_out + j, sums / sizes);
    }
    for (; j < row.n; ++j) {
      const SumsById::Pair sum = sums_[row.block_w[j]];
      starts &= sum[1] != 0.0;
      row.w_out[j] = static_cast<T>(sum[0] / sum[1]);
    }
    return starts;
  }

  static bool sort_one_block(const DenseVjpRow<T>& row) {
    fill(row.w_out, row.n, static_cast<T>(mean(row.g, row.n)));
    return true;
  }

  // softmax_B(w)_j sum_B(g), with exponentials relative to the largest w, which lie in w_out meanwhile.
  bool sort_log_kl(const DenseVjpRow<T>& row) {
    const RowFacts facts = scan(row.w, row.n);
    if (!facts.finite || facts.range() > kNearTop) return false;
    const double top = row.w_sign < 0.0 ? facts.low : facts.high;
    T* const shares = row.w_out;
    map(row.w, row.n, shares,
        [&](Doubles w) { return exp_nonpositive<T>((w - top) * row.w_sign); });
    sums_.add_up(row.block_z, row.n, row.n, [&](std::int64_t i) {
      return SumsById::Pair{static_cast<double>(row.g[i]), 0.0};
    });
    sums_.add_more(row.block_w, row.n, [&](std::int64_t j) {
      return SumsById::Pair{0.0, static_cast<double>(shares[j])};
    });
    std::int64_t j = 0;
    for (; j + kLanes <= row.n; j += kLanes) {
      Doubles sums, totals;
      sums_.gather(row.block_w + j, &sums, &totals);
      store(row.w_out + j, load(shares + j) / totals * sums);
    }
    for (; j < row.n; ++j) {
      const SumsById::Pair sum = sums_[row.block_w[j]];
      row.w_out[j] = static_cast<T>(static_cast<double>(shares[j]) / sum[1] * sum[0]);
    }
    return true;
  }

  // mean_B(g) (l2) or softmax_B(w)_j sum_B(g) (log_kl), where the blocks of z lie in order.
  template <Regularization R>
  bool sort(const DenseVjpRow<T>& row) {
    const std::int64_t n = row.n;
    const auto size = static_cast<std::size_t>(n);
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
    if constexpr (R == Regularization::l2) {
      if (n > kLongest) return long_sort(row, values);
    }
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

  bool long_sort(const DenseVjpRow<T>& row, const T* values) {
    const auto size = static_cast<std::size_t>(row.n);
    const int shift = plan_by_id(row.block_w, row.n);
    const auto bucket = [&](std::int64_t j) { return row.block_w[j] >> shift; };
    std::int32_t* const ids = local_ids_.get(size);
    T* const found = bucketed_.get(size);
    partition_.for_each(bucket,
                        [&](std::int64_t j, std::int64_t place) { ids[place] = row.block_w[j]; });
    bool starts = true;
    for (std::int64_t j = 0; j < row.n; ++j) {
      starts &= is_start(row, ids[j]);
      found[j] = values[ids[j]];
    }
    if (!starts) return false;
    partition_.for_each(bucket,
                        [&](std::int64_t j, std::int64_t place) { row.w_out[j] = found[place]; });
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
    sums_.add_up(row.block_w, n, n, [&](std::int64_t j) { return SumsById::Pair{shares[j], 0.0}; });
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int32_t id = row.block_w[j];
      row.w_out[j] = static_cast<T>(shares[j] / sums_[id][0] * values[id]);
    }
  }

  SumsById sums_;
  Partition partition_;
  std::conditional_t<std::is_same_v<T, double>, std::tuple<Buffer<double>>,
                     std::tuple<Buffer<double>, Buffer<float>>>
      values_;  // of blocks, at their ids
  Buffer<double> shares_;
  Buffer<T> tops_, bucketed_;
  Buffer<std::int32_t> local_ids_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
