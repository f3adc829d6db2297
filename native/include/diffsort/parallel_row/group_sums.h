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

// The 8 values from `first` on.
template <class Value>
DIFFSORT_HD double combine_all(std::int64_t first, const Combine& combine, const Value& value) {
  double total = combine.identity();
  DIFFSORT_ROLLED
  for (std::int64_t p = first; p < first + kFan; ++p) total = combine(total, value(p));
  return total;
}

// A level above the leaves.
struct CombineNodes {
  Combine combine;
  const double* below;
  double* nodes;

  DIFFSORT_HD void operator()(std::int64_t node) const {
    const auto value = [&](std::int64_t p) { return below[p]; };
    nodes[node] = combine_all(kFan * node, combine, value);
  }
};

// Leaves over value(p), the positions being in any order.
template <class Value>
struct CombineLeaf {
  Combine combine;
  Value value;
  double* tree;

  DIFFSORT_HD void operator()(std::int64_t leaf) const {
    tree[leaf] = combine_all(kFan * leaf, combine, value);
  }
};

// The whole tree over `count` positions, whose leaves `combine_leaf` makes.
template <class Steps, class Leaf>
DIFFSORT_HD void build_tree(Steps& steps, std::int64_t count, double* tree, const Combine& combine,
                            const Leaf& combine_leaf) {
  steps.for_each(count / kFan, combine_leaf);
  for (std::int64_t size = count / kFan; size >= kFan; size /= kFan) {
    steps.for_each(size / kFan, CombineNodes{combine, tree, tree + size});
    tree += size;
  }
}

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
// Both may read what the block's number was before.
template <class Index, class Quantity>
struct CombineLeafOfBlock {
  Groups<Index> groups;
  Quantity quantity;
  double* tree;

  DIFFSORT_HD void operator()(std::int64_t leaf) const {
    const Combine combine = quantity.combine();
    tree[leaf] = combine.identity();
    if (!groups.in_one_block(leaf)) return;
    const std::int64_t start = groups.start(kFan * leaf);
    const auto value = [&](std::int64_t p) { return quantity.term(groups.index[p], start); };
    tree[leaf] = combine_all(kFan * leaf, combine, value);
  }
};

template <class Index, class Quantity>
struct CombineBlock {
  Groups<Index> groups;
  Quantity quantity;
  const double* tree;
  double* out;

  DIFFSORT_HD void operator()(std::int64_t start) const {
    if (!groups.is_start(start) || groups.alone(start)) return;
    const std::int64_t end = groups.end(start);
    const auto value = [&](std::int64_t p) { return quantity.term(groups.index[p], start); };
    const double total = combine_run(tree, groups.count, start, end, quantity.combine(), value);
    out[start / 2] = quantity.finish(start, end - start, total);
  }
};

// out[start / 2] for every block of at least two elements.
template <class Steps, class Index, class Quantity>
DIFFSORT_HD void combine_blocks(Steps& steps, const Groups<Index>& groups, const Quantity& quantity,
                                double* tree, double* out) {
  build_tree(steps, groups.count, tree, quantity.combine(),
             CombineLeafOfBlock<Index, Quantity>{groups, quantity, tree});
  steps.for_each(groups.count, CombineBlock<Index, Quantity>{groups, quantity, tree, out});
}

}  // namespace diffsort
