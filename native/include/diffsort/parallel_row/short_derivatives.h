// The linear maps of short rows: a tile of rows per 32 threads, a row per thread.
//
// The steps are those of derivatives_row.h, taken by one thread. It needs no list of the elements
// by block: it adds up each block's terms in the order of the row, in a column of numbers.
//
// Cost: one pass over the row for grouping, one for each number of a block, one for each output.
// Memory of a row with n elements: T for each operand, direction and output that there is, 4 n bytes
// for the ids of each operand, 4 n for each number of a block (see Wanted), 3 n.
#pragma once

#include <cstddef>
#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/derivatives_row.h"
#include "diffsort/parallel_row/team.h"
#include "diffsort/parallel_row/tile.h"

namespace diffsort {

// What a thread reads of its row: as RowSet, FloatRows and FloatOutput, with nothing to find out.
struct OneRow {
  static constexpr int rows = 1;

  struct Place {
    static constexpr int row = 0;
    int start;
    bool valid, infinite;
  };

  int n;

  DIFFSORT_HD int count() const { return n; }
  DIFFSORT_HD static int row(int) { return 0; }
  template <class Values>
  DIFFSORT_HD double read(const Values& from, int e) const {
    return from[e];
  }
  // Of ids that have been checked.
  DIFFSORT_HD Place place(const std::int32_t* ids, int e) const {
    return {block_start(ids[e]), true, is_infinite_block(ids[e])};
  }
};

// Whether all ids are those of a block (as is_valid_id says); those that are not become 0.
DIFFSORT_HD inline bool check_ids(int n, std::int32_t* ids) {
  bool all_valid = true;
  DIFFSORT_ROLLED
  for (int e = 0; e < n; ++e) {
    const int start = block_start(ids[e]);  // negative for kNanRow alone
    if (0 <= start && start < n) continue;
    ids[e] = 0;
    all_valid = false;
  }
  return all_valid;
}

template <class T>
struct OneRowValues {
  const T* data = nullptr;

  DIFFSORT_HD explicit operator bool() const { return data != nullptr; }
  DIFFSORT_HD double operator[](int e) const { return static_cast<double>(data[e]); }
};

template <class T>
struct OneRowOutput {
  T* data = nullptr;

  DIFFSORT_HD explicit operator bool() const { return data != nullptr; }
  DIFFSORT_HD double operator[](int e) const { return static_cast<double>(data[e]); }
  DIFFSORT_HD void write(int e, double value) const { data[e] = static_cast<T>(value); }
};

// As Groups, of one short row.
struct ShortGroups {
  using Doubles = Column<double>;
  using Position = int;

  int count = 0;
  Column<std::uint8_t> index;  // of an element alone in its block, by the block's start
  Column<std::uint8_t> sizes;  // of blocks by their start; 0 where none starts

  DIFFSORT_HD bool is_start(int p) const { return sizes[p] != 0; }
  DIFFSORT_HD bool alone(int start) const { return sizes[start] == 1; }
};

// One row's memory for take_derivative.
struct ShortDerivativeMemory {
  Column<std::uint8_t> index, sizes, other_sizes;
  Column<double> block_numbers;
  double* tree;
  RowStates states;
  bool valid_ids = true;

