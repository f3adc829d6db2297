// The linear maps of the projection as steps of a team: J (jvp) and its transpose (vjp). The
// formulas are those of src/derivatives_cpu.cpp; sums over blocks are trees instead of loops.
//
// The same steps serve one row in a team's memory (DerivativeMemory) and many long rows on a whole
// device (long_derivatives.h). Elements are grouped by block, what belongs to a block is summed, and
// every element of the output is written in input order. The blocks of w and those of z take the
// same memory one after the other; the output itself holds what w's leave behind:
//     vjp, log_kl: w's cotangent first holds the softmax of w
//     jvp: `out` first holds the sum over dw of the element's block
//
// Cost: one sort for z, one for w where w's elements are grouped (jvp along w; log_kl), else O(n).
// Memory per element: a key, an index, 1/31 of a word, 1/7 of a double, and 4 bytes for each number
// that a block has at the same time, see Wanted: 1 or 2 for l2, 2 or 3 for kl, 3 for log_kl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "diffsort/parallel_row/arena.h"
#include "diffsort/parallel_row/weighted_blocks.h"

namespace diffsort {

// J^T: outputs are dense, absent ones are not computed.
template <class T>
struct RowCotangents {
  DenseRows<const T> g;
  DenseRows<T> z, w;
  DenseRows<double> strength;

  template <Regularization R>
  DIFFSORT_HD Wanted<R> wanted() const {
    return {strength.data != nullptr, w.data != nullptr};
  }
  DIFFSORT_HD double dstrength(std::int64_t) const { return 0.0; }
  DIFFSORT_HD RowCotangents from(std::int64_t first) const {
    return {g.from(first), z.from(first), w.from(first), strength.from(first)};
  }
};

// J: absent tangents are zero; out is dense.
template <class T>
struct RowTangents {
  DenseRows<const T> z, w;
  DensePerRow strength;
  bool has_strength = false;
  DenseRows<T> out;

  template <Regularization R>
  DIFFSORT_HD Wanted<R> wanted() const {
    return {has_strength, w.data != nullptr};
  }
  DIFFSORT_HD double dstrength(std::int64_t r) const { return strength.row(r); }
  DIFFSORT_HD RowTangents from(std::int64_t first) const {
    return {z.from(first), w.from(first), strength.from(first), has_strength, out.from(first)};
  }
};

// Sums that l2 averages with become means.
template <Regularization R>
struct Finish {
  DIFFSORT_HD double operator()(std::int64_t, std::int64_t size, double total) const {
    return R == Regularization::l2 ? total / static_cast<double>(size) : total;
  }
};

template <class T>
DIFFSORT_HD T value_or_nan(bool invalid, double value) {
  return invalid ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(value);
}

template <class Steps, class Memory, class T, Regularization R, class Directions>
DIFFSORT_HD void begin_rows(Steps& steps, const Memory& memory, const LinearizedRows<T, R>& at,
                            const Directions& directions) {
  const RowStates states = memory.states;
  steps.for_each(at.set.rows, [=] DIFFSORT_HD(std::int64_t r) {
    states.strength[r] = at.strength.row(r);
    states.dstrength[r] = directions.dstrength(r);
    states.invalid[r] = 0;
  });
}

// --- J^T

template <class T, Regularization R, class Index>
struct CotangentOfZ {
  ZBlocks<T, R, Index> blocks;
  DenseRows<const T> g_data;

  DIFFSORT_HD double g(std::int64_t e) const {
    return blocks.at.w_sign * static_cast<double>(blocks.at.set.read(g_data, e));
  }
  // Over the strength, and but for z's sign.
  DIFFSORT_HD double at(std::int64_t e, const Place& place) const {
    if (place.infinite) return 0.0;
    const double own = blocks.at.outer(e) * g(e);
    const double mean = blocks.groups.alone(place.start)
                            ? own
                            : blocks.weight(e, place.start) * blocks.numbers.sum[place.start / 2];
    return over_strength(own - mean, blocks.states.strength[place.row]);
  }
  // What becomes of it when z's distances grow.
  DIFFSORT_HD double times_z(std::int64_t e) const {
    const Place place = blocks.at.set.place(blocks.at.block_z, e);
    if (place.infinite) return 0.0;
    return at(e, place) * blocks.relative_z(e, place.start);
  }
};

// sum_B(g) for z; for l2 the mean.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void add_g(Steps& steps, const CotangentOfZ<T, R, Index>& cotangent, double* tree) {
  const auto term = [=] DIFFSORT_HD(std::int64_t e, std::int64_t) {
    return cotangent.blocks.at.outer(e) * cotangent.g(e);
  };
  combine_blocks<Add>(steps, cotangent.blocks.groups, tree, cotangent.blocks.numbers.sum, term,
                      Finish<R>{});
}

