// The projection of short rows: a tile of rows per 32 threads, a row per thread.
//
//     load      w and then z, each followed by
//     sort      short_sort.h; not where a row of l2 ranks is one block
//     solve     pools the row's blocks, and puts its results where the operand was
//     store     the results, and then the block ids in the same place
//
// The sorted operands and the blocks lie in columns. Threads go through steps together, so what is
// done for a row is written in loops of as many rounds for every row of the tile, as nearly as the
// rows allow: pooling takes a block or merges two in a round, and never waits for another row.
//
// Cost: at most 2 n - 1 rounds of pooling. Memory of a row of ranks with n elements, in bytes: in
// float32 13 n for l2 and 17 n for kl and log_kl, in float64 21 n and 25 n; T and 1 more for each
// element of a sorted w; 12.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/block_result.h"
#include "diffsort/parallel_row/project_row.h"
#include "diffsort/parallel_row/short_sort.h"
#include "diffsort/parallel_row/team.h"

namespace diffsort {

// The i-th largest value of a row's operand; one without values is rho.
template <class T>
struct ShortOperand {
  Column<T> values;
  std::int64_t n;

  DIFFSORT_HD double operator()(std::int64_t i) const {
    return values ? static_cast<double>(values[i]) : count_to_double(n - i);
  }
};

// The blocks of a row, a bit of `starts` for each.
struct ShortBlocks {
  std::uint32_t starts = 0;  // none: the row has no value
  std::uint8_t finite_first = 0, finite_last = 0;
  bool has_nan = false;
};

// The end of the block before which, at `start`, another one starts.
DIFFSORT_HD inline Block short_block(std::uint32_t starts, int start, int n) {
  const std::uint32_t behind = starts >> start >> 1;
  return {start, behind == 0 ? n : start + 1 + lowest_bit(behind)};
}

// Sums of blocks of at least two elements, at half their start, where no other such block can be.
template <Regularization R, class Row>
struct ShortPooling {
  const Row& row;
  Column<BlockSums<R>> kept;

  // The starts of the blocks, as Pooling (isotonic.h) finds them.
  DIFFSORT_HD std::uint32_t run() const {
    const int n = static_cast<int>(row.n);
    std::uint32_t starts = 0;  // of the blocks before the current one
    Block block{0, 1};
    BlockSums<R> sums = row.singleton(0);
    DIFFSORT_ROLLED
    for (;;) {
      if (starts != 0 && absorbed_by_left(highest_bit(starts), block, sums)) {
        starts ^= std::uint32_t{1} << block.start;
        continue;
      }
      keep(block, sums);
      starts |= std::uint32_t{1} << block.start;
      if (block.end == n) return starts;
      block = {block.end, block.end + 1};
      sums = row.singleton(block.start);
    }
  }

  DIFFSORT_HD BlockSums<R> sums_of(Block block) const {
    return block.size() > 1 ? kept[block.start / 2] : row.singleton(block.start);
  }

 private:
  DIFFSORT_HD void keep(Block block, const BlockSums<R>& sums) const {
    if (block.size() > 1) kept[block.start / 2] = sums;
  }

  // Whether the block from `start` on takes in the one behind it, which is now both.
  DIFFSORT_HD bool absorbed_by_left(int start, Block& block, BlockSums<R>& sums) const {
    const Block left{start, block.start};
    BlockSums<R> left_sums = sums_of(left);
    const double z_left = row.z(start), z = row.z(block.start);
    const double w_left = row.w(start), w = row.w(block.start);
    const typename BlockSums<R>::Shift shift(row.units, z_left, z,
                                             w_left == w ? 0.0 : w_left - w);
    const bool pools =
        row.strength > 0.0
            ? BlockSums<R>::violates(left_sums, left.size(), sums, block.size(), shift)
            : z_left == z;
    if (!pools) return false;
    left_sums.absorb(sums, block.size(), shift);
    sums = left_sums;
    block.start = start;
    return true;
  }
};

// A tile's memory, or that of one of its rows.
template <class T, Regularization R>
struct ShortMemory {
  T* stage;  // a RowTile of an operand, of results, or of block ids
  Column<T> z, w;
  Column<std::uint8_t> z_index, w_index;
  Column<BlockSums<R>> sums;
  Column<ShortBlocks> blocks;

  DIFFSORT_HD ShortMemory(Arena& arena, std::int64_t n, bool has_z, bool has_w) {
    using Index = Column<std::uint8_t>;
    stage = arena.template take<T>(RowTile<T>::elements(n));
    if (has_z) z = Column<T>::take(arena, n);
    if (has_w) w = Column<T>::take(arena, n);
    if (has_z) z_index = Index::take(arena, n);
    if (has_w) w_index = Index::take(arena, n);
    sums = Column<BlockSums<R>>::take(arena, n / 2);
    blocks = Column<ShortBlocks>::take(arena, 1);
  }

  DIFFSORT_HD ShortMemory of_row(int r) const {
    ShortMemory row = *this;
    row.stage = nullptr;
    row.z = z.of_row(r);
    row.w = w.of_row(r);
    row.z_index = z_index.of_row(r);
    row.w_index = w_index.of_row(r);
    row.sums = sums.of_row(r);
    row.blocks = blocks.of_row(r);
    return row;
  }
};

// What an executor runs for tile k (see executor.cuh).
template <class T, Regularization R>
struct ProjectTiles {
  ProjectionRows<T> arrays;

  DIFFSORT_HD std::int64_t tiles() const { return tiles_of(arrays.rows); }

