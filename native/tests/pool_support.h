// Rows pooled by teams, and by how much their partition may differ from the sequential one.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "diffsort/arithmetic.h"
#include "diffsort/isotonic.h"
#include "diffsort/parallel_row/long_rows/join.h"
#include "diffsort/parallel_row/partition/pool.h"
#include "diffsort/parallel_row/team/team.h"
#include "pool_cases.h"

namespace diffsort::testing {

// f(r) for every regularization, as decltype(r)::value.
template <class F>
void for_each_regularization(const F& f) {
  f(std::integral_constant<Regularization, Regularization::l2>{});
  f(std::integral_constant<Regularization, Regularization::kl>{});
  f(std::integral_constant<Regularization, Regularization::log_kl>{});
}

// f(c, seed) for rows of 1 to 3162 elements, of all families in turn.
template <class F>
void for_each_random_row(std::uint64_t count, const F& f) {
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    CAPTURE(seed);
    CaseMaker maker(seed);
    const double length = std::uniform_real_distribution<double>(0.0, 3.5)(maker.random());
    const auto family = static_cast<Family>(seed % static_cast<int>(Family::count));
    f(maker.make(family, static_cast<std::int64_t>(std::pow(10.0, length))), seed);
  }
}

// Reading beyond its ends throws. May count how often it is read.
struct CheckedOperand {
  const std::vector<double>* values;
  std::int64_t* reads = nullptr;

  double operator()(std::int64_t i) const {
    if (reads != nullptr) ++*reads;
    return values->at(static_cast<std::size_t>(i));
  }
};

template <Regularization R, class Operand>
SortedRow<R, Operand, Operand> row_of(const SortedCase& c, const Operand& z, const Operand& w) {
  return {c.n(), c.strength, Units(c.n(), c.strength, z, w), z, w};
}

// Memory of exactly the sizes that the headers ask for, holding what must not be relied on.
template <Regularization R, std::int32_t kShortestKept>
struct RowMemory {
  std::vector<std::uint32_t> bits;
  std::vector<BlockSums<R>> blocks, tree;

  explicit RowMemory(std::int64_t n)
      : bits(static_cast<std::size_t>(StartBits::words(n)), 0xdeadbeef),
        blocks(static_cast<std::size_t>(PartitionMemory<R, kShortestKept>::kept_sums(n))),
        tree(static_cast<std::size_t>(RunTree<R>::nodes(n))) {}

  PartitionMemory<R, kShortestKept> get() { return {bits.data(), blocks.data(), tree.data()}; }
};

// A team's memory for a part of n elements.
class PoolScratch {
 public:
  explicit PoolScratch(std::int64_t n, std::uint32_t* bits = nullptr)
      : own_bits_(static_cast<std::size_t>(words_of_bits(n)), 0xdeadbeef) {
    if (bits == nullptr) bits = own_bits_.data();
    Arena size;
    PoolMemory::of(size, n, bits);
    bytes_.assign(size.bytes(), static_cast<char>(0xab));
    Arena arena(bytes_.data());
    memory_ = PoolMemory::of(arena, n, bits);
  }

  const PoolMemory& get() const { return memory_; }

 private:
  std::vector<std::uint32_t> own_bits_;
  std::vector<char> bytes_;
  PoolMemory memory_;
};

using Starts = std::vector<std::int32_t>;

template <Regularization R, class Row, std::int32_t kShortestKept>
Starts starts_of(const Partition<R, Row, kShortestKept>& partition) {
  Starts starts;
  const auto n = static_cast<std::int32_t>(partition.row.n);
  for (std::int32_t i = 0; i < n; i = partition.block_of(i, n).end) starts.push_back(i);
  return starts;
}

// The starts that pool_row(row, memory) leaves.
template <Regularization R, std::int32_t kShortestKept, class PoolRow>
Starts starts_after(const SortedCase& c, const PoolRow& pool_row) {
  const auto row = row_of<R>(c, CheckedOperand{&c.z}, CheckedOperand{&c.w});
  RowMemory<R, kShortestKept> memory(c.n());
  pool_row(row, memory.get());
  return starts_of(Partition<R, std::decay_t<decltype(row)>, kShortestKept>(row, memory.get()));
}

template <Regularization R, class Team>
Starts pooled_starts(const SortedCase& c, Team& team) {
  return starts_after<R, kKeptByTeam>(c, [&](const auto& row, const auto& memory) {
    pool(team, row, memory, PoolScratch(c.n(), memory.bits).get());
  });
}