// kl, for w: <p, g>_B, which for the others is sum_B(g) as it is.
template <class Steps, class T, class Index>
DIFFSORT_HD void add_weighted_g(Steps& steps,
                                const CotangentOfZ<T, Regularization::kl, Index>& cotangent,
                                double* tree) {
  const auto term = [=] DIFFSORT_HD(std::int64_t e, std::int64_t start) {
    return cotangent.blocks.weight(e, start) * cotangent.g(e);
  };
  combine_blocks<Add>(steps, cotangent.blocks.groups, tree, cotangent.blocks.numbers.sum, term,
                      Unchanged{});
}

template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void write_z(Steps& steps, const CotangentOfZ<T, R, Index>& cotangent, T* out) {
  steps.for_each(cotangent.blocks.groups.count, [=] DIFFSORT_HD(std::int64_t e) {
    const LinearizedRows<T, R>& at = cotangent.blocks.at;
    const Place place = at.set.place(at.block_z, e);
    out[e] = value_or_nan<T>(cotangent.blocks.states.is_invalid(place.row),
                             at.z_sign * cotangent.at(e, place));
  });
}

// -<cotangent, z> / strength of every row. The tree stands over the elements in input order.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void write_strength(Steps& steps, const CotangentOfZ<T, R, Index>& cotangent,
                                double* tree, double* out) {
  const RowSet set = cotangent.blocks.at.set;
  const RowStates states = cotangent.blocks.states;
  const auto term = [=] DIFFSORT_HD(std::int64_t e) { return cotangent.times_z(e); };
  build_tree<Add>(steps, set.count(), tree, term);
  steps.for_each(set.rows, [=] DIFFSORT_HD(std::int64_t r) {
    const double total = combine_run<Add>(tree, set.count(), r * set.n, (r + 1) * set.n, term);
    out[r] = value_or_nan<double>(states.is_invalid(r), -over_strength(total, states.strength[r]));
  });
}

// The softmax of w, into w's cotangent.
template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void write_w_softmax(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const Wanted<R>& wanted, T* out) {
  const auto blocks = group_w(steps, memory, at, wanted);
  weigh(steps, blocks, memory.tree);
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t j) {
    const std::int64_t start = at.set.place(at.block_w, j).start;
    out[j] = static_cast<T>(blocks.groups.alone(start) ? 1.0 : blocks.weight(j, start));
  });
}

// Marks rows of which a block of w starts where none of z does.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void check_w_starts(Steps& steps, const ZBlocks<T, R, Index>& blocks) {
  steps.for_each(blocks.groups.count, [=] DIFFSORT_HD(std::int64_t j) {
    const Place place = blocks.at.set.place(blocks.at.block_w, j);
    if (!place.valid || !blocks.groups.is_start(place.start)) {
      blocks.states.make_invalid(place.row);
    }
  });
}

