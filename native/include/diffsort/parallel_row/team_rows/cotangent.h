// J^T g by one operand, of a row that a team holds: the gradient that training takes of ranks (by z)
// and of sorted values (by w). All else, with these too, is in team_rows/derivatives.h, as are the formulas.
//
// Nothing is sorted. Sums over blocks are in fixed point (fixed_point.h), relative to each block's own
// largest term: a pass finds these, a second adds up, a third visits blocks. So results are the same in
// every run. A row that is one block has a sum in float64 instead, and no blocks.
//
// Blocks are invalid where group.h says so: a start is at 0, and as many elements name each start as
// there are positions up to the next. That is so if the number of those that name a start leads from
// it to another start, or to the end: then it is at least as large, an element alone needs no check
// since somebody named it, and all of them together are as many as the positions.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/derivative_formulas.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/parallel_row/team_rows/cotangent_memory.h"
#include "diffsort/parallel_row/team_rows/softmax.h"

namespace diffsort {

// <p, g> from kl's sums.
DIFFSORT_HD inline double share_of(double weighted, double total) {
  // A sum below 0 is none of a projection's.
  if (!(total >= 0.0)) return std::numeric_limits<double>::quiet_NaN();
  return total == 0.0 ? weighted : plain_quotient(weighted, total);
}

// What x / strength multiplies x by, for results in float32, where strengths out of this range make
// 0 or infinity of x whatever they are. 0 in the hard limit.
DIFFSORT_HD inline double strength_factor(double strength, double sign) {
  if (!(strength > 0.0)) return 0.0;
  return plain_quotient(sign, strength < 1e-200 ? 1e-200 : strength > 1e200 ? 1e200 : strength);
}

// z's cotangent of an element with g, whose block has this number; in l2 weights are 1.
DIFFSORT_HD inline double cotangent_of_z(double scale, double g, double number, double weight) {
  return scale == 0.0 ? 0.0 : scale * (weight * (g - number));
}

// What an executor runs (see cuda/executor.cuh): a row with a team each.
template <Regularization R>
struct CotangentProgram {
  static constexpr bool kLessCode = false;
  using Memory = CotangentMemory<R>;
  static constexpr bool l2 = R == Regularization::l2, kl = R == Regularization::kl,
                        log_kl = R == Regularization::log_kl;

  int n;
  bool of_w;
  double z_sign, w_sign;
  DensePerRow strength;
  DenseRows<const float> g, result, w;
  DenseRows<const std::int32_t> block_z, block_w;
  float* out;

  // Whether this is a way for what is asked for. (No team has longer rows.)
  static bool serves(const LinearizedRows& at, const RowDirections& along) {
    return is_one_cotangent<R>(at, along) && along.cotangents.g.is_float32 && at.set.n >= 2 &&
           at.set.n <= kLongestSum;
  }

  CotangentProgram(const LinearizedRows& at, const RowDirections& along)
      : n(static_cast<int>(at.set.n)),
        of_w(along.wants_w()),
        z_sign(at.z_sign),
        w_sign(at.w_sign),
        strength(at.strength),
        g(typed(along.cotangents.g)),
        result(typed(at.result)),
        w(typed(at.w)),
        block_z(at.block_z),
        block_w(at.block_w),
        out(static_cast<float*>(of_w ? along.cotangents.w.data : along.cotangents.z.data)) {}

  std::int64_t length() const { return n; }
  void place() {}
  std::size_t bytes() const { return Memory::bytes(n, is_by_w()); }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t r, void* memory) const {
    if constexpr (!log_kl) {
      if (write_one_block(team, r)) return;
    }
    const Memory m(memory, n);
    clear(team, m);
    load(team, m, r);
    note_largest(team, m);
    add_blocks(team, m);
    finish_blocks(team, m);
    if (!is_by_w()) return write_z(team, m, r);
    check_w(team, m);
    if constexpr (log_kl) divide_by_softmax(team, m);
    write_w(team, m, r);
  }

 private:
  struct Loaded {
    std::int32_t id, id_w;  // 0 of w where it is not asked for
    float g, factor;
  };
  struct HeldElement {
    std::int32_t id_bits;
    float g, factor;
  };

