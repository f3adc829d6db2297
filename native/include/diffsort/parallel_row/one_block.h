// Ranks of a row that is one block (diffsort/one_block_range.h), which need no sort. In any order they are
//     l2      (n + 1) / 2 + (z_i - mean(z)) / strength
//     kl      n (n + 1) / 2 softmax(z / strength)_i
// l2 measures values from the row's first one and kl from their middle, so that an offset costs no
// digits. As on the CPU, rows of numbers that are not moderate are left to the general way.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/block_sums.h"
#include "diffsort/exp_near_0.h"
#include "diffsort/host_device.h"
#include "diffsort/one_block_range.h"
#include "diffsort/projection.h"

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

  // Infinite if a finite range overflows.
  DIFFSORT_HD double range() const { return centred(high, low); }

  struct Combine {
    DIFFSORT_HD Spread operator()(const Spread& a, const Spread& b) const {
      return {b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high, a.sum + b.sum};
    }
  };
};

// What the ranks of a row are, if it is one block, by the spread of the row.
template <class T>
struct OneBlock {
  Regularization regularization;  // l2 or kl
  double size;
  double scale;   // 1 / strength: a division takes as long as all the rest
  double origin;  // what values are measured from: the first (l2), the lowest (kl)
  double middle;  // of what is left of them: the mean (l2), half the range (kl)
  double factor;  // kl: what weights are multiplied by; weigh() sets it
  bool whole;     // whether the row is one block

  DIFFSORT_HD OneBlock(Regularization regularization, const Spread<T>& spread, T first,
                       std::int64_t n, double strength)
      : regularization(regularization),
        size(count_to_double(n)),
        scale(1.0 / strength),
        origin(static_cast<double>(is_l2() ? first : spread.low)),
        middle(is_l2() ? spread.sum / size : 0.5 * spread.range()),
        factor(1.0),
        whole(is_moderate(strength) && std::isfinite(spread.sum) && spread.range() < kModerate &&
              spread.range() <= range_of_one_block(regularization, size) * strength) {}

  // What the rank of a value is proportional to, in kl, of a row that is one block.
  DIFFSORT_HD double weight(T value) const { return exp_near_0<T>(from_middle(value) * scale); }

  // Before ranks of kl are asked for: the weights of all values together.
  DIFFSORT_HD void weigh(double total) { factor = 0.5 * size * (size + 1.0) / total; }

  DIFFSORT_HD double rank(T value) const {
    return is_l2() ? 0.5 * (size + 1.0) + from_middle(value) * scale : weight(value) * factor;
  }

 private:
  DIFFSORT_HD bool is_l2() const { return regularization == Regularization::l2; }
  DIFFSORT_HD double from_middle(T value) const {
    return (static_cast<double>(value) - origin) - middle;
  }
};

struct Addition {
  DIFFSORT_HD double operator()(double a, double b) const { return a + b; }
};

template <class Team, class Size, class Value>
DIFFSORT_HD auto spread_of(Team& team, Size n, const Value& value) {
  using T = decltype(value(0));
  const T first = value(0);
  return team.reduce(
      n, Spread<T>::none(first), [&](Size i) { return Spread<T>::of(value(i), first); },
      typename Spread<T>::Combine{});
}

// Whether a row with this spread is one block, and then write(i, rank) for all of it. value(i):
// element i of z.
template <Regularization R, class Team, class Size, class T, class Value, class Write>
DIFFSORT_HD bool rank_in_one_block(Team& team, Size n, const Spread<T>& spread, double strength,
                                   const Value& value, const Write& write) {
  OneBlock<T> block(R, spread, value(0), n, strength);
  if (!block.whole) return false;
  if (R == Regularization::kl) {
    block.weigh(team.reduce(n, 0.0, [&](Size i) { return block.weight(value(i)); }, Addition{}));
  }
  team.for_each(n, [&](Size i) { write(i, block.rank(value(i))); });
  return true;
}

}  // namespace diffsort
