// The projection of rows that no team holds: the steps of project_row.h, each a launch over all
// rows of a chunk.
//
//     keys      of every element, with where it is: its row and its column in one number
//     sort      of the whole chunk by key, and then, stable, by row
//     describe  each row: has it a value, and in what units do its blocks compare
//     pool      parts, a team each, and the joins of parts, level by level (pool.h)
//     write     results and block ids to where their elements came from
//
// Launches: 5 + log2(n / 4096) and those of the sorts. Workspace: two keys and two places per
// element (16 bytes in float32, 24 in float64; half as much again if z and w are both sorted). The
// pooling takes over the half that sorting leaves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/arena.h"
#include "diffsort/parallel_row/block_result.h"
#include "diffsort/parallel_row/double_buffer.h"
#include "diffsort/parallel_row/pool.h"
#include "diffsort/parallel_row/projection_rows.h"
#include "diffsort/parallel_row/row_state.h"

namespace diffsort {

// Parts of a row that a team pools by itself before parts are joined: 8 * 2^k.
constexpr std::int64_t kPartLength = 4096;

// How many warps are worth keeping busy with joins, whatever the device.
constexpr std::int64_t kWarpsOfDevice = 4096;

// Where the k-th of all elements of a chunk lies: rows of `per_row`, fewer than 2^31 in all.
struct ChunkPlace {
  std::int64_t row, column;

  DIFFSORT_HD ChunkPlace(std::int64_t k, std::int64_t per_row) {
    const auto quotient = static_cast<std::uint32_t>(k) / static_cast<std::uint32_t>(per_row);
    row = quotient;
    column = k - quotient * per_row;
  }
};

// The keys of an operand, row after row, and the place that each came from.
template <class T>
struct KeyedRows {
  typename SortKey<T>::Bits* keys = nullptr;  // null: rho
  std::uint32_t* places = nullptr;            // row << column_bits | column

  explicit operator bool() const { return keys != nullptr; }
};

// A chunk of rows, all its memory, and how rows lie in it. Steps get it by value.
template <class T, Regularization R>
struct LongRows {
  ProjectionRows<T> arrays;
  int column_bits;  // 2^column_bits >= n
  KeyedRows<T> z, w;
  RowState<T, R>* states;
  PartitionMemory<R> partitions;  // of all rows, one after another

  DIFFSORT_HD std::int64_t n() const { return arrays.n; }

  DIFFSORT_HD KeyedOperand<T> operand(const KeyedRows<T>& x, std::int64_t r) const {
    return {x.keys == nullptr ? nullptr : x.keys + r * n(), n()};
  }
  DIFFSORT_HD PartitionMemory<R> partition(std::int64_t r) const {
    return {partitions.bits + r * StartBits::words(n()),
            partitions.tree + r * RunTree<R>::nodes(n()),
            partitions.blocks + r * PartitionMemory<R>::kept_sums(n())};
  }
  // The column that sorted element i of row r came from.
  DIFFSORT_HD std::int64_t column(const KeyedRows<T>& x, std::int64_t r, std::int64_t i) const {
    if (x.keys == nullptr) return i;
    return x.places[r * n() + i] & ((std::uint32_t{1} << column_bits) - 1);
  }
};

template <class T>
struct LoadKeys {
  DenseRows<const T> values;
  double sign;
  std::int64_t n;
  int column_bits;
  KeyedRows<T> out;

  DIFFSORT_HD void operator()(std::int64_t k) const {
    const ChunkPlace at(k, n);
    out.keys[k] = signed_key(values.row(at.row)[at.column], sign);
    out.places[k] = static_cast<std::uint32_t>((at.row << column_bits) | at.column);
  }
};

template <class T, Regularization R>
struct DescribeRow {
  LongRows<T, R> rows;

  DIFFSORT_HD void operator()(std::int64_t r) const {
    rows.states[r] = {rows.arrays.strength.row(r), rows.operand(rows.z, r), rows.operand(rows.w, r),
                      rows.partition(r)};
  }
};

template <class T, Regularization R>
struct FillBits {
  LongRows<T, R> rows;
  std::int64_t per_row;