  static DenseRows<const float> typed(const FloatRows& rows) {
    return {static_cast<const float*>(rows.data), rows.stride};
  }
  // As far as the compiler can, it tells from R.
  DIFFSORT_HD bool is_by_w() const { return log_kl || (l2 && of_w); }

  // No heads and no sums; behind the row a start.
  template <class Team>
  DIFFSORT_HD void clear(Team& team, const Memory& m) const {
    auto* const cleared = reinterpret_cast<typename Memory::Clear*>(m.flags);
    team.for_each(Memory::clears(m.n), [=](int k) {
      cleared[k] = {};
      if (k == (Memory::kFlags + m.n) / 4) m.heads[m.n] = 1;  // part of the k-th
    });
  }

  DIFFSORT_HD auto loads(std::int64_t r) const {
    const float *const g_row = g.row(r), *const factors = kl ? result.row(r) : w.row(r);
    const std::int32_t *const ids = block_z.row(r), *const ids_w = block_w.row(r);
    const bool by_w = is_by_w();
    const float factor_sign = static_cast<float>(w_sign);
    return [=](int e) {
      return Loaded{ids[e], by_w ? ids_w[e] : 0, g_row[e], l2 ? 0.0f : factor_sign * factors[e]};
    };
  }

  template <class Team>
  DIFFSORT_HD void load(Team& team, const Memory& m, std::int64_t r) const {
    const bool by_w = is_by_w();
    team.stream(n, loads(r), [=](int e, const Loaded& loaded) {
      const ReadPlace read(loaded.id, m.n);
      m.places[e] = read.place;
      m.g[e] = loaded.g;
      if (!l2) m.factors[e] = loaded.factor;
      if (!read.valid) m.make_invalid();
      if (!by_w) return;
      const ReadPlace read_w(loaded.id_w, m.n);
      m.w_places[e] = read_w.place;
      if (!read_w.valid) m.make_invalid();
    });
  }

  DIFFSORT_HD static std::uint32_t head(const Memory& m, int e) {
    return Head::of(exponent_of(kl ? m.factors[e] : m.g[e]), e);
  }
  DIFFSORT_HD static double product(const Memory& m, int e) {
    return static_cast<double>(m.factors[e]) * static_cast<double>(m.g[e]);
  }

  struct Totals {
    double terms, weights;
  };

  // What the elements of a row that is one block are to know of it: <p, g>.
  template <class Team, class Held>
  DIFFSORT_HD double number_of_row(Team& team, const Held& held) const {
    if constexpr (kl) {
      const Totals totals = team.reduce_held(
          held, Totals{0.0, 0.0},
          [](const HeldElement& element) {
            const auto weight = static_cast<double>(element.factor);
            return Totals{weight * static_cast<double>(element.g), weight};
          },
          [](const Totals& a, const Totals& b) {
            return Totals{a.terms + b.terms, a.weights + b.weights};
          });
      return share_of(totals.terms, totals.weights);
    } else {
      const double sum = team.reduce_held(
          held, 0.0, [](const HeldElement& element) { return static_cast<double>(element.g); },
          [](double a, double b) { return a + b; });
      return plain_quotient(sum, static_cast<double>(n));
    }
  }

  // Whether the row is one block, whose cotangent is then written.
  template <class Team>
  DIFFSORT_HD bool write_one_block(Team& team, std::int64_t r) const {
    const auto load = loads(r);
    const auto held = team.hold(n, [=](int e) {
      const Loaded loaded = load(e);
      return HeldElement{loaded.id | loaded.id_w, loaded.g, loaded.factor};
    });
    if (team.any_held(held, [](const HeldElement& e) { return e.id_bits != 0; })) return false;
    const double number = number_of_row(team, held), scale = scale_of(r);
    float* const to = out + r * n;
    const bool by_w = is_by_w();
    team.for_each_held(held, [=](int e, const HeldElement& element) {
      double value = number;
      if (!by_w) {
        const double weight = kl ? static_cast<double>(element.factor) : 1.0;
        value = cotangent_of_z(scale, static_cast<double>(element.g), number, weight);
      }
      to[e] = static_cast<float>(value);
    });
    return true;
  }

