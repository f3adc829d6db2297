// Derivatives of rows that no team holds: the steps of team_rows/derivatives.h, each a launch over all rows of
// a chunk.
//
// Starts are numbered from the chunk's first element on, so that no two rows share one. Rows whose
// ids are in order are found out first, and not sorted. Where the float32 cotangent of kl's ranks alone
// is wanted, rows that are one block are written before (one_block_cotangents.h), and left alone.
//
// Launches: for each operand that is grouped 4, or 5 with rows that are settled, and 2 for each 9 bits of n; then 3 for every number of
// a block. Workspace per element: one index that lasts and 1/8 byte for the starts; beside it first
// two keys and an index, unless an output has room for that, and then the numbers of blocks and the
// tree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/parallel_row/long_rows/one_block_cotangents.h"
#include "diffsort/parallel_row/long_rows/sort.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team_rows/derivatives.h"

namespace diffsort {

constexpr int kStartDigitBits = 9;

// The levels of tiles, and those above by one team.
template <class Levels>
struct MakeTile {
  struct Shared {};

  std::int64_t count;
  Levels levels;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const std::int64_t first = k * kTile, left = count - first;
    levels.make_tile(team, first, left < kTile ? left : kTile);
  }
};

template <class Levels>
struct MakeAbove {
  struct Shared {};

  Levels levels;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t) const {
    levels.make(team);
  }
};

// An executor as a team of the whole device.
template <class E>
class DeviceSteps {
 public:
  using Executor = E;

  DeviceSteps(Executor& executor, const char* name) : executor(executor), name(name) {}

  template <class F>
  void for_each(std::int64_t count, const F& f) {
    executor.for_each(name, count, f);
  }
  template <class Program>
  void for_each_team(std::int64_t count, const Program& program) {
    executor.for_each_team(name, count, program);
  }

  Executor& executor;
  const char* name;
};

template <class Executor, class Levels>
void build_levels(DeviceSteps<Executor>& steps, std::int64_t count, const Levels& levels) {
  steps.for_each_team((count + kTile - 1) / kTile, MakeTile<Levels>{count, levels});
  const auto above = levels.above();
  if (!above.is_empty()) steps.for_each_team(1, MakeAbove<std::decay_t<decltype(above)>>{above});
}

// Starts of blocks within their rows, as elements to be sorted, placed where they are in the chunk.
struct StartsOfRows {
  RowSet set;
  DenseRows<const std::int32_t> ids;

  DIFFSORT_HD std::uint32_t key(std::int64_t r, std::int64_t i) const {
    const std::int32_t id = ids.row(r)[i];
    return is_valid_id(id, set.n) ? static_cast<std::uint32_t>(block_start(id)) : 0;
  }
  DIFFSORT_HD KeyedPlace operator()(std::int64_t r, std::int64_t i) const {
    return {key(r, i), static_cast<std::uint32_t>(r * set.n + i)};
  }
};

// What is known of a row's ids; not in order: 0.
constexpr std::uint32_t kInOrder = 1;
static_assert(kInOrder != kSettled);

struct PresumeOrder {
  std::uint32_t* in_order;

  DIFFSORT_HD void operator()(std::int64_t r) const { in_order[r] = kInOrder; }
};

// Marks rows whose ids are not in order, and rows with ids that cannot be any.
struct InspectIds {
  struct Shared {};

  StartsOfRows starts;
  RowParts parts;
  RowStates states;
  std::uint32_t* in_order;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    constexpr int kOutOfOrder = 1, kInvalid = 2;
    const Part part(parts, k);
    const std::int64_t r = part.row;
    if (load_bits(in_order + r) == kSettled) return;  // another team may clear the other bit
    const int found = team.reduce(
        part.size(), 0,
        [&](std::int64_t p) {
          const std::int64_t i = part.first + p;
          const bool falls = i > 0 && starts.key(r, i - 1) > starts.key(r, i);
          const bool valid = is_valid_id(starts.ids.row(r)[i], parts.n);
          return (falls ? kOutOfOrder : 0) | (valid ? 0 : kInvalid);
        },
        [](int a, int b) { return a | b; });
    team.for_each(1, [&](std::int64_t) {
      if ((found & kOutOfOrder) != 0) clear_bits(in_order + r, kInOrder);
      if ((found & kInvalid) != 0) states.make_invalid(r);
    });
  }
};

// The elements of a chunk by ascending id: of rows in order as they are.
struct ChunkList {
  static constexpr int kAtOnce = 2;  // memory is far, but code takes room

  StartsOfRows starts;
  const std::uint32_t *in_order, *keys, *index;

  DIFFSORT_HD std::int64_t key(std::int64_t p) const {
    const std::int64_t r = starts.set.row(p), first = r * starts.set.n;
    if (is_settled(r)) return first;
    return first + (in_order[r] != 0 ? starts.key(r, p - first) : keys[p]);
  }
  DIFFSORT_HD std::int64_t element(std::int64_t p) const {
    return in_order[starts.set.row(p)] != 0 ? p : index[p];
  }
  DIFFSORT_HD bool is_settled(std::int64_t r) const { return in_order[r] == kSettled; }
};

// As DerivativeMemory, for `rows` rows of n.
class LongDerivativeMemory {
 public:
  using List = ChunkList;

