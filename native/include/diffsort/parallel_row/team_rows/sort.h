// Sorts the keys of a row that a team has in its memory, by sorting words of 32 bits (team.h): an index
// below and above it bits to sort by. A word is less to move than a key and an index, and all keys share
// the code.
//
//     by lanes   float32, n <= 128: as by cells, of which there are so many that next to none is shared; the
//                words are in the registers of 32 lanes
//     by bits    any keys, 16 bits at a time from the lowest on
//     by cells   float32: the range of the values is divided into cells, and words have the number
//                of their cell, in 19 or 21 bits. Few elements share one, if values are not too
//                uneven; their keys are compared. Else nothing is lost but the time, and most of
//                that is saved where the first 32 elements show it.
//
// All are stable. Cost: a sort of words by the team, by bits one for each 16 of a key.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/one_block.h"
#include "diffsort/parallel_row/team/lane_words.h"
#include "diffsort/parallel_row/team/team_pointer.h"
#include "diffsort/sort.h"

namespace diffsort {

using SortIndex = std::uint16_t;

// Of n elements, at most 8192.
template <class Bits>
struct SortMemory {
  TeamPointer<std::uint32_t> words;    // room_to_sort(n)
  TeamPointer<std::uint32_t> problem;  // one; it and the next for keys of 32 bits alone
  TeamPointer<Bits> sorted;            // n

  template <class Source>
  DIFFSORT_HD static SortMemory of(Source& arena, std::int64_t n) {
    SortMemory memory{};
    memory.words = arena.template take<std::uint32_t>(room_to_sort(n));
    if (sizeof(Bits) == 4) {
      memory.problem = arena.template take<std::uint32_t>(1);
      memory.sorted = arena.template take<Bits>(n);
    }
    return memory;
  }
};

template <class Team, class Bits>
DIFFSORT_HD void sort_by_bits(Team& team, int n, TeamPointer<Bits> keys,
                              TeamPointer<SortIndex> index, TeamPointer<std::uint32_t> words) {
  constexpr int kBits = 8 * static_cast<int>(sizeof(Bits));
  DIFFSORT_ROLLED
  for (int low = 0; low < kBits; low += 16) {
    // With their places, so that equal bits stay in the order that they have by now.
    team.for_each(n, [=](int p) {
      const std::uint32_t i = low == 0 ? static_cast<std::uint32_t>(p) : index[p];
      words[p] = static_cast<std::uint32_t>(keys[i] >> low) << 16 | static_cast<std::uint32_t>(p);
    });
    team.sort_words(n, words);
    if (low > 0) team.for_each(n, [=](int p) { words[p] = index[words[p] & 0xffff]; });
    team.for_each(n, [=](int p) { index[p] = static_cast<SortIndex>(words[p]); });
  }
  // Keys follow, 32 bits at a time, by way of the words.
  DIFFSORT_ROLLED
  for (int low = 0; low < kBits; low += 32) {
    const Bits part = static_cast<Bits>(~std::uint32_t{0}) << low;
    team.for_each(n, [=](int p) { words[p] = static_cast<std::uint32_t>(keys[index[p]] >> low); });
    team.for_each(n,
                  [=](int p) { keys[p] = (keys[p] & ~part) | static_cast<Bits>(words[p]) << low; });
  }
}

// The range of a row's values in cells, the largest value in the first.
class SortCells {
 public:
  static constexpr int kMostInCell = 8;

  DIFFSORT_HD SortCells(const Spread<float>& spread, int index_bits, int cell_bits)
      : index_bits_(index_bits), high_(spread.high) {
    const float cells = static_cast<float>((std::uint32_t{1} << cell_bits) - 1);
    per_unit_ = cells / (spread.high - spread.low);
    serves_ = std::isfinite(spread.sum) && spread.range() < 1e38 && per_unit_ < 1e38f;
  }

  DIFFSORT_HD bool serve() const { return serves_; }

  DIFFSORT_HD static SortCells of_team(const Spread<float>& spread, int n) {
    const int index_bits = n <= 2048 ? 11 : 13;
    return {spread, index_bits, 32 - index_bits};
  }
  // Of at most 128 elements. One bit more would be cells that floats cannot tell apart; that bit is for
  // the last cell, whose number may be rounded up to 2^24.
  DIFFSORT_HD static SortCells of_lanes(const Spread<float>& spread) { return {spread, 7, 24}; }

  // Rounding is monotone, and does not go past 2^cell_bits, and below it of 21 bits or fewer.
  DIFFSORT_HD std::uint32_t word(float value, int i) const {
    const auto cell = static_cast<std::uint32_t>((high_ - value) * per_unit_);
    return cell << index_bits_ | static_cast<std::uint32_t>(i);
  }
  DIFFSORT_HD std::uint32_t cell_of(std::uint32_t word) const { return word >> index_bits_; }
  DIFFSORT_HD std::uint32_t index_of(std::uint32_t word) const {
    return word & ((std::uint32_t{1} << index_bits_) - 1);
  }

