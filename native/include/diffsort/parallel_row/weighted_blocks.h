// The weights of elements within their blocks, which the linear maps average with:
//     p over the elements of z                                   q over those of w
//     l2      1 / |B|                                            1 / |B|
//     log_kl  softmax_B(z / strength)                            softmax_B(w)
//     kl      result / sum_B(result)                             1, w's elements being added up
//
// A weight is made anew wherever it is needed, from one or two numbers per block. For an element
// alone in its block it is exactly 1, so that its derivative by z is exactly 0.
#pragma once

#include <cstdint>
#include <limits>

#include "diffsort/parallel_row/group_sums.h"
#include "diffsort/parallel_row/linearized_rows.h"

namespace diffsort {

// Numbers of the blocks that have at least two elements, at start / 2. Which of them there is
// memory for, Wanted says.
struct BlockNumbers {
  double *sum = nullptr, *total = nullptr, *largest = nullptr;

  DIFFSORT_HD double softmax_part(double x, std::int64_t start, double scale) const {
    return diffsort::softmax_part(x, largest[start / 2], scale);
  }
};

template <Regularization R>
struct Wanted {
  bool strength = false, w = false;

  DIFFSORT_HD static constexpr bool total() { return R != Regularization::l2; }
  DIFFSORT_HD bool largest() const {
    return R == Regularization::log_kl || strength || (R == Regularization::kl && w);
  }

  // In memory for doubles(count) of them.
  DIFFSORT_HD std::int64_t doubles(std::int64_t count) const {
    return (1 + total() + largest()) * each(count);
  }
  DIFFSORT_HD BlockNumbers place(double* memory, std::int64_t count) const {
    BlockNumbers numbers;
    numbers.sum = memory;
    if (total()) numbers.total = memory += each(count);
    if (largest()) numbers.largest = memory += each(count);
    return numbers;
  }

 private:
  DIFFSORT_HD static std::int64_t each(std::int64_t count) { return (count + 1) / 2; }
};

// Rows whose elements are grouped by z's blocks.
template <class T, Regularization R, class Index>
struct ZBlocks {
  LinearizedRows<T, R> at;
  Groups<Index> groups;
  BlockNumbers numbers;

  DIFFSORT_HD std::int64_t start(std::int64_t e) const { return at.set.start(at.block_z, e); }

  // What combine_blocks made of `term` in the block that starts at `start`.
  template <class Term>
  DIFFSORT_HD double sum(std::int64_t start, const Term& term) const {
    return groups.alone(start) ? term(groups.index[start]) : numbers.sum[start / 2];
  }

  // p, but for l2 1: whoever adds up divides by the number of elements.
  DIFFSORT_HD double weight(std::int64_t e) const {
    if (R == Regularization::l2) return 1.0;
    const std::int64_t block = start(e);
    if (groups.alone(block)) return 1.0;
    const double total = numbers.total[block / 2];
    if (R == Regularization::log_kl) return softmax_part(e, block) / total;
    if (total < 0.0) return softmax_part(e, block) / -total;  // see weigh_weightless
    return total == 0.0 ? 0.0 : at.result_at(e) / total;
  }
  // Of s = z / strength. Not of the result, though the two differ by a constant of the block: the
  // result is rounded to T, by much where w is far from zero.
  DIFFSORT_HD double softmax_part(std::int64_t e, std::int64_t block) const {
    return numbers.softmax_part(at.z_at(e), block, over_strength(1.0, at.strength_at(e)));
  }
  // z less the largest z of its block. Any z of the block would do but for rounding: in kl the
  // largest has weight, while others may lie far away without any.
  DIFFSORT_HD double relative_z(std::int64_t e) const {
    const std::int64_t block = start(e);
    return groups.alone(block) ? 0.0 : at.z_at(e) - numbers.largest[block / 2];
  }
};

// Rows whose elements are grouped by w's blocks.
template <class T, Regularization R, class Index>
struct WBlocks {
  LinearizedRows<T, R> at;
  Groups<Index> groups;
  BlockNumbers numbers;

  DIFFSORT_HD std::int64_t start(std::int64_t j) const { return at.set.start(at.block_w, j); }

