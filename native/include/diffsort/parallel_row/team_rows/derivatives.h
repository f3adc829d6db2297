// The linear maps of the projection as steps of a team: J (jvp) and its transpose (vjp). The
// formulas are those of src/derivatives_cpu.cpp; sums over blocks are trees instead of loops.
//
// The same steps serve one row in a team's memory (DerivativeMemory), many long rows on a whole
// device (long_rows/derivatives.h), and one thread with a short row (short_rows/derivatives.h). Elements are
// grouped by block, what belongs to a block is summed, and every element of the output is written in
// input order. The blocks of w and of z take the same memory one after the other; the output itself
// holds what w's leave behind:
//     vjp, log_kl: w's cotangent first holds the softmax of w
//     jvp: `out` first holds the sum over dw of the element's block
//
// Cost: one sort for z, one for w where w's elements are grouped (jvp along w; log_kl), else O(n).
// Memory per element: a key and an index (one word in a team's memory), 1/31 of a word, 1/7 of a
// double, and half a number for each that a block has at the same time, see Wanted: 1 or 2 for l2, 2 or 3 for kl, 3 for log_kl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "diffsort/arithmetic.h"
#include "diffsort/parallel_row/block_sums/block_quantities.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/lane_words.h"

namespace diffsort {

// NaN in rows that are invalid.
DIFFSORT_HD inline double valid_value(const RowStates& states, std::int64_t row, double value) {
  return states.is_invalid(row) ? std::numeric_limits<double>::quiet_NaN() : value;
}

template <class At, class Along>
struct BeginRow {
  At at;
  Along along;
  RowStates states;

  DIFFSORT_HD void operator()(std::int64_t r) const {
    states.strength[r] = at.strength.row(r);
    states.dstrength[r] = along.tangents.strength.row(r);
    states.invalid[r] = 0;
  }
};

// --- J^T

// The cotangent of s over the strength: that of z, but for its sign.
template <class Rows, class Place>
DIFFSORT_HD double z_cotangent(const Rows& rows, typename Rows::Position e, const Place& place) {
  if (place.infinite) return 0.0;
  const double own = rows.outer(e) * rows.g(e);
  const double mean = rows.groups.alone(place.start)
                          ? own
                          : rows.weight(e, place.start) * rows.numbers.sum[place.start / 2];
  const double centred = own - mean;
  // Of elements alone in their block. A device takes its time over the quotient.
  if (centred == 0.0) return 0.0;
  return rows.groups.over_strength(centred, rows.states.strength[place.row]);
}

template <class Rows>
struct WriteZ {
  Rows rows;

  DIFFSORT_HD void operator()(typename Rows::Position e) const {
    if (Rows::kl && rows.groups.is_settled(rows.at.set.row(e))) return;
    const auto place = rows.at.set.place(rows.at.block_z, e);
    const double value = rows.at.z_sign * z_cotangent(rows, e, place);
    rows.along.cotangents.z.write(e, valid_value(rows.states, place.row, value));
  }
};

// What z's cotangent becomes when the distances of z grow: strength's, from element e.
template <class Rows>
struct StrengthTerm {
  Rows rows;

  DIFFSORT_HD double operator()(typename Rows::Position e) const {
    const auto place = rows.at.set.place(rows.at.block_z, e);
    if (place.infinite) return 0.0;
    return z_cotangent(rows, e, place) * rows.relative_z(e, place.start);
  }
};

// -<cotangent, z> / strength. The tree stands over the elements in input order.
template <class Rows>
struct WriteStrength {
  Rows rows;
  const double* tree;

  DIFFSORT_HD void operator()(std::int64_t r) const {
    const auto& set = rows.at.set;
    const double total = combine_run(tree, set.count(), r * set.n, (r + 1) * set.n, Combine{},
                                     StrengthTerm<Rows>{rows});
    const double value = -rows.groups.over_strength(total, rows.states.strength[r]);
    rows.along.cotangents.strength[r] = valid_value(rows.states, r, value);
  }
};

// The softmax of w, into w's cotangent.
template <class Rows>
struct WriteWSoftmax {
  Rows rows;

  DIFFSORT_HD void operator()(typename Rows::Position j) const {
    const auto start = rows.at.set.place(rows.at.block_w, j).start;
    const double weight = rows.groups.alone(start) ? 1.0 : rows.weight(j, start);
    rows.along.cotangents.w.write(j, weight);
  }
};

// Marks rows of which a block of w starts where none of z does.
template <class At, class Grouping>
struct CheckWStart {
  At at;
  Grouping groups;
  RowStates states;

