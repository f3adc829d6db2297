#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "pool_support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

template <Regularization R, class Row>
void build(const RunTree<R>& tree, const Row& row) {
  for (std::int64_t size = RunTree<R>::kLeaf; size <= row.n; size *= 2) {
    for (std::int64_t first = 0; first < row.n; first += size) {
      tree.build(row, static_cast<std::int32_t>(first), size);
    }
  }
}

// The sums one by one, in the order of the elements.
template <Regularization R, class Row>
BlockSums<R> plain_sums(const Row& row, std::int32_t first, std::int32_t last) {
  BlockSums<R> sums = row.singleton(first);
  for (std::int32_t i = first + 1; i < last; ++i) {
    sums.absorb(row.singleton(i), 1, row.shift(first, i));
  }
  return sums;
}

double first_sum(const BlockSums<Regularization::l2>& sums) {
  return sums.y;
}
double second_sum(const BlockSums<Regularization::l2>&) {
  return 0.0;
}
template <Regularization R>
double first_sum(const BlockSums<R>& sums) {
  return sums.s;
}
template <Regularization R>
double second_sum(const BlockSums<R>& sums) {
  return sums.w;
}

}  // namespace

TEST_CASE("the sums of every run, whatever lies outside of it") {
  CaseMaker maker(1);
  for (const std::int64_t n : {1, 7, 8, 9, 16, 31, 40, 64, 77}) {
    const SortedCase c = maker.make(Family::random_walk, n);
    for_each_regularization([&](auto r) {
      constexpr Regularization R = decltype(r)::value;
      const auto row = row_of<R>(c, CheckedOperand{&c.z}, CheckedOperand{&c.w});
      for (std::int32_t first = 0; first < n; ++first) {
        for (std::int32_t last = first + 1; last <= n; ++last) {
          SortedCase outside = c;
          for (std::int32_t i = 0; i < n; ++i) {
            if (i < first || i >= last) outside.z[i] = outside.w[i] = std::nan("");
          }
          auto run_row = row;
          run_row.z = CheckedOperand{&outside.z};
          run_row.w = CheckedOperand{&outside.w};
          RowMemory<R, kKeptInLongRow> memory(n);
          const RunTree<R> tree(memory.tree.data());
          build(tree, run_row);
          const auto actual = tree.sums(run_row, first, last);
          const auto expected = plain_sums<R>(row, first, last);
          // Integers in l2; elsewhere n additions round, and terms are right to 3 epsilon or so.
          const double slack =
              R == Regularization::l2 ? 0.0 : (n + 8.0) * std::numeric_limits<double>::epsilon();
          CAPTURE(n);
          CAPTURE(first);
          CAPTURE(last);
          REQUIRE(std::abs(first_sum(actual) - first_sum(expected)) <= slack * first_sum(expected));
          REQUIRE(std::abs(second_sum(actual) - second_sum(expected)) <=
                  slack * second_sum(expected));
        }
      }
    });
  }
}
