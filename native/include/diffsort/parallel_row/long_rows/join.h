// Joins of neighbouring parts of a long row that have been pooled, in pairs of halves of equal length.
//
// Cost of a row: O(n / length) joins on log2(n / length) levels, mostly of a look at two blocks.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/long_rows/bridge.h"
#include "diffsort/parallel_row/partition/partition.h"

namespace diffsort {

// How many pairs of halves of `width` elements there are; the last right half may be shorter.
DIFFSORT_HD inline std::int64_t pairs(std::int64_t n, std::int64_t width) {
  return n > width ? (n - width + 2 * width - 1) / (2 * width) : 0;
}

DIFFSORT_HD inline Halves halves_of_pair(std::int64_t n, std::int64_t width, std::int64_t k) {
  const std::int64_t centre = 2 * width * k + width;
  const std::int64_t last = centre + width < n ? centre + width : n;
  return {static_cast<std::int32_t>(centre - width), static_cast<std::int32_t>(centre),
          static_cast<std::int32_t>(last)};
}

// How many pairs a warp takes at a time, with work for so many warps: its lanes look at theirs
// together, but build bridges one by one.
DIFFSORT_HD inline std::int64_t pairs_per_warp(std::int64_t pairs, std::int64_t warps) {
  return pairs < 2 * warps ? 1 : pairs < 32 * warps ? pairs / warps : 32;
}

constexpr std::int64_t kWarpsOfTeam = 16;  // or so: results do not depend on it

// The nodes of the tree within the `n` elements from `first` on, a multiple of the largest of them.
template <class Tree, class Team, class Row>
DIFFSORT_HD void build_tree(Team& team, const Tree& tree, const Row& row, std::int64_t first,
                            std::int64_t n) {
  DIFFSORT_ROLLED
  for (std::int64_t size = Tree::kLeaf; size <= n; size *= 2) {
    team.for_each(n / size, [&](std::int64_t k) {
      tree.build(row, static_cast<std::int32_t>(first + size * k), size);
    });
  }
}

// Joins `count` <= 32 pairs from pair k on: each lane looks whether one needs a bridge, and all
// build those that do, one after another.
template <Regularization R, std::int32_t kShortestKept, class Row, class Lanes>
DIFFSORT_HD DIFFSORT_NOINLINE void join_pairs(const Lanes& lanes, const Row& row,
                                              const PartitionMemory<R, kShortestKept>& memory,
                                              std::int64_t width, std::int64_t k,
                                              std::int64_t count) {
  const Partition<R, Row, kShortestKept> partition(row, memory);
  std::uint32_t needed = lanes.ballot([&](int lane) {
    if (lane >= count || k + lane >= pairs(row.n, width)) return false;
    const Halves halves = halves_of_pair(row.n, width, k + lane);
    partition.tree.build(row, halves.first, 2 * width);
    return need_bridge(partition, halves);
  });
  for (; needed != 0; needed &= needed - 1) {
    const std::int64_t pair = k + lowest_bit(needed);
    build_bridge(lanes, partition, halves_of_pair(row.n, width, pair));
  }
}

// Joins what is pooled in halves of `width` elements until the `n` elements from `first` on are one
// part; `first` is a multiple of its length, width * 2^k.
template <Regularization R, std::int32_t kShortestKept, class Team, class Row>
DIFFSORT_HD void join_halves(Team& team, const Row& row,
                             const PartitionMemory<R, kShortestKept>& memory, std::int64_t first,
                             std::int64_t n, std::int64_t width) {
  for (; width < n; width *= 2) {
    const std::int64_t count = pairs(n, width), first_pair = first / (2 * width);
    const std::int64_t group = pairs_per_warp(count, kWarpsOfTeam);
    team.for_each_lanes((count + group - 1) / group, [&](const auto& lanes, std::int64_t g) {
      join_pairs(lanes, row, memory, width, first_pair + g * group, group);
    });
  }
}

}  // namespace diffsort
