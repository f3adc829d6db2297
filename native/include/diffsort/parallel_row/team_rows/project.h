// The projection of one row, fused: what is read and written of the row's own memory is read once
// and written once, in order; everything between happens in the team's memory.
//
//     load      threads hold the values; a row of ranks that is one block is written from what they
//               hold, and done (rank_in_one_block)
//     sort      keys whose order is that of the values, and where they were, by words of both (team_rows/sort.h)
//     pool      hull.h in float32 where the numbers are such, else pool.h
//     write     the results, and then the block ids, in sorted order, sent to their places in
//               memory, and from there to the row
//
// Cost: O(n log² n) work for the sort, O(n) for the results, some tens of steps. Memory per element: in
// float32 14.8 bytes for l2, 18.8 for kl and 22.6 for log_kl, in float64 18.8 and for kl and log_kl
// 22.8; and if z and w are both sorted 6 (10) more.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/block_result.h"
#include "diffsort/parallel_row/partition/hull.h"
#include "diffsort/parallel_row/partition/nearest_starts.h"
#include "diffsort/parallel_row/partition/one_block.h"
#include "diffsort/parallel_row/partition/pool.h"
#include "diffsort/parallel_row/partition/row_state.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/team_pointer.h"
#include "diffsort/parallel_row/team_rows/sort.h"

namespace diffsort {

// The team's memory for a row. What the sort works on, the sums of the pooling and the stage on which
// outputs are put in order follow each other in the same place.
template <class T, Regularization R>
struct RowMemory {
  using Bits = typename SortKey<T>::Bits;

  PartitionMemory<R, kKeptByTeam> partition;
  PoolMemory pooling;
  HullMemory hull{};
  NearestStarts starts;
  SortMemory<Bits> sorting;
  void* stage;  // of elements of T or of block ids
  TeamPointer<Bits> z_keys, w_keys;
  TeamPointer<SortIndex> z_index, w_index;