  DIFFSORT_HD void operator()(std::int64_t j) const {
    const auto place = at.set.place(at.block_w, j);
    if (!place.valid || !groups.is_start(place.start)) states.make_invalid(place.row);
  }
};

// From the sums of z's blocks.
template <class Rows>
struct WriteW {
  Rows rows;

  DIFFSORT_HD void operator()(typename Rows::Position j) const {
    const auto& out = rows.along.cotangents.w;
    const auto place = rows.at.set.place(rows.at.block_w, j);
    const double sum = rows.groups.alone(place.start) ? rows.g(rows.groups.element(place.start))
                                                      : rows.numbers.sum[place.start / 2];
    const double weight = Rows::log_kl ? out[j] : 1.0;
    out.write(j, valid_value(rows.states, place.row, rows.at.w_sign * weight * sum));
  }
};

template <class Steps, class Rows>
DIFFSORT_HD void write_z_and_strength(Steps& steps, const Rows& rows, double* tree) {
  const auto count = rows.groups.count;
  if (rows.along.cotangents.z) steps.for_each(count, WriteZ<Rows>{rows});
  if (!rows.along.wants_strength()) return;
  using Term = StrengthTerm<Rows>;
  build_tree(steps, count, tree, Combine{}, Leaves<Term>{Combine{}, Term{rows}});
  steps.for_each(rows.at.set.rows, WriteStrength<Rows>{rows, tree});
}

// --- J

// <q, dw> of every element's block, into `out`.
template <class Rows>
struct WriteWSum {
  Rows rows;

  DIFFSORT_HD void operator()(typename Rows::Position e) const {
    const auto& tangents = rows.along.tangents;
    const auto start = rows.at.set.place(rows.at.block_z, e).start;
    tangents.out.write(e, rows.groups.alone(start)
                              ? rows.at.set.read(tangents.w, rows.groups.element(start))
                              : rows.numbers.sum[start / 2]);
  }
};

template <class Rows>
struct WriteTangent {
  Rows rows;

  DIFFSORT_HD void operator()(typename Rows::Position e) const {
    const auto& out = rows.along.tangents.out;
    const auto place = rows.at.set.place(rows.at.block_z, e);
    const bool alone = rows.groups.alone(place.start);
    double value = 0.0;
    if (rows.along.wants_s() && !place.infinite && rows.states.strength[place.row] > 0.0) {
      const double own = rows.ds(e, place);
      const double mean = alone ? own : rows.numbers.sum[place.start / 2];
      value = rows.at.w_sign * rows.outer(e) * (own - mean);
    }
    if (rows.along.wants_w()) {
      const bool shared = Rows::kl && !alone;
      value += (shared ? rows.weight(e, place.start) : 1.0) * out[e];
    }
    out.write(e, valid_value(rows.states, place.row, value));
  }
};

// --- Both

template <class Steps, class F>
DIFFSORT_HD void for_each_quantity(Steps&, const F& f) {
  DIFFSORT_ROLLED
  for (int k = 0; k < kQuantities; ++k) f(static_cast<Quantity>(k));
}

// Groups by w's blocks, if they are needed, and then by z's; loops, so that kernels hold the code
// for either once.
template <Regularization R, class Steps, class Memory, class At, class Along>
DIFFSORT_HD void take_derivative(Steps& steps, Memory& memory, const At& at, const Along& along) {
  const auto count = at.set.count();
  const bool forward = along.forward, w = along.wants_w();
  const bool groups_w = w && (forward || R == Regularization::log_kl);
  steps.for_each(at.set.rows, BeginRow<At, Along>{at, along, memory.states});
  DIFFSORT_ROLLED
  for (int side = groups_w ? 0 : 1; side < 2; ++side) {
    const bool on_w = side == 0;
    const auto groups =
        group(steps, memory, at.set, on_w ? at.block_w : at.block_z, groups_w && !on_w);
    using Grouping = std::decay_t<decltype(groups)>;
    using Rows = BlockedRows<R, Grouping, At, Along>;
    if (w && !groups_w) {
      steps.for_each(count, CheckWStart<At, Grouping>{at, groups, memory.states});
    }
    const Rows rows(at, along, memory.states, groups, memory.numbers, on_w);
    for_each_quantity(steps, [&](Quantity quantity) {
      if (rows.wants(quantity)) {
        const BlockQuantity<Rows> of_rows{rows, quantity};
        combine_blocks(steps, of_rows, memory.tree, rows.place(quantity));
      }
      if (quantity == Quantity::cotangents && !forward && !on_w) {
        write_z_and_strength(steps, rows, memory.tree);
      }
    });
    if (forward && on_w) steps.for_each(count, WriteWSum<Rows>{rows});
    if (forward && !on_w) steps.for_each(count, WriteTangent<Rows>{rows});
    if (!forward && w && on_w) steps.for_each(count, WriteWSoftmax<Rows>{rows});
    if (!forward && w && !on_w) steps.for_each(count, WriteW<Rows>{rows});
  }
}

// --- One row in a team's memory

// Elements by ascending id, as words of the start of their block, above, and the element.
struct RowList {
  static constexpr int kAtOnce = 1;  // memory is near

