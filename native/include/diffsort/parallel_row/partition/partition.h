// A partition of a row into blocks, and the sums of each block.
//
// Blocks of at least k elements keep their sums at start / k, where no other block of that kind can;
// those of shorter ones are summed up when asked for. A team that has a row in its own memory keeps
// those of all blocks but single elements, k = 2; long rows save memory, k = 5.
// Scratch: n / k sums, the bits of starts, and for long rows the tree of runs, from which joins of
// parts read the sums of any run: 3.8 bytes per element of a long row in l2, 7.4 in kl and log_kl.
#pragma once

#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/run_tree.h"
#include "diffsort/parallel_row/partition/sorted_row.h"
#include "diffsort/parallel_row/partition/start_bits.h"

namespace diffsort {

constexpr std::int32_t kKeptByTeam = 2, kKeptInLongRow = 5;

// One row's memory.
template <Regularization R, std::int32_t kShortestKept>
struct PartitionMemory {
  std::uint32_t* bits;   // StartBits::words(n)
  BlockSums<R>* blocks;  // kept_sums(n)
  BlockSums<R>* tree;    // of long rows: RunTree<R>::nodes(n)

  DIFFSORT_HD static std::int64_t kept_sums(std::int64_t n) { return n / kShortestKept; }
};

struct Block {
  std::int32_t start, end;

  DIFFSORT_HD std::int32_t size() const { return end - start; }
};

template <Regularization R, class Row, std::int32_t kShortestKept>
struct Partition {
  const Row& row;
  StartBits starts;
  RunTree<R> tree;
  BlockSums<R>* blocks;

  DIFFSORT_HD Partition(const Row& row, const PartitionMemory<R, kShortestKept>& memory)
      : row(row), starts(memory.bits, row.n), tree(memory.tree), blocks(memory.blocks) {}

  // In a part of the row that ends at `limit`.
  DIFFSORT_HD Block block_of(std::int32_t i, std::int32_t limit) const {
    return {starts.prev(i), starts.next(i + 1, limit)};
  }

  DIFFSORT_HD const BlockSums<R>& kept(Block block) const {
    return blocks[block.start / kShortestKept];
  }
  DIFFSORT_HD DIFFSORT_NOINLINE BlockSums<R> sums_of(Block block) const {
    return keeps(block) ? kept(block) : sums_of_run(block);
  }

  DIFFSORT_HD void keep(Block block, const BlockSums<R>& sums) const {
    if (keeps(block)) blocks[block.start / kShortestKept] = sums;
  }

  DIFFSORT_HD BlockSums<R> sums_of_run(Block run) const {
    return tree.sums(row, run.start, run.end);
  }

  // v(left) <= v(right), of runs with these sums.
  DIFFSORT_HD DIFFSORT_NOINLINE bool pools(Block left, const BlockSums<R>& left_sums, Block right,
                                           const BlockSums<R>& right_sums) const {
    return row.pools(left.start, left_sums, left.size(), right.start, right_sums, right.size());
  }

  // Whether a block's sums are kept; those of others are read off its elements.
  DIFFSORT_HD static bool keeps(Block block) { return block.size() >= kShortestKept; }
};

}  // namespace diffsort
