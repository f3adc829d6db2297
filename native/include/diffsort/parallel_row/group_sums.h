// Sums, or maxima, over every block at once: one double per block, deterministic.
//
// A tree with a node for every 8 positions, and for every 8 nodes. A run of positions is made up of
// at most 7 pieces on either side of each level, so that rounding grows with the logarithm of its
// length, and a large block costs its thread no more than a few dozen additions.
//
// Only blocks of at least two elements have a number here, at start / 2, which no other such block
// shares; of an element alone everybody knows what its sum is. So singletons are exact, and cost
// nothing: a node whose elements are not all of one block is never asked for, nor computed.
//
// Cost: every element's term is computed once, in log_8(count) + 1 steps. Memory: 1/7 of a double
// per element for the tree, 1/2 for the numbers.
#pragma once

#include <cstdint>
#include <limits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/group.h"

namespace diffsort {

constexpr std::int64_t kFan = 8;

struct Add {
  static constexpr double identity = 0.0;
  DIFFSORT_HD double operator()(double a, double b) const { return a + b; }
};

struct Larger {
  static constexpr double identity = -std::numeric_limits<double>::infinity();
  DIFFSORT_HD double operator()(double a, double b) const { return a < b ? b : a; }
};

// The tree's nodes, lowest level first.
DIFFSORT_HD inline std::int64_t tree_nodes(std::int64_t count) {
  std::int64_t nodes = 0;
  while (count >= kFan) nodes += count /= kFan;
  return nodes;
}

// used(leaf): whether any run that will be asked for holds all of [8 leaf, 8 leaf + 8).
template <class Combine, class Steps, class Used, class Term>
DIFFSORT_HD void build_tree(Steps& steps, std::int64_t count, double* tree, const Used& used,
                            const Term& term) {
  count /= kFan;
  steps.for_each(count, [=] DIFFSORT_HD(std::int64_t leaf) {
    double total = Combine::identity;
    if (used(leaf)) {
      for (std::int64_t p = kFan * leaf; p < kFan * (leaf + 1); ++p)
        total = Combine{}(total, term(p));
    }
    tree[leaf] = total;
  });
  while (count >= kFan) {
    const double* const below = tree;
    double* const nodes = tree += count;
    count /= kFan;
    steps.for_each(count, [=] DIFFSORT_HD(std::int64_t node) {
      double total = Combine::identity;
      for (std::int64_t p = kFan * node; p < kFan * (node + 1); ++p)
        total = Combine{}(total, below[p]);
      nodes[node] = total;
    });
  }
}

// What the positions [first, last) of `count` combine to.
template <class Combine, class Term>
DIFFSORT_HD double combine_run(const double* tree, std::int64_t count, std::int64_t first,
                               std::int64_t last, const Term& term) {
  double total = Combine::identity;
  for (; first < last && first % kFan != 0; ++first) total = Combine{}(total, term(first));
  for (; first < last && last % kFan != 0; --last) total = Combine{}(total, term(last - 1));
  while ((first /= kFan) < (last /= kFan)) {
    count /= kFan;
    for (; first < last && first % kFan != 0; ++first) total = Combine{}(total, tree[first]);
    for (; first < last && last % kFan != 0; --last) total = Combine{}(total, tree[last - 1]);
    tree += count;
  }
  return total;
}

// out[start / 2] = finish(start, size, what the block's terms combine to), for every block of at
// least two elements. term(e) and finish may read what out held of their own block.
template <class Combine, class Steps, class Index, class Term, class Finish>
DIFFSORT_HD void combine_blocks(Steps& steps, const Groups<Index>& groups, double* tree,
                                double* out, const Term& term, const Finish& finish) {
  const auto listed = [=] DIFFSORT_HD(std::int64_t p) { return term(groups.index[p]); };
  const auto of_one_block = [=] DIFFSORT_HD(std::int64_t leaf) {
    return (groups.words[leaf / 4] >> (8 * (leaf % 4)) & 0xfe) == 0;
  };
  build_tree<Combine>(steps, groups.count, tree, of_one_block, listed);
  steps.for_each(groups.count, [=] DIFFSORT_HD(std::int64_t start) {
    if (!groups.is_start(start) || groups.alone(start)) return;
    const std::int64_t end = groups.end(start);
    out[start / 2] =
        finish(start, end - start, combine_run<Combine>(tree, groups.count, start, end, listed));
  });
}

struct Unchanged {
  DIFFSORT_HD double operator()(std::int64_t, std::int64_t, double total) const { return total; }
};

}  // namespace diffsort