  const std::uint32_t* words;
  int element_bits;

  DIFFSORT_HD std::int64_t key(std::int64_t p) const { return words[p] >> element_bits; }
  DIFFSORT_HD std::int64_t element(std::int64_t p) const {
    return words[p] & ((std::uint32_t{1} << element_bits) - 1);
  }
  DIFFSORT_HD static constexpr bool is_settled(std::int64_t) { return false; }
};

// n is at most 65536.
class DerivativeMemory {
 public:
  using List = RowList;

  template <class Source, Regularization R>
  DIFFSORT_HD DerivativeMemory(Source& arena, std::int64_t n, const Wanted<R>& wanted) {
    tree = arena.template take<double>(tree_nodes(n));
    wanted.place(arena, n, numbers);
    arena.rewind(arena.bytes());
    words_ = arena.template take<std::uint32_t>(room_to_sort(n));
    starts = arena.template take<std::uint32_t>(StartBits::words(n));
    states.strength = arena.template take<double>(1);
    states.dstrength = arena.template take<double>(1);
    states.invalid = arena.template take<std::uint32_t>(1);
  }

  template <class Team>
  DIFFSORT_HD List list(Team& team, const RowSet& set,
                        const DenseRows<const std::int32_t> ids) const {
    std::uint32_t* const words = words_;
    const std::int64_t n = set.n;
    const RowList list{words, n > 1 ? 32 - bits_below(n) : 31};
    team.for_each(n, [&](std::int64_t e) {
      const Place place = set.place(ids, e);
      words[e] = static_cast<std::uint32_t>(place.start << list.element_bits | e);
      if (!place.valid) states.make_invalid(0);
    });
    const bool in_order = team.reduce(
        n, true, [=](std::int64_t p) { return p == 0 || list.key(p - 1) <= list.key(p); },
        [](bool a, bool b) { return a && b; });
    if (!in_order) team.sort_words(n, words);
    return list;
  }

  double* tree;
  BlockNumbers<Groups<List>> numbers;
  std::uint32_t* starts;
  RowStates states;

 private:
  std::uint32_t* words_;
};

// What an executor runs (see cuda/executor.cuh): a row with a team each, or some rows at once.
template <Regularization R>
struct DerivativeProgram {
  static constexpr bool kLessCode = true;
  static constexpr Regularization kRegularization = R;
  template <Regularization Other>
  using With = DerivativeProgram<Other>;

  LinearizedRows at;
  RowDirections along;
  Places places{};
  std::size_t memory_bytes = 0;

  DIFFSORT_HD std::int64_t length() const { return at.set.n; }
  std::size_t bytes() const { return memory_bytes; }

  DIFFSORT_HD Wanted<R> wanted() const { return Wanted<R>::of(at, along); }

  // Lays out the memory of a team.
  void place() {
    PlacingArena arena(places);
    DerivativeMemory(arena, length(), wanted());
    memory_bytes = arena.bytes();
  }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t r, void* memory) const {
    PlacedArena arena(places, memory);
    DerivativeMemory row_memory(arena, length(), wanted());
    run(team, row_memory, r, 1);
  }

  // Rows [first, first + rows).
  template <class Steps, class Memory>
  DIFFSORT_HD void run(Steps& steps, Memory& memory, std::int64_t first, std::int64_t rows) const {
    take_derivative<R>(steps, memory, at.part(first, rows), along.from(first, length()));
  }
};

}  // namespace diffsort
