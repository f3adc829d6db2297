// The projection of one row of moderate numbers, in memory without gaps: scan, sort, pool, write.
//
//     scan           what the row looks like                                  scan.h
//     one block      ranks that need no order are written at once             one_block.h
//     dense ranks    are counted into cells instead of the next three         certified_cells.h
//     sort           values and where they stood                  sorted_row.h, sort_row.h
//     pool           blocks of more than one element             pooling.h, pool_runs.h
//     write          values of blocks, back to where they stood               write_row.h
//
// Moderate: operands are finite, and neither their range nor the strength is beyond kModerate or its
// inverse, so that nothing overflows. All else (infinities, NaN, strength 0) is general_row.h's.
// Cost: O(n). Scratch: sorted values and their indices, and that of the steps.
// Chosen: every row that short_rows.h does not solve beside others.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "block_values.h"
#include "certified_cells.h"
#include "diffsort/block_sums.h"
#include "group.h"
#include "one_block.h"
#include "operand.h"
#include "pool_runs.h"
#include "pooling.h"
#include "row.h"
#include "scan.h"
#include "sort_row.h"
#include "sorted_row.h"
#include "write_long_row.h"
#include "write_row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R>
class RowSolver {
 public:
  // False: this row is not moderate, and nothing was written.
  bool solve(std::int64_t n, DenseOperand<T> z, DenseOperand<T> w, double strength,
             const DenseOutput<T>& out, const Workers& workers) {
    if (!is_moderate(strength)) return false;
    RowFacts z_facts{}, w_facts{};
    if (z.values != nullptr && !scan_finds_moderate(n, z, &z_facts)) return false;
    if (w.values != nullptr && !scan_finds_moderate(n, w, &w_facts)) return false;
    if (R == Regularization::kl && w.values != nullptr && lowest(w_facts, w) < 0.0) return false;
    if (z.values != nullptr && w.values == nullptr && rank_is_one_block<R>(z_facts, n, strength)) {
      if (out.result != nullptr) write_one_block<R>(z, z_facts, n, strength, out);
      fill(out.block_z, n, 0);
      fill(out.block_w, n, 0);
      return true;
    }
    if constexpr (R == Regularization::l2) {
      if (z.values != nullptr && w.values == nullptr && n > kLongestInGroup &&
          cells_.solve(n, z, z_facts, strength, out)) {
        return true;
      }
    }
    const Rho rho{n};
    if (z.values != nullptr) {
      z_.sort(
          n, z, z_facts, sorter_, workers,
          w.values == nullptr && n > kLongestInGroup ? order_of_ranks(n, strength) : AnyOrder{});
    }
    if (w.values != nullptr) w_.sort(n, w, w_facts, sorter_, workers);
    if (z.values == nullptr) {
      w.values == nullptr ? pool(n, strength, rho, rho, out, workers)
                          : pool(n, strength, rho, w_.values(), out, workers);
    } else {
      w.values == nullptr ? pool(n, strength, z_.values(), rho, out, workers)
                          : pool(n, strength, z_.values(), w_.values(), out, workers);
    }
    return true;
  }

 private:
  static bool scan_finds_moderate(std::int64_t n, DenseOperand<T> x, RowFacts* facts) {
    *facts = scan(x.values, n);
    return facts->finite && facts->range() < kModerate;
  }
  // What shares a block in any order (sorted_row.h). Sums round by it, so it is not for rows that are to have
  // the same bits as in short_rows.h.
  static AnyOrder order_of_ranks(std::int64_t n, double strength) {
    if (R == Regularization::l2) return {strength, (1.0 + 0x1p-40) * 2.0 / strength};
    return R == Regularization::kl ? AnyOrder{strength / static_cast<double>(n)} : AnyOrder{};
  }
  static double lowest(const RowFacts& facts, DenseOperand<T> x) {
    return x.sign < T(0) ? -facts.high : facts.low;
  }

  template <class Z, class W>
  void pool(std::int64_t n, double strength, const Z& z, const W& w, const DenseOutput<T>& out,
            const Workers& workers) {
    if constexpr (R == Regularization::kl && sizeof(T) == sizeof(float) &&
                  std::is_same_v<Z, SortedValues<T>> && std::is_same_v<W, Rho>) {
      if (n > kLongestInGroup && z(0) - z(n - 1) <= RunPooling::kReach * strength &&
          runs_.run(n, strength, z, n <= kLongestSort, growth_)) {
        if (n > kLongestSort) return write_long(n, strength, z, w, out, workers);
        const KnownParts<T> known{z, runs_.parts()};
        return RowWriter<T, R, KnownParts<T>, W>(n, strength, known, w, growth_, out).write();
      }
    }
    if (!find_one_block(n, strength, z, w)) growth_.run(n, strength, z, w);
    if (n > kLongestSort) return write_long(n, strength, z, w, out, workers);
    RowWriter<T, R, Z, W>(n, strength, z, w, growth_, out).write();
  }

  template <class Z, class W>
  void write_long(std::int64_t n, double strength, const Z& z, const W& w,
                  const DenseOutput<T>& out, const Workers& workers) {
    LongRowWriter<T, R, Z, W>(n, strength, z, w, growth_, out, workers)
        .write(std::is_same_v<Z, Rho> ? nullptr : &z_, std::is_same_v<W, Rho> ? nullptr : &w_);
  }

  template <class Z, class W>
  bool find_one_block(std::int64_t n, double strength, const Z&, const W& w) {
    if constexpr (R == Regularization::log_kl && std::is_same_v<Z, Rho> &&
                  !std::is_same_v<W, Rho>) {
      BlockSums<R> sums;
      if (!sort_is_one_block(n, strength, w, &sums)) return false;
      growth_.clear(n);
      growth_.add({0, static_cast<std::int32_t>(n)}, sums);
      return true;
    }
    return false;
  }

  struct Nothing {};

  std::conditional_t<R == Regularization::l2, CertifiedCells<T>, Nothing> cells_;
  std::conditional_t<R == Regularization::kl, RunPooling, Nothing> runs_;
  RowSorter<T> sorter_;
  BlockGrowth<R> growth_;
  SortedRow<T> z_, w_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
