// Many short rows, kGroup of them side by side.
//
//     sort         all rows by one network                                     group_sort.h
//     partition    guessed for all rows at once, and proved                    group_blocks.h
//     values       from sums over blocks, to where the elements stood          here
//
// Nothing depends on what the rows hold, so nothing waits for a mispredicted branch, which is what
// short rows cost when they are solved one after the other. A row that is not moderate (see
// row_solver.h), or ranks in one block, or whose partition is not proved, is left to the way of single
// rows. Both ways give the same bits.
// Chosen: rows of up to 64 elements, three or more of them; ranks and sorted values of l2.
#pragma once

#include <cstdint>

#include "diffsort/projection.h"
#include "group_blocks.h"
#include "group_sort.h"
#include "one_block.h"
#include "row_solver.h"
#include "sorting_network.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R>
class ShortRows {
 public:
  static bool serves(const Problem& problem, const Projection<T>& arrays, std::int64_t rows) {
    const std::int64_t n = problem.space.length;
    return R == Regularization::l2 && !arrays.z != !arrays.w && n > 1 && n <= kLongestInGroup &&
           rows > 2;
  }

  // Solves rows [begin, end), and calls alone(row) for those that it does not.
  template <class Alone>
  void solve(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
             std::int64_t end, const Alone& alone) {
    for (std::int64_t r = begin; r < end; r += kGroup) {
      const std::int64_t count = end - r < kGroup ? end - r : kGroup;
      const unsigned solved = arrays.z ? solve_group<true>(problem, arrays, r, count)
                                       : solve_group<false>(problem, arrays, r, count);
      for (int l = 0; l < count; ++l) {
        if (!(solved >> l & 1u)) alone(r + l);
      }
    }
  }

 private:
  // Returns bits of the lanes that are solved.
  template <bool kRank>
  unsigned solve_group(const Problem& problem, const Projection<T>& arrays, std::int64_t r,
                       std::int64_t count) {
    const RowSpace& space = problem.space;
    const std::int64_t n = space.length;
    Row<const T> rows[kGroup];
    Doubles strength[kHalves];
    for (int l = 0; l < kGroup; ++l) {
      const std::int64_t row = r + (l < count ? l : count - 1);
      rows[l] = (kRank ? arrays.z : arrays.w).row(space, row);
      strength[l / kLanes][l % kLanes] = problem.strength.row(space, row);
    }
    sort_.load(rows, n, static_cast<T>(kRank ? problem.z_sign : problem.w_sign));
    Longs solved[kHalves];
    Doubles range[kHalves];
    for (int half = 0; half < kHalves; ++half) {
      const GroupFacts facts = sort_.facts(half, n);
      range[half] = facts.high - facts.low;
      solved[half] = facts.finite & (range[half] < 1e100) & (strength[half] > 1e-100) &
                     (strength[half] < 1e100);
      if (kRank) solved[half] &= range[half] > 0.5 * static_cast<double>(n) * strength[half];
    }
    if (bits(solved) == 0) return 0;
    sort_.sort(n, network_.pairs(n));
    const Column* const values[kHalves] = {&sort_.values(0), &sort_.values(1)};
    blocks_.guess_l2<kRank>(n, values, strength, range);
    for (int half = 0; half < kHalves; ++half) {
      solved[half] &= blocks_.check_l2<kRank>(n, half, *values[half], strength[half]);
      find_values<kRank>(n, half, strength[half], problem.w_sign);
    }
    const unsigned lanes = bits(solved);
    write<kRank>(space, arrays, r, count, lanes);
    return lanes;
  }

  static unsigned bits(const Longs* mask) {
    return mask_bits(mask[0]) | mask_bits(mask[1]) << kLanes;
  }

  // The formulas of block_values.h, with all that is rho's simplified exactly.
  template <bool kRank>
  void find_values(std::int64_t n, int half, Doubles strength, double sign) {
    const Column& x = sort_.values(half);
    const Doubles scale = 1.0 / strength;
    Doubles sum{}, size{};
    Longs ends = Longs{} - 1;
    for (std::int64_t i = n - 1; i >= 0; --i) {
      const BlockPart& part = blocks_.before(half, i);
      sum = ends ? part.sum : sum;
      size = ends ? part.size : size;
      ends = blocks_.starts(half, i);
      const Doubles behind = part.size - 1.0;
      const Doubles mean = sum / size, half_size = 0.5 * (size - 1.0);
      const Doubles value =
          kRank ? ((static_cast<double>(n - i) + behind) - half_size) +
                      ((x[i] - part.edge) * scale - mean * scale)
                : (part.edge + mean) + (half_size * scale - behind * scale);
      store(results_[i] + half * kLanes, value * sign + 0.0);  // + 0.0: never -0
      const HalfInts id = __builtin_convertvector(static_cast<double>(i) - behind, HalfInts);
      std::memcpy(ids_[i] + half * kLanes, &id, sizeof id);
    }
  }

  template <bool kRank>
  void write(const RowSpace& space, const Projection<T>& arrays, std::int64_t r,
             std::int64_t count, unsigned lanes) const {
    const std::int64_t n = space.length;
    for (int l = 0; l < count; ++l) {
      if (!(lanes >> l & 1u)) continue;
      const auto by_index = [&](std::int64_t i) { return sort_.index(i, l); };
      const auto in_order = [&](std::int64_t i) { return i; };
      if (kRank) {
        place(n, l, results_, arrays.result.row(space, r + l), by_index);
        place(n, l, ids_, arrays.block_z.row(space, r + l), by_index);
        place(n, l, ids_, arrays.block_w.row(space, r + l), in_order);
      } else {
        place(n, l, results_, arrays.result.row(space, r + l), in_order);
        place(n, l, ids_, arrays.block_z.row(space, r + l), in_order);
        place(n, l, ids_, arrays.block_w.row(space, r + l), by_index);
      }
    }
  }

  template <class V, class Index>
  static void place(std::int64_t n, int l, const V (*from)[kGroup], Row<V> to,
                    const Index& index) {
    if (!to) return;
    if (to.stride == 1) {
      for (std::int64_t i = 0; i < n; ++i) to.data[index(i)] = from[i][l];
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[index(i)] = from[i][l];
    }
  }

  SortingNetwork network_;
  GroupSort<T> sort_;
  GroupBlocks blocks_;
  T results_[kLongestInGroup][kGroup];
  std::int32_t ids_[kLongestInGroup][kGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
