// Elements grouped by block.
//
// An id is the sorted position at which its block starts, so that in a list of the elements by
// ascending id the blocks lie where they lie in the sorted row: the element at position p of the
// list belongs to the block of the last start at or before p. Ids of which that does not hold were
// never left by a projection, and make their row invalid.
//
// Many rows may be grouped at once. They stand one after the other: element e of them is element
// e % n of row e / n, and starts count from the first row's first element.
//
// A list of elements by ascending id has
//     key(p)       the start of the block of the element at position p
//     element(p)   which element that is
//     is_settled(r) whether row r is written already, and left alone
//     kAtOnce      how many elements are worth asking its memory for at once
// and is made by the memory that it lies in: memory.list(steps, set, ids), which marks
// rows with ids that cannot be any.
//
// Cost: one sort by as many bits as a start takes, none for rows whose ids are in order already (one
// block, or rho), and a constant number of steps.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/start_bits.h"
#include "diffsort/parallel_row/rows/float_rows.h"
#include "diffsort/parallel_row/rows/row_set.h"

namespace diffsort {

template <class List>
struct Groups {
  static constexpr int kAtOnce = List::kAtOnce;
  using Doubles = double*;  // numbers of blocks, and where they are written to
  using Output = FloatOutput;
  using Position = std::int64_t;

  std::int64_t count = 0;
  List list;
  std::uint32_t* words = nullptr;

  DIFFSORT_HD static Output output(Doubles numbers) { return {numbers, false}; }
  DIFFSORT_HD static double over_strength(double x, double strength) {
    return called_over_strength(x, strength);
  }
  DIFFSORT_HD std::int64_t element(std::int64_t p) const { return list.element(p); }
  DIFFSORT_HD bool is_settled(std::int64_t row) const { return list.is_settled(row); }
  DIFFSORT_HD bool is_start(std::int64_t p) const { return (words[p / 32] >> (p % 32) & 1) != 0; }
  DIFFSORT_HD bool alone(std::int64_t start) const {
    return is_start(start) && (start + 1 == count || is_start(start + 1));
  }
  // Of positions [8 k, 8 k + 8): whether they belong to one block, and which of them are starts.
  DIFFSORT_HD bool in_one_block(std::int64_t k) const { return (starts_of_leaf(k) & 0xfe) == 0; }
  DIFFSORT_HD std::uint32_t starts_of_leaf(std::int64_t k) const {
    return words[k / 4] >> (8 * (k % 4)) & 0xff;
  }
  DIFFSORT_HD std::int64_t start(std::int64_t p) const {
    return StartBits(words, count).prev(static_cast<std::int32_t>(p));
  }
  DIFFSORT_HD std::int64_t end(std::int64_t start) const {
    return StartBits(words, count)
        .next(static_cast<std::int32_t>(start + 1), static_cast<std::int32_t>(count));
  }
};

// Levels of nodes, each above as many of the one below: levels.make_tile(team, first, n) makes those
// of a tile, and levels.above(), where it is not empty, make(team) those above. A team that holds a
// row makes all of them.
template <class Team, class Levels>
DIFFSORT_HD void build_levels(Team& team, std::int64_t count, const Levels& levels) {
  levels.make_tile(team, 0, count);
  const auto above = levels.above();
  if (!above.is_empty()) above.make(team);
}

// Word k of a level: which of the `size` words of the level below are not empty.
template <class Lanes>
DIFFSORT_HD void note_words(const Lanes& lanes, const std::uint32_t* below, std::int64_t size,
                            std::uint32_t* words, std::int64_t k) {
  words[k] = lanes.ballot([&](int lane) {
    const std::int64_t w = 32 * k + lane;
    return w < size && below[w] != 0;
  });
}

// The levels above those of tiles, 0 and 1.
struct UpperStarts {
  std::int64_t count;
  std::uint32_t* words;
  bool known;  // nothing is to be made

  DIFFSORT_HD bool is_empty() const { return known || count <= 1024; }

  template <class Team>
  DIFFSORT_HD void make(Team& team) const {
    std::uint32_t* below = words + words_of_bits(count);
    for (std::int64_t size = words_of_bits(words_of_bits(count)); size > 1;
         size = words_of_bits(size)) {
      std::uint32_t* const above = below + size;
      team.for_each_lanes(words_of_bits(size), [&](const auto& lanes, std::int64_t k) {
        note_words(lanes, below, size, above, k);
      });
      below = above;
    }
  }
};

// The starts of blocks, as StartBits. Rows of which a block does not start where it says are marked;
// with `known` the blocks of the other operand are there already, and these have to be the same.
template <class List>
struct StartLevels {
  RowSet set;
  Groups<List> groups;
  RowStates states;
  bool known;

  DIFFSORT_HD UpperStarts above() const { return {groups.count, groups.words, known}; }

  // Of elements [first, first + n), where first is a multiple of 1024.
  template <class Team>
  DIFFSORT_HD void make_tile(Team& team, std::int64_t first, std::int64_t n) const {
    const std::int64_t begin = first / 32, end = words_of_bits(first + n);
    team.for_each_lanes(end - begin,
                        [&](const auto& lanes, std::int64_t k) { find_starts(lanes, begin + k); });
    if (known) return;
    std::uint32_t* const above = groups.words + words_of_bits(groups.count);
    team.for_each_lanes(words_of_bits(end) - begin / 32, [&](const auto& lanes, std::int64_t k) {
      note_words(lanes, groups.words, end, above, begin / 32 + k);
    });
  }

 private:
  template <class Lanes>
  DIFFSORT_HD void find_starts(const Lanes& lanes, std::int64_t k) const {
    const std::uint32_t starts = lanes.ballot([&](int lane) {
      const std::int64_t p = 32 * k + lane;
      if (p >= groups.count) return false;
      const std::int64_t key = groups.list.key(p);
      const bool starts = p == 0 || key != groups.list.key(p - 1);
      const bool misplaced = starts && key != p;
      if (misplaced || (known && starts != groups.is_start(p))) states.make_invalid(set.row(p));
      return starts;
    });
    if (!known) groups.words[k] = starts;
  }
};

// Groups by one operand's ids. With `known` the blocks of the other operand are known already.
// (`ids` by value: a reference to one operand's or the other's would keep both in local memory.)
template <class Steps, class Memory>
DIFFSORT_HD auto group(Steps& steps, Memory& memory, const RowSet& set,
                       const DenseRows<const std::int32_t> ids, bool known) {
  using List = typename Memory::List;
  const List list = memory.list(steps, set, ids);
  const Groups<List> groups{set.count(), list, memory.starts};
  build_levels(steps, set.count(), StartLevels<List>{set, groups, memory.states, known});
  return groups;
}

}  // namespace diffsort