  template <Regularization R>
  LongDerivativeMemory(Arena& arena, std::int64_t rows, std::int64_t n, const Wanted<R>& wanted,
                       bool has_spare_index)
      : parts_(rows, n) {
    const std::int64_t count = rows * n;
    states.strength = arena.take<double>(rows);
    states.dstrength = arena.take<double>(rows);
    states.invalid = arena.take<std::uint32_t>(rows);
    in_order_ = arena.take<std::uint32_t>(rows);
    starts = arena.take<std::uint32_t>(StartBits::words(count));
    sorted_.place_stride = spare_.place_stride = n;
    sorted_.places = arena.take<std::uint32_t>(count);
    const std::size_t shared = arena.mark();
    tile_sums_ = arena.take<TileSum>(rows * OneBlockCotangents::tiles_of_row(n));
    arena.rewind(shared);
    sorted_.keys = arena.take<std::uint32_t>(count);
    spare_.keys = arena.take<std::uint32_t>(count);
    if (!has_spare_index) spare_.places = arena.take<std::uint32_t>(count);
    counts_ = arena.take<std::uint32_t>(digit_counts(rows, parts_, kStartDigitBits));
    arena.rewind(shared);
    wanted.place(arena, count, numbers);
    tree = arena.take<double>(tree_nodes(count));
  }

  // Lends the sort an output that nobody has written to yet; null: the workspace has room.
  void lend(void* output) {
    if (output != nullptr) spare_.places = static_cast<std::uint32_t*>(output);
  }

  // Before the rows of a chunk are grouped: writes those that are one block.
  template <class Executor>
  void settle(DeviceSteps<Executor>& steps, Regularization regularization, const LinearizedRows& at,
              const RowDirections& along) {
    OneBlockCotangents c(regularization, at, along, kInOrder);
    c.settled = in_order_;
    c.tile_sums = tile_sums_;
    settle_one_blocks(steps.executor, steps.name, at.set.rows, c);
    settles_ = true;
  }

  template <class Executor>
  List list(DeviceSteps<Executor>& steps, const RowSet& set,
            const DenseRows<const std::int32_t> ids) const {
    const StartsOfRows starts{set, ids};
    if (!settles_) steps.for_each(set.rows, PresumeOrder{in_order_});
    steps.for_each_team(set.rows * parts_.count, InspectIds{starts, parts_, states, in_order_});
    sort_rows<kStartDigitBits>(steps.executor, set.rows, parts_, in_order_, starts,
                               bits_below(set.n), sorted_, spare_, counts_);
    return {starts, in_order_, sorted_.keys, sorted_.places};
  }

  double* tree;
  BlockNumbers<Groups<List>> numbers;
  std::uint32_t* starts;
  RowStates states;

 private:
  RowParts parts_;
  KeyedPlaces sorted_, spare_;
  std::uint32_t *in_order_, *counts_;
  TileSum* tile_sums_;
  bool settles_ = false;
};

// Rows of a chunk. The positions in a chunk are below 2^31.
template <class Executor, class Program>
std::int64_t derivative_chunk(const Executor& executor, const Program& program) {
  return rows_per_chunk(executor.chunk_elements(), program.at.set.rows, program.length());
}

// An output that no row of the chunk is written to before all are sorted, so that its first 4 bytes
// for each element may lie anywhere; or null.
template <Regularization R>
void* spare_output(const RowDirections& along) {
  if (along.forward) return along.wants_w() ? nullptr : along.tangents.out.data;
  if (along.cotangents.z) return along.cotangents.z.data;
  return R == Regularization::log_kl ? nullptr : along.cotangents.w.data;
}

template <Regularization R, class Executor>
LongDerivativeMemory long_derivative_memory(Arena& arena, const Executor& executor,
                                            const DerivativeProgram<R>& program) {
  return {arena, derivative_chunk(executor, program), program.length(), program.wanted(),
          spare_output<R>(program.along) != nullptr};
}

// Depends on shapes and on what is wanted, never on numbers.
template <class Executor, Regularization R>
std::size_t derivative_workspace(Executor& executor, const DerivativeProgram<R>& program) {
  if (program.at.set.rows == 0 || executor.fits(program)) return 0;
  Arena arena;
  long_derivative_memory(arena, executor, program);
  return arena.bytes();
}

template <class Executor, Regularization R>
void run_derivative(Executor& executor, const char* name, const DerivativeProgram<R>& program,
                    void* workspace) {
  const std::int64_t rows = program.at.set.rows, n = program.length();
  if (rows == 0) return;
  if (executor.fits(program)) return executor.for_each_row(name, rows, program);
  Arena arena(workspace);
  LongDerivativeMemory memory = long_derivative_memory(arena, executor, program);
  DeviceSteps<Executor> steps(executor, name);
  const std::int64_t chunk = derivative_chunk(executor, program);
  for (std::int64_t r = 0; r < rows; r += chunk) {
    const std::int64_t count = std::min(chunk, rows - r);
    const RowDirections along = program.along.from(r, n);
    memory.lend(spare_output<R>(along));
    if (OneBlockCotangents::serves<R>(program.at, program.along)) {
      memory.settle(steps, R, program.at.part(r, count), along);
    }
    program.run(steps, memory, r, count);
  }
}

}  // namespace diffsort