  DIFFSORT_HD void operator()(std::int64_t k) const {
    const ChunkPlace at(k, per_row);
    StartBits(rows.partition(at.row).bits, rows.n()).fill(at.column);
  }
};

// By a team: its steps are those of a row in a team's memory, but for where the memory is.
template <class T, Regularization R>
struct PoolPart {
  LongRows<T, R> rows;
  std::int64_t per_row;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k) const {
    const ChunkPlace at(k, per_row);
    const RowState<T, R>& state = rows.states[at.row];
    if (state.has_value) pool_part(team, state.row, state.memory, at.column, kPartLength);
  }
};

template <class T, Regularization R>
struct JoinPairs {
  LongRows<T, R> rows;
  std::int64_t width, per_row, group;

  template <class Lanes>
  DIFFSORT_HD void operator()(const Lanes& lanes, std::int64_t k) const {
    const ChunkPlace at(k, per_row);
    const RowState<T, R>& state = rows.states[at.row];
    if (state.has_value) {
      join_pairs(lanes, state.row, state.memory, width, at.column * group, group);
    }
  }
};

template <class T, Regularization R>
struct WriteElement {
  LongRows<T, R> rows;

  DIFFSORT_HD void operator()(std::int64_t k) const {
    const ChunkPlace at(k, rows.n());
    const std::int64_t r = at.row, i = at.column;
    const ProjectionRow<T> out = rows.arrays.row(r);
    const RowState<T, R>& state = rows.states[r];
    if (!state.has_value) return out.write_nan(i);
    const auto partition = state.partition();
    const Block block = partition.block_of(static_cast<std::int32_t>(i));
    const std::int64_t column = rows.column(rows.z, r, i);
    if (out.result) {
      out.result[column] =
          out.signed_result(block_result(state.row, partition.sums_of(block), block, i));
    }
    if (out.block_z) {
      const bool finite = state.finite_z.contains(i);
      out.block_z[column] = finite ? block.start : infinite_block(block.start);
    }
    if (out.block_w) out.block_w[rows.column(rows.w, r, i)] = block.start;
  }
};

// The workspace for chunks of `rows` rows.
template <class T, Regularization R>
class LongMemory {
  using Bits = typename SortKey<T>::Bits;

 public:
  template <class Executor>
  LongMemory(Arena& arena, Executor& executor, std::int64_t rows, std::int64_t n, int operands)
      : rows_(rows), n_(n) {
    states = arena.template take<RowState<T, R>>(rows);
    for (int k = 0; k < (operands > 0 ? operands + 1 : 0); ++k) {
      const std::size_t begin = arena.bytes();
      regions[k].keys = arena.template take<Bits>(rows * n);
      regions[k].places = arena.template take<std::uint32_t>(rows * n);
      region_bytes_ = arena.bytes() - begin;
    }
    if (operands > 0) {
      sort_bytes = executor.template sort_bytes<Bits, std::uint32_t>(rows * n);
      const std::size_t by_row = executor.template sort_bytes<std::uint32_t, Bits>(rows * n);
      if (by_row > sort_bytes) sort_bytes = by_row;
      sort_scratch = arena.template take<char>(static_cast<std::int64_t>(sort_bytes));
    }
    beyond_ = arena;
    place_partitions(nullptr, arena);
  }

  // The pooling's memory: in the region that sorting has left over, and beyond what does not fit.
  PartitionMemory<R> partitions(const KeyedRows<T>& spare) const {
    Arena beyond = beyond_;
    return place_partitions(spare.keys, beyond);
  }

  RowState<T, R>* states;
  KeyedRows<T> regions[3];  // one for each sorted operand, and one more to sort with
  void* sort_scratch = nullptr;
  std::size_t sort_bytes = 0;

