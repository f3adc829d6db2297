// l2 ranks of a row that is one block, which need no sort: as rank_in_one_block of project_cpu.cpp.
//
// The row is one block if its values differ by no more than n strength / 2, whatever their order.
// Values are measured from the row's first one, so that an offset costs no digits.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// What is known of some of a row's values.
template <class T>
struct Spread {
  T low, high;
  double sum;  // of value - first; not finite if a value is not

  DIFFSORT_HD static Spread none(T first) { return {first, first, 0.0}; }
  DIFFSORT_HD static Spread of(T value, T first) { return {value, value, centred(value, first)}; }
  DIFFSORT_HD static double centred(T value, T first) {
    return static_cast<double>(value) - static_cast<double>(first);
  }

  struct Combine {
    DIFFSORT_HD Spread operator()(const Spread& a, const Spread& b) const {
      return {b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high, a.sum + b.sum};
    }
  };
};

// Of the spread of a whole row.
template <class T>
struct OneBlock {
  T first;
  double size, strength, mean;
  bool whole;  // whether the row is one block

  // Whether a row may be one: where not, its spread need not be known.
  DIFFSORT_HD static bool may_be(double strength) {
    return strength > 0.0 && std::isfinite(strength);
  }

  DIFFSORT_HD OneBlock(const Spread<T>& spread, T first, std::int64_t n, double strength)
      : first(first),
        size(count_to_double(n)),
        strength(strength),
        mean(spread.sum / size),
        whole(may_be(strength) && std::isfinite(spread.sum) &&
              Spread<T>::centred(spread.high, spread.low) <= 0.5 * size * strength) {}

  DIFFSORT_HD double rank(T value) const {
    return 0.5 * (size + 1.0) + (Spread<T>::centred(value, first) - mean) / strength;
  }
};

// Whether a row is one block, and then write(i, rank) for all of it. value(i): element i of z.
template <class Team, class Size, class Value, class Write>
DIFFSORT_HD bool rank_in_one_block(Team& team, Size n, double strength, const Value& value,
                                   const Write& write) {
  using T = decltype(value(0));
  if (!OneBlock<T>::may_be(strength)) return false;
  const T first = value(0);
  const Spread<T> spread = team.reduce(
      n, Spread<T>::none(first), [&](Size i) { return Spread<T>::of(value(i), first); },
      typename Spread<T>::Combine{});
  const OneBlock<T> block(spread, first, n, strength);
  if (!block.whole) return false;
  team.for_each(n, [&](Size i) { write(i, block.rank(value(i))); });
  return true;
}

}  // namespace diffsort