  template <class Source>
  DIFFSORT_HD RowMemory(Source& arena, std::int64_t n, bool has_z, bool has_w) {
    const std::size_t begin = arena.mark();
    sorting = SortMemory<Bits>::of(arena, n);
    arena.rewind(begin);
    stage = arena.template take<Bits>(n);
    arena.rewind(begin);
    const std::int64_t kept = decltype(partition)::kept_sums(n);
    BlockSums<R>* const blocks = arena.template take<BlockSums<R>>(kept);
    pooling = PoolMemory::of(arena, n, nullptr);
    arena.rewind(begin);
    if (kHasHull<T>) hull = HullMemory::of<R>(arena, n, nullptr);
    arena.rewind(arena.bytes());
    partition = {arena.template take<std::uint32_t>(StartBits::words(n)), blocks, nullptr};
    pooling.bits = hull.bits = partition.bits;
    starts = NearestStarts::of(arena, n, partition.bits);
    if (has_z) z_keys = arena.template take<Bits>(n);
    if (has_w) w_keys = arena.template take<Bits>(n);
    if (has_z) z_index = arena.template take<SortIndex>(n);
    if (has_w) w_index = arena.template take<SortIndex>(n);
  }
};

// What all threads of a team know about their row. It lies in the team's memory, because a copy for
// each thread would fill their registers.
template <class T, Regularization R>
struct RowWork {
  ProjectionRow<T> row;
  RowMemory<T, R> memory;
  RowState<KeyedOperand<T>, R, kKeptByTeam> state;  // once the row is sorted
  HullPoints<R> points;
};

// What follows is the same for all regularizations, and is there once.

template <class Team, class T>
DIFFSORT_HD DIFFSORT_NOINLINE void load_keys(Team& team, int n, const T* values, double sign,
                                             TeamPointer<typename SortKey<T>::Bits> keys) {
  team.stream(
      n, [=](int i) { return values[i]; },
      [=](int i, T value) { keys[i] = signed_key(value, sign); });
}

template <class Team, class T>
DIFFSORT_HD DIFFSORT_NOINLINE Spread<T> spread_of_keys(
    Team& team, int n, TeamPointer<const typename SortKey<T>::Bits> keys) {
  return spread_of(read_values(team, n, [=](int i) { return from_descending_key<T>(keys[i]); }));
}

// The results, which have taken the places of the keys of z, by way of the stage.
template <class Team, class T>
DIFFSORT_HD DIFFSORT_NOINLINE void write_keys_unsorted(
    Team& team, int n, TeamPointer<const typename SortKey<T>::Bits> keys,
    TeamPointer<const SortIndex> index, TeamPointer<T> stage, T* out) {
  team.for_each(n, [=](int i) { std::memcpy(&stage[index[i]], &keys[i], sizeof(T)); });
  team.for_each(n, [=](int i) { out[i] = stage[i]; });
}

// Of the elements of z at [first, last), or of w, which are finite; an operand without an index is in
// order.
template <class Team>
DIFFSORT_HD DIFFSORT_NOINLINE void write_ids_unsorted(Team& team, int n, NearestStarts starts,
                                                      FiniteRange finite,
                                                      TeamPointer<const SortIndex> index,
                                                      TeamPointer<std::int32_t> stage,
                                                      std::int32_t* out) {
  team.for_each(n, [=](int i) {
    const std::int32_t start = starts.start_of(i);
    const std::int32_t id = finite.contains(i) ? start : infinite_block(start);
    if (index == nullptr) {
      out[i] = id;
    } else {
      stage[index[i]] = id;
    }
  });
  if (index != nullptr) team.for_each(n, [=](int i) { out[i] = stage[i]; });
}

// Whether a row of ranks is one block, which is then written; and the row's spread.
template <class Team, class T>
DIFFSORT_HD bool rank_row(Team& team, const ProjectionRow<T>& row, Regularization regularization,
                          Spread<T>& spread) {
  const HeldValues<Team, T> values(team, static_cast<int>(row.n), row.z, row.z_sign);
  spread = spread_of(values);
  const auto write = [&](int i, double rank) { row.write_one_block(i, rank); };
  return rank_in_one_block(regularization, values, spread, row.strength, write);
}
template <class Team, class T>
DIFFSORT_HD DIFFSORT_NOINLINE bool call_rank_row(Team& team, const ProjectionRow<T>& row,
                                                 Regularization regularization, Spread<T>& spread) {
  return rank_row(team, row, regularization, spread);
}

// Results that have taken the places of the keys of z.
template <class Team, class T, Regularization R>
DIFFSORT_HD void write_row(Team& team, const RowWork<T, R>& work) {
  const RowMemory<T, R>& memory = work.memory;
  write_keys_unsorted<Team, T>(team, static_cast<int>(work.row.n), memory.z_keys, memory.z_index,
                               static_cast<T*>(memory.stage), work.row.result);
}

template <class T, Regularization R>
DIFFSORT_HD DIFFSORT_NOINLINE T result_of(const RowWork<T, R>& work, Block block,
                                          const BlockSums<R>& sums, std::int64_t i) {
  return work.row.signed_result(block_result(work.state.row, sums, block, i));
}

// Values of all elements of a row that has been pooled. The keys of z and the sums are lost.
template <class Team, class T, Regularization R>
DIFFSORT_HD void write_results(Team& team, const RowWork<T, R>& work) {
  const int n = static_cast<int>(work.row.n);
  const auto partition = work.state.partition();
  const auto keys = work.memory.z_keys;
  const auto block_of = [&](int i) { return work.memory.starts.block_of(i); };
  const auto result = [&](Block block, const BlockSums<R>& sums, std::int64_t i) {
    return result_of(work, block, sums, i);
  };
  if (keys == nullptr) {
    return team.for_each(n, [&](int i) {
      const Block block = block_of(i);
      work.row.result[i] = result(block, partition.sums_of(block), i);
    });
  }
  // Results take the places of keys, before the stage takes that of the sums. A block's first key
  // is read by all of the block, and goes last; so do all keys of a block without kept sums.
  const auto put = [&](Block block, const BlockSums<R>& sums, std::int64_t i) {
    const T value = result(block, sums, i);
    std::memcpy(&keys[i], &value, sizeof value);
  };
  team.for_each(n, [&](int i) {
    const Block block = block_of(i);
    if (i > block.start && partition.keeps(block)) put(block, partition.sums_of(block), i);
  });
  team.for_each(n, [&](int i) {
    const Block block = block_of(i);
    if (i > block.start) return;
    const BlockSums<R> sums = partition.sums_of(block);
    for (std::int64_t k = partition.keeps(block) ? i : block.end - 1; k >= i; --k) {
      put(block, sums, k);
    }
  });
  write_row(team, work);
}

template <class Team, class T, Regularization R>
DIFFSORT_HD void write_blocks(Team& team, const RowWork<T, R>& work) {
  const RowMemory<T, R>& memory = work.memory;
  const int n = static_cast<int>(work.row.n);
  auto* const stage = static_cast<std::int32_t*>(memory.stage);
  DIFFSORT_ROLLED
  for (int side = 0; side < 2; ++side) {
    const bool of_w = side != 0;
    std::int32_t* const out = of_w ? work.row.block_w : work.row.block_z;
    if (out == nullptr) continue;
    write_ids_unsorted(team, n, memory.starts, of_w ? FiniteRange{0, n} : work.state.finite_z,
                       of_w ? memory.w_index : memory.z_index, stage, out);
  }
}

// Writes the results of a row that hull.h has pooled. The keys of z are lost.
template <class Team, class T, Regularization R>
DIFFSORT_HD void write_hull_results(Team& team, const RowWork<T, R>& work, const Hull& hull) {
  const auto& row = work.state.row;
  const auto& out = work.row;
  const auto keys = work.memory.z_keys;
  team.for_each(static_cast<int>(row.n), [&](int i) {
    const Block block = work.memory.starts.block_of(i);
    // Alone in its block, an element of w comes through unchanged.
    const T value = out.signed_result(
        block.size() == 1 ? row.w(i)
                          : work.points.result(row, i, hull.sums_of(i), hull.sums(block)));
    if (keys == nullptr) {
      out.result[i] = value;
    } else {
      std::memcpy(&keys[i], &value, sizeof value);
    }
  });
  if (keys != nullptr) write_row(team, work);
}

// Pools a row of float32 by hull.h, if its numbers are such, and writes its results.
template <class Team, class T, Regularization R>
DIFFSORT_HD bool solve_by_hull(Team& team, const RowWork<T, R>& work) {
  if constexpr (kHasHull<T>) {
    const auto& row = work.state.row;
    const HullPoints<R>& points = work.points;
    if (!has_hull_of<R>(work.row.z, work.row.w) || !points.fits()) return false;
    const Hull hull(R, work.memory.hull, row.n, row.n);
    hull.run(
        team, [&](std::int32_t i) { return points.y(row, i); },
        [&](std::int32_t i) { return points.x(row, i); });
    work.memory.starts.find(
        team, static_cast<std::int32_t>(row.n),
        [&](std::int32_t b) { return hull.neighbour(b, true); },
        [&](std::int32_t b) { return hull.neighbour(b - 1, false); });
    if (work.row.result) write_hull_results(team, work, hull);
    return true;
  }
  return false;
}

// `work` is to be seen by all threads, with row and memory. The spread of ranks of l2 and kl is given.
template <class Team, class T, Regularization R>
DIFFSORT_HD void project_row(Team& team, RowWork<T, R>& work, const Spread<T>& of_ranks) {
  const ProjectionRow<T>& row = work.row;
  const RowMemory<T, R>& memory = work.memory;
  const int n = static_cast<int>(row.n);
  DIFFSORT_ROLLED
  for (int side = 0; side < 2; ++side) {
    const bool of_w = side != 0;
    const auto keys = of_w ? memory.w_keys : memory.z_keys;
    const auto index = of_w ? memory.w_index : memory.z_index;
    if (keys == nullptr) continue;
    load_keys(team, n, of_w ? row.w : row.z, of_w ? row.w_sign : row.z_sign, keys);
    Spread<T> spread = of_ranks;
    if constexpr (kSortsByCells<T>) {
      if (R == Regularization::log_kl || row.w) spread = spread_of_keys<Team, T>(team, n, keys);
    }
    sort_keys(team, n, spread, keys, index, memory.sorting);
  }
  team.for_each(1, [&](int) {
    work.state = {row.strength, {memory.z_keys, row.n}, {memory.w_keys, row.n}, memory.partition};
    if constexpr (kHasHull<T>) {
      if (work.state.has_value && has_hull_of<R>(row.z, row.w)) {
        work.points = HullPoints<R>(work.state.row, 0, row.n);
      }
    }
  });
  if (!work.state.has_value) {
    return team.for_each(n, [&](int i) { row.write_nan(i); });
  }
  if (!solve_by_hull(team, work)) {
    pool(team, work.state.row, work.state.memory, memory.pooling);
    const StartBits starts(memory.partition.bits, row.n);
    memory.starts.find(
        team, n, [&](std::int32_t b) { return starts.prev(b - 1); },
        [&](std::int32_t b) { return starts.next(b, n); });
    if (row.result) write_results(team, work);
  }
  write_blocks(team, work);
}

// project_row for every row of an array: what an executor runs (see executor.cuh).
template <class T, Regularization R>
class ProjectRows {
 public:
  static constexpr bool kLessCode = sizeof(T) > sizeof(float);
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = ProjectRows<T, Other>;