 private:
  int index_bits_;
  bool serves_;
  float high_, per_unit_;
};

// Puts the keys [first, last) in order, and with them their index.
template <class Bits>
DIFFSORT_HD void insertion_sort(TeamPointer<Bits> keys, TeamPointer<SortIndex> index, int first,
                                int last) {
  DIFFSORT_ROLLED
  for (int k = first + 1; k < last; ++k) {
    const Bits key = keys[k];
    const SortIndex from = index[k];
    int to = k;
    DIFFSORT_ROLLED
    for (; to > first && keys[to - 1] > key; --to) {
      keys[to] = keys[to - 1];
      index[to] = index[to - 1];
    }
    keys[to] = key;
    index[to] = from;
  }
}

// Whether it has; if not, keys are as they were. Of at most 128 elements.
template <class Team>
DIFFSORT_HD bool sort_by_lanes(Team& team, int n, const SortCells cells,
                               TeamPointer<std::uint32_t> keys, TeamPointer<SortIndex> index,
                               const SortMemory<std::uint32_t> memory) {
  const auto disorder = memory.problem;
  team.for_each_lanes(1, [=](const auto& lanes, int) {
    auto words = lanes.template each<LaneWords<4>>();
    auto sorted = lanes.template each<LaneWords<4>>();
    lanes.for_each([&](int lane) {
      DIFFSORT_UNROLLED
      for (int k = 0; k < 4; ++k) {
        const int i = lane + 32 * k;
        words[lane].word[k] =
            i < n ? cells.word(from_descending_key<float>(keys[i]), i) : ~std::uint32_t{0};
      }
    });
    lanes.sort(words);
    lanes.for_each([&](int lane) {
      DIFFSORT_UNROLLED
      for (int k = 0; k < 4; ++k) {
        if (4 * lane + k < n) sorted[lane].word[k] = keys[cells.index_of(words[lane].word[k])];
      }
    });
    lanes.for_each([&](int lane) {
      DIFFSORT_UNROLLED
      for (int k = 0; k < 4; ++k) {
        const int p = 4 * lane + k;
        if (p >= n) continue;
        keys[p] = sorted[lane].word[k];
        index[p] = static_cast<SortIndex>(cells.index_of(words[lane].word[k]));
      }
    });
    // Elements of one cell are in the order of their index, which is right for equal ones.
    const std::uint32_t wrong = lanes.ballot([&](int lane) {
      bool wrong = false;
      DIFFSORT_UNROLLED
      for (int k = 0; k < 4; ++k) {
        const int p = 4 * lane + k;
        if (0 < p && p < n) wrong = wrong | (keys[p - 1] > sorted[lane].word[k]);
      }
      return wrong;
    });
    lanes.for_each([&](int lane) {
      if (lane == 0) *disorder = wrong;
      DIFFSORT_UNROLLED
      for (int k = 0; k < 4 && wrong != 0; ++k) {
        if (4 * lane + k < n) keys[cells.index_of(words[lane].word[k])] = sorted[lane].word[k];
      }
    });
  });
  return *disorder == 0;
}

// Whether it has; if not, keys are as they were.
template <class Team>
DIFFSORT_HD bool sort_by_cells(Team& team, int n, const SortCells cells,
                               TeamPointer<std::uint32_t> keys, TeamPointer<SortIndex> index,
                               const SortMemory<std::uint32_t> memory) {
  const auto words = memory.words, sorted = memory.sorted, crowded = memory.problem;
  team.for_each(n, [=](int i) {
    words[i] = cells.word(from_descending_key<float>(keys[i]), i);
    if (i == 0) *crowded = 0;
  });
  // Ties of many elements show among the first ones, and the sort is saved.
  team.for_each_lanes(1, [=](const auto& lanes, int) {
    DIFFSORT_ROLLED
    for (int k = 0; k < 4 && k < n; ++k) {
      const std::uint32_t same = lanes.ballot(
          [=](int i) { return i < n && cells.cell_of(words[i]) == cells.cell_of(words[k]); });
      if (count_bits(same) > SortCells::kMostInCell) set_bits(crowded, 1);
    }
  });
  if (load_bits(crowded) != 0) return false;
  team.sort_words(n, words);
  team.for_each(n, [=](int p) {
    const std::uint32_t i = cells.index_of(words[p]);
    index[p] = static_cast<SortIndex>(i);
    sorted[p] = keys[i];
    const int far = p + SortCells::kMostInCell;
    if (far < n && cells.cell_of(words[p]) == cells.cell_of(words[far])) set_bits(crowded, 1);
  });
  if (load_bits(crowded) != 0) return false;
  team.for_each(n, [=](int p) {
    const std::uint32_t cell = cells.cell_of(words[p]);
    const bool is_first = p == 0 || cells.cell_of(words[p - 1]) != cell;
    int end = p + 1;
    const bool is_last = end == n || cells.cell_of(words[end]) != cell;
    if (is_first && is_last) keys[p] = sorted[p];
    if (!is_first || is_last) return;
    DIFFSORT_ROLLED
    while (end < n && cells.cell_of(words[end]) == cell) ++end;
    insertion_sort(sorted, index, p, end);
    DIFFSORT_ROLLED
    for (int k = p; k < end; ++k) keys[k] = sorted[k];
  });
  return true;
}

constexpr int kSortedByLanes = 128;  // as many elements as words of lanes.sort

template <class T>
constexpr bool kSortsByCells = sizeof(T) == 4;

// Keys of values, ascending, and where each was. The spread of the values matters to cells alone.
template <class Team, class T>
DIFFSORT_HD DIFFSORT_NOINLINE void sort_keys(Team& team, int n, const Spread<T> spread,
                                             TeamPointer<typename SortKey<T>::Bits> keys,
                                             TeamPointer<SortIndex> index,
                                             const SortMemory<typename SortKey<T>::Bits> memory) {
  if constexpr (kSortsByCells<T>) {
    const bool by_lanes = n <= kSortedByLanes;
    const SortCells cells = by_lanes ? SortCells::of_lanes(spread) : SortCells::of_team(spread, n);
    if (cells.serve()) {
      if (by_lanes ? sort_by_lanes(team, n, cells, keys, index, memory)
                   : sort_by_cells(team, n, cells, keys, index, memory)) {
        return;
      }
    }
  }
  sort_by_bits(team, n, keys, index, memory.words);
}

}  // namespace diffsort
