// The projection of rows that no team holds: the steps of team_rows/project.h, each a launch over all
// rows of a chunk, by a team for every part of a row.
//
//     ranks     rows that are one block are written, and settled (one_block_ranks.h); all that follows
//               leaves settled rows alone
//     sort      long_rows/sort.h, which makes keys of the values as it goes
//     describe  each row: has it a value, and in what units do its blocks compare
//     pool      tiles (hull.h, pool.h), and the joins of tiles, 32 of them at a time (join.h)
//     write     results and block ids to where their elements came from
//
// Launches: 2 for ranks of l2, 3 of kl and 1 otherwise; 2 for each byte of a key; 3 + log_32(n / 4096).
// Workspace per element: a place for each operand that is sorted; beside it first a sort's keys, twice,
// and then the pooling's, 3.8 bytes or 7.4, and the keys of float32 where one operand is sorted. The
// second place that a sort needs lies in an output, each row's in the row's own: rows that are sorted
// are written last, but settled ones are written already.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/long_rows/join.h"
#include "diffsort/parallel_row/long_rows/one_block_ranks.h"
#include "diffsort/parallel_row/long_rows/operand.h"
#include "diffsort/parallel_row/long_rows/sort.h"
#include "diffsort/parallel_row/partition/block_result.h"
#include "diffsort/parallel_row/partition/hull.h"
#include "diffsort/parallel_row/partition/nearest_starts.h"
#include "diffsort/parallel_row/partition/one_block.h"
#include "diffsort/parallel_row/partition/pool.h"
#include "diffsort/parallel_row/partition/row_state.h"
#include "diffsort/parallel_row/rows/float_rows.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/arena.h"

namespace diffsort {

// Tiles whose joins a team does by itself.
constexpr std::int64_t kJoinedTiles = 32;
static_assert((kJoinedTiles & (kJoinedTiles - 1)) == 0, "a run is to be halves of halves");

constexpr int kKeyDigitBits = 8;

template <Regularization R>
using LongRowState = RowState<LongOperand, R, kKeptInLongRow>;

// The workspace for chunks of `rows` rows. What serves the spreads and weights, the sorts and the pooling, one
// after another, lies in the same place, behind what lasts.
template <class T, Regularization R>
struct LongMemory {
  RowParts parts;
  std::uint32_t* settled;
  LongRowState<R>* states;
  std::uint32_t *z_places = nullptr, *w_places = nullptr;
  bool keeps_keys;
  std::uint32_t *keys = nullptr, *spare_keys = nullptr, *counts = nullptr;
  Spread<T>* spreads;
  double* weights;
  PartitionMemory<R, kKeptInLongRow> partitions;

  LongMemory(Arena& arena, std::int64_t rows, std::int64_t n, bool has_z, bool has_w)
      : parts(rows, n), keeps_keys(std::is_same_v<T, float> && has_z != has_w) {
    settled = arena.template take<std::uint32_t>(rows);
    states = arena.template take<LongRowState<R>>(rows);
    if (has_z) z_places = arena.template take<std::uint32_t>(rows * n);
    if (has_w) w_places = arena.template take<std::uint32_t>(rows * n);
    if (keeps_keys) keys = arena.template take<std::uint32_t>(rows * n);
    const std::size_t shared = arena.mark();
    spreads = arena.template take<Spread<T>>(rows * parts.count);
    weights = arena.template take<double>(rows * parts.count);
    arena.rewind(shared);
    if (has_z || has_w) {
      if (!keeps_keys) keys = arena.template take<std::uint32_t>(rows * n);
      spare_keys = arena.template take<std::uint32_t>(rows * n);
      counts = arena.template take<std::uint32_t>(digit_counts(rows, parts, kKeyDigitBits));
    }
    arena.rewind(shared);
    partitions.blocks =
        arena.template take<BlockSums<R>>(rows * PartitionMemory<R, kKeptInLongRow>::kept_sums(n));
    partitions.tree = arena.template take<BlockSums<R>>(rows * RunTree<R>::nodes(n));
    partitions.bits = arena.template take<std::uint32_t>(rows * StartBits::words(n));
  }

