// Ranks of a row that is one block (diffsort/one_block_range.h), which need no sort. In any order they are
//     l2      (n + 1) / 2 + (z_i - mean(z)) / strength
//     kl      n (n + 1) / 2 softmax(z / strength)_i
// l2 measures values from the row's first one and kl from their middle, so that an offset costs no
// digits. As on the CPU, rows of numbers that are not moderate are left to the general way.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "diffsort/arithmetic.h"
#include "diffsort/block_sums.h"
#include "diffsort/exp_near_0.h"
#include "diffsort/host_device.h"
#include "diffsort/one_block_range.h"
#include "diffsort/projection.h"

namespace diffsort {

// What is known of some of a row's values.
template <class T>
struct Spread {
  T low, high;  // of no use if there is a NaN
  double sum;   // of value - first; not finite if a value is not

  DIFFSORT_HD static Spread none(T first) { return {first, first, 0.0}; }
  DIFFSORT_HD static Spread of(T value, T first) { return {value, value, centred(value, first)}; }
  DIFFSORT_HD static double centred(T value, T first) {
    return static_cast<double>(value) - static_cast<double>(first);
  }

  // Infinite if a finite range overflows.
  DIFFSORT_HD double range() const { return centred(high, low); }

  struct Combine {
    DIFFSORT_HD Spread operator()(const Spread& a, const Spread& b) const {
      return {smaller(a.low, b.low), larger(a.high, b.high), a.sum + b.sum};
    }
  };
};

// Where loops are unrolled.
template <class T>
DIFFSORT_HD DIFFSORT_NOINLINE double called_exp(double x) {
  return exp_near_0<T>(x);
}

// What the ranks of a row are, if it is one block, by the spread of the row.
template <class T>
struct OneBlock {
  Regularization regularization;  // l2 or kl
  double size;
  double scale;   // 1 / strength, if that is moderate: a division takes as long as all the rest
  double origin;  // what values are measured from: the first (l2), the lowest (kl)
  double middle;  // of what is left of them: the mean (l2), half the range (kl)
  double factor;  // kl: what weights are multiplied by; weigh() sets it
  bool whole;     // whether the row is one block

  DIFFSORT_HD OneBlock(Regularization regularization, const Spread<T>& spread, T first,
                       std::int64_t n, double strength)
      : regularization(regularization),
        size(count_to_double(n)),
        scale(plain_quotient(1.0, strength)),
        origin(static_cast<double>(is_l2() ? first : spread.low)),
        middle(is_l2() ? plain_quotient(spread.sum, size) : 0.5 * spread.range()),
        factor(1.0),
        whole(is_moderate(strength) && std::isfinite(spread.sum) && spread.range() < kModerate &&
              spread.range() <= range_of_one_block(regularization, size) * strength) {}

  // What the rank of a value is proportional to, in kl, of a row that is one block.
  template <bool kByCall = false>
  DIFFSORT_HD double weight(T value) const {
    const double x = from_middle(value) * scale;
    return kByCall ? called_exp<T>(x) : exp_near_0<T>(x);
  }

  // Before ranks of kl are asked for: the weights of all values together.
  DIFFSORT_HD void weigh(double total) {
    factor = plain_quotient(0.5 * size * (size + 1.0), total);
  }

  template <bool kByCall = false>
  DIFFSORT_HD double rank(T value) const {
    return is_l2() ? 0.5 * (size + 1.0) + from_middle(value) * scale
                   : weight<kByCall>(value) * factor;
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

// A row's values, which a team looks up, value(i) for 0 <= i < n, or which its threads hold.
template <class Team, class Size, class Value>
struct ReadValues {
  static constexpr bool kUnrolled = false;

  Team& team;
  Size n;
  Value value;

  DIFFSORT_HD auto first() const { return value(0); }
  template <class V, class Map, class Combine>
  DIFFSORT_HD V reduce(V identity, const Map& map, const Combine& combine) const {
    return team.reduce(n, identity, [&](Size i) { return map(value(i)); }, combine);
  }
  template <class F>
  DIFFSORT_HD void for_each(const F& f) const {
    team.for_each(n, [&](Size i) { f(i, value(i)); });
  }
};

template <class Team, class Size, class Value>
DIFFSORT_HD ReadValues<Team, Size, Value> read_values(Team& team, Size n, const Value& value) {
  return {team, n, value};
}

template <class Team, class T>
class HeldValues {
 public:
  static constexpr bool kUnrolled = true;

  DIFFSORT_HD HeldValues(Team& team, int size, const T* values, double sign)
      : n(size),
        team_(team),
        first_(Load{values, static_cast<T>(sign)}(0)),
        held_(team.hold(size, Load{values, static_cast<T>(sign)})) {}

  const int n;

  DIFFSORT_HD T first() const { return first_; }
  template <class V, class Map, class Combine>
  DIFFSORT_HD V reduce(V identity, const Map& map, const Combine& combine) const {
    return team_.reduce_held(held_, identity, map, combine);
  }
  template <class F>
  DIFFSORT_HD void for_each(const F& f) const {
    team_.for_each_held(held_, f);
  }

 private:
  // An element in the terms of P itself.
  struct Load {
    const T* values;
    T sign;
    DIFFSORT_HD T operator()(int i) const { return sign * values[i]; }
  };

  Team& team_;
  T first_;
  decltype(std::declval<Team&>().hold(0, std::declval<Load>())) held_;
};

template <class Values>
DIFFSORT_HD auto spread_of(const Values& values) {
  using T = decltype(values.first());
  const T first = values.first();
  return values.reduce(
      Spread<T>::none(first), [=](T value) { return Spread<T>::of(value, first); },
      typename Spread<T>::Combine{});
}

// Whether a row with this spread is one block, and then write(i, rank) for all of it.
template <class Values, class T, class Write>
DIFFSORT_HD bool rank_in_one_block(Regularization regularization, const Values& values,
                                   const Spread<T>& spread, double strength, const Write& write) {
  constexpr bool kByCall = Values::kUnrolled;
  OneBlock<T> block(regularization, spread, values.first(), values.n, strength);
  if (!block.whole) return false;
  if (regularization == Regularization::kl) {
    block.weigh(values.reduce(
        0.0, [&](T value) { return block.template weight<kByCall>(value); }, Addition{}));
  }
  values.for_each([&](auto i, T value) { write(i, block.template rank<kByCall>(value)); });
  return true;
}

}  // namespace diffsort
