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
// Cost: one sort by as many bits as a start takes, none where a team finds the ids in order already
// (one block, or rho), and a constant number of steps. Memory: a key and an index per element, and
// about 1/31 of a word of starts; the keys are free again afterwards.
#pragma once

#include <cstdint>

#include "diffsort/derivative_formulas.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/dense_rows.h"
#include "diffsort/parallel_row/start_bits.h"

namespace diffsort {

// Where an element is. Of an id that cannot be one, `start` is within the same row all the same.
struct Place {
  std::int64_t row, start;
  bool valid, infinite;
};

// Rows side by side.
class RowSet {
 public:
  DIFFSORT_HD RowSet(std::int64_t rows, std::int64_t n)
      : rows(rows), n(n), row_per_element_(1.0 / static_cast<double>(n)) {}

  std::int64_t rows, n;

  DIFFSORT_HD std::int64_t count() const { return rows * n; }
  // Without a division: (e + 1/2) / n is at least 1 / (2 n) away from an integer, far more than it
  // is rounded by, since e is below 2^31.
  DIFFSORT_HD std::int64_t row(std::int64_t e) const {
    if (rows == 1) return 0;
    return static_cast<std::int32_t>((static_cast<double>(e) + 0.5) * row_per_element_);
  }
  template <class Rows>
  DIFFSORT_HD auto read(const Rows& from, std::int64_t e) const {
    return from[from.stride == 0 ? e - row(e) * n : e];
  }
  DIFFSORT_HD Place place(const DenseRows<const std::int32_t>& ids, std::int64_t e) const {
    const std::int32_t id = ids.data[ids.stride == 0 ? e - row(e) * n : e];
    const bool valid = is_valid_id(id, n);
    const std::int64_t r = row(e);
    return {r, r * n + (valid ? block_start(id) : 0), valid, is_infinite_block(id)};
  }

 private:
  double row_per_element_;
};

template <class Index>
struct Groups {
  using Doubles = double*;  // numbers of blocks
  using Position = std::int64_t;

  std::int64_t count = 0;
  const Index* index = nullptr;  // position in the list -> element
  std::uint32_t* words = nullptr;

  DIFFSORT_HD bool is_start(std::int64_t p) const { return (words[p / 32] >> (p % 32) & 1) != 0; }
  DIFFSORT_HD bool alone(std::int64_t start) const {
    return is_start(start) && (start + 1 == count || is_start(start + 1));
  }
  // Whether positions [8 k, 8 k + 8) belong to one block.
  DIFFSORT_HD bool in_one_block(std::int64_t k) const {
    return (words[k / 4] >> (8 * (k % 4)) & 0xfe) == 0;
  }
  DIFFSORT_HD std::int64_t start(std::int64_t p) const {
    return StartBits(words, count).prev(static_cast<std::int32_t>(p));
  }
  DIFFSORT_HD std::int64_t end(std::int64_t start) const {
    return StartBits(words, count)
        .next(static_cast<std::int32_t>(start + 1), static_cast<std::int32_t>(count));
  }
};

// Bits of level 0 of StartBits.
template <class Index>
struct SetStarts {
  std::int64_t count;
  const Index* keys;
  std::uint32_t* words;

  template <class Lanes>
  DIFFSORT_HD void operator()(const Lanes& lanes, std::int64_t k) const {
    words[k] = lanes.ballot([&](int lane) {
      const std::int64_t p = 32 * k + lane;
      return p < count && (p == 0 || keys[p] != keys[p - 1]);
    });
  }
};

// Bits of a level above: which words of the one below are not empty.
struct SetUpperLevel {
  std::int64_t count;
  const std::uint32_t* below;
  std::uint32_t* words;

  template <class Lanes>
  DIFFSORT_HD void operator()(const Lanes& lanes, std::int64_t k) const {
    words[k] = lanes.ballot([&](int lane) {
      const std::int64_t p = 32 * k + lane;
      return p < count && below[p] != 0;
    });
  }
};

template <class Steps, class Index>
DIFFSORT_HD void set_starts(Steps& steps, std::int64_t count, const Index* keys,
                            std::uint32_t* words) {
  std::int64_t size = (count + 31) / 32;
  steps.for_each_lanes(size, SetStarts<Index>{count, keys, words});
  while (size > 1) {
    const std::int64_t upper = (size + 31) / 32;
    steps.for_each_lanes(upper, SetUpperLevel{size, words, words + size});
    words += size;
    size = upper;
  }
}

DIFFSORT_HD inline int bits_below(std::int64_t count) {
  int bits = 0;
  while (bits < 63 && (std::int64_t{1} << bits) < count) ++bits;
  return bits;
}

// What is known of every row: one number each.
struct RowStates {
  double *strength = nullptr, *dstrength = nullptr;
  std::uint32_t* invalid = nullptr;

  DIFFSORT_HD bool is_invalid(std::int64_t row) const { return load_bits(invalid + row) != 0; }
  DIFFSORT_HD void make_invalid(std::int64_t row) const {
    if (!is_invalid(row)) set_bits(invalid + row, 1);
  }
};

// The keys of all elements, before they are sorted.
template <class Index>
struct LoadKey {
  RowSet set;
  DenseRows<const std::int32_t> ids;
  RowStates states;
  Index *keys, *index;

  DIFFSORT_HD void operator()(std::int64_t e) const {
    const Place place = set.place(ids, e);
    keys[e] = static_cast<Index>(place.start);
    index[e] = static_cast<Index>(e);
    if (!place.valid) states.make_invalid(place.row);
  }
};

// Marks rows of which a block does not start where it says, or where `groups` say.
template <class Index>
struct CheckKey {
  RowSet set;
  Groups<Index> groups;
  RowStates states;
  const Index* keys;

  DIFFSORT_HD void operator()(std::int64_t p) const {
    const bool starts = p == 0 || keys[p] != keys[p - 1];
    const bool misplaced = starts && static_cast<std::int64_t>(keys[p]) != p;
    if (misplaced || starts != groups.is_start(p)) states.make_invalid(set.row(p));
  }
};

// Groups by one operand's ids. With `has_starts` the blocks of the other operand are known already:
// these have to be the same.
template <class Steps, class Memory>
DIFFSORT_HD Groups<typename Memory::Index> group(Steps& steps, Memory& memory, const RowSet& set,
                                                 const DenseRows<const std::int32_t>& ids,
                                                 bool has_starts) {
  using Index = typename Memory::Index;
  const std::int64_t count = set.count();
  memory.begin_grouping();
  steps.for_each(count, LoadKey<Index>{set, ids, memory.states, memory.keys(), memory.index()});
  memory.sort(steps, count, bits_below(count));
  const Groups<Index> groups{count, memory.index(), memory.starts};
  if (!has_starts) set_starts(steps, count, memory.keys(), memory.starts);
  steps.for_each(count, CheckKey<Index>{set, groups, memory.states, memory.keys()});
  return groups;
}

}  // namespace diffsort
