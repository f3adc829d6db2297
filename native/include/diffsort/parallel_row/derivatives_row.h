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

template <class Steps>
DIFFSORT_HD void clear(Steps& steps, const InvalidRows& invalid, std::int64_t rows) {
  steps.for_each(rows, [=] DIFFSORT_HD(std::int64_t r) { invalid.words[r] = 0; });
}

// --- J^T

// The cotangent of s, over the strength: that of z but for z's sign.
template <class T, Regularization R, class Index>
struct CotangentOfZ {
  ZBlocks<T, R, Index> blocks;
  DenseRows<const T> g_data;

  DIFFSORT_HD double g(std::int64_t e) const {
    return blocks.at.w_sign * blocks.at.outer(e) *
           static_cast<double>(blocks.at.set.read(g_data, e));
  }
  // <p, g>_B for w's part, which for kl is not the sum of g(e).
  DIFFSORT_HD double weighted_g(std::int64_t e) const {
    const double weight = R == Regularization::kl ? blocks.weight(e) : 1.0;
    return weight * blocks.at.w_sign * static_cast<double>(blocks.at.set.read(g_data, e));
  }
  DIFFSORT_HD double operator()(std::int64_t e) const {
    if (blocks.at.infinite(e)) return 0.0;
    const auto term = [this](std::int64_t i) { return g(i); };
    const double sum = blocks.sum(blocks.start(e), term);
    return over_strength(g(e) - blocks.weight(e) * sum, blocks.at.strength_at(e));
  }
};

// The softmax of w, into w's cotangent.
template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void write_w_softmax(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const Wanted<R>& wanted, T* out) {
  const auto blocks = group_w(steps, memory, at, wanted);
  weigh(steps, blocks, memory.tree);
  steps.for_each(at.set.count(),
                 [=] DIFFSORT_HD(std::int64_t j) { out[j] = static_cast<T>(blocks.weight(j)); });
}

template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void write_z(Steps& steps, const InvalidRows& invalid,
                         const CotangentOfZ<T, R, Index>& cotangent, T* out) {
  const LinearizedRows<T, R> at = cotangent.blocks.at;
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t e) {
    out[e] = value_or_nan<T>(invalid[at.set.row(e)], at.z_sign * cotangent(e));
  });
}

// -<cotangent, z> / strength of every row. Its tree stands over the elements in input order.
template <class Steps, class Memory, class T, Regularization R, class Index>
DIFFSORT_HD void write_strength(Steps& steps, const Memory& memory,
                                const CotangentOfZ<T, R, Index>& cotangent, double* out) {
  const RowSet set = cotangent.blocks.at.set;
  const auto product = [=] DIFFSORT_HD(std::int64_t e) {
    if (cotangent.blocks.at.infinite(e)) return 0.0;
    return cotangent(e) * cotangent.blocks.relative_z(e);
  };
  const auto every = [=] DIFFSORT_HD(std::int64_t) { return true; };
  const InvalidRows invalid = memory.invalid;
  double* const tree = memory.tree;
  build_tree<Add>(steps, set.count(), tree, every, product);
  steps.for_each(set.rows, [=] DIFFSORT_HD(std::int64_t r) {
    const double total = combine_run<Add>(tree, set.count(), r * set.n, (r + 1) * set.n, product);
    const double strength = cotangent.blocks.at.strength.row(r);
    out[r] = value_or_nan<double>(invalid[r], -over_strength(total, strength));
  });
}

// Reads the sums of z's blocks, which have to start where w's do.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void write_w(Steps& steps, const InvalidRows& invalid,
                         const CotangentOfZ<T, R, Index>& cotangent, T* out) {
  const LinearizedRows<T, R> at = cotangent.blocks.at;
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t j) {
    const auto term = [&](std::int64_t i) { return cotangent.weighted_g(i); };
    const double sum = cotangent.blocks.sum(at.set.start(at.block_w, j), term);
    const double weight = R == Regularization::log_kl ? static_cast<double>(out[j]) : 1.0;
    out[j] = value_or_nan<T>(invalid[at.set.row(j)], at.w_sign * weight * sum);
  });
}