  explicit ProjectRows(const ProjectionRows<T>& arrays) : arrays_(arrays) {}

  std::int64_t length() const { return arrays_.n; }
  std::size_t bytes() const { return bytes_; }

  // Lays out the memory of a team.
  void place() {
    PlacingArena arena(places_);
    take(arena);
    work_ = arena.mark();
    arena.take<RowWork<T, R>>(1);
    bytes_ = arena.bytes();
  }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t r, void* memory) const {
    Spread<T> of_ranks{};
    if (R != Regularization::log_kl && arrays_.z && !arrays_.w) {
      const ProjectionRow<T> row = arrays_.row(r);
      if (kLessCode ? call_rank_row(team, row, R, of_ranks) : rank_row(team, row, R, of_ranks)) {
        return;
      }
    }
    auto* const work = reinterpret_cast<RowWork<T, R>*>(static_cast<char*>(memory) + work_);
    team.for_each(1, [&](int) {
      PlacedArena arena(places_, memory);
      work->row = arrays_.row(r);
      work->memory = take(arena);
    });
    project_row(team, *work, of_ranks);
  }

 private:
  template <class Source>
  DIFFSORT_HD RowMemory<T, R> take(Source& arena) const {
    return {arena, arrays_.n, static_cast<bool>(arrays_.z), static_cast<bool>(arrays_.w)};
  }

  ProjectionRows<T> arrays_;
  Places places_;
  std::size_t work_ = 0, bytes_ = 0;
};

}  // namespace diffsort