  DIFFSORT_HD Column<double> numbers() const { return block_numbers; }
};

DIFFSORT_HD inline ShortGroups group(const SerialTeam&, ShortDerivativeMemory& memory,
                                     const OneRow& set, const std::int32_t* ids, bool has_starts) {
  const int n = set.n;
  const Column<std::uint8_t> sizes = has_starts ? memory.other_sizes : memory.sizes;
  DIFFSORT_ROLLED
  for (int p = 0; p < n; ++p) sizes[p] = 0;
  DIFFSORT_ROLLED
  for (int e = 0; e < n; ++e) {
    const int start = set.place(ids, e).start;
    sizes[start] = static_cast<std::uint8_t>(sizes[start] + 1);
    memory.index[start] = static_cast<std::uint8_t>(e);
  }
  // Each block has to end where the next one starts, and with has_starts the other operand's too.
  bool valid = memory.valid_ids;
  DIFFSORT_ROLLED
  for (int p = 0; p < n && valid; p += sizes[p]) {
    valid = sizes[p] > 0 && (!has_starts || sizes[p] == memory.sizes[p]);
  }
  if (!valid) memory.states.make_invalid(0);
  return {n, memory.index, sizes};
}

// A block's terms gather where sums are kept, which no quantity reads that is not one itself.
template <class Quantity>
DIFFSORT_HD void combine_blocks(const SerialTeam&, const ShortGroups& groups,
                                const Quantity& quantity, double*, const Column<double>& out) {
  const int n = groups.count;
  const Combine combine = quantity.combine();
  const Column<double>& gathered = quantity.rows.numbers.sum;
  DIFFSORT_ROLLED
  for (int k = 0; k < (n + 1) / 2; ++k) gathered[k] = combine.identity();
  DIFFSORT_ROLLED
  for (int e = 0; e < n; ++e) {
    const int start = quantity.rows.place(e).start;
    if (groups.alone(start)) continue;
    gathered[start / 2] = combine(gathered[start / 2], quantity.term(e, start));
  }
  DIFFSORT_ROLLED
  for (int k = 0; k < (n + 1) / 2; ++k) {
    const int start = 2 * k + (groups.sizes[2 * k] > 1 || 2 * k + 1 == n ? 0 : 1);
    const int size = groups.sizes[start];
    if (size > 1) out[k] = quantity.finish(start, size, gathered[k]);
  }
}

// Each quantity has its own code.
template <class F>
DIFFSORT_HD void for_each_quantity(const SerialTeam&, const F& f) {
  DIFFSORT_UNROLLED
  for (int k = 0; k < kQuantities; ++k) f(static_cast<Quantity>(k));
}

// What an executor runs for tile k (see executor.cuh). T: the type of all arrays.
template <Regularization R, class T>
struct DerivativeTiles {
  LinearizedRows at;
  RowDirections along;

  DIFFSORT_HD std::int64_t length() const { return at.set.n; }
  DIFFSORT_HD std::int64_t tiles() const { return tiles_of(at.set.rows); }

  DIFFSORT_HD std::size_t bytes() const {
    Arena arena;
    Memory(arena, at, along);
    return arena.bytes();
  }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k, void* memory) const {
    Arena arena(memory);
    const Memory tile(arena, at, along);
    const std::int64_t n = at.set.n, first = k * kTileRows, left = at.set.rows - first;
    const TileShape shape(left < kTileRows ? left : kTileRows, n);
    const auto load_values = [&](const FloatRows& from, T* to) {
      load(team, shape, static_cast<const T*>(from.from(first).data), from.stride, to);
    };
    const auto load_ids = [&](const DenseRows<const std::int32_t>& from, std::int32_t* to) {
      load(team, shape, from.row(first), from.stride, to);
    };
    const auto store_values = [&](T* from, const FloatOutput& to) {
      store(team, shape, from, static_cast<T*>(to.from(first * n).data));
    };
    load_values(at.z, tile.z);
    load_values(at.w, tile.w);
    load_values(at.result, tile.result);
    load_values(along.cotangents.g, tile.g);
    load_values(along.tangents.z, tile.dz);
    load_values(along.tangents.w, tile.dw);
    load_ids(at.block_z, tile.block_z);
    load_ids(at.block_w, tile.block_w);
    team.for_each(shape.rows, [&](int r) { take_row(shape, tile, first, r); });
    store_values(tile.z_out, along.cotangents.z);
    store_values(tile.w_out, along.cotangents.w);
    store_values(tile.out, along.tangents.out);
  }

 private:
  // A tile's memory: a RowTile for every array that there is and that is read or written.
  struct Memory {
    T *z, *w, *result, *g, *dz, *dw, *z_out, *w_out, *out;
    std::int32_t *block_z, *block_w;
    Column<std::uint8_t> index, sizes, other_sizes;
    Column<double> numbers;
    double *trees, *strengths;
    std::uint32_t* invalid;

