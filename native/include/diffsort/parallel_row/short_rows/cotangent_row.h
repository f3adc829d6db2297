// One operand's cotangent of a short row that lies in a tile's memory, by one thread. With B an
// element's block, and signs aside, which cancel for w:
//     l2      z   (g_i - mean_B(g)) / strength                w   mean_B(g)
//     kl      z   r_i (g_i - sum_B(r g) / sum_B(r)) / strength
//     log_kl                                                  w   softmax_B(w)_j sum_B(g)
//
// A row whose ids are all 0, as they are in one block, is found out first, and takes two short loops. Of
// any other a loop adds up the blocks in the order of the row, in a column with a place for every
// start, and another one writes. Nothing is sorted, and nothing divided but once for a block:
// divisions in float64 take as long as all the rest. An element alone in its block is exactly 0 by z
// and g by w.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/short_rows/ids.h"
#include "diffsort/parallel_row/short_rows/tile.h"
#include "diffsort/projection.h"

namespace diffsort {

// What g adds up to over a block, and in the end what its elements are to know of it.
template <Regularization R>
struct CotangentSum;

template <>
struct CotangentSum<Regularization::l2> {
  double sum = 0.0;

  DIFFSORT_HD void add(double g, double) { sum += g; }
  DIFFSORT_HD void finish(double one_over_size, double) { sum *= one_over_size; }
};

// Weighted by the results.
template <>
struct alignas(16) CotangentSum<Regularization::kl> {
  double sum = 0.0, total = 0.0;

  DIFFSORT_HD void add(double g, double result) {
    sum += result * g;
    total += result;
  }
  // A total below 0 is none of a projection's. Where it is 0 nothing has weight; a NaN passes on.
  DIFFSORT_HD void finish(double, double sign) {
    const double total_or_nan =
        sign * total >= 0.0 ? total : std::numeric_limits<double>::quiet_NaN();
    sum = total == 0.0 ? 0.0 * sum : sum / total_or_nan;
  }
};

// The total is that of softmax, once it is known.
template <>
struct alignas(16) CotangentSum<Regularization::log_kl> {
  double sum = 0.0, total = 0.0;

  DIFFSORT_HD void add(double g, double) { sum += g; }
  DIFFSORT_HD void finish(double, double) {}
};

// x / divisor for many x, as products. The reciprocal of a divisor near 0 would overflow, and has two
// factors therefore.
class Quotient {
 public:
  DIFFSORT_HD explicit Quotient(double divisor) {
    constexpr double kNear0 = 0x1p-600;
    if (std::abs(divisor) < kNear0) second_ = 1.0 / kNear0;
    first_ = 1.0 / (divisor * second_);
  }
  DIFFSORT_HD double operator()(double x) const { return x * first_ * second_; }

 private:
  double first_, second_ = 1.0;
};

// starts: none if the ids are not those of blocks
struct CotangentBlocks {
  std::uint32_t starts;
  bool all_ids_are_0;  // a single block without infinite elements
};

// A row in a tile's memory. ids and values are first z's and g, then w's and in log_kl w; the output
// takes the place of values.
template <Regularization R, class T>
struct CotangentRow {
  static constexpr bool kl = R == Regularization::kl, log_kl = R == Regularization::log_kl;

  int n, pitch;
  std::int32_t* ids;
  T *values, *result;
  Column<CotangentSum<R>> sums;  // by start
  Column<T> largest;
  const double* reciprocals;  // of sizes

  // Row r of the tile whose first row this is.
  DIFFSORT_HD CotangentRow row(int r) const {
    const int skipped = r * pitch;
    return {n,
            pitch,
            ids + skipped,
            values + skipped,
            result + skipped,
            sums.of_row(r),
            largest.of_row(r),
            reciprocals};
  }

  DIFFSORT_HD bool all_ids_are_0() const {
    std::int32_t bits = 0;
    DIFFSORT_UNROLLED_BY(4)
    for (int e = 0; e < n; ++e) bits |= ids[e];
    return bits == 0;
  }

  DIFFSORT_HD CotangentSum<R> sum_of_all(double w_sign) const {
    CotangentSum<R> all;
    DIFFSORT_UNROLLED_BY(4)
    for (int e = 0; e < n; ++e) all.add(value(e), weight(e));
    all.finish(reciprocals[n], w_sign);
    return all;
  }

