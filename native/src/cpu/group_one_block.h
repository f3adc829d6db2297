// Ranks of kGroup short rows that are one block each, side by side and in the order of their elements.
//
// The formulas of one_block.h. Sums have kSumLanes parts, added up as in simd.h, so that a row has the same
// bits as alone.
// Cost: 4 (l2) or 18 (kl) instructions per position and vector of lanes, and the moves between rows and lanes.
// Chosen: by short_rows.h, for the rows that one_block_range.h tells.
#pragma once

#include <cstdint>

#include "diffsort/exp_near_0.h"
#include "diffsort/projection.h"
#include "group.h"
#include "group_sort.h"
#include "row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R>
class GroupOneBlock {
 public:
  // Finds the results of a half's lanes, of which those that are not one block do not count. `x` holds
  // z_sign times their values.
  void solve(std::int64_t n, int half, const Column& x, const GroupFacts& facts, Doubles strength,
             double z_sign, double w_sign) {
    Column& result = results_[half];
    const auto size = static_cast<double>(n);
    const double middle = 0.5 * (size + 1.0);
    const Doubles scale = 1.0 / strength;
    if constexpr (R == Regularization::l2) {
      for (std::int64_t i = 0; i < n; ++i) result[i] = x[i] - x[0];
      const Doubles mean = sum_of_parts(result, n) / size, slope = scale * w_sign;
      for (std::int64_t i = 0; i < n; ++i) {
        result[i] = middle * w_sign + (result[i] - mean) * slope;
      }
    } else {
      // Single rows measure from the lowest value, which z_sign may have made the highest.
      const Doubles end = z_sign > 0.0 ? facts.low : facts.high;
      const Doubles half_range = 0.5 * (facts.high - facts.low);
      for (std::int64_t i = 0; i < n; ++i) {
        result[i] = rounded(exp_near_0<T>(((x[i] - end) * z_sign - half_range) * (scale * z_sign)));
      }
      const Doubles factor = middle * size / sum_of_parts(result, n) * w_sign;
      for (std::int64_t i = 0; i < n; ++i) result[i] *= factor;
    }
  }

  // Writes rows r + l for the bits l of `lanes`.
  void write(const RowSpace& space, const Projection<T>& arrays, std::int64_t r,
             unsigned lanes) const {
    for (int half = 0; half < kHalves; ++half) {
      Row<T> rows[kLanes] = {};
      for (int l = 0; l < kLanes; ++l) {
        const int lane = half * kLanes + l;
        if (!(lanes >> lane & 1u)) continue;
        rows[l] = arrays.result.row(space, r + lane);
        clear(arrays.block_z.row(space, r + lane), space.length);
        clear(arrays.block_w.row(space, r + lane), space.length);
      }
      if (arrays.result) write_half(results_[half], space.length, rows);
    }
  }

 private:
  static Doubles rounded(Doubles x) {
    T values[kLanes];
    store(values, x);
    return load(values);
  }

  static Doubles sum_of_parts(const Column& terms, std::int64_t n) {
    static_assert(kLongestInGroup == 2 * kSumLanes, "a part has two terms at most");
    Doubles parts[kSumLanes];
    for (std::int64_t k = 0; k < kSumLanes; ++k) {
      parts[k] = k < n ? terms[k] : Doubles{};
      if (k + kSumLanes < n) parts[k] += terms[k + kSumLanes];
    }
    for (int half = kSumLanes / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) parts[k] += parts[k + half];
    }
    return parts[0];
  }

  static void clear(Row<std::int32_t> ids, std::int64_t n) {
    if (!ids) return;
    if (ids.stride == 1) return fill(ids.data, n, 0);
    for (std::int64_t i = 0; i < n; ++i) ids[i] = 0;
  }

  // To those rows that are there.
  static void write_half(const Column& results, std::int64_t n, const Row<T>* rows) {
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      Doubles x[kLanes];
      for (int k = 0; k < kLanes; ++k) x[k] = results[i + k];
      transpose(x);
      for (int l = 0; l < kLanes; ++l) {
        if (!rows[l]) continue;
        if (rows[l].stride == 1) {
          store(rows[l].data + i, x[l]);
        } else {
          for (int k = 0; k < kLanes; ++k) rows[l][i + k] = static_cast<T>(x[l][k]);
        }
      }
    }
    for (; i < n; ++i) {
      for (int l = 0; l < kLanes; ++l) {
        if (rows[l]) rows[l][i] = static_cast<T>(results[i][l]);
      }
    }
  }

  Columns results_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
