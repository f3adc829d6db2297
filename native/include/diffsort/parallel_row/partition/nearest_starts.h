// For every word of the starts of a row, the last one before it and the first one behind: once they
// are known, the block of an element is found without a search. Neighbours are in one word mostly, so
// a search costs all 32 of them what it costs the one that is farthest from a start.
//
// Scratch: a quarter byte per element.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/partition.h"
#include "diffsort/parallel_row/team/team_pointer.h"

namespace diffsort {

struct NearestStarts {
  TeamPointer<std::int32_t> before, behind;  // of each word
  const std::uint32_t* bits;                 // of the row
  std::int32_t first, end;  // elements that are asked for; `first` is a multiple of 32

  // Of a whole row.
  template <class Source>
  DIFFSORT_HD static NearestStarts of(Source& arena, std::int64_t n, const std::uint32_t* bits) {
    const std::int64_t words = words_of_bits(n);
    return {arena.template take<std::int32_t>(words), arena.template take<std::int32_t>(words),
            bits, 0, static_cast<std::int32_t>(n)};
  }

  // last_before(b) and first_from(b) are starts of the row, which has n elements, or n.
  template <class Team, class LastBefore, class FirstFrom>
  DIFFSORT_HD void find(Team& team, std::int32_t n, const LastBefore& last_before,
                        const FirstFrom& first_from) const {
    // Sums beyond the end of the longest row would overflow.
    const std::int32_t first_word = first / 32, last_word = (end - 1) / 32;
    team.for_each(last_word - first_word + 1, [&](std::int32_t word) {
      const std::int32_t k = first_word + word;
      before[word] = k == 0 ? 0 : last_before(32 * k);
      behind[word] = k < (n - 1) / 32 ? first_from(32 * k + 32) : n;
    });
  }

  // Without branches, on which neighbours would part: numbers that are not meant are looked up as well.
  DIFFSORT_HD std::int32_t start_of(std::int32_t i) const {
    const std::uint32_t found = bits[i / 32] & ~bits_behind(i % 32);
    const std::int32_t here = i / 32 * 32 + highest_bit(found | 1), there = before[word_of(i)];
    return found != 0 ? here : there;
  }

  DIFFSORT_HD Block block_of(std::int32_t i) const {
    const std::uint32_t found = bits[i / 32] & bits_behind(i % 32), last = std::uint32_t{1} << 31;
    const std::int32_t here = i / 32 * 32 + lowest_bit(found | last), there = behind[word_of(i)];
    return {start_of(i), found != 0 ? here : there};
  }

  DIFFSORT_HD std::int32_t word_of(std::int32_t i) const { return (i - first) / 32; }
};

}  // namespace diffsort
