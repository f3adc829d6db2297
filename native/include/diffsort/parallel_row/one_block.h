// Ranks of a row that is one block, which need no sort.
//
// The row is one block, whatever the order of its values, if they differ by no more than
//     l2      n strength / 2
//     kl      log(2) strength
// (native/src/cpu/one_block.h has the proofs.) Its ranks are, in any order,
//     l2      (n + 1) / 2 + (z_i - mean(z)) / strength
//     kl      n (n + 1) / 2 softmax(z / strength)_i
// l2 measures values from the row's first one and kl from their middle, so that an offset costs no
// digits.
#pragma once

#include <cmath>
#include <cstdint>

#include "diffsort/exp_near_0.h"
#include "diffsort/host_device.h"
#include "diffsort/projection.h"

namespace diffsort {

// What is known of some of a row's values.
template <class T>
struct Spread {
  T low, high;
  double sum;  // of value - first; not finite if a value is not

  DIFFSORT_HD static Spread none(T first) { return {first, first, 0.0}; }
  DIFFSORT_HD static Spread of(T value, T first) { return {value, value, centred(value, first)}; }
  // Their sum may overflow.
  DIFFSORT_HD double middle() const {
    return 0.5 * static_cast<double>(low) + 0.5 * static_cast<double>(high);
  }
  DIFFSORT_HD static double centred(T value, T first) {
    return static_cast<double>(value) - static_cast<double>(first);
  }

  struct Combine {
    DIFFSORT_HD Spread operator()(const Spread& a, const Spread& b) const {
      return {b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high, a.sum + b.sum};
    }
  };
};

// Whether a row may be one block: where not, its spread need not be known. (Multiples of a denormal
// strength are not told apart.)
DIFFSORT_HD inline bool may_be_one_block(double strength) {
  return strength > 1e-300 && std::isfinite(strength);
}

// What the ranks of a row are, if it is one block, by the spread of the row.
template <class T>
struct OneBlock {
  Regularization regularization;  // l2 or kl
  double size;
  double scale;   // 1 / strength: a division takes as long as all the rest
  double origin;  // what values are measured from
  double mean;    // l2: of what is left of them
  double factor;  // kl: what weights are multiplied by; weigh() sets it
  bool whole;     // whether the row is one block

  DIFFSORT_HD OneBlock(Regularization regularization, const Spread<T>& spread, T first,
                       std::int64_t n, double strength)
      : regularization(regularization),
        size(count_to_double(n)),
        scale(1.0 / strength),
        origin(is_l2() ? static_cast<double>(first) : spread.middle()),
        mean(spread.sum / size),
        factor(1.0),
        whole(may_be_one_block(strength) && std::isfinite(spread.sum) &&
              Spread<T>::centred(spread.high, spread.low) <= widest() * strength) {}

  // What the rank of a value is proportional to, in kl, of a row that is one block.
  DIFFSORT_HD DIFFSORT_NOINLINE double weight(T value) const {
    return exp_near_0<T>((static_cast<double>(value) - origin) * scale);
  }

  // Before ranks of kl are asked for: the weights of all values together.
  DIFFSORT_HD void weigh(double total) { factor = 0.5 * size * (size + 1.0) / total; }

  DIFFSORT_HD double rank(T value) const {
    if (!is_l2()) return weight(value) * factor;
    return 0.5 * (size + 1.0) + ((static_cast<double>(value) - origin) - mean) * scale;
  }

 private:
  DIFFSORT_HD bool is_l2() const { return regularization == Regularization::l2; }
  // Of one block, in units of the strength.
  DIFFSORT_HD double widest() const {
    constexpr double kLog2 = 0.6931471805599453;  // below log 2
    return is_l2() ? 0.5 * size : kLog2;
  }
};

struct Addition {
  DIFFSORT_HD double operator()(double a, double b) const { return a + b; }
};

// Whether a row is one block, and then write(i, rank) for all of it. value(i): element i of z.
template <Regularization R, class Team, class Size, class Value, class Write>
DIFFSORT_HD bool rank_in_one_block(Team& team, Size n, double strength, const Value& value,
                                   const Write& write) {
  using T = decltype(value(0));
  if (!may_be_one_block(strength)) return false;
  const T first = value(0);
  const Spread<T> spread = team.reduce(
      n, Spread<T>::none(first), [&](Size i) { return Spread<T>::of(value(i), first); },
      typename Spread<T>::Combine{});
  OneBlock<T> block(R, spread, first, n, strength);
  if (!block.whole) return false;
  if (R == Regularization::kl) {
    block.weigh(team.reduce(n, 0.0, [&](Size i) { return block.weight(value(i)); }, Addition{}));
  }
  team.for_each(n, [&](Size i) { write(i, block.rank(value(i))); });
  return true;
}

}  // namespace diffsort
