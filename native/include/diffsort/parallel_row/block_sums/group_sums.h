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
// Cost: every element's term is computed once, in log_8(count) + 1 steps; by tiles two launches and
// one more for the blocks. Memory: 1/7 of a double
// per element for the tree, 1/2 for the numbers.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/block_sums/group.h"
#include "diffsort/parallel_row/rows/float_rows.h"
#include "diffsort/parallel_row/rows/row_parts.h"

namespace diffsort {

constexpr std::int64_t kFan = 8;

// Numbers combine to their sum, or to the largest.
struct Combine {
  bool largest = false;

  DIFFSORT_HD double identity() const {
    return largest ? -std::numeric_limits<double>::infinity() : 0.0;
  }
  DIFFSORT_HD double operator()(double a, double b) const {
    if (!largest) return a + b;
    return a < b ? b : a;
  }
};

// The tree's nodes, lowest level first.
DIFFSORT_HD inline std::int64_t tree_nodes(std::int64_t count) {
  std::int64_t nodes = 0;
  while (count >= kFan) nodes += count /= kFan;
  return nodes;
}

// The 8 values from `first` on, so many of which are asked for at once.
template <int kAtOnce, class Value>
DIFFSORT_HD double combine_all(std::int64_t first, const Combine& combine, const Value& value) {
  double total = combine.identity();
  DIFFSORT_UNROLLED_BY(kAtOnce)
  for (std::int64_t k = 0; k < kFan; ++k) total = combine(total, value(first + k));
  return total;
}

// Levels of which a team makes as many as a tile of its own has.
constexpr int kLowLevels = 4;
static_assert(kFan * kFan * kFan * kFan == kTile);

// The nodes [begin, end) of a level.
template <class Team>
DIFFSORT_HD void add_up(Team& team, const Combine& combine, const double* below, double* nodes,
                        std::int64_t begin, std::int64_t end) {
  team.for_each(end - begin, [&](std::int64_t k) {
    const auto value = [&](std::int64_t p) { return below[p]; };
    nodes[begin + k] = combine_all<1>(kFan * (begin + k), combine, value);
  });
}

// The levels above those of tiles.
struct UpperTree {
  std::int64_t count;
  Combine combine;
  double* tree;

  DIFFSORT_HD bool is_empty() const { return count < kFan * kTile; }

  template <class Team>
  DIFFSORT_HD void make(Team& team) const {
    double* nodes = tree;
    std::int64_t size = count / kFan;
    for (int level = 1; size >= kFan; ++level) {
      if (level >= kLowLevels) add_up(team, combine, nodes, nodes + size, 0, size / kFan);
      nodes += size;
      size /= kFan;
    }
  }
};

// A tree whose leaf k, over positions [8 k, 8 k + 8) in any order, has the value leaf(k).
template <class Leaf>
struct TreeLevels {
  std::int64_t count;
  Combine combine;
  Leaf leaf;
  double* tree;

  DIFFSORT_HD UpperTree above() const { return {count, combine, tree}; }

  template <class Team>
  DIFFSORT_HD void make_tile(Team& team, std::int64_t first, std::int64_t n) const {
    double* nodes = tree;
    std::int64_t size = count / kFan, begin = first / kFan, end = (first + n) / kFan;
    team.for_each(end - begin, [&](std::int64_t k) { nodes[begin + k] = leaf(begin + k); });
    for (int level = 1; level < kLowLevels && size >= kFan; ++level) {
      begin /= kFan;
      end /= kFan;
      add_up(team, combine, nodes, nodes + size, begin, end);
      nodes += size;
      size /= kFan;
    }
  }
};

template <class Steps, class Leaf>
DIFFSORT_HD void build_tree(Steps& steps, std::int64_t count, double* tree, const Combine& combine,
                            const Leaf& leaf) {
  build_levels(steps, count, TreeLevels<Leaf>{count, combine, leaf, tree});
}

// Leaves over value(p).
template <class Value>
struct Leaves {
  Combine combine;
  Value value;

