// Sorts the keys of a row that a team has in its memory, by sorting words of 32 bits (team.h): an index
// below and above it bits to sort by. A word is less to move than a key and an index, and all keys share
// the code.
//
//     by lanes   float32, n <= 128: as by cells, of which there are so many that next to none is shared; the
//                words are in the registers of 32 lanes
//     by bits    any keys, 16 bits at a time from the lowest on
//     by cells   float32: the range of the values is divided into cells, and words have the number
//                of their cell, in at most 19 bits. Few elements share one, if values are not too
//                uneven; their keys are compared. Else nothing is lost but the time, and most of
//                that is saved where the first 32 elements show it.
//
// All are stable. Cost: a pass of the team's sort for every 4 bits; by cells 4 or 5 in the place of 8; by
// lanes 15 steps in which they exchange words.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/lane_words.h"
#include "diffsort/parallel_row/one_block.h"
#include "diffsort/sort.h"

namespace diffsort {

// Of n elements, at most 8192.
template <class Bits>
struct SortMemory {
  std::uint32_t* words;  // n, and one more
  Bits* sorted;          // n, in the scratch of the team's sort; of keys of 32 bits alone

  template <class Source>
  DIFFSORT_HD static SortMemory of(Source& arena, std::int64_t n, std::size_t sort_bytes) {
    SortMemory memory{};
    const std::size_t begin = arena.mark();
    arena.template take<char>(static_cast<std::int64_t>(sort_bytes));
    const std::size_t behind = arena.mark();
    arena.rewind(begin);
    if (sizeof(Bits) == 4) memory.sorted = arena.template take<Bits>(n);
    if (arena.mark() < behind) arena.rewind(behind);
    memory.words = arena.template take<std::uint32_t>(n + 1);
    return memory;
  }
};

template <class Team, class Bits, class Index>
DIFFSORT_HD void sort_by_bits(Team& team, int n, Bits* keys, Index* index, std::uint32_t* words) {
  constexpr int kBits = 8 * static_cast<int>(sizeof(Bits));
  DIFFSORT_ROLLED
  for (int low = 0; low < kBits; low += 16) {
    team.for_each(n, [=](int p) {
      const std::uint32_t i = low == 0 ? static_cast<std::uint32_t>(p) : index[p];
      words[p] = static_cast<std::uint32_t>(keys[i] >> low) << 16 | i;
    });
    team.sort_words(n, 16, words);
    team.for_each(n, [=](int p) { index[p] = static_cast<Index>(words[p]); });
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
  DIFFSORT_HD int index_bits() const { return index_bits_; }

  // Words of a sort that takes the index as it comes: the fewer bits of cells, the fewer passes.
  DIFFSORT_HD static SortCells of_team(const Spread<float>& spread, int n) {
    const int index_bits = n <= 2048 ? 16 : 13;
    return {spread, index_bits, 32 - index_bits};
  }
  // Words that are sorted as a whole, of at most 128 elements. One bit more would be cells that floats
  // cannot tell apart; that bit is for the last cell, whose number may be rounded up to 2^24.
  DIFFSORT_HD static SortCells of_lanes(const Spread<float>& spread) { return {spread, 7, 24}; }

  // Rounding is monotone, and goes past the last cell by one at most.
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
template <class Bits, class Index>
DIFFSORT_HD void insertion_sort(Bits* keys, Index* index, int first, int last) {
  DIFFSORT_ROLLED
  for (int k = first + 1; k < last; ++k) {
    const Bits key = keys[k];
    const Index from = index[k];
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
template <class Team, class Index>
DIFFSORT_HD bool sort_by_lanes(Team& team, int n, const SortCells cells, std::uint32_t* keys,
                               Index* index, const SortMemory<std::uint32_t> memory) {
  std::uint32_t* const disorder = memory.words + n;  // which no other step writes over
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
        index[p] = static_cast<Index>(cells.index_of(words[lane].word[k]));
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
template <class Team, class Index>
DIFFSORT_HD bool sort_by_cells(Team& team, int n, const SortCells cells, std::uint32_t* keys,
                               Index* index, const SortMemory<std::uint32_t> memory) {
  std::uint32_t *const words = memory.words, *const sorted = memory.sorted,
                       *const crowded = words + n;
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
  team.sort_words(n, cells.index_bits(), words);
  team.for_each(n, [=](int p) {
    const std::uint32_t i = cells.index_of(words[p]);
    index[p] = static_cast<Index>(i);
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
template <class Team, class T, class Index>
DIFFSORT_HD DIFFSORT_NOINLINE void sort_keys(Team& team, int n, const Spread<T> spread,
                                             typename SortKey<T>::Bits* keys, Index* index,
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