  DIFFSORT_HD std::size_t bytes() const {
    Arena arena;
    layout(arena);
    return arena.bytes();
  }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k, void* memory) const {
    Arena arena(memory);
    const std::int64_t first = k * kTileRows, left = arrays.rows - first;
    project(team, arrays.part(first, left < kTileRows ? left : kTileRows), layout(arena));
  }

 private:
  using Memory = ShortMemory<T, R>;

  DIFFSORT_HD Memory layout(Arena& arena) const {
    return {arena, arrays.n, static_cast<bool>(arrays.z), static_cast<bool>(arrays.w)};
  }

  template <class Team>
  DIFFSORT_HD static void project(Team& team, const ProjectionRows<T>& rows, const Memory& memory) {
    const TileShape shape(rows.rows, rows.n);
    const RowTile<T> stage(shape, memory.stage);
    const RowTile<std::int32_t> ids(shape, reinterpret_cast<std::int32_t*>(memory.stage));
    team.for_each(shape.rows, [&](std::int64_t r) { memory.blocks.of_row(int(r))[0] = {}; });
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) {
      const bool on_w = side == 0;
      const DenseRows<const T>& operand = on_w ? rows.w : rows.z;
      if (!operand) continue;
      stage.load(team, operand);
      team.for_each(shape.rows, [&](std::int64_t r) {
        const int i = static_cast<int>(r);
        sort_row(rows.row(r), on_w, stage.row(i), memory.of_row(i));
      });
    }
    team.for_each(shape.rows, [&](std::int64_t r) {
      const int i = static_cast<int>(r);
      solve_row(rows.row(r), stage.row(i), memory.of_row(i));
    });
    if (rows.result) stage.store(team, rows.result.data);
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) {
      const bool of_w = side == 0;
      const DenseRows<std::int32_t>& blocks = of_w ? rows.block_w : rows.block_z;
      if (!blocks) continue;
      team.for_each(shape.rows, [&](std::int64_t r) {
        const int i = static_cast<int>(r);
        write_ids(shape.n, of_w, ids.row(i), memory.of_row(i));
      });
      ids.store(team, blocks.data);
    }
  }

  DIFFSORT_HD static void sort_row(const ProjectionRow<T>& row, bool on_w, T* stage,
                                   const Memory& memory) {
    const double sign = on_w ? row.w_sign : row.z_sign;
    ShortBlocks& blocks = memory.blocks[0];
    SerialTeam thread;
    const auto value = [=](std::int64_t i) { return sign < 0.0 ? -stage[i] : stage[i]; };
    const auto write = [&](std::int64_t i, double rank) { stage[i] = row.signed_result(rank); };
    if (R == Regularization::l2 && !row.w &&
        rank_in_one_block(thread, row.n, row.strength, value, write)) {
      blocks = {1, 0, static_cast<std::uint8_t>(row.n), false};
      return;
    }
    const ShortSort<T> sort{stage, static_cast<int>(row.n), sign, on_w ? memory.w : memory.z,
                            on_w ? memory.w_index : memory.z_index};
    if (!sort.run()) blocks.has_nan = true;
  }

  DIFFSORT_HD static void solve_row(const ProjectionRow<T>& row, T* stage, const Memory& memory) {
    const int n = static_cast<int>(row.n);
    ShortBlocks& blocks = memory.blocks[0];
    if (blocks.starts != 0) return;  // solved before it was sorted
    const ShortOperand<T> z{memory.z, n}, w{memory.w, n};
    if (blocks.has_nan || !has_projection<R>(row.strength, w(0), w(n - 1))) {
      DIFFSORT_ROLLED
      for (int i = 0; i < n; ++i) stage[i] = std::numeric_limits<T>::quiet_NaN();
      return;
    }
    const FiniteRange finite = FiniteRange::of(z);
    const Units units(row.strength, finite.width(z), w(0) - w(n - 1));
    const SortedRow<R, ShortOperand<T>, ShortOperand<T>> sorted{n, row.strength, units, z, w};
    const ShortPooling<R, decltype(sorted)> pooling{sorted, memory.sums};
    const std::uint32_t starts = pooling.run();
    blocks = {starts, static_cast<std::uint8_t>(finite.first),
              static_cast<std::uint8_t>(finite.last), false};
    if (!row.result) return;
    Block block{0, 0};
    BlockSums<R> sums{};
    DIFFSORT_ROLLED
    for (int i = 0; i < n; ++i) {
      if (i == block.end) {
        block = short_block(starts, i, n);
        sums = pooling.sums_of(block);
      }
      const int to = memory.z_index ? memory.z_index[i] : i;
      stage[to] = row.signed_result(block_result(sorted, sums, block, i));
    }
  }

  DIFFSORT_HD static void write_ids(int n, bool of_w, std::int32_t* ids, const Memory& memory) {
    const ShortBlocks& blocks = memory.blocks[0];
    // The ids of a single block are all the same, and its row may not have been sorted.
    const bool in_order = (blocks.starts & (blocks.starts - 1)) == 0;
    const Column<std::uint8_t>& index = of_w ? memory.w_index : memory.z_index;
    int start = 0;
    DIFFSORT_ROLLED
    for (int i = 0; i < n; ++i) {
      if ((blocks.starts >> i & 1) != 0) start = i;
      const bool infinite = !of_w && (i < blocks.finite_first || blocks.finite_last <= i);
      const std::int32_t id = infinite ? infinite_block(start) : start;
      ids[in_order || !index ? i : index[i]] = blocks.starts == 0 ? kNanRow : id;
    }
  }
};

}  // namespace diffsort
