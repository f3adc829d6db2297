// Sorted rows to pool with, and what the parallel and the sequential partition of one may differ in.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "diffsort/isotonic.h"
#include "diffsort/parallel_row/pool.h"
#include "diffsort/parallel_row/team.h"

namespace diffsort::testing {

// Both operands sorted, in descending order.
struct SortedCase {
  std::string name;
  std::vector<double> z, w;
  double strength = 1.0;

  std::int64_t n() const { return static_cast<std::int64_t>(z.size()); }
};

// Operands that know how often they were read, and that nobody reads beyond them.
struct CheckedOperand {
  const std::vector<double>* values;
  std::int64_t* reads;

  double operator()(std::int64_t i) const {
    ++*reads;
    return values->at(static_cast<std::size_t>(i));
  }
};

using Starts = std::vector<std::int32_t>;

template <Regularization R>
Starts sequential_starts(const SortedCase& c) {
  const auto z = [&](std::int64_t i) { return c.z[static_cast<std::size_t>(i)]; };
  const auto w = [&](std::int64_t i) { return c.w[static_cast<std::size_t>(i)]; };
  Pooling<R> pooling;
  pooling.run(c.n(), c.strength, z, w);
  Starts starts;
  for (std::size_t b = 0; b < pooling.blocks(); ++b) {
    starts.push_back(static_cast<std::int32_t>(pooling.start(b)));
  }
  return starts;
}

// A row pooled by a team, in memory of exactly the sizes that the headers ask for.
template <Regularization R>
struct Pooled {
  using Row = SortedRow<R, CheckedOperand, CheckedOperand>;

  template <class Team>
  Pooled(const SortedCase& c, Team& team)
      : row{c.n(),
            c.strength,
            Units(c.n(), c.strength, CheckedOperand{&c.z, &reads}, CheckedOperand{&c.w, &reads}),
            {&c.z, &reads},
            {&c.w, &reads}},
        bits(static_cast<std::size_t>(StartBits::words(c.n())), 0xdeadbeef),
        tree(static_cast<std::size_t>(RunTree<R>::nodes(c.n()))),
        blocks(static_cast<std::size_t>(c.n() / 2)) {
    reads = 0;
    pool(team, row, memory());
  }

  PartitionMemory<R> memory() { return {bits.data(), tree.data(), blocks.data()}; }
  Partition<R, Row> partition() { return {row, memory()}; }

  Starts starts() {
    Starts found;
    for (std::int32_t i = 0; i < row.n; i = partition().block_of(i).end) found.push_back(i);
    return found;
  }

  std::int64_t reads = 0;  // of operands while pooling
  Row row;
  std::vector<std::uint32_t> bits;
  std::vector<BlockSums<R>> tree, blocks;
};

// The value of the block [a, b), less s of its first element, which is infinite for infinite z.
template <Regularization R>
long double block_value(const SortedCase& c, std::size_t a, std::size_t b) {
  long double s_sum = 0.0L, w_sum = 0.0L;
  for (std::size_t i = a; i < b; ++i) {
    const long double s =
        c.z[i] == c.z[a] ? 0.0L : (static_cast<long double>(c.z[i]) - c.z[a]) / c.strength;
    const long double w = c.w[i];
    s_sum += R == Regularization::l2 ? s : std::exp(s);
    w_sum += R == Regularization::log_kl ? std::exp(w - c.w[a]) : w;
  }
  const auto size = static_cast<long double>(b - a);
  if (R == Regularization::l2) return (s_sum - w_sum) / size;
  return std::log(s_sum) - std::log(w_sum) - (R == Regularization::log_kl ? c.w[a] : 0.0L);
}

// How many near ties two partitions differ in; fails if they differ in more.
//
// Between two starts that both have, one may have cut where the other has not: then the values must
// agree within what rounding does to them. A comparison of blocks in a stretch of m elements, over
// which s and w together range over D, rounds at most m times on the way to a sum of at most m terms
// of at most D. In l2 this puts the mean off by m D epsilon, in kl the logarithm of a sum of
// positive terms by m epsilon and the difference of s by D epsilon. Each join that this allows or
// prevents may move the value by as much again, log2(m) times one into another: 4 covers both
// partitions, both sides of a comparison; 64 the levels.
template <Regularization R>
bool agree_up_to_near_ties(const SortedCase& c, const Starts& a, const Starts& b) {
  const long double epsilon = std::numeric_limits<double>::epsilon();
  const auto n = static_cast<std::size_t>(c.n());
  std::size_t i = 0, j = 0;
  const auto at = [&](const Starts& starts, std::size_t k) {
    return k < starts.size() ? static_cast<std::size_t>(starts[k]) : n;
  };
  while (i < a.size() && j < b.size()) {
    const std::size_t first = at(a, i);  // common to both
    std::vector<std::size_t> cuts{first};
    std::size_t p = at(a, ++i), q = at(b, ++j);
    while (p != q) {
      if (p < q) {
        cuts.push_back(p);
        p = at(a, ++i);
      } else {
        cuts.push_back(q);
        q = at(b, ++j);
      }
    }
    const std::size_t last = p;
    if (cuts.size() == 1) continue;
    const long double range = (static_cast<long double>(c.z[first]) - c.z[last - 1]) / c.strength +
                              c.w[first] - c.w[last - 1];
    if (!std::isfinite(static_cast<double>(range))) return false;
    const auto m = static_cast<long double>(last - first);
    const long double slack = 64 * 4 * epsilon * (R == Regularization::l2 ? m * range : m + range);
    const long double whole = block_value<R>(c, first, last);
    cuts.push_back(last);
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
      const long double shift = (static_cast<long double>(c.z[cuts[k]]) - c.z[first]) / c.strength;
      const long double part = block_value<R>(c, cuts[k], cuts[k + 1]) + shift;
      if (!(std::abs(part - whole) <= slack)) return false;
    }
  }
  return true;
}

}  // namespace diffsort::testing
