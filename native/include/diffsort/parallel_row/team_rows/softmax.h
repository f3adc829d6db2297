// Softmax of w over its blocks, for w's cotangent of log_kl (team_rows/cotangent.h).
//
// Parts are exp(w - the block's largest w), at most 1 and 1 once, so that they are added up in fixed
// point without their largest being looked for.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/derivative_formulas.h"
#include "diffsort/parallel_row/team_rows/cotangent_memory.h"
#include "diffsort/parallel_row/team_rows/shared_blocks.h"
#include "diffsort/sort.h"

namespace diffsort {

// Keys ascend with values.
template <class Team, class Memory>
DIFFSORT_HD void find_tops(Team& team, const Memory& m) {
  using Words = LaneWords<1>;
  gather_shared<Gather::largest, Words>(
      team, m, [=](int j, int start) { m.last_named[start] = static_cast<ShortPlace>(j); },
      [=](int j, int) { return Words{{~to_descending_key(m.factors[j])}}; },
      [=](int start, const Words& words) { raise_word(m.tops + start / 2, words.word[0]); });
}

// The parts in the place of w, and the sum of the cotangents of every block over the sum of its parts
// in the place of the former. As many elements of w name a start as elements of z do.
template <class Team, class Memory>
DIFFSORT_HD void divide_by_softmax(Team& team, const Memory& m) {
  using Parts = typename Memory::Shares;
  using Words = LaneWords<Parts::kWords>;
  constexpr int kOne = FloatBits<float>::kBias;  // the exponent of 1
  find_tops(team, m);
  for_shared<Words>(
      team, m,
      [=](int j, int start) {
        if (m.last_named[start] != j) m.make_invalid();
      },
      [=](int j, int start) {
        const auto top = from_descending_key<float>(~m.tops[start / 2]);
        auto part = static_cast<float>(
            softmax_part(static_cast<double>(m.factors[j]), static_cast<double>(top), 1.0));
        if (!(part <= 1.0f)) {  // of a NaN, whose row has no blocks
          m.make_invalid();
          part = 0.0f;
        }
        m.factors[j] = part;
        Words words;
        Parts::split(part, kOne, words.word);
        return words;
      },
      [=](int start, const Words& words) { m.share(start).add(words.word); });
  for_shared_starts(team, m, [=](int start) {
    const auto parts = m.share(start);
    const auto sum = m.sum(start);
    if (Parts::count(parts) != sum.count()) m.make_invalid();
    sum.store(plain_quotient(sum.number(), Parts::sum(parts, kOne)), sum.count());
  });
}

}  // namespace diffsort