 private:
  PartitionMemory<R> place_partitions(void* region, Arena& beyond) const {
    Arena inside(region);
    PartitionMemory<R> memory;
    memory.blocks = place<BlockSums<R>>(rows_ * PartitionMemory<R>::kept_sums(n_), inside, beyond);
    memory.tree = place<BlockSums<R>>(rows_ * RunTree<R>::nodes(n_), inside, beyond);
    memory.bits = place<std::uint32_t>(rows_ * StartBits::words(n_), inside, beyond);
    return memory;
  }

  template <class V>
  V* place(std::int64_t count, Arena& inside, Arena& beyond) const {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(V);
    Arena& arena = inside.bytes() + bytes <= region_bytes_ ? inside : beyond;
    return arena.template take<V>(count);
  }

  std::int64_t rows_, n_;
  std::size_t region_bytes_ = 0;
  Arena beyond_;
};

inline int bits_for(std::int64_t count) {
  int bits = 0;
  while ((std::int64_t{1} << bits) < count) ++bits;
  return bits;
}

// Sorts an operand of all rows into `out`; the two regions may change places.
template <class Executor, class T>
void sort_rows(Executor& executor, const DenseRows<const T>& values, double sign, std::int64_t rows,
               std::int64_t n, KeyedRows<T>& out, KeyedRows<T>& spare, void* scratch,
               std::size_t scratch_bytes) {
  const int column_bits = bits_for(n), row_bits = bits_for(rows);
  executor.for_each("load_keys", rows * n, LoadKeys<T>{values, sign, n, column_bits, out});
  DoubleBuffer<typename SortKey<T>::Bits> keys{out.keys, spare.keys};
  DoubleBuffer<std::uint32_t> places{out.places, spare.places};
  executor.sort("sort by key", keys, places, rows * n, 0, 8 * sizeof(*out.keys), scratch,
                scratch_bytes);
  if (rows > 1) {
    executor.sort("sort by row", places, keys, rows * n, column_bits, column_bits + row_bits,
                  scratch, scratch_bytes);
  }
  out = {keys.current, places.current};
  spare = {keys.other, places.other};
}

template <class Executor, class T, Regularization R>
void pool_rows(Executor& executor, const LongRows<T, R>& rows) {
  const std::int64_t n = rows.n(), count = rows.arrays.rows;
  const std::int64_t words = StartBits::upper_words(n), parts = (n + kPartLength - 1) / kPartLength;
  executor.for_each("fill_bits", count * words, FillBits<T, R>{rows, words});
  executor.for_each_team("pool_part", count * parts, PoolPart<T, R>{rows, parts});
  for (std::int64_t width = kPartLength; width < n; width *= 2) {
    const std::int64_t joins = pairs(n, width);
    const std::int64_t group = pairs_per_warp(count * joins, kWarpsOfDevice);
    const std::int64_t groups = (joins + group - 1) / group;
    executor.for_each_lanes("join_pairs", count * groups,
                            JoinPairs<T, R>{rows, width, groups, group});
  }
}

// All rows of `arrays` at once, in the memory of LongMemory.
template <Regularization R, class Executor, class T>
void project_chunk(Executor& executor, const ProjectionRows<T>& arrays,
                   const LongMemory<T, R>& memory) {
  const std::int64_t count = arrays.rows, n = arrays.n;
  LongRows<T, R> rows{arrays, bits_for(n), {}, {}, memory.states, {}};
  KeyedRows<T> spare = memory.regions[0];
  int used = 1;
  if (arrays.z) {
    rows.z = memory.regions[used++];
    sort_rows(executor, arrays.z, arrays.z_sign, count, n, rows.z, spare, memory.sort_scratch,
              memory.sort_bytes);
  }
  if (arrays.w) {
    rows.w = memory.regions[used++];
    sort_rows(executor, arrays.w, arrays.w_sign, count, n, rows.w, spare, memory.sort_scratch,
              memory.sort_bytes);
  }
  rows.partitions = memory.partitions(spare);
  executor.for_each("describe_row", count, DescribeRow<T, R>{rows});
  pool_rows(executor, rows);
  executor.for_each("write_element", count * n, WriteElement<T, R>{rows});
}

}  // namespace diffsort
