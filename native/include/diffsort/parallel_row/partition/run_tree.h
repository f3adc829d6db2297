// The sums of any run of a row's elements, from a tree of the sums of dyadic runs.
//
// A node holds the sums of 8 * 2^k elements from a multiple of that number on; only full ones
// exist. A run is cut into nodes and elements of its own, so that its sums depend on nothing
// outside of it: differences of prefix sums would lose the digits of small runs in large rows.
// Cost of a run of m elements: at most 14 elements and 2 log2(m / 8) nodes.
// Scratch: n / 4 sums.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"

namespace diffsort {

template <Regularization R>
class RunTree {
 public:
  using Sums = BlockSums<R>;
  static constexpr std::int32_t kLeaf = 8;  // elements of the smallest nodes

  DIFFSORT_HD explicit RunTree(Sums* nodes) : nodes_(nodes) {}

  // How many sums of memory the tree of a row takes.
  DIFFSORT_HD static std::int64_t nodes(std::int64_t n) {
    return n < kLeaf ? 0 : 2 * (n / kLeaf) - 1;
  }

  // Builds the node of `size` elements from `first` on, whose halves are built, if it is full.
  template <class Row>
  DIFFSORT_HD void build(const Row& row, std::int32_t first, std::int64_t full_size) const {
    if (row.n - first < full_size) return;
    const auto size = static_cast<std::int32_t>(full_size);
    node(first, size) = combine(row, first, first + size, size == kLeaf ? 1 : size / 2);
  }

  // The sums of the elements from `first` on and before `last`, relative to the first of them.
  template <class Row>
  DIFFSORT_HD Sums sums(const Row& row, std::int32_t first, std::int32_t last) const {
    return combine(row, first, last, last - first);
  }

 private:
  // Absorbs from left to right the largest pieces that there are, of at most `limit` elements.
  template <class Row>
  DIFFSORT_HD DIFFSORT_NOINLINE Sums combine(const Row& row, std::int32_t first, std::int32_t last,
                                             std::int32_t limit) const {
    std::int32_t size = piece(first, last, limit);
    Sums result = size == 1 ? row.singleton(first) : node(first, size);
    for (std::int32_t i = first + size; i < last; i += size) {
      size = piece(i, last, limit);
      const Sums next = size == 1 ? row.singleton(i) : node(i, size);
      result.absorb(next, size, row.shift(first, i));
    }
    return result;
  }

  // The size of the largest piece that starts at i.
  DIFFSORT_HD static std::int32_t piece(std::int32_t i, std::int32_t last, std::int32_t limit) {
    std::int32_t size = std::int32_t{1} << highest_bit(static_cast<std::uint32_t>(last - i));
    if (i > 0 && (i & -i) < size) size = i & -i;
    if (limit < size) size = limit;
    return size < kLeaf ? 1 : size;
  }

  // In order: the node of 2m elements from i on lies between the two of m.
  DIFFSORT_HD Sums& node(std::int32_t i, std::int32_t size) const {
    return nodes_[i / (kLeaf / 2) + size / kLeaf - 1];
  }

  Sums* nodes_;
};

}  // namespace diffsort