  // q, but for l2 1.
  DIFFSORT_HD double weight(std::int64_t j) const {
    if (R != Regularization::log_kl) return 1.0;
    const std::int64_t block = start(j);
    if (groups.alone(block)) return 1.0;
    return softmax_part(j, block) / numbers.total[block / 2];
  }
  DIFFSORT_HD double softmax_part(std::int64_t j, std::int64_t block) const {
    return numbers.softmax_part(at.w_at(j), block, 1.0);
  }
  template <class Term>
  DIFFSORT_HD double sum(std::int64_t start, const Term& term) const {
    return groups.alone(start) ? term(groups.index[start]) : numbers.sum[start / 2];
  }
};

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD ZBlocks<T, R, typename Memory::Index> group_z(Steps& steps, Memory& memory,
                                                          const LinearizedRows<T, R>& at,
                                                          const Wanted<R>& wanted,
                                                          bool has_starts) {
  const auto groups = group(steps, memory, at.set, at.block_z, has_starts);
  return {at, groups, wanted.place(memory.numbers(), at.set.count())};
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD WBlocks<T, R, typename Memory::Index> group_w(Steps& steps, Memory& memory,
                                                          const LinearizedRows<T, R>& at,
                                                          const Wanted<R>& wanted) {
  const auto groups = group(steps, memory, at.set, at.block_w, false);
  return {at, groups, wanted.place(memory.numbers(), at.set.count())};
}

// Largest z, or w, of every block.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void find_largest(Steps& steps, const ZBlocks<T, R, Index>& blocks, double* tree) {
  const auto z = [=] DIFFSORT_HD(std::int64_t e) { return blocks.at.z_at(e); };
  combine_blocks<Larger>(steps, blocks.groups, tree, blocks.numbers.largest, z, Unchanged{});
}

template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void find_largest(Steps& steps, const WBlocks<T, R, Index>& blocks, double* tree) {
  const auto w = [=] DIFFSORT_HD(std::int64_t j) { return blocks.at.w_at(j); };
  combine_blocks<Larger>(steps, blocks.groups, tree, blocks.numbers.largest, w, Unchanged{});
}

// The sums that softmax divides by, `largest` being known.
template <class Steps, class Blocks>
DIFFSORT_HD void add_softmax(Steps& steps, const Blocks& blocks, double* tree) {
  const auto part = [=] DIFFSORT_HD(std::int64_t e) {
    return blocks.softmax_part(e, blocks.start(e));
  };
  combine_blocks<Add>(steps, blocks.groups, tree, blocks.numbers.total, part, Unchanged{});
}

// The sums of results. A sum below 0 is none of a projection's, and made NaN.
template <class Steps, class T, class Index>
DIFFSORT_HD void add_results(Steps& steps, const ZBlocks<T, Regularization::kl, Index>& blocks,
                             double* tree) {
  const auto result = [=] DIFFSORT_HD(std::int64_t e) { return blocks.at.result_at(e); };
  const auto check = [=] DIFFSORT_HD(std::int64_t, std::int64_t, double total) {
    return total >= 0.0 ? total : std::numeric_limits<double>::quiet_NaN();
  };
  combine_blocks<Add>(steps, blocks.groups, tree, blocks.numbers.total, result, check);
}

// A block without weight in w has results 0, which do not tell its softmax: z does. Such a block's
// total becomes minus the sum of the softmax's parts.
template <class Steps, class T, class Index>
DIFFSORT_HD void weigh_weightless(Steps& steps, const ZBlocks<T, Regularization::kl, Index>& blocks,
                                  double* tree) {
  const double* const total = blocks.numbers.total;
  const auto part = [=] DIFFSORT_HD(std::int64_t e) {
    const std::int64_t block = blocks.start(e);
    return total[block / 2] == 0.0 ? blocks.softmax_part(e, block) : 0.0;
  };
  const auto choose = [=] DIFFSORT_HD(std::int64_t start, std::int64_t, double parts) {
    return total[start / 2] == 0.0 ? -parts : total[start / 2];
  };
  combine_blocks<Add>(steps, blocks.groups, tree, blocks.numbers.total, part, choose);
}

// Everything that weights and relative z need.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void weigh(Steps& steps, const ZBlocks<T, R, Index>& blocks, double* tree,
                       const Wanted<R>& wanted) {
  if (wanted.largest()) find_largest(steps, blocks, tree);
  if constexpr (R == Regularization::log_kl) add_softmax(steps, blocks, tree);
  if constexpr (R == Regularization::kl) {
    add_results(steps, blocks, tree);
    if (wanted.w) weigh_weightless(steps, blocks, tree);
  }
}

template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void weigh(Steps& steps, const WBlocks<T, R, Index>& blocks, double* tree) {
  if constexpr (R == Regularization::log_kl) {
    find_largest(steps, blocks, tree);
    add_softmax(steps, blocks, tree);
  }
}

}  // namespace diffsort
