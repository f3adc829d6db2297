// A sorted operand in a team's memory: keys that ascend while values descend, and where each came from.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/team/team_pointer.h"
#include "diffsort/sort.h"

namespace diffsort {

// Without keys: rho = (n, ..., 1), which is sorted already.
template <class T>
struct KeyedOperand {
  using Bits = typename SortKey<T>::Bits;

  TeamPointer<const Bits> keys;
  std::int64_t n;

  // The i-th largest value.
  DIFFSORT_HD double operator()(std::int64_t i) const {
    return keys == nullptr ? count_to_double(n - i)
                           : static_cast<double>(from_descending_key<T>(keys[i]));
  }
};

// NaN sort before or behind everything else, as their sign says.
template <class Operand>
DIFFSORT_HD bool has_nan(const Operand& x) {
  return std::isnan(x(0)) || std::isnan(x(x.n - 1));
}

// The finite elements of a sorted operand lie at [first, last).
struct FiniteRange {
  std::int64_t first, last;

  template <class Operand>
  DIFFSORT_HD static FiniteRange of(const Operand& x) {
    FiniteRange range{0, x.n};
    if (std::isinf(x(0))) {
      range.first = partition_point(0, x.n, [&](std::int64_t i) { return x(i) == x(0); });
    }
    if (range.first < x.n && std::isinf(x(x.n - 1))) {
      const double last = x(x.n - 1);
      range.last = partition_point(range.first, x.n, [&](std::int64_t i) { return x(i) != last; });
    }
    return range;
  }

  DIFFSORT_HD bool contains(std::int64_t i) const { return first <= i && i < last; }

  // Largest less smallest of the finite values.
  template <class Operand>
  DIFFSORT_HD double width(const Operand& x) const {
    return first < last ? x(first) - x(last - 1) : 0.0;
  }

 private:
  // The first position for which `holds` fails, which holds up to somewhere and no further.
  template <class Predicate>
  DIFFSORT_HD static std::int64_t partition_point(std::int64_t first, std::int64_t last,
                                                  const Predicate& holds) {
    while (first < last) {
      const std::int64_t middle = first + (last - first) / 2;
      if (holds(middle)) {
        first = middle + 1;
      } else {
        last = middle;
      }
    }
    return first;
  }
};

}  // namespace diffsort
