// Steps over the blocks of at least two elements, and over their elements (team_rows/cotangent.h).
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/team/lane_words.h"

namespace diffsort {

// use(start, value(e, start)) for the elements e for which wanted(e, start); Words of several with one
// start may be combined before.
template <Gather kHow, class Words, class Team, class Memory, class Wanted, class Value, class Use>
DIFFSORT_HD void gather_by_start(Team& team, const Memory& m, const Wanted& wanted,
                                 const Value& value, const Use& use) {
  team.for_each_lanes(words_of_bits(m.n), [=](const auto& lanes, int k) {
    const int first = 32 * k;
    auto start = lanes.template each<int>();
    const std::uint32_t some = lanes.ballot([&](int lane) {
      const int e = first + lane;
      if (e >= m.n) return false;
      start[lane] = m.start(e);
      return wanted(e, start[lane]);
    });
    if (some == 0) return;
    // Often the block of a large one's first element is that of many more.
    const int pivot = m.start(first + lowest_bit(some));
    const std::uint32_t same = lanes.ballot([&](int lane) { return start[lane] == pivot; });
    lanes.template gather<kHow>(
        some, same, [&](int lane) { return value(first + lane, start[lane]); },
        [&](int lane, const Words& words) { use(start[lane], words); });
  });
}

// The same for the elements that are not alone in their block; if_alone(e, start) for all others.
template <Gather kHow, class Words, class Team, class Memory, class IfAlone, class Value, class Use>
DIFFSORT_HD void gather_shared(Team& team, const Memory& m, const IfAlone& if_alone,
                               const Value& value, const Use& use) {
  gather_by_start<kHow, Words>(
      team, m,
      [=](int e, int start) {
        if (!m.alone(start)) return true;
        if_alone(e, start);
        return false;
      },
      value, use);
}

template <class Words, class Team, class Memory, class IfAlone, class Value, class Use>
DIFFSORT_HD void for_shared(Team& team, const Memory& m, const IfAlone& if_alone,
                            const Value& value, const Use& use) {
  gather_shared<Gather::sum, Words>(team, m, if_alone, value, use);
}

// f(start) for every block of at least two elements: at most one at positions 2 k and 2 k + 1.
template <class Team, class Memory, class F>
DIFFSORT_HD void for_shared_starts(Team& team, const Memory& m, const F& f) {
  team.for_each(m.n / 2, [=](int k) {
    const int start = m.is_start(2 * k + 1) ? 2 * k + 1 : 2 * k;
    if (m.is_start(start) && !m.alone(start)) f(start);
  });
}

}  // namespace diffsort
