// Many short rows, kGroup of them side by side.
//
//     one block    ranks that need no order                                    group_one_block.h
//     sort         all rows by one network                                     group_sort.h
//     blocks       found for all rows at once, with a bound for errors         group_blocks.h
//     values       from sums over blocks, to where the elements stood          here
//
// Nothing depends on what the rows hold, so nothing waits for a mispredicted branch, which is what
// short rows cost when they are solved one after the other. A row that is not moderate (see
// row_solver.h), or whose blocks are not certain, is left to the way of single rows. Both ways give the
// same bits.
// Chosen: rows of up to 32 elements, three or more of them; ranks of l2 and kl, sorted values of l2 and
// log_kl. With 64 elements it would be hardly faster than single rows, with 40, which take the network
// for 64, not.
// Cost: that of the four. Scratch: 13 KB, 26 with AVX2, 52 with AVX-512.
#pragma once

#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/one_block_range.h"
#include "diffsort/projection.h"
#include "group_blocks.h"
#include "group_one_block.h"
#include "group_sort.h"
#include "log.h"
#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R>
class ShortRows {
 public:
  static bool serves(const Problem& problem, const Projection<T>& arrays, std::int64_t rows) {
    const std::int64_t n = problem.space.length;
    const bool is_rank = arrays.z && !arrays.w, is_sort = arrays.w && !arrays.z;
    return n > 1 && n <= kLongestInGroup && rows > 2 &&
           ((R != Regularization::log_kl && is_rank) || (R != Regularization::kl && is_sort));
  }

  // Solves rows [begin, end), and calls others(first, last) for those that it does not, neighbours together.
  template <class Others>
  void solve(const Problem& problem, const Projection<T>& arrays, std::int64_t begin,
             std::int64_t end, const Others& others) {
    int apart = 0;               // groups that are not tried
    std::int64_t first = begin;  // of those that are left to others
    for (std::int64_t r = begin; r < end; r += kGroup) {
      const std::int64_t count = end - r < kGroup ? end - r : kGroup;
      unsigned solved = 0;
      if (apart > 0) {
        --apart;
      } else {
        solved = arrays.z ? solve_group<true>(problem, arrays, r, count)
                          : solve_group<false>(problem, arrays, r, count);
        if (solved == 0) apart = kApart;
      }
      for (int l = 0; l < count; ++l) {
        if (!(solved >> l & 1u)) continue;
        if (first < r + l) others(first, r + l);
        first = r + l + 1;
      }
    }
    if (first < end) others(first, end);
  }