  // As it is when it is sorted, into these places.
  LongOperands operand(const DenseRows<const T>& values, double sign, std::uint32_t* places) const {
    return {{values.data, values.stride, std::is_same_v<T, float>},
            sign,
            parts.n,
            values && keeps_keys ? keys : nullptr,
            places};
  }
};

// A chunk of rows that are sorted, all its memory, and how rows lie in it. Steps get it by value. The
// type of the arrays is looked up, so that there is one kernel of each step for all types.
template <Regularization R>
struct LongRows {
  std::int64_t n;
  bool is_float32;
  RowParts parts;
  const std::uint32_t* settled;  // of each row: is it written already?
  LongOperands z, w;
  LongRowState<R>* states;
  PartitionMemory<R, kKeptInLongRow> partitions;  // of all rows, one after another
  DensePerRow strength;
  double w_sign;
  FloatOutput result;
  std::int64_t result_stride;
  DenseRows<std::int32_t> block_z, block_w;

  template <class T>
  LongRows(const ProjectionRows<T>& arrays, const LongMemory<T, R>& memory, const LongOperands& z,
           const LongOperands& w)
      : n(arrays.n),
        is_float32(std::is_same_v<T, float>),
        parts(memory.parts),
        settled(memory.settled),
        z(z),
        w(w),
        states(memory.states),
        partitions(memory.partitions),
        strength(arrays.strength),
        w_sign(arrays.w_sign),
        result{arrays.result.data, is_float32},
        result_stride(arrays.result.stride),
        block_z(arrays.block_z),
        block_w(arrays.block_w) {}

  DIFFSORT_HD PartitionMemory<R, kKeptInLongRow> partition(std::int64_t r) const {
    return {partitions.bits + r * StartBits::words(n),
            partitions.blocks + r * PartitionMemory<R, kKeptInLongRow>::kept_sums(n),
            partitions.tree + r * RunTree<R>::nodes(n)};
  }
};

struct SettleNone {
  std::uint32_t* settled;

  DIFFSORT_HD void operator()(std::int64_t r) const { settled[r] = 0; }
};

// By a team for every row.
template <Regularization R>
struct DescribeRow {
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = DescribeRow<Other>;

  struct Shared {};

  LongRows<R> rows;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t r) const {
    if (rows.settled[r] != 0) return;
    const PartitionMemory<R, kKeptInLongRow> memory = rows.partition(r);
    fill_upper_levels(team, StartBits(memory.bits, rows.n), rows.n);
    team.for_each(1, [&](std::int64_t) {
      rows.states[r] = {rows.strength.row(r), LongOperand(rows.z, r), LongOperand(rows.w, r),
                        memory};
    });
  }
};

// The k-th of the runs of `length` elements that rows are divided into.
struct RunOfRow {
  std::int64_t row, first;

  DIFFSORT_HD RunOfRow(std::int64_t n, std::int64_t length, std::int64_t k) {
    const auto per_row = static_cast<std::uint32_t>((n + length - 1) / length);
    row = static_cast<std::uint32_t>(k) / per_row;
    first = (k - row * per_row) * length;
  }
};

// Makes a part of every run of `length` elements: pools tiles, and joins parts of `width` elements.
template <Regularization R>
struct PoolRuns {
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = PoolRuns<Other>;

  struct Shared {
    static constexpr std::int64_t kHalf = kTile / 2;

    struct Pooling {
      std::uint32_t marks[kTile / 32], changed[kTile / 32], counts[3];
      PoolMemory::Offset ends[kHalf], begins[kHalf], seeds[2][kHalf], long_blocks[kTile / 16];
    };
    struct Hulls {
      std::int64_t y[kTile + 1];
      std::uint32_t upper[kTile / 1024], suspects[kTile / 32];
    };

    std::uint32_t bits[kTile / 32];
    HullPoints<R> points;
    union {
      Pooling pooling;
      Hulls hulls;
    };

    DIFFSORT_HD PoolMemory pool_memory() {
      Pooling& p = pooling;
      return {bits,       p.marks,       p.changed, p.ends,       p.begins,    p.seeds[0],
              p.seeds[1], p.long_blocks, p.counts,  p.counts + 1, p.counts + 2};
    }
    DIFFSORT_HD HullMemory hull_memory() {
      return {hulls.y, nullptr, bits, hulls.upper, hulls.suspects};
    }
  };