template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void write_w(Steps& steps, const CotangentOfZ<T, R, Index>& cotangent, T* out) {
  steps.for_each(cotangent.blocks.groups.count, [=] DIFFSORT_HD(std::int64_t j) {
    const LinearizedRows<T, R>& at = cotangent.blocks.at;
    const auto& groups = cotangent.blocks.groups;
    const Place place = at.set.place(at.block_w, j);
    const double sum = groups.alone(place.start) ? cotangent.g(groups.index[place.start])
                                                 : cotangent.blocks.numbers.sum[place.start / 2];
    const double weight = R == Regularization::log_kl ? static_cast<double>(out[j]) : 1.0;
    out[j] = value_or_nan<T>(cotangent.blocks.states.is_invalid(place.row),
                             at.w_sign * weight * sum);
  });
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void take_derivative(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const RowCotangents<T>& out) {
  constexpr bool log_kl = R == Regularization::log_kl, kl = R == Regularization::kl;
  const Wanted<R> wanted = out.template wanted<R>();
  const bool wants_s = out.z.data != nullptr || wanted.strength;
  begin_rows(steps, memory, at, out);
  if constexpr (log_kl) {
    if (wanted.w) write_w_softmax(steps, memory, at, wanted, out.w.data);
  }
  const auto blocks = group_z(steps, memory, at, wanted, log_kl && wanted.w);
  if (!log_kl && wanted.w) check_w_starts(steps, blocks);
  if (kl || wants_s) weigh(steps, blocks, memory.tree, wanted);

  const CotangentOfZ<T, R, typename Memory::Index> cotangent{blocks, out.g};
  if (!kl || wants_s) add_g(steps, cotangent, memory.tree);
  if (out.z.data != nullptr) write_z(steps, cotangent, out.z.data);
  if (wanted.strength) write_strength(steps, cotangent, memory.tree, out.strength.data);
  if (!wanted.w) return;
  if constexpr (kl) add_weighted_g(steps, cotangent, memory.tree);
  write_w(steps, cotangent, out.w.data);
}

// --- J

// ds, up to a constant of the block.
template <class T, Regularization R, class Index>
struct TangentOfS {
  ZBlocks<T, R, Index> blocks;
  DenseRows<const T> dz;
  bool has_strength;

  DIFFSORT_HD double at(std::int64_t e, const Place& place) const {
    if (place.infinite) return 0.0;
    const double strength = blocks.states.strength[place.row];
    double tangent = 0.0;
    if (dz.data != nullptr) tangent = blocks.at.z_sign * static_cast<double>(blocks.at.set.read(dz, e));
    if (has_strength) {
      const double s = over_strength(blocks.relative_z(e, place.start), strength);
      tangent -= s * blocks.states.dstrength[place.row];
    }
    return over_strength(tangent, strength);
  }
  // What it contributes to the tangent of the result.
  DIFFSORT_HD double centred(std::int64_t e, const Place& place) const {
    if (place.infinite || !(blocks.states.strength[place.row] > 0.0)) return 0.0;
    const double own = at(e, place);
    const double mean =
        blocks.groups.alone(place.start) ? own : blocks.numbers.sum[place.start / 2];
    return blocks.at.outer(e) * (own - mean);
  }
};

// <p, ds>_B
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void add_tangents(Steps& steps, const TangentOfS<T, R, Index>& tangent, double* tree) {
  const auto term = [=] DIFFSORT_HD(std::int64_t e, std::int64_t start) {
    const LinearizedRows<T, R>& at = tangent.blocks.at;
    return tangent.blocks.weight(e, start) * tangent.at(e, at.set.place(at.block_z, e));
  };
  combine_blocks<Add>(steps, tangent.blocks.groups, tree, tangent.blocks.numbers.sum, term,
                      Finish<R>{});
}

// <q, dw> of every element's block, into `out`.
template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void write_w_sums(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                              const Wanted<R>& wanted, const DenseRows<const T>& dw, T* out) {
  const auto blocks = group_w(steps, memory, at, wanted);
  weigh(steps, blocks, memory.tree);
  const auto term = [=] DIFFSORT_HD(std::int64_t j, std::int64_t start) {
    return blocks.weight(j, start) * static_cast<double>(at.set.read(dw, j));
  };
  combine_blocks<Add>(steps, blocks.groups, memory.tree, blocks.numbers.sum, term, Finish<R>{});
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t e) {
    const std::int64_t start = at.set.place(at.block_z, e).start;
    out[e] = blocks.groups.alone(start) ? at.set.read(dw, blocks.groups.index[start])
                                        : static_cast<T>(blocks.numbers.sum[start / 2]);
  });
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void take_derivative(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const RowTangents<T>& tangents) {
  constexpr bool kl = R == Regularization::kl;
  const Wanted<R> wanted = tangents.template wanted<R>();
  const bool moves_s = tangents.z.data != nullptr || wanted.strength;
  T* const out = tangents.out.data;
  begin_rows(steps, memory, at, tangents);
  if (wanted.w) write_w_sums(steps, memory, at, wanted, tangents.w, out);
  const auto blocks = group_z(steps, memory, at, wanted, wanted.w);
  if (moves_s || kl) weigh(steps, blocks, memory.tree, wanted);

  const TangentOfS<T, R, typename Memory::Index> tangent{blocks, tangents.z, wanted.strength};
  if (moves_s) add_tangents(steps, tangent, memory.tree);
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t e) {
    const Place place = at.set.place(at.block_z, e);
    double total = moves_s ? at.w_sign * tangent.centred(e, place) : 0.0;
    if (wanted.w) {
      const bool shared = kl && !blocks.groups.alone(place.start);
      total += (shared ? blocks.weight(e, place.start) : 1.0) * static_cast<double>(out[e]);
    }
    out[e] = value_or_nan<T>(blocks.states.is_invalid(place.row), total);
  });
}

