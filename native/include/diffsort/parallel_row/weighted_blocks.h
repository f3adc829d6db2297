// The weights of elements within their blocks, which the linear maps average with:
//     p over the elements of z                                   q over those of w
//     l2      1 / |B|                                            1 / |B|
//     log_kl  softmax_B(z / strength)                            softmax_B(w)
//     kl      result / sum_B(result)                             1, w's elements being added up
//
// A weight is made anew wherever it is needed, from one or two numbers per block. That of an element
// alone in its block is exactly 1, so that its derivative by z is exactly 0: those are told apart
// before, and the numbers below are those of blocks of at least two elements.
#pragma once

#include <cstdint>
#include <limits>

#include "diffsort/parallel_row/group_sums.h"
#include "diffsort/parallel_row/linearized_rows.h"

namespace diffsort {

// At start / 2. Which of them there is memory for, Wanted says.
struct BlockNumbers {
  double *sum = nullptr, *total = nullptr, *largest = nullptr;
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
  RowStates states;
  Groups<Index> groups;
  BlockNumbers numbers;

  DIFFSORT_HD double operand(std::int64_t e) const { return at.z_at(e); }

  // Of s = z / strength. Not of the result, though the two differ by a constant of the block: the
  // result is rounded to T, by much where w is far from zero.
  DIFFSORT_HD double softmax_part(std::int64_t e, std::int64_t start) const {
    const double scale = over_strength(1.0, states.strength[at.set.row(e)]);
    return diffsort::softmax_part(at.z_at(e), numbers.largest[start / 2], scale);
  }
  // p, but for l2 1: whoever adds up divides by the number of elements.
  DIFFSORT_HD double weight(std::int64_t e, std::int64_t start) const {
    if (R == Regularization::l2) return 1.0;
    const double total = numbers.total[start / 2];
    if (R == Regularization::kl && total == 0.0) return 0.0;
    const bool by_result = R == Regularization::kl && !(total < 0.0);  // see weigh_weightless
    return (by_result ? at.result_at(e) : softmax_part(e, start)) / std::abs(total);
  }
  // z less the largest z of its block. Any z of the block would do but for rounding: in kl the
  // largest has weight, while others may lie far away without any.
  DIFFSORT_HD double relative_z(std::int64_t e, std::int64_t start) const {
    return groups.alone(start) ? 0.0 : at.z_at(e) - numbers.largest[start / 2];
  }
};

// Rows whose elements are grouped by w's blocks.
template <class T, Regularization R, class Index>
struct WBlocks {
  LinearizedRows<T, R> at;
  Groups<Index> groups;
  BlockNumbers numbers;

  DIFFSORT_HD double operand(std::int64_t j) const { return at.w_at(j); }

  DIFFSORT_HD double softmax_part(std::int64_t j, std::int64_t start) const {
    return diffsort::softmax_part(at.w_at(j), numbers.largest[start / 2], 1.0);
  }
  // q, but for l2 1.
  DIFFSORT_HD double weight(std::int64_t j, std::int64_t start) const {
    if (R != Regularization::log_kl) return 1.0;
    return softmax_part(j, start) / numbers.total[start / 2];
  }
};

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD ZBlocks<T, R, typename Memory::Index> group_z(Steps& steps, Memory& memory,
                                                          const LinearizedRows<T, R>& at,
                                                          const Wanted<R>& wanted,
                                                          bool has_starts) {
  const auto groups = group(steps, memory, at.set, at.block_z, has_starts);
  return {at, memory.states, groups, wanted.place(memory.numbers(), at.set.count())};
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD WBlocks<T, R, typename Memory::Index> group_w(Steps& steps, Memory& memory,
                                                          const LinearizedRows<T, R>& at,
                                                          const Wanted<R>& wanted) {
  const auto groups = group(steps, memory, at.set, at.block_w, false);
  return {at, groups, wanted.place(memory.numbers(), at.set.count())};
}

// The largest z, or w.
template <class Steps, class Blocks>
DIFFSORT_HD void find_largest(Steps& steps, const Blocks& blocks, double* tree) {
  const auto value = [=] DIFFSORT_HD(std::int64_t e, std::int64_t) { return blocks.operand(e); };
  combine_blocks<Larger>(steps, blocks.groups, tree, blocks.numbers.largest, value, Unchanged{});
}

// The sums that softmax divides by, `largest` being known.
template <class Steps, class Blocks>
DIFFSORT_HD void add_softmax(Steps& steps, const Blocks& blocks, double* tree) {
  const auto part = [=] DIFFSORT_HD(std::int64_t e, std::int64_t start) {
    return blocks.softmax_part(e, start);
  };
  combine_blocks<Add>(steps, blocks.groups, tree, blocks.numbers.total, part, Unchanged{});
}

// The sums of results. A sum below 0 is none of a projection's, and made NaN.
template <class Steps, class Blocks>
DIFFSORT_HD void add_results(Steps& steps, const Blocks& blocks, double* tree) {
  const auto result = [=] DIFFSORT_HD(std::int64_t e, std::int64_t) {
    return blocks.at.result_at(e);
  };
  const auto check = [=] DIFFSORT_HD(std::int64_t, std::int64_t, double total) {
    return total >= 0.0 ? total : std::numeric_limits<double>::quiet_NaN();
  };
  combine_blocks<Add>(steps, blocks.groups, tree, blocks.numbers.total, result, check);
}

// A block without weight in w has results 0, which do not tell its softmax: z does. Such a block's
// total becomes minus the sum of the softmax's parts.
template <class Steps, class Blocks>
DIFFSORT_HD void weigh_weightless(Steps& steps, const Blocks& blocks, double* tree) {
  const double* const total = blocks.numbers.total;
  const auto part = [=] DIFFSORT_HD(std::int64_t e, std::int64_t start) {
    return total[start / 2] == 0.0 ? blocks.softmax_part(e, start) : 0.0;
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
