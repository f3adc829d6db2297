// The partition of a row into blocks by a team: leaves of 8 elements, then joins of halves.
//
// A row's steps, each of independent calls; rows may be pooled one by one, or many step by step:
//     fill        one thread fills a word of the upper levels of start bits
//     pool_leaf   one thread pools a leaf sequentially
//     join_pair   one thread joins two halves of 8, 16 or 32 elements
//     join_pairs  a warp joins a few pairs of longer halves
// Cost: O(n log n) at worst, O(n) as a rule; 2 + log2(n / 8) steps.
// Scratch: see partition.h.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/bridge.h"
#include "diffsort/parallel_row/partition.h"

namespace diffsort {

constexpr std::int32_t kLeaf = 8;
constexpr std::int32_t kSeriallyJoined = 32;  // halves of at most so many elements

DIFFSORT_HD inline std::int64_t leaves(std::int64_t n) {
  return (n + kLeaf - 1) / kLeaf;
}

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

// Leaf k < leaves(n): the blocks of its elements, and its node of the tree.
template <Regularization R, class Row>
DIFFSORT_HD DIFFSORT_NOINLINE void pool_leaf(const Row& row, const PartitionMemory<R>& memory,
                                             std::int64_t k) {
  const Partition<R, Row> partition(row, memory);
  const auto first = static_cast<std::int32_t>(kLeaf * k);
  const auto last =
      static_cast<std::int32_t>(row.n - first < kLeaf ? row.n : std::int64_t{first} + kLeaf);
  std::uint32_t starts = 0;  // of the blocks before the current one
  Block block{first, first + 1};
  auto sums = row.singleton(first);
  for (std::int32_t i = first + 1; i < last; ++i) {
    const Block next{i, i + 1};
    const auto next_sums = row.singleton(i);
    if (!partition.pools(block, sums, next, next_sums)) {
      partition.keep(block, sums);
      starts |= std::uint32_t{1} << (block.start - first);
      block = next;
      sums = next_sums;
      continue;
    }
    sums.absorb(next_sums, 1, row.shift(block.start, i));
    block.end = i + 1;
    while (starts != 0) {
      const Block left{first + highest_bit(starts), block.start};
      auto left_sums = partition.sums_of(left);
      if (!partition.pools(left, left_sums, block, sums)) break;
      left_sums.absorb(sums, block.size(), row.shift(left.start, block.start));
      sums = left_sums;
      block.start = left.start;
      starts ^= std::uint32_t{1} << (block.start - first);
    }
  }
  partition.keep(block, sums);
  partition.starts.set(static_cast<std::int32_t>(k),
                       starts | std::uint32_t{1} << (block.start - first));
  partition.tree.build(row, first, kLeaf);
}

// Joins pair k < pairs(n, width) of halves of `width` elements, by one thread.
template <Regularization R, class Row>
DIFFSORT_HD DIFFSORT_NOINLINE void join_pair(const Row& row, const PartitionMemory<R>& memory,
                                             std::int64_t width, std::int64_t k) {
  const Partition<R, Row> partition(row, memory);
  const Halves halves = halves_of_pair(row.n, width, k);
  partition.tree.build(row, halves.first, 2 * width);
  if (need_bridge(partition, halves)) build_bridge_serially(partition, halves);
}

// Joins `count` <= 32 pairs from pair k on: each lane looks whether one needs a bridge, and all
// build those that do, one after another.
template <Regularization R, class Row, class Lanes>
DIFFSORT_HD DIFFSORT_NOINLINE void join_pairs(const Lanes& lanes, const Row& row,
                                              const PartitionMemory<R>& memory, std::int64_t width,
                                              std::int64_t k, std::int64_t count) {
  const Partition<R, Row> partition(row, memory);
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
// part; `first` is a multiple of its length, 8 * 2^k.
template <Regularization R, class Team, class Row>
DIFFSORT_HD void join_halves(Team& team, const Row& row, const PartitionMemory<R>& memory,
                             std::int64_t first, std::int64_t n, std::int64_t width) {
  for (; width < n; width *= 2) {
    const std::int64_t count = pairs(n, width), first_pair = first / (2 * width);
    if (width <= kSeriallyJoined) {
      team.for_each(count, [&](std::int64_t k) { join_pair(row, memory, width, first_pair + k); });
      continue;
    }
    const std::int64_t group = pairs_per_warp(count, kWarpsOfTeam);
    team.for_each_lanes((count + group - 1) / group, [&](const auto& lanes, std::int64_t g) {
      join_pairs(lanes, row, memory, width, first_pair + g * group, group);
    });
  }
}

// Pools the leaves among the `n` elements from `first` on.
template <Regularization R, class Team, class Row>
DIFFSORT_HD void pool_leaves(Team& team, const Row& row, const PartitionMemory<R>& memory,
                             std::int64_t first, std::int64_t n) {
  team.for_each(leaves(n), [&](std::int64_t k) { pool_leaf(row, memory, first / kLeaf + k); });
}

// Pools one part of a row, `length` = 8 * 2^k elements from the `part`-th multiple of it on. Words of
// start bits are filled before; the parts have to be joined after.
template <Regularization R, class Team, class Row>
DIFFSORT_HD void pool_part(Team& team, const Row& row, const PartitionMemory<R>& memory,
                           std::int64_t part, std::int64_t length) {
  const std::int64_t first = part * length;
  const std::int64_t n = row.n - first < length ? row.n - first : length;
  pool_leaves(team, row, memory, first, n);
  join_halves(team, row, memory, first, n, kLeaf);
}

template <Regularization R, class Team, class Row>
DIFFSORT_HD void pool(Team& team, const Row& row, const PartitionMemory<R>& memory) {
  const StartBits starts(memory.bits, row.n);
  team.for_each(StartBits::upper_words(row.n), [&](std::int64_t k) { starts.fill(k); });
  std::int64_t length = kLeaf;
  while (length < row.n) length *= 2;
  pool_part(team, row, memory, 0, length);
}

}  // namespace diffsort