  // By the largest terms of blocks.
  template <class Team>
  DIFFSORT_HD void note_largest(Team& team, const Memory& m) const {
    using Words = LaneWords<kl ? 2 : 1>;
    gather_by_start<Gather::largest, Words>(
        team, m, [](int, int) { return true; },
        [=](int e, int) {
          Words words;
          words.word[0] = head(m, e);
          if (kl) words.word[kl] = static_cast<std::uint32_t>(exponent_of(product(m, e)));
          return words;
        },
        [=](int start, const Words& words) {
          raise_word(m.heads + start, words.word[0]);
          if (kl) raise_word(m.peaks + start, words.word[kl]);
        });
  }

  template <class Team>
  DIFFSORT_HD void add_blocks(Team& team, const Memory& m) const {
    constexpr int kSums = Memory::Sums::kWords, kShares = kl ? Memory::Shares::kWords : 0;
    using Words = LaneWords<kSums + kShares>;
    for_shared<Words>(
        team, m, [](int, int) {},
        [=](int e, int start) {
          Words words;
          Memory::Sums::split(kl ? m.factors[e] : m.g[e], Head::exponent(m.heads[start]),
                              words.word);
          if constexpr (kl) {
            Memory::Shares::split(product(m, e), static_cast<int>(m.peaks[start]),
                                  words.word + kSums);
          }
          return words;
        },
        [=](int start, const Words& words) {
          m.sum(start).add(words.word);
          if constexpr (kl) m.share(start).add(words.word + kSums);
        });
  }

  template <class Team>
  DIFFSORT_HD void finish_blocks(Team& team, const Memory& m) const {
    using Sums = typename Memory::Sums;
    for_shared_starts(team, m, [=](int start) {
      const auto sum = m.sum(start);
      const int size = Sums::count(sum), exponent = Head::exponent(m.heads[start]);
      if (start + size > m.n || !m.is_start(start + size)) m.make_invalid();
      double units = Sums::units(sum, exponent);
      if (l2) units = plain_quotient(units, static_cast<double>(size));
      double number = Sums::from_units(units, exponent);
      if constexpr (kl) {
        const auto peak = static_cast<int>(m.peaks[start]);
        number = share_of(Memory::Shares::sum(m.share(start), peak), number);
      }
      sum.store(number, size);
    });
  }

  // What an element's cotangent, less its block's number, is multiplied by; 0 in the hard limit.
  DIFFSORT_HD double scale_of(std::int64_t r) const {
    return strength_factor(strength.row(r), z_sign * w_sign);
  }
  template <class Team>
  DIFFSORT_HD void write_z(Team& team, const Memory& m, std::int64_t r) const {
    const double scale = scale_of(r);
    const bool invalid = m.is_invalid() || !m.is_start(0);
    float* const to = out + r * m.n;
    team.for_each(m.n, [=](int e) {
      const ShortPlace place = m.places[e];
      const int start = start_of(place);
      const auto own = static_cast<double>(m.g[e]);
      const double number = m.alone(start) ? own : m.sum(start).number();
      const double weight = kl ? static_cast<double>(m.factors[e]) : 1.0;
      double value = cotangent_of_z(scale, own, number, weight);
      if (is_infinite(place)) value = 0.0;
      if (invalid) value = std::numeric_limits<double>::quiet_NaN();
      to[e] = static_cast<float>(value);
    });
  }

  // The places of w in the place of z's.
  template <class Team>
  DIFFSORT_HD void check_w(Team& team, const Memory& m) const {
    team.for_each(m.n, [=](int j) {
      const ShortPlace place = m.w_places[j];
      m.places[j] = place;
      if (!m.is_start(start_of(place))) m.make_invalid();
    });
  }

  template <class Team>
  DIFFSORT_HD void write_w(Team& team, const Memory& m, std::int64_t r) const {
    const bool invalid = m.is_invalid() || !m.is_start(0);
    float* const to = out + r * m.n;
    team.for_each(m.n, [=](int j) {
      double value = std::numeric_limits<double>::quiet_NaN();
      if (!invalid) {  // else a start may have no head
        const int start = m.start(j);
        const bool alone = m.alone(start);
        value = alone ? static_cast<double>(m.g[m.element(start)]) : m.sum(start).number();
        if (log_kl && !alone) value *= static_cast<double>(m.factors[j]);
      }
      to[j] = static_cast<float>(value);
    });
  }
};

}  // namespace diffsort