// --- One row in a team's memory

// n is at most 65536. While the team sorts, the first `sort_bytes` of the memory are its own.
class DerivativeMemory {
 public:
  using Index = std::uint16_t;

  DIFFSORT_HD DerivativeMemory(Arena& arena, std::size_t sort_bytes, std::int64_t n,
                               std::int64_t doubles) {
    const std::size_t begin = arena.mark();
    arena.take<char>(static_cast<std::int64_t>(sort_bytes));
    arena.rewind(begin);
    tree = arena.take<double>(tree_nodes(n));
    numbers_ = arena.take<double>(doubles);
    arena.rewind(arena.bytes());
    keys_ = arena.take<Index>(n);
    index_ = arena.take<Index>(n);
    starts = arena.take<std::uint32_t>(StartBits::words(n));
    states.strength = arena.take<double>(1);
    states.dstrength = arena.take<double>(1);
    states.invalid = arena.take<std::uint32_t>(1);
  }

  DIFFSORT_HD void begin_grouping() {}
  DIFFSORT_HD Index* keys() const { return keys_; }
  DIFFSORT_HD Index* index() const { return index_; }
  DIFFSORT_HD double* numbers() const { return numbers_; }

  template <class Team>
  DIFFSORT_HD void sort(Team& team, std::int64_t count, int bits) const {
    const Index* const keys = keys_;
    const bool in_order = team.reduce(
        count, true, [=](std::int64_t p) { return p == 0 || keys[p - 1] <= keys[p]; },
        [](bool a, bool b) { return a && b; });
    if (!in_order) team.sort(count, bits, keys_, index_);
  }

  double* tree;
  std::uint32_t* starts;
  RowStates states;

 private:
  Index *keys_, *index_;
  double* numbers_;
};

// What an executor runs (see cuda/executor.cuh): of every row, or of some at once.
template <class T, Regularization R, class Directions>
struct DerivativeProgram {
  using SortKey = DerivativeMemory::Index;

  LinearizedRows<T, R> at;
  Directions directions;

  DIFFSORT_HD std::int64_t length() const { return at.set.n; }
  DIFFSORT_HD Wanted<R> wanted() const { return directions.template wanted<R>(); }

  DIFFSORT_HD std::size_t bytes(std::size_t sort_bytes) const {
    Arena arena;
    DerivativeMemory(arena, sort_bytes, length(), wanted().doubles(length()));
    return arena.bytes();
  }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t r, void* memory,
                              std::size_t sort_bytes) const {
    Arena arena(memory);
    DerivativeMemory row_memory(arena, sort_bytes, length(), wanted().doubles(length()));
    run(team, row_memory, r, 1);
  }

  // Rows [first, first + rows).
  template <class Steps, class Memory>
  DIFFSORT_HD void run(Steps& steps, Memory& memory, std::int64_t first, std::int64_t rows) const {
    take_derivative(steps, memory, at.part(first, rows), directions.from(first));
  }
};

template <class T, Regularization R>
using VjpProgram = DerivativeProgram<T, R, RowCotangents<T>>;
template <class T, Regularization R>
using JvpProgram = DerivativeProgram<T, R, RowTangents<T>>;

}  // namespace diffsort