// Marks rows of which a block of w starts where none of z does.
template <class Steps, class T, Regularization R, class Index>
DIFFSORT_HD void check_w_starts(Steps& steps, const ZBlocks<T, R, Index>& blocks,
                                const InvalidRows& invalid) {
  steps.for_each(blocks.at.set.count(), [=] DIFFSORT_HD(std::int64_t j) {
    const RowSet& set = blocks.at.set;
    const auto& ids = blocks.at.block_w;
    if (!is_valid_id(set.read(ids, j), set.n) || !blocks.groups.is_start(set.start(ids, j))) {
      invalid.mark(set.row(j));
    }
  });
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void take_derivative(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const RowCotangents<T>& out) {
  constexpr bool log_kl = R == Regularization::log_kl, kl = R == Regularization::kl;
  const Wanted<R> wanted = out.template wanted<R>();
  const bool wants_s = out.z.data != nullptr || wanted.strength;
  clear(steps, memory.invalid, at.set.rows);
  if (log_kl && wanted.w) write_w_softmax(steps, memory, at, wanted, out.w.data);
  const auto blocks = group_z(steps, memory, at, wanted, log_kl && wanted.w);
  if (!log_kl && wanted.w) check_w_starts(steps, blocks, memory.invalid);
  if (kl || wants_s) weigh(steps, blocks, memory.tree, wanted);

  const CotangentOfZ<T, R, typename Memory::Index> cotangent{blocks, out.g};
  if (!kl || wants_s) {
    const auto g = [=] DIFFSORT_HD(std::int64_t e) { return cotangent.g(e); };
    combine_blocks<Add>(steps, blocks.groups, memory.tree, blocks.numbers.sum, g, Finish<R>{});
  }
  if (out.z.data != nullptr) write_z(steps, memory.invalid, cotangent, out.z.data);
  if (wanted.strength) write_strength(steps, memory, cotangent, out.strength.data);
  if (kl && wanted.w) {
    const auto g = [=] DIFFSORT_HD(std::int64_t e) { return cotangent.weighted_g(e); };
    combine_blocks<Add>(steps, blocks.groups, memory.tree, blocks.numbers.sum, g, Finish<R>{});
  }
  if (wanted.w) write_w(steps, memory.invalid, cotangent, out.w.data);
}

// --- J

// ds, up to a constant of the block.
template <class T, Regularization R, class Index>
struct TangentOfS {
  ZBlocks<T, R, Index> blocks;
  RowTangents<T> tangents;

  DIFFSORT_HD double operator()(std::int64_t e) const {
    const LinearizedRows<T, R>& at = blocks.at;
    if (at.infinite(e)) return 0.0;
    const double strength = at.strength_at(e);
    double tangent = 0.0;
    if (tangents.z.data != nullptr) {
      tangent = at.z_sign * static_cast<double>(at.set.read(tangents.z, e));
    }
    if (tangents.has_strength) {
      const double dstrength = tangents.strength.row(at.set.row(e));
      tangent -= over_strength(blocks.relative_z(e), strength) * dstrength;
    }
    return over_strength(tangent, strength);
  }
  DIFFSORT_HD double weighted(std::int64_t e) const { return blocks.weight(e) * (*this)(e); }

  // What s contributes to the tangent of the result.
  DIFFSORT_HD double centred(std::int64_t e) const {
    const LinearizedRows<T, R>& at = blocks.at;
    if (at.infinite(e) || !(at.strength_at(e) > 0.0)) return 0.0;
    const auto term = [this](std::int64_t i) { return weighted(i); };
    return at.outer(e) * ((*this)(e)-blocks.sum(blocks.start(e), term));
  }
};

// The sum over q dw of every element's block, into `out`.
template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void write_w_sums(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                              const RowTangents<T>& tangents) {
  const auto blocks = group_w(steps, memory, at, tangents.template wanted<R>());
  weigh(steps, blocks, memory.tree);
  const auto term = [=] DIFFSORT_HD(std::int64_t j) {
    return blocks.weight(j) * at.w_sign * static_cast<double>(at.set.read(tangents.w, j));
  };
  combine_blocks<Add>(steps, blocks.groups, memory.tree, blocks.numbers.sum, term, Finish<R>{});
  T* const out = tangents.out.data;
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t e) {
    out[e] = static_cast<T>(blocks.sum(at.set.start(at.block_z, e), term));
  });
}

template <class Steps, class Memory, class T, Regularization R>
DIFFSORT_HD void take_derivative(Steps& steps, Memory& memory, const LinearizedRows<T, R>& at,
                                 const RowTangents<T>& tangents) {
  const Wanted<R> wanted = tangents.template wanted<R>();
  const bool moves_s = tangents.z.data != nullptr || wanted.strength;
  clear(steps, memory.invalid, at.set.rows);
  if (wanted.w) write_w_sums(steps, memory, at, tangents);
  const auto blocks = group_z(steps, memory, at, wanted, wanted.w);
  if (moves_s || R == Regularization::kl) weigh(steps, blocks, memory.tree, wanted);

  const TangentOfS<T, R, typename Memory::Index> tangent{blocks, tangents};
  if (moves_s) {
    const auto term = [=] DIFFSORT_HD(std::int64_t e) { return tangent.weighted(e); };
    combine_blocks<Add>(steps, blocks.groups, memory.tree, blocks.numbers.sum, term, Finish<R>{});
  }
  const InvalidRows invalid = memory.invalid;
  T* const out = tangents.out.data;
  steps.for_each(at.set.count(), [=] DIFFSORT_HD(std::int64_t e) {
    double total = moves_s ? tangent.centred(e) : 0.0;
    if (wanted.w) {
      total += (R == Regularization::kl ? blocks.weight(e) : 1.0) * static_cast<double>(out[e]);
    }
    out[e] = value_or_nan<T>(invalid[at.set.row(e)], at.w_sign * total);
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
    invalid.words = arena.take<std::uint32_t>(1);
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
  InvalidRows invalid;

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