 private:
  // Where no row of a group was for here, the next ones are seldom: rows of a call are often of a kind.
  static constexpr int kApart = 7;

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
    const double one_block = range_of_one_block(R, static_cast<double>(n));
    Longs solved[kHalves], is_one[kHalves] = {};
    Doubles range[kHalves];
    for (int half = 0; half < kHalves; ++half) {
      const GroupFacts facts = sort_.facts(half);
      range[half] = facts.high - facts.low;
      solved[half] = facts.finite & (range[half] < kModerate) & (strength[half] > 1.0 / kModerate) &
                     (strength[half] < kModerate);
      if (kRank) {
        is_one[half] = solved[half] & (range[half] <= one_block * strength[half]);
        solved[half] &= ~is_one[half];
      }
    }
    const unsigned ones = kRank ? write_one_blocks(problem, arrays, r, count, is_one, strength) : 0;
    if (bits(solved) == 0) return ones;
    sort_.template sort<!kRank>(n);  // tied ranks share a block whatever their order
    const Column* const values[kHalves] = {&sort_.values(0), &sort_.values(1)};
    Longs certain[kHalves];
    if constexpr (R == Regularization::l2) {
      blocks_.template find_l2<kRank>(n, values, strength, range, certain);
    } else if constexpr (R == Regularization::kl) {
      blocks_.find_kl(n, values, strength, certain);
    } else {
      if (n != summed_ || any_lane(strength[0] != summed_at_[0]) ||
          any_lane(strength[1] != summed_at_[1])) {
        add_up_exp_of_rho(n, strength);
        blocks_.set_totals_of_rho(n, powers_, totals_);
      }
      blocks_.find_log_kl(n, values, range, certain);
    }
    find_ids(n);
    for (int half = 0; half < kHalves; ++half) {
      solved[half] &= certain[half];
      if constexpr (R == Regularization::l2) {
        find_values_l2<kRank>(n, half, strength[half], problem.w_sign);
      } else if constexpr (R == Regularization::kl) {
        find_ranks_kl(n, half, strength[half], problem.w_sign);
      } else {
        find_values_log_kl(n, half, strength[half], problem.w_sign);
      }
    }
    const unsigned lanes = bits(solved);
    write<kRank>(space, arrays, r, count, lanes);
    return lanes | ones;
  }

  unsigned write_one_blocks(const Problem& problem, const Projection<T>& arrays, std::int64_t r,
                            std::int64_t count, const Longs* is_one, const Doubles* strength) {
    const unsigned lanes = bits(is_one) & ((1u << count) - 1u);
    if (lanes == 0) return 0;
    for (int half = 0; half < kHalves; ++half) {
      one_block_.solve(problem.space.length, half, sort_.values(half), sort_.facts(half),
                       strength[half], problem.z_sign, problem.w_sign);
    }
    one_block_.write(problem.space, arrays, r, lanes);
    return lanes;
  }

  static unsigned bits(const Longs* mask) {
    return mask_bits(mask[0]) | mask_bits(mask[1]) << kLanes;
  }

  void find_ids(std::int64_t n) {
    Ints id{};
    for (std::int64_t i = 0; i < n; ++i) {
      id = blocks_.starts(i) ? Ints{} + static_cast<std::int32_t>(i) : id;
      std::memcpy(ids_[i], &id, sizeof id);
    }
  }

  // Of a block up to some element of it: the sum of terms, and the elements before.
  struct BlockPart {
    Doubles first, sum, behind;
  };

  // parts_ of sums of term(i, what element i has more than the first of its block).
  template <class Term>
  void add_up_parts(std::int64_t n, int half, const Term& term) {
    const Column& x = sort_.values(half);
    BlockPart part{};
    for (std::int64_t i = 0; i < n; ++i) {
      const Longs starts = blocks_.starts(half, i);
      part.first = starts ? x[i] : part.first;
      part.sum = (starts ? Doubles{} : part.sum) + term(i, x[i] - part.first);
      part.behind = starts ? Doubles{} : part.behind + 1.0;
      parts_[i] = part;
    }
  }

  // The formulas of block_values.h, with all that is rho's simplified exactly.
  template <bool kRank>
  void find_values_l2(std::int64_t n, int half, Doubles strength, double sign) {
    const Column& x = sort_.values(half);
    add_up_parts(n, half, [&](std::int64_t, Doubles above) { return above; });
    const Doubles scale = 1.0 / strength;
    Doubles mean{}, half_size{};
    Longs ends = Longs{} - 1;
    for (std::int64_t i = n - 1; i >= 0; --i) {
      const BlockPart& part = parts_[i];
      mean = ends ? part.sum / (part.behind + 1.0) : mean;
      half_size = ends ? 0.5 * part.behind : half_size;
      ends = blocks_.starts(half, i);
      const Doubles value = kRank ? ((static_cast<double>(n - i) + part.behind) - half_size) +
                                        ((x[i] - part.first) * scale - mean * scale)
                                  : (part.first + mean) + (half_size * scale - part.behind * scale);
      store(results_[i] + half * kLanes, value * sign + 0.0);  // + 0.0: never -0
    }
  }

  void find_ranks_kl(std::int64_t n, int half, Doubles strength, double sign) {
    const Doubles scale = 1.0 / strength;
    add_up_parts(n, half, [&](std::int64_t i, Doubles above) {
      return exponentials_[i] = exp_nonpositive<T>(above * scale);
    });
    Doubles factor{};
    Longs ends = Longs{} - 1;
    for (std::int64_t i = n - 1; i >= 0; --i) {
      const BlockPart& part = parts_[i];
      const Doubles last = broadcast(static_cast<double>(n - i));  // rho_i
      const Doubles sum_of_rho = 0.5 * (part.behind + 1.0) * (last + (last + part.behind));
      factor = ends ? sign * (sum_of_rho / part.sum) : factor;
      ends = blocks_.starts(half, i);
      store(results_[i] + half * kLanes, exponentials_[i] * factor + 0.0);  // + 0.0: never -0
    }
  }

  // powers_: exp of what the element k places behind the first of a block has less; totals_: their sums.
  void add_up_exp_of_rho(std::int64_t n, const Doubles* strength) {
    summed_ = n;
    for (int half = 0; half < kHalves; ++half) {
      summed_at_[half] = strength[half];
      const Doubles scale = 1.0 / strength[half];
      Doubles sum{};
      for (std::int64_t k = 0; k < n; ++k) {
        powers_[half][k] = exp_nonpositive<T>(-static_cast<double>(k) * scale);
        totals_[half][k] = sum += powers_[half][k];
      }
    }
  }

  void find_values_log_kl(std::int64_t n, int half, Doubles strength, double sign) {
    add_up_parts(n, half, [&](std::int64_t, Doubles above) { return exp_nonpositive<T>(above); });
    const Doubles scale = 1.0 / strength;
    Doubles shift{};
    Longs ends = Longs{} - 1;
    for (std::int64_t i = n - 1; i >= 0; --i) {
      const BlockPart& part = parts_[i];
      shift = ends ? part.first : shift;
      const Longs pools = ends & (part.behind > 0.0);
      if (any_lane(pools)) {
        const Doubles total =
            gather([&](int k) { return totals_[half][static_cast<int>(part.behind[k])][k]; });
        shift = pools ? part.first + log_positive(part.sum / total) : shift;
      }
      ends = blocks_.starts(half, i);
      store(results_[i] + half * kLanes, (shift - part.behind * scale) * sign + 0.0);  // never -0
    }
  }

  template <bool kRank>
  void write(const RowSpace& space, const Projection<T>& arrays, std::int64_t r, std::int64_t count,
             unsigned lanes) const {
    const std::int64_t n = space.length;
    for (int l = 0; l < count; ++l) {
      if (!(lanes >> l & 1u)) continue;
      const Row<T> result = arrays.result.row(space, r + l);
      const Row<std::int32_t> block_z = arrays.block_z.row(space, r + l),
                              block_w = arrays.block_w.row(space, r + l);
      const T* const values = results_[0] + l;
      const std::int32_t* const ids = ids_[0] + l;
      const std::int64_t* const index = sort_.indices(l);
      if (kRank && result.stride == 1 && block_z.stride == 1 && result && block_z) {
#pragma GCC unroll 4
        for (std::int64_t i = 0; i < n; ++i) {
          const std::int64_t at = index[i * kLanes];
          result.data[at] = values[i * kGroup];
          block_z.data[at] = ids[i * kGroup];
        }
      } else {
        kRank ? place(n, values, index, result) : put(n, values, result);
        kRank ? place(n, ids, index, block_z) : put(n, ids, block_z);
      }
      kRank ? put(n, ids, block_w) : place(n, ids, index, block_w);
    }
  }

  template <class V>
  static void place(std::int64_t n, const V* from, const std::int64_t* index, Row<V> to) {
    if (!to) return;
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < n; ++i) to[index[i * kLanes]] = from[i * kGroup];
  }
  template <class V>
  static void put(std::int64_t n, const V* from, Row<V> to) {
    if (!to) return;
    if (to.stride != 1) {
      for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * kGroup];
      return;
    }
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < n; ++i) to.data[i] = from[i * kGroup];
  }

  GroupSort<T> sort_;
  GroupOneBlock<T, R> one_block_;
  GroupBlocks blocks_;
  T results_[kLongestInGroup][kGroup];
  BlockPart parts_[kLongestInGroup];
  Column exponentials_;
  Columns powers_, totals_;
  std::int64_t summed_ = 0;  // the length and the strengths of these two
  Doubles summed_at_[kHalves];
  std::int32_t ids_[kLongestInGroup][kGroup];
};

}  // namespace diffsort::DIFFSORT_LEVEL
