// The projection of short rows: a tile of rows per 32 threads, a row per thread.
//
//     load      w and then z, each followed by
//     sort      short_rows/sort.h; not where a row of ranks is one block
//     solve     pools the row's blocks, and puts its results where the operand was
//     store     the results, and then the block ids in the same place, unless all of the tile are 0
//
// The sorted operands and the blocks lie in columns. Threads go through the steps of a tile together, and
// through their loops as well: what decides is how many rounds the row takes that takes the most.
//
// Cost: at most 3 n rounds of pooling. Memory of a row of ranks with n elements, in bytes: in
// float32 13 n for l2 and 17 n for kl and log_kl, in float64 21 n and 25 n; T and 1 more for each
// element of a sorted w; 12.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/block_result.h"
#include "diffsort/parallel_row/short_rows/ids.h"
#include "diffsort/parallel_row/short_rows/sort.h"
#include "diffsort/parallel_row/team/team.h"
#include "diffsort/parallel_row/team_rows/project.h"

namespace diffsort {

// The i-th largest value of a row's operand; one without values is rho.
template <class T>
struct ShortOperand {
  Column<T> values;
  int n;

  // By how much the one before the i-th lies above it.
  DIFFSORT_HD double step_to(int i) const { return values ? difference(i - 1, i) : 1.0; }
  // By how much the i-th lies above the j-th, i < j.
  DIFFSORT_HD double difference(int i, int j) const {
    if (!values) return count_to_double(j - i);
    const double left = (*this)(i), right = (*this)(j);
    return left == right ? 0.0 : left - right;
  }
  DIFFSORT_HD double operator()(std::int64_t i) const {
    return values ? static_cast<double>(values[i]) : count_to_double(n - static_cast<int>(i));
  }
};

// The blocks of a row, a bit of `starts` for each.
struct ShortBlocks {
  std::uint32_t starts = 0;  // none: the row has no value
  std::uint8_t finite_first = 0, finite_last = 0;
  bool has_nan = false;

  DIFFSORT_HD bool all_finite(int n) const { return finite_first == 0 && finite_last == n; }
  DIFFSORT_HD bool all_ids_are_0(int n) const { return starts == 1 && all_finite(n); }
};

// The block that starts at `start`.
DIFFSORT_HD inline Block short_block(std::uint32_t starts, int start, int n) {
  const std::uint32_t behind = starts >> start >> 1;
  return {start, behind == 0 ? n : start + 1 + lowest_bit(behind)};
}

// Pools a row; its blocks' starts. The sums of blocks of at least two elements are left at half their
// start, where no other such block can be.
//
// A suspect is a start whose block may pool with the one before it: after a join the starts on
// either side. A round takes up one of them, the first, and there are as many rounds as the busiest
// row of the tile needs: fewer than elements where most of them pool with none.
template <Regularization R, class Row>
class ShortPooling {
 public:
  DIFFSORT_HD ShortPooling(const Row& row, const Column<BlockSums<R>>& kept)
      : row_(row), kept_(kept) {}

  DIFFSORT_HD std::uint32_t run() const {
    const int n = static_cast<int>(row_.n);
    std::uint32_t starts = all_starts(), suspects = first_suspects();
    DIFFSORT_ROLLED
    while (suspects != 0) {
      const int centre = lowest_bit(suspects);
      const std::uint32_t bit = std::uint32_t{1} << centre;
      const Block right = short_block(starts, centre, n);
      const Block left{highest_bit(starts & (bit - 1)), centre};
      BlockSums<R> sums = sums_of(left);
      suspects ^= bit;
      if (absorbs(left, sums, right, sums_of(right))) {
        kept_[left.start / 2] = sums;
        starts ^= bit;
        if (left.start > 0) suspects |= std::uint32_t{1} << left.start;
        if (right.end < n) suspects |= std::uint32_t{1} << right.end;
      }
    }
    return starts;
  }

 private:
  DIFFSORT_HD std::uint32_t all_starts() const { return ~std::uint32_t{0} >> (kShortRow - row_.n); }

  // As a rule the elements that pool with the one before them.
  DIFFSORT_HD std::uint32_t first_suspects() const {
    std::uint32_t suspects = 0;
    double z_left = row_.z(0);
    DIFFSORT_UNROLLED_BY(2)
    for (int i = 1; i < static_cast<int>(row_.n); ++i) {
      const double z = row_.z(i);
      if (!row_.surely_apart(z_left - z, row_.w.step_to(i), row_.w(i))) {
        suspects |= std::uint32_t{1} << i;
      }
      z_left = z;
    }
    return suspects;
  }

  DIFFSORT_HD BlockSums<R> sums_of(Block block) const {
    return block.size() > 1 ? kept_[block.start / 2] : row_.singleton(block.start);
  }