  LongRows<R> rows;
  std::int64_t length, width;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared& shared, std::int64_t k) const {
    const RunOfRow run(rows.n, length, k);
    if (rows.settled[run.row] != 0) return;
    const LongRowState<R>& state = rows.states[run.row];
    if (!state.has_value) return;
    const std::int64_t left = rows.n - run.first, size = left < length ? left : length;
    if (length > kTile) {
      return join_halves(team, state.row, state.memory, run.first, size, width);
    }
    const bool has_hull =
        rows.is_float32 && has_hull_of<R>(static_cast<bool>(rows.z), static_cast<bool>(rows.w));
    if (!has_hull || !pool_by_hull(team, shared, state, run.first, size)) {
      pool_part(team, state.row, state.memory, shared.pool_memory(), run.first, size);
    }
    build_tree(team, state.partition().tree, state.row, run.first, size);
  }

 private:
  template <class Team>
  DIFFSORT_HD static bool pool_by_hull(Team& team, Shared& shared, const LongRowState<R>& state,
                                       std::int64_t first, std::int64_t n) {
    if constexpr (R == Regularization::log_kl) {
      return false;  // two sums an element are more than a block has static shared memory for
    } else {
      const auto& row = state.row;
      const HullPoints<R>& points = shared.points;
      team.for_each(1, [&](std::int64_t) { shared.points = HullPoints<R>(row, first, n); });
      if (!points.fits()) return false;
      const Hull hull(R, shared.hull_memory(), n, row.n - first);
      hull.run(
          team, [&](std::int32_t i) { return points.y(row, i); },
          [&](std::int32_t i) { return points.x(row, i); });
      publish_part(team, StartBits(state.memory.bits, row.n), shared.bits, first, n);
      const auto partition = state.partition();
      team.for_each(n, [&](std::int64_t i) {
        const Block block = hull.block_from(static_cast<std::int32_t>(i));
        if (!partition.keeps(block)) return;
        const auto start = static_cast<std::int32_t>(first);
        partition.keep({start + block.start, start + block.end},
                       points.block_sums(hull.sums_of(block.start), hull.sums(block)));
      });
      return true;
    }
  }
};

template <Regularization R>
struct WritePart {
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = WritePart<Other>;

  struct Shared {
    std::int32_t before[kTile / 32], behind[kTile / 32];
  };

  LongRows<R> rows;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared& shared, std::int64_t k) const {
    const Part part(rows.parts, k);
    if (rows.settled[part.row] != 0) return;
    const Outputs out{rows.result.from(part.row * rows.result_stride), rows.block_z.row(part.row),
                      rows.block_w.row(part.row)};
    const LongRowState<R>& state = rows.states[part.row];
    if (!state.has_value) {
      return team.for_each(part.size(), [&](std::int64_t i) { out.write_nan(part.first + i); });
    }
    const auto partition = state.partition();
    const std::int32_t n = static_cast<std::int32_t>(rows.n);
    DIFFSORT_ROLLED
    for (std::int64_t tile = 0; tile < part.size(); tile += kTile) {
      const std::int64_t left = part.size() - tile, size = left < kTile ? left : kTile;
      const auto first = static_cast<std::int32_t>(part.first + tile);
      const NearestStarts nearest{shared.before, shared.behind, state.memory.bits, first,
                                  first + static_cast<std::int32_t>(size)};
      nearest.find(
          team, n, [&](std::int32_t b) { return partition.starts.prev(b - 1); },
          [&](std::int32_t b) { return partition.starts.next(b, n); });
      team.for_each(size, [&](std::int64_t k) {
        const std::int32_t i = first + static_cast<std::int32_t>(k);
        write(out, state, partition, nearest.block_of(i), part.row, i);
      });
    }
  }

 private:
  // Of one row.
  struct Outputs {
    FloatOutput result;
    std::int32_t *block_z, *block_w;

    DIFFSORT_HD void write_nan(std::int64_t i) const {
      if (result) result.write(i, std::numeric_limits<double>::quiet_NaN());
      if (block_z) block_z[i] = kNanRow;
      if (block_w) block_w[i] = kNanRow;
    }
  };

  template <class State, class Partition>
  DIFFSORT_HD void write(const Outputs& out, const State& state, const Partition& partition,
                         Block block, std::int64_t r, std::int32_t i) const {
    const std::int64_t column = rows.z.column(r, i);
    if (out.result) {
      const double value = block_result(state.row, partition.sums_of(block), block, i);
      out.result.write(column, signed_result<double>(rows.w_sign, value));
    }
    if (out.block_z) {
      const bool finite = state.finite_z.contains(i);
      out.block_z[column] = finite ? block.start : infinite_block(block.start);
    }
    if (out.block_w) out.block_w[rows.w.column(r, i)] = block.start;
  }
};