// A row in parts of `length`, joined in halves, as long rows are.
template <Regularization R, class Team>
Starts starts_by_parts(const SortedCase& c, std::int64_t length, Team& team) {
  const std::int64_t n = c.n();
  return starts_after<R, kKeptInLongRow>(c, [&](const auto& row, const auto& memory) {
    const StartBits starts(memory.bits, n);
    team.for_each(StartBits::upper_words(n), [&](std::int64_t k) { starts.fill(k); });
    const RunTree<R> tree(memory.tree);
    team.for_each((n + length - 1) / length, [&](std::int64_t k) {
      const std::int64_t first = k * length, size = n - first < length ? n - first : length;
      pool_part(team, row, memory, PoolScratch(size).get(), first, size);
      build_tree(team, tree, row, first, size);
    });
    join_halves(team, row, memory, 0, n, length);
  });
}

template <Regularization R>
Starts sequential_starts(const SortedCase& c) {
  Pooling<R> pooling;
  pooling.run(c.n(), c.strength, CheckedOperand{&c.z}, CheckedOperand{&c.w});
  Starts starts;
  for (std::size_t b = 0; b < pooling.blocks(); ++b) {
    starts.push_back(static_cast<std::int32_t>(pooling.start(b)));
  }
  return starts;
}

// Whether doubles hold all that l2 computes: products of a difference of integers with two sizes.
inline bool is_exact(const SortedCase& c) {
  if (c.n() == 0) return true;
  double range = 0.0;
  for (const std::vector<double>* values : {&c.z, &c.w}) {
    for (const double value : *values) {
      if (std::isfinite(value) && 4.0 * value != std::floor(4.0 * value)) return false;
      if (std::isfinite(value)) range = std::max(range, 4.0 * std::abs(value));
    }
  }
  int exponent;
  if (c.strength > 0.0 && std::frexp(c.strength, &exponent) != 0.5) return false;
  const auto size = static_cast<double>(c.n());
  return range * (4.0 + 4.0 * c.strength) * size * size < 9e15;
}

// s_i - s_j of the operand as the solver means it.
inline long double distance(const SortedCase& c, std::size_t i, std::size_t j) {
  if (c.z[i] == c.z[j]) return 0.0L;
  return (static_cast<long double>(c.z[i]) - c.z[j]) / c.strength;
}

// The value of the block [a, b), less s_a.
template <Regularization R>
long double block_value(const SortedCase& c, std::size_t a, std::size_t b) {
  long double s_sum = 0.0L, w_sum = 0.0L;
  for (std::size_t i = a; i < b; ++i) {
    const long double s = distance(c, i, a), w = c.w[i];
    s_sum += R == Regularization::l2 ? s : std::exp(s);
    w_sum += R == Regularization::log_kl ? std::exp(w - c.w[a]) : w;
  }
  if (R == Regularization::l2) return (s_sum - w_sum) / static_cast<long double>(b - a);
  return std::log(s_sum) - std::log(w_sum) - (R == Regularization::log_kl ? c.w[a] : 0.0);
}

// Whether two partitions differ in nothing but near ties.
//
// Between two starts that both have, all values that either has must then agree up to rounding. Let
// these be m elements, over which s and w together range over D. A value of l2 is a mean: a sum of
// at most m terms of at most D, which rounds at most m times to D m epsilon each, by m. In kl and
// log_kl it is the logarithm of sums of at most m positive terms, each to (m + 2) epsilon, and a
// difference of s and w, to D epsilon. A comparison errs by two such values; a wrong one moves the
// value of a block by no more than that, and the next one starts from there, over log2(m) + 1 levels
// in both partitions. Values that are no further apart than `near` count as equal.
template <Regularization R>
bool differ_in_near_ties_only(const SortedCase& c, const Starts& a, const Starts& b,
                              double near = 0.0) {
  const auto n = static_cast<std::int32_t>(c.n());
  std::size_t i = 0, j = 0;
  const auto next = [&](const Starts& starts, std::size_t& k) {
    return ++k < starts.size() ? starts[k] : n;
  };
  while (i < a.size() && j < b.size()) {
    Starts cuts{a[i]};  // of either, from one that is common to the next
    std::int32_t p = next(a, i), q = next(b, j);
    while (p != q) {
      cuts.push_back(std::min(p, q));
      if (p < q) {
        p = next(a, i);
      } else {
        q = next(b, j);
      }
    }
    if (cuts.size() == 1) continue;
    cuts.push_back(p);
    const auto first = static_cast<std::size_t>(cuts.front()), last = static_cast<std::size_t>(p);
    const long double range = distance(c, first, last - 1) + c.w[first] - c.w[last - 1];
    const auto m = static_cast<long double>(last - first);
    const long double rounding = std::numeric_limits<double>::epsilon() *
                                 (R == Regularization::l2 ? m * range : m + 2 + range);
    const long double slack = near + 2 * 2 * (std::log2(m) + 1) * rounding;
    const long double whole = block_value<R>(c, first, last);
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
      const auto start = static_cast<std::size_t>(cuts[k]);
      const auto end = static_cast<std::size_t>(cuts[k + 1]);
      const long double value = block_value<R>(c, start, end) + distance(c, start, first);
      if (!(std::abs(value - whole) <= slack)) return false;
    }
  }
  return true;
}

}  // namespace diffsort::testing