  // Whether two neighbours pool; if so, the left one's sums become those of both.
  DIFFSORT_HD bool absorbs(Block left, BlockSums<R>& left_sums, Block right,
                           const BlockSums<R>& right_sums) const {
    const double z_left = row_.z(left.start), z_right = row_.z(right.start);
    const typename BlockSums<R>::Shift shift(row_.units, z_left, z_right,
                                             row_.w.difference(left.start, right.start));
    const bool pools = row_.strength > 0.0 ? BlockSums<R>::violates(left_sums, left.size(),
                                                                    right_sums, right.size(), shift)
                                           : z_left == z_right;
    if (pools) left_sums.absorb(right_sums, right.size(), shift);
    return pools;
  }

  const Row& row_;
  const Column<BlockSums<R>>& kept_;
};

template <class T, Regularization R>
struct ShortLayout {
  Piece<T> stage;  // of an operand, of results, or of block ids
  Piece<T> z, w;
  Piece<std::uint8_t> z_index, w_index;
  Piece<BlockSums<R>> sums;
  Piece<ShortBlocks> blocks;
  std::size_t bytes;

  ShortLayout(std::int64_t n, bool has_z, bool has_w) {
    TileLayout tile(n);
    stage = tile.rows<T>();
    z = tile.columns<T>(n, has_z);
    w = tile.columns<T>(n, has_w);
    z_index = tile.columns<std::uint8_t>(n, has_z);
    w_index = tile.columns<std::uint8_t>(n, has_w);
    sums = tile.columns<BlockSums<R>>(n / 2);
    blocks = tile.columns<ShortBlocks>(1);
    bytes = tile.bytes();
  }
};

// What is in memory for row r of a tile, but for the stage.
template <class T, Regularization R>
struct ShortMemory {
  Column<T> z, w;
  Column<std::uint8_t> z_index, w_index;
  Column<BlockSums<R>> sums;
  Column<ShortBlocks> blocks;

  DIFFSORT_HD ShortMemory(const ShortLayout<T, R>& layout, char* memory, int r)
      : z(layout.z.column(memory).of_row(r)),
        w(layout.w.column(memory).of_row(r)),
        z_index(layout.z_index.column(memory).of_row(r)),
        w_index(layout.w_index.column(memory).of_row(r)),
        sums(layout.sums.column(memory).of_row(r)),
        blocks(layout.blocks.column(memory).of_row(r)) {}
};

// What an executor runs for tile k (see executor.cuh).
template <class T, Regularization R>
class ProjectTiles {
 public:
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = ProjectTiles<T, Other>;

  explicit ProjectTiles(const ProjectionRows<T>& arrays)
      : arrays(arrays),
        shape_(kTileRows, arrays.n),
        layout_(arrays.n, bool(arrays.z), bool(arrays.w)) {}

  ProjectionRows<T> arrays;

