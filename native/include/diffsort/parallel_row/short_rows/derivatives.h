// The linear maps of short rows: a tile of rows per 32 threads, a row per thread.
//
// The steps are those of team_rows/derivatives.h, taken by one thread. It needs no list of the elements
// by block: it adds up each block's terms in the order of the row, in a column of numbers.
//
// Cost: one pass over the row for grouping, one for each number of a block, one for each output.
// Memory of a row with n elements: T for each operand, direction and output that there is, 4 n bytes
// for the ids of each operand, 4 n for each number of a block (see Wanted), 3 n.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/short_rows/tile.h"
#include "diffsort/parallel_row/team/team.h"
#include "diffsort/parallel_row/team_rows/derivatives.h"

namespace diffsort {

// What a thread reads of its row: as RowSet, with nothing to find out.
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

// As Groups, of one short row.
struct ShortGroups {
  using Doubles = Column<double>;
  using Output = Column<double>;
  using Position = int;

  int count = 0;
  Column<std::uint8_t> index;  // of an element alone in its block, by the block's start
  Column<std::uint8_t> sizes;  // of blocks by their start; 0 where none starts

  DIFFSORT_HD static double over_strength(double x, double strength) {
    return diffsort::over_strength(x, strength);
  }
  DIFFSORT_HD static Output output(const Doubles& numbers) { return numbers; }
  DIFFSORT_HD int element(int start) const { return index[start]; }
  DIFFSORT_HD bool is_start(int p) const { return sizes[p] != 0; }
  DIFFSORT_HD bool alone(int start) const { return sizes[start] == 1; }
  DIFFSORT_HD static constexpr bool is_settled(std::int64_t) { return false; }
};

// One row's memory for take_derivative.
struct ShortDerivativeMemory {
  Column<std::uint8_t> index, sizes, other_sizes;
  BlockNumbers<ShortGroups> numbers;
  double* tree;
  RowStates states;
  bool valid_ids = true;
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
DIFFSORT_HD void combine_blocks(const SerialTeam&, const Quantity& quantity, double*,
                                const Column<double>& out) {
  const ShortGroups& groups = quantity.rows.groups;
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

// A short row has no levels above those of a tile.
template <class Levels>
DIFFSORT_HD void build_levels(const SerialTeam& thread, std::int64_t count, const Levels& levels) {
  levels.make_tile(thread, 0, count);
}

// Each quantity has its own code.
template <class F>
DIFFSORT_HD void for_each_quantity(const SerialTeam&, const F& f) {
  DIFFSORT_UNROLLED
  for (int k = 0; k < kQuantities; ++k) f(static_cast<Quantity>(k));
}

// An array of row layout for every operand, direction and output that is read or written.
template <Regularization R>
struct ShortDerivativeLayout {
  Piece<char> z, w, result, g, dz, dw, z_out, w_out, out;  // all of float or all of double
  Piece<std::int32_t> block_z, block_w;
  Piece<std::uint8_t> index, sizes, other_sizes;
  Piece<double> sums, totals, largest, trees, strengths;
  Piece<std::uint32_t> invalid;
  std::size_t bytes;

  ShortDerivativeLayout(const LinearizedRows& at, const RowDirections& along, bool is_float32) {
    const std::int64_t n = at.set.n;
    const Wanted<R> wanted = Wanted<R>::of(at, along);
    const std::int64_t blocks = (n + 1) / 2;
    TileLayout tile(n);
    const auto values = [&](bool present) {
      return Piece<char>{is_float32 ? tile.rows<float>(present).offset
                                    : tile.rows<double>(present).offset};
    };
    z = values(at.z && wanted.largest());
    w = values(at.w && R == Regularization::log_kl && along.wants_w());
    result = values(R == Regularization::kl);
    g = values(bool(along.cotangents.g));
    dz = values(bool(along.tangents.z));
    dw = values(bool(along.tangents.w));
    z_out = values(bool(along.cotangents.z));
    w_out = values(bool(along.cotangents.w));
    out = values(bool(along.tangents.out));
    block_z = tile.rows<std::int32_t>();
    block_w = tile.rows<std::int32_t>(along.wants_w());
    index = tile.columns<std::uint8_t>(n);
    sizes = tile.columns<std::uint8_t>(n);
    other_sizes = tile.columns<std::uint8_t>(n);
    sums = tile.columns<double>(blocks);
    totals = tile.columns<double>(blocks, wanted.total());
    largest = tile.columns<double>(blocks, wanted.keeps_largest());
    trees = tile.columns<double>(tree_nodes(n), along.wants_strength());
    strengths = tile.columns<double>(2);
    invalid = tile.columns<std::uint32_t>(1);
    bytes = tile.bytes();
  }
};

// What an executor runs for tile k (see executor.cuh). All arrays are of one type, which is looked up
// where an element is read or written: a kernel for each would be as large again.
template <Regularization R>
class DerivativeTiles {
 public:
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = DerivativeTiles<Other>;

  DerivativeTiles(const LinearizedRows& at, const RowDirections& along)
      : at(at),
        along(along),
        is_float32_(along.forward ? along.tangents.out.is_float32 : along.cotangents.g.is_float32),
        layout_(at, along, is_float32_) {}

  LinearizedRows at;
  RowDirections along;

  std::int64_t length() const { return at.set.n; }
  std::int64_t tiles() const { return tiles_of(at.set.rows); }
  std::size_t bytes() const { return layout_.bytes; }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k, char* memory) const {
    const std::int64_t n = at.set.n, first = k * kTileRows, left = at.set.rows - first;
    const TileShape shape(left < kTileRows ? left : kTileRows, n);
    const auto load_values = [&](const FloatRows& from, const Piece<char>& piece) {
      char* const to = piece.in(memory);
      const void* const data = from.from(first).data;
      if (is_float32_) return load_as<float>(team, shape, data, from.stride, to);
      load_as<double>(team, shape, data, from.stride, to);
    };
    const auto load_ids = [&](const DenseRows<const std::int32_t>& from, std::int32_t* to) {
      load(team, shape, from.row(first), from.stride, to);
    };
    const auto store_values = [&](const Piece<char>& piece, const FloatOutput& to) {
      char* const from = piece.in(memory);
      void* const data = to.from(first * n).data;
      if (is_float32_) return store_as<float>(team, shape, from, data);
      store_as<double>(team, shape, from, data);
    };
    load_values(at.z, layout_.z);
    load_values(at.w, layout_.w);
    load_values(at.result, layout_.result);
    load_values(along.cotangents.g, layout_.g);
    load_values(along.tangents.z, layout_.dz);
    load_values(along.tangents.w, layout_.dw);
    load_ids(at.block_z, layout_.block_z.in(memory));
    load_ids(at.block_w, layout_.block_w.in(memory));
    team.for_each(shape.rows, [&](int r) { take_row(shape, memory, first, r); });
    store_values(layout_.z_out, along.cotangents.z);
    store_values(layout_.w_out, along.cotangents.w);
    store_values(layout_.out, along.tangents.out);
  }

 private:
  template <class Team, class V>
  DIFFSORT_HD DIFFSORT_NOINLINE static void load(Team& team, TileShape shape, const V* from,
                                                 std::int64_t stride, V* to) {
    if (to != nullptr) RowTile<V>(shape, to).load(team, {from, stride});
  }

  template <class T, class Team>
  DIFFSORT_HD static void load_as(Team& team, const TileShape& shape, const void* from,
                                  std::int64_t stride, char* to) {
    load(team, shape, static_cast<const T*>(from), stride, reinterpret_cast<T*>(to));
  }

  template <class T, class Team>
  DIFFSORT_HD DIFFSORT_NOINLINE static void store_as(Team& team, TileShape shape, char* from,
                                                     void* to) {
    if (from != nullptr) {
      RowTile<T>(shape, reinterpret_cast<T*>(from)).store(team, static_cast<T*>(to));
    }
  }

  // Row r of a tile, all of whose arrays are in the tile's memory.
  DIFFSORT_HD void take_row(const TileShape& shape, char* memory, std::int64_t first, int r) const {
    const int skipped = r * shape.pitch();
    const int skipped_bytes =
        skipped * static_cast<int>(is_float32_ ? sizeof(float) : sizeof(double));
    const auto in = [&](const Piece<char>& piece) {
      char* const data = piece.in(memory);
      return FloatRows{data == nullptr ? nullptr : data + skipped_bytes, 0, is_float32_};
    };
    const auto out = [&](const Piece<char>& piece) {
      char* const data = piece.in(memory);
      return FloatOutput{data == nullptr ? nullptr : data + skipped_bytes, is_float32_};
    };
    std::int32_t* const block_z = layout_.block_z.in(memory) + skipped;
    std::int32_t* block_w = layout_.block_w.in(memory);
    if (block_w != nullptr) block_w += skipped;
    const auto& c = along.cotangents;
    const auto& t = along.tangents;
    const LinearizedSet<OneRow, FloatRows, const std::int32_t*> row{
        {shape.n},     at.z_sign,     at.w_sign,          at.strength.from(first + r),
        in(layout_.z), in(layout_.w), in(layout_.result), block_z,
        block_w};
    const DirectionSet<FloatRows, FloatOutput> directions{
        along.forward,
        {in(layout_.g), out(layout_.z_out), out(layout_.w_out),
         c.strength == nullptr ? nullptr : c.strength + first + r},
        {in(layout_.dz), in(layout_.dw), t.strength.from(first + r), t.has_strength,
         out(layout_.out)}};
    const auto column = [=](const auto& piece) { return piece.column(memory).of_row(r); };
    double* tree = layout_.trees.in(memory);
    if (tree != nullptr) tree += r * tree_nodes(shape.n);
    double* const strengths = layout_.strengths.in(memory) + r;
    ShortDerivativeMemory work{
        column(layout_.index),
        column(layout_.sizes),
        column(layout_.other_sizes),
        {column(layout_.sums), column(layout_.totals), column(layout_.largest)},
        tree,
        {strengths, strengths + kTileRows, layout_.invalid.in(memory) + r}};
    work.valid_ids = check_ids(shape.n, block_z);
    if (block_w != nullptr && !check_ids(shape.n, block_w)) work.valid_ids = false;
    const SerialTeam thread;
    take_derivative<R>(thread, work, row, directions);
  }

  bool is_float32_;
  ShortDerivativeLayout<R> layout_;
};

}  // namespace diffsort