  DIFFSORT_HD double operator()(std::int64_t leaf) const {
    return combine_all<1>(kFan * leaf, combine, value);
  }
};

// Adds to `total` the values at those positions of [first, last) that are in no whole group of 8.
template <class Value>
DIFFSORT_HD double combine_edges(double total, std::int64_t first, std::int64_t last,
                                 const Combine& combine, const Value& value) {
  const std::int64_t up = (first + kFan - 1) / kFan * kFan, down = last / kFan * kFan;
  const std::int64_t left_end = up < last ? up : last, right = down < left_end ? left_end : down;
  DIFFSORT_ROLLED
  for (std::int64_t p = first == left_end ? right : first; p < last;
       p = p + 1 == left_end ? right : p + 1) {
    total = combine(total, value(p));
  }
  return total;
}

// What the positions [first, last) of `count` combine to.
template <class Term>
DIFFSORT_HD double combine_run(const double* tree, std::int64_t count, std::int64_t first,
                               std::int64_t last, const Combine& combine, const Term& term) {
  double total = combine_edges(combine.identity(), first, last, combine, term);
  for (;;) {
    first = (first + kFan - 1) / kFan;
    last /= kFan;
    if (first >= last) return total;
    count /= kFan;
    const auto node = [tree](std::int64_t p) { return tree[p]; };
    total = combine_edges(total, first, last, combine, node);
    tree += count;
  }
}

// A quantity of blocks:
//     term(e, start)               what element e adds to the block that starts at `start`
//     finish(start, size, total)   what becomes of the sum
//     combine()                    how terms add up
//     is_settled_at(p)             whether the row of position p is left alone
// term and finish may read what the block's number was before.
// rows.groups is what they are quantities of.
template <class Quantity>
struct LeavesOfBlocks {
  Quantity quantity;

  DIFFSORT_HD double operator()(std::int64_t leaf) const {
    const auto& groups = quantity.rows.groups;
    const Combine combine = quantity.combine();
    if (!groups.in_one_block(leaf)) return combine.identity();
    if (quantity.is_settled_at(kFan * leaf)) return combine.identity();  // nobody asks
    const std::int64_t start = groups.start(kFan * leaf);
    const auto value = [&](std::int64_t p) { return quantity.term(groups.element(p), start); };
    return combine_all<std::decay_t<decltype(groups)>::kAtOnce>(kFan * leaf, combine, value);
  }
};

// The blocks that start at positions [8 k, 8 k + 8).
template <class Quantity>
struct CombineBlocks {
  Quantity quantity;
  const double* tree;
  FloatOutput out;

  DIFFSORT_HD void operator()(std::int64_t k) const {
    const auto& groups = quantity.rows.groups;
    DIFFSORT_ROLLED
    for (std::uint32_t starts = groups.starts_of_leaf(k); starts != 0; starts &= starts - 1) {
      const std::int64_t start = kFan * k + lowest_bit(starts);
      if (!groups.alone(start)) combine_block(start);
    }
  }

 private:
  DIFFSORT_HD void combine_block(std::int64_t start) const {
    const auto& groups = quantity.rows.groups;
    const std::int64_t end = groups.end(start);
    const auto value = [&](std::int64_t p) { return quantity.term(groups.element(p), start); };
    const double total = combine_run(tree, groups.count, start, end, quantity.combine(), value);
    out.write(start / 2, quantity.finish(start, end - start, total));
  }
};

// out[start / 2] for every block of at least two elements.
template <class Steps, class Quantity>
DIFFSORT_HD void combine_blocks(Steps& steps, const Quantity& quantity, double* tree,
                                const FloatOutput& out) {
  const std::int64_t count = quantity.rows.groups.count;
  build_tree(steps, count, tree, quantity.combine(), LeavesOfBlocks<Quantity>{quantity});
  steps.for_each((count + kFan - 1) / kFan, CombineBlocks<Quantity>{quantity, tree, out});
}

}  // namespace diffsort