  std::int64_t length() const { return arrays.n; }
  std::int64_t tiles() const { return tiles_of(arrays.rows); }
  std::size_t bytes() const { return layout_.bytes; }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k, char* memory) const {
    const std::int64_t first = k * kTileRows, left = arrays.rows - first;
    const TileShape shape = shape_.with_rows(left < kTileRows ? left : kTileRows);
    const RowTile<T> stage(shape, layout_.stage.in(memory));
    const auto of_row = [&](int r) { return Memory(layout_, memory, r); };
    team.for_each(shape.rows, [&](int r) { of_row(r).blocks[0] = {}; });
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) {
      const bool on_w = side == 0;
      DenseRows<const T> operand = arrays.z.from(first);
      if (on_w) operand = arrays.w.from(first);
      if (!operand) continue;
      stage.load(team, operand);
      team.for_each(shape.rows, [&](int r) {
        sort_row(on_w, arrays.strength.row(first + r), stage.row(r), of_row(r));
      });
    }
    team.for_each(shape.rows, [&](int r) {
      solve_row(arrays.strength.row(first + r), stage.row(r), of_row(r));
    });
    if (arrays.result) stage.store(team, arrays.result.row(first));
    const RowTile<std::int32_t> ids(shape, reinterpret_cast<std::int32_t*>(stage.row(0)));
    DIFFSORT_ROLLED
    for (int side = 0; side < 2; ++side) {
      const bool of_w = side == 0;
      std::int32_t* blocks = arrays.block_z.row(first);
      if (of_w) blocks = arrays.block_w.row(first);
      if (blocks == nullptr) continue;
      const int n = shape.n;
      if (!team.any(shape.rows, [&](int r) { return !of_row(r).blocks[0].all_ids_are_0(n); })) {
        ids.store_constant(team, blocks, 0);
        continue;
      }
      team.for_each(shape.rows, [&](int r) { write_ids(of_w, ids.row(r), of_row(r)); });
      ids.store(team, blocks);
    }
  }

 private:
  using Memory = ShortMemory<T, R>;

  // Whether a row of ranks is one block, which is then written.
  DIFFSORT_HD bool settle_row(double strength, T* stage, const Memory& memory) const {
    const SerialTeam thread;
    const int n = static_cast<int>(arrays.n);
    const T sign = static_cast<T>(arrays.z_sign);
    const auto values = read_values(thread, n, [=](int i) { return sign * stage[i]; });
    const auto write = [&](int i, double rank) {
      stage[i] = signed_result<T>(arrays.w_sign, rank);
    };
    if (!rank_in_one_block(R, values, spread_of(values), strength, write)) return false;
    memory.blocks[0] = {1, 0, static_cast<std::uint8_t>(n), false};
    return true;
  }

  DIFFSORT_HD void sort_row(bool on_w, double strength, T* stage, const Memory& memory) const {
    const double sign = on_w ? arrays.w_sign : arrays.z_sign;
    const int n = static_cast<int>(arrays.n);
    if constexpr (R != Regularization::log_kl) {
      if (!arrays.w && settle_row(strength, stage, memory)) return;
    }
    const bool comparable =
        sort_short_row(static_cast<const T*>(stage), n, static_cast<T>(sign),
                       on_w ? memory.w : memory.z, on_w ? memory.w_index : memory.z_index);
    if (!comparable) memory.blocks[0].has_nan = true;
  }

  DIFFSORT_HD void solve_row(double strength, T* stage, const Memory& memory) const {
    const int n = static_cast<int>(arrays.n);
    const ShortBlocks before = memory.blocks[0];
    if (before.starts != 0) return;  // solved before it was sorted
    const ShortOperand<T> z{memory.z, n}, w{memory.w, n};
    if (before.has_nan || !has_projection<R>(strength, w(0), w(n - 1))) {
      DIFFSORT_ROLLED
      for (int i = 0; i < n; ++i) stage[i] = std::numeric_limits<T>::quiet_NaN();
      return;
    }
    const FiniteRange finite = FiniteRange::of(z);
    const Units units(strength, finite.width(z), w(0) - w(n - 1));
    const SortedRow<R, ShortOperand<T>, ShortOperand<T>> row{n, strength, units, z, w};
    const std::uint32_t starts = ShortPooling<R, decltype(row)>(row, memory.sums).run();
    memory.blocks[0] = {starts, static_cast<std::uint8_t>(finite.first),
                        static_cast<std::uint8_t>(finite.last), false};
    if (!arrays.result) return;
    // Alone in its block, an element of w comes through unchanged.
    const std::uint32_t alone = ShortIds::alone(starts, n);
    SharedResult<R> shared;
    DIFFSORT_ROLLED
    for (int i = 0; i < n; ++i) {
      const std::uint32_t bit = std::uint32_t{1} << i;
      if ((starts & ~alone & bit) != 0) {
        shared = SharedResult<R>(row, memory.sums[i / 2], short_block(starts, i, n));
      }
      const double value = (alone & bit) != 0 ? row.w(i) : shared(row, i);
      stage[memory.z_index ? memory.z_index[i] : i] = signed_result<T>(arrays.w_sign, value);
    }
  }

  DIFFSORT_HD void write_ids(bool of_w, std::int32_t* ids, const Memory& memory) const {
    const ShortBlocks blocks = memory.blocks[0];
    const int n = static_cast<int>(arrays.n);
    const bool has_infinite = !of_w && blocks.starts != 0 && !blocks.all_finite(n);
    const Column<std::uint8_t> index = of_w ? memory.w_index : memory.z_index;
    const auto id_of = [&](int i) -> std::int32_t& { return ids[index ? index[i] : i]; };
    if ((blocks.starts & (blocks.starts - 1)) == 0 && !has_infinite) {
      // All are the same, and the row may not have been sorted.
      const std::int32_t id = blocks.starts == 0 ? kNanRow : 0;
      DIFFSORT_ROLLED
      for (int i = 0; i < n; ++i) ids[i] = id;
      return;
    }
    int start = 0;
    std::uint32_t left = blocks.starts;
    DIFFSORT_UNROLLED_BY(2)
    for (int i = 0; i < n; ++i) {
      if ((left & 1) != 0) start = i;
      left >>= 1;
      id_of(i) = start;
    }
    if (!has_infinite) return;
    DIFFSORT_ROLLED
    for (int i = 0; i < n; ++i) {
      if (i < blocks.finite_first || blocks.finite_last <= i) id_of(i) = infinite_block(id_of(i));
    }
  }

  TileShape shape_;
  ShortLayout<T, R> layout_;
};

}  // namespace diffsort