// Room for a place of every element, in an output that is wanted. Settled rows are written before
// others are sorted, so a row lends nothing but its own output, of at least 4 bytes an element.
template <class T>
DenseRows<std::uint32_t> spare_places(const ProjectionRows<T>& arrays) {
  const DenseRows<std::int32_t> blocks = arrays.block_z ? arrays.block_z : arrays.block_w;
  if (blocks) return {reinterpret_cast<std::uint32_t*>(blocks.data), blocks.stride};
  constexpr std::int64_t kPlaces = sizeof(T) / sizeof(std::uint32_t);  // in an element
  return {reinterpret_cast<std::uint32_t*>(arrays.result.data), kPlaces * arrays.result.stride};
}

template <class Executor, class T, Regularization R>
void settle_rows(Executor& executor, const ProjectionRows<T>& arrays,
                 const LongMemory<T, R>& memory) {
  if (R != Regularization::log_kl && arrays.z && !arrays.w) {
    return settle_one_block_ranks(
        executor, PartsOfRanks<T>{R, arrays, memory.parts, memory.spreads, memory.weights},
        memory.settled);
  }
  executor.for_each("settle_none", arrays.rows, SettleNone{memory.settled});
}

template <class Executor, class T, Regularization R>
void sort_operand(Executor& executor, const ProjectionRows<T>& arrays,
                  const LongMemory<T, R>& memory, const LongOperands& x) {
  if (!x) return;
  const DenseRows<std::uint32_t> places = spare_places(arrays);
  const KeyedPlaces out{memory.keys, x.places, x.n};
  const KeyedPlaces spare{memory.spare_keys, places.data, places.stride};
  const auto sort_by = [&](const auto& source) {
    sort_rows<kKeyDigitBits>(executor, arrays.rows, memory.parts, memory.settled, source, 32, out,
                             spare, memory.counts);
  };
  if constexpr (std::is_same_v<T, float>) {
    sort_by(WholeKeys{x});
  } else {
    // The first of an even number of digits goes to the spare: the places that the low halves leave
    // are there while high ones are read by them.
    static_assert(32 / kKeyDigitBits % 2 == 0);
    sort_by(HalfKeys{x, false});
    sort_by(HalfKeys{x, true});
  }
}

template <class Executor, Regularization R>
void pool_rows(Executor& executor, std::int64_t count, const LongRows<R>& rows) {
  std::int64_t width = 0;
  for (std::int64_t length = kTile;; length *= kJoinedTiles) {
    const std::int64_t runs = (rows.n + length - 1) / length;
    executor.for_each_team("pool_runs", count * runs, PoolRuns<R>{rows, length, width});
    if (runs == 1) return;
    width = length;
  }
}

// All rows of `arrays` at once. An output is wanted.
template <Regularization R, class Executor, class T>
void project_chunk(Executor& executor, const ProjectionRows<T>& arrays,
                   const LongMemory<T, R>& memory) {
  const std::int64_t count = arrays.rows;
  const RowParts& parts = memory.parts;
  settle_rows(executor, arrays, memory);
  const LongOperands z = memory.operand(arrays.z, arrays.z_sign, memory.z_places);
  const LongOperands w = memory.operand(arrays.w, arrays.w_sign, memory.w_places);
  sort_operand(executor, arrays, memory, z);
  sort_operand(executor, arrays, memory, w);
  const LongRows<R> rows(arrays, memory, z, w);
  executor.for_each_team("describe_row", count, DescribeRow<R>{rows});
  pool_rows(executor, count, rows);
  executor.for_each_team("write_part", count * parts.count, WritePart<R>{rows});
}

}  // namespace diffsort