  // The sums of all blocks, and their starts: none if the ids are not those of blocks.
  DIFFSORT_HD std::uint32_t add_up(double w_sign) const {
    ShortIds blocks(n);
    DIFFSORT_UNROLLED_BY(2)
    for (int e = 0; e < n; ++e) {
      const int start = blocks.add(ids[e]);
      CotangentSum<R> sum;
      if (!blocks.is_new()) sum = sums[start];
      sum.add(value(e), weight(e));
      sums[start] = sum;
    }
    const int pairs = ShortIds::for_each_shared(blocks.starts(), n, [&](int start, int size) {
      sums[start].finish(reciprocals[size], w_sign);
    });
    return blocks.are_blocks(pairs) ? blocks.starts() : 0;
  }

  // The sums of all blocks, and what blocks there are.
  DIFFSORT_HD CotangentBlocks gather(double w_sign) const {
    // An element alone is told from a mean of one.
    if (n == 1 || !all_ids_are_0()) return {add_up(w_sign), false};
    sums[0] = sum_of_all(w_sign);
    return {1, true};
  }

  // z's cotangent. sign: z's times w's
  DIFFSORT_HD void write_z(const CotangentBlocks& blocks, double strength, double sign) const {
    if (blocks.starts == 0) return fill(std::numeric_limits<double>::quiet_NaN());
    if (!(strength > 0.0)) return fill(0.0);  // in the hard limit ranks are constant
    const Quotient over_strength(sign * strength);
    if (blocks.all_ids_are_0) {
      const double mean = sums[0].sum;
      DIFFSORT_UNROLLED_BY(2)
      for (int e = 0; e < n; ++e) write(e, over_strength(centred(e, mean)));
      return;
    }
    const std::uint32_t alone = ShortIds::alone(blocks.starts, n);
    DIFFSORT_UNROLLED_BY(2)
    for (int e = 0; e < n; ++e) {
      const int start = ShortIds::start_of(ids[e]);
      double mean = sums[start].sum;
      if (kl && (alone >> start & 1) != 0) mean = value(e);  // as it is in l2 anyway
      const T cotangent = static_cast<T>(over_strength(centred(e, mean)));
      values[e] = is_infinite_block(ids[e]) ? T(0) : cotangent;
    }
  }

  // Makes values, which are w, their parts of softmax, and shares the sums of blocks out by them. Whether
  // w's blocks are those that start at `starts`.
  DIFFSORT_HD bool share_by_softmax(std::uint32_t starts, T sign) const {
    ShortIds blocks(n);
    DIFFSORT_ROLLED
    for (int e = 0; e < n; ++e) {
      const int start = blocks.add(ids[e]);
      T w = sign * values[e];
      if (!blocks.is_new() && !(largest[start] < w)) w = largest[start];
      largest[start] = w;
    }
    const auto leave = [](int, int) {};
    const int pairs = ShortIds::for_each_shared(starts, n, leave);
    if (blocks.starts() != starts || !blocks.are_blocks(pairs)) return false;
    DIFFSORT_ROLLED
    for (int e = 0; e < n; ++e) {
      const int start = ShortIds::start_of(ids[e]);
      const double part = softmax_part(static_cast<double>(sign * values[e]),
                                       static_cast<double>(largest[start]), 1.0);
      sums[start].total += part;
      write(e, part);
    }
    ShortIds::for_each_shared(starts, n,
                              [&](int start, int) { sums[start].sum /= sums[start].total; });
    return true;
  }

  // w's cotangent, where z's blocks start at `starts`.
  DIFFSORT_HD void write_w(std::uint32_t starts, T sign) const {
    bool valid = starts != 0;
    if constexpr (log_kl) valid = valid && share_by_softmax(starts, sign);
    DIFFSORT_ROLLED
    for (int e = 0; e < n && valid; ++e) {
      const auto start = static_cast<std::uint32_t>(ShortIds::start_of(ids[e]));
      valid = start < kShortRow && (starts >> start & 1) != 0;
      const double sum = valid ? sums[static_cast<int>(start)].sum : 0.0;
      write(e, log_kl ? value(e) * sum : sum);
    }
    if (!valid) fill(std::numeric_limits<double>::quiet_NaN());
  }

 private:
  DIFFSORT_HD double value(int e) const { return static_cast<double>(values[e]); }
  DIFFSORT_HD double weight(int e) const { return kl ? static_cast<double>(result[e]) : 1.0; }
  // Of z times the strength.
  DIFFSORT_HD double centred(int e, double mean) const {
    const double difference = value(e) - mean;
    return kl ? weight(e) * difference : difference;
  }
  DIFFSORT_HD void write(int e, double x) const { values[e] = static_cast<T>(x); }
  DIFFSORT_HD void fill(double x) const {
    DIFFSORT_ROLLED
    for (int e = 0; e < n; ++e) write(e, x);
  }
};

}  // namespace diffsort