    DIFFSORT_HD Memory(Arena& arena, const LinearizedRows& at, const RowDirections& along) {
      const std::int64_t n = at.set.n;
      const Wanted<R> wanted = Wanted<R>::of(along);
      const auto take = [&](bool present) {
        return present ? arena.take<T>(RowTile<T>::elements(n)) : nullptr;
      };
      const auto take_ids = [&](bool present) {
        return present ? arena.take<std::int32_t>(RowTile<std::int32_t>::elements(n)) : nullptr;
      };
      const auto& c = along.cotangents;
      const auto& t = along.tangents;
      z = take(at.z && wanted.largest());
      w = take(at.w && R == Regularization::log_kl && along.wants_w());
      result = take(R == Regularization::kl);
      g = take(static_cast<bool>(c.g));
      dz = take(static_cast<bool>(t.z));
      dw = take(static_cast<bool>(t.w));
      z_out = take(static_cast<bool>(c.z));
      w_out = take(static_cast<bool>(c.w));
      out = take(static_cast<bool>(t.out));
      block_z = take_ids(true);
      block_w = take_ids(along.wants_w());
      index = Column<std::uint8_t>::take(arena, n);
      sizes = Column<std::uint8_t>::take(arena, n);
      other_sizes = Column<std::uint8_t>::take(arena, n);
      numbers = Column<double>::take(arena, wanted.doubles(n));
      trees = arena.take<double>(kTileRows * tree_nodes(n));
      strengths = arena.take<double>(2 * kTileRows);
      invalid = arena.take<std::uint32_t>(kTileRows);
    }
  };

  template <class Team, class V>
  DIFFSORT_HD DIFFSORT_NOINLINE static void load(Team& team, TileShape shape, const V* from,
                                                 std::int64_t stride, V* to) {
    if (to != nullptr) RowTile<V>(shape, to).load(team, {from, stride});
  }

  template <class Team>
  DIFFSORT_HD DIFFSORT_NOINLINE static void store(Team& team, TileShape shape, T* from, T* to) {
    if (from != nullptr) RowTile<T>(shape, from).store(team, to);
  }

  // Row r of a tile, all of whose arrays are in the tile's memory.
  DIFFSORT_HD void take_row(const TileShape& shape, const Memory& tile, std::int64_t first,
                            int r) const {
    const int skipped = r * shape.pitch();
    const auto in = [=](const T* data) {
      return OneRowValues<T>{data == nullptr ? nullptr : data + skipped};
    };
    const auto out = [=](T* data) {
      return OneRowOutput<T>{data == nullptr ? nullptr : data + skipped};
    };
    const auto& c = along.cotangents;
    const auto& t = along.tangents;
    const LinearizedSet<OneRow, OneRowValues<T>, const std::int32_t*> row{
        {shape.n},
        at.z_sign,
        at.w_sign,
        at.strength.from(first + r),
        in(tile.z),
        in(tile.w),
        in(tile.result),
        tile.block_z + skipped,
        tile.block_w == nullptr ? nullptr : tile.block_w + skipped};
    const DirectionSet<OneRowValues<T>, OneRowOutput<T>> directions{
        along.forward,
        {in(tile.g), out(tile.z_out), out(tile.w_out),
         c.strength == nullptr ? nullptr : c.strength + first + r},
        {in(tile.dz), in(tile.dw), t.strength.from(first + r), t.has_strength, out(tile.out)}};
    ShortDerivativeMemory memory{
        tile.index.of_row(r),
        tile.sizes.of_row(r),
        tile.other_sizes.of_row(r),
        tile.numbers.of_row(r),
        tile.trees + r * tree_nodes(shape.n),
        {tile.strengths + r, tile.strengths + kTileRows + r, tile.invalid + r}};
    memory.valid_ids = check_ids(shape.n, tile.block_z + skipped);
    if (tile.block_w != nullptr && !check_ids(shape.n, tile.block_w + skipped)) {
      memory.valid_ids = false;
    }
    const SerialTeam thread;
    take_derivative<R>(thread, memory, row, directions);
  }
};

}  // namespace diffsort
