// Tiles: short rows, 32 at a time, in the memory of 32 threads.
//
// Rows of a tile are neighbours in the arrays. All threads load it and store it in the order of the
// arrays, whose accesses then coalesce; between, each thread has a row of its own, and the barriers
// between steps are all that the threads have to do with each other. Shared memory has 32 banks of
// a word. Two layouts avoid that threads wait for the same one:
//     RowTile   row after row, an odd number of elements apart: free of conflicts both for
//               neighbouring elements of a row and for the same element of all rows
//     Column    element after element, each of all rows: free of conflicts for any elements, one of
//               each row
#pragma once

#include <cstddef>
#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/dense_rows.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/team_pointer.h"

namespace diffsort {

constexpr int kTileRows = 32;
constexpr std::int64_t kShortRow = 32;  // the longest row of a tile: a bit of a word per element
constexpr int kFour = 4;                // neighbours that a thread loads or stores together
constexpr int kMostAtOnce = 16;         // words that a thread asks for before the first is there

DIFFSORT_HD inline std::int64_t tiles_of(std::int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}

// One row's elements of an array of Column layout.
template <class V>
class Column {
 public:
  Column() = default;
  DIFFSORT_HD explicit Column(V* first) : first_(first) {}  // on a device, not null

  DIFFSORT_HD explicit operator bool() const { return first_ != nullptr; }
  DIFFSORT_HD V& operator[](std::int64_t i) const {
    return first_[static_cast<int>(i) * kTileRows];
  }
  // What follows `elements` elements.
  DIFFSORT_HD Column operator+(std::int64_t elements) const {
    return Column(first_ + elements * kTileRows);
  }
  DIFFSORT_HD Column of_row(int r) const {
    return first_ == nullptr ? Column() : Column(first_ + r);
  }

 private:
  TeamPointer<V> first_;
};

// An array in a tile's memory, or none.
template <class V>
struct Piece {
  int offset = -1;

  DIFFSORT_HD V* in(char* memory) const { return offset < 0 ? nullptr : at(memory); }
  DIFFSORT_HD Column<V> column(char* memory) const {
    return offset < 0 ? Column<V>() : Column<V>(at(memory));
  }
  // Of an array that is there.
  DIFFSORT_HD V* at(char* memory) const { return reinterpret_cast<V*>(memory + offset); }
};

// Lays a tile's memory out. Done once, where a launch is prepared: for a thread with a short row it
// would be a good part of all the work.
class TileLayout {
 public:
  explicit TileLayout(std::int64_t n) : n_(n) {}

  template <class V>
  Piece<V> rows(bool present = true) {
    return take<V>(kTileRows * (n_ | 1), present);
  }
  template <class V>
  Piece<V> columns(std::int64_t count, bool present = true) {
    return take<V>(kTileRows * count, present);
  }
  std::size_t bytes() const { return arena_.bytes(); }

 private:
  template <class V>
  Piece<V> take(std::int64_t count, bool present) {
    if (!present) return {};
    const Piece<V> piece{static_cast<int>(arena_.mark())};
    arena_.take<V>(count);
    return piece;
  }

  std::int64_t n_;
  Arena arena_;
};

// How elements lie in a tile of `rows` rows of n.
class TileShape {
 public:
  DIFFSORT_HD TileShape(std::int64_t rows, std::int64_t n)
      : rows(static_cast<int>(rows)),
        n(static_cast<int>(n)),
        reciprocal_(((1u << kShift) - 1) / static_cast<std::uint32_t>(n > 0 ? n : 1) + 1) {}

  int rows, n;

  // The last tile of all may have fewer rows than others. Made of them, it costs no division.
  DIFFSORT_HD TileShape with_rows(std::int64_t count) const {
    TileShape shape = *this;
    shape.rows = static_cast<int>(count);
    return shape;
  }
  DIFFSORT_HD int count() const { return rows * n; }
  DIFFSORT_HD int pitch() const { return n | 1; }
  // e / n: the reciprocal is too large by less than 2^-20, and e below 2^10.
  DIFFSORT_HD int row_of(int e) const {
    return static_cast<int>((static_cast<std::uint32_t>(e) * reciprocal_) >> kShift);
  }
  DIFFSORT_HD bool has_gaps() const { return pitch() != n; }
  // Where the e-th element lies, counted as the array counts them.
  DIFFSORT_HD int place(int e) const { return e + row_of(e) * (pitch() - n); }

 private:
  static constexpr int kShift = 20;

  std::uint32_t reciprocal_;
};

// Four neighbours of an array, from a multiple of four on. In a tile the first two of them are neighbours, and
// the last two: a row with a gap behind it has an even number of elements.
template <class V>
struct alignas(16) [[gnu::may_alias]] Four {
  V of[kFour];

  // Where it is aligned, one instruction accesses it (of 8 bytes: two).
  DIFFSORT_HD static bool fits(const V* array) {
    return reinterpret_cast<std::uintptr_t>(array) % alignof(Four) == 0;
  }
  DIFFSORT_HD static Four load(const V* array) { return *reinterpret_cast<const Four*>(array); }
  DIFFSORT_HD void store(V* array) const { *reinterpret_cast<Four*>(array) = *this; }

  // Whether it lies in a tile as in the array.
  DIFFSORT_HD static bool lies_in(const TileShape& shape, const V* tile) {
    return !shape.has_gaps() && fits(tile);
  }
  DIFFSORT_HD static Four gather(const V* first, const V* second) {
    return {{first[0], first[1], second[0], second[1]}};
  }
  DIFFSORT_HD void scatter(V* first, V* second) const {
    first[0] = of[0];
    first[1] = of[1];
    second[0] = of[2];
    second[1] = of[3];
  }
};

// An array of a tile's rows, as one of 32 threads loads its elements.
template <class V>
class TileSource {
 public:
  DIFFSORT_HD TileSource(const DenseRows<const V>& rows, std::int64_t first_row, V* tile)
      : from_(rows.data + first_row * rows.stride),
        tile_(tile),
        one_row_for_all_(rows.stride == 0),
        aligned_(Four<V>::fits(from_)) {}

  DIFFSORT_HD bool one_row_for_all() const { return one_row_for_all_; }
  DIFFSORT_HD void fetch(int j, int e) {
    fours_[j] = aligned_ ? Four<V>::load(from_ + e) : Four<V>::gather(from_ + e, from_ + e + 2);
  }
  // Where no row has a gap a four comes into the tile as it lies: by every fourth word, four lanes would
  // be at the same bank.
  DIFFSORT_HD bool goes_as_it_lies(const TileShape& shape) const {
    return Four<V>::lies_in(shape, tile_);
  }
  DIFFSORT_HD void put(int j, int e) const { fours_[j].store(tile_ + e); }
  DIFFSORT_HD void put(int j, int first, int second) const {
    fours_[j].scatter(tile_ + first, tile_ + second);
  }
  // The e-th element, whose row starts with element `row_start`.
  DIFFSORT_HD void copy(int e, int row_start, int place) const {
    tile_[place] = from_[one_row_for_all_ ? e - row_start : e];
  }

 private:
  const V* from_;
  V* tile_;
  bool one_row_for_all_, aligned_;
  Four<V> fours_[kMostAtOnce / kFour];
};

// What one of 32 threads does of load_together. It asks for many elements before the first is there:
// few warps are resident, and memory answers as late as ever. Beyond the end it takes its first four
// again, without a branch, behind which a load would be waited for.
template <class... Vs>
DIFFSORT_HD void load_by_lane(const TileShape& shape, int lane, TileSource<Vs>... sources) {
  constexpr bool wide = ((sizeof(Vs) > sizeof(float)) || ...);  // there are so many registers
  constexpr int kAtOnce = kMostAtOnce / kFour / (sizeof...(Vs) == 1 ? 1 : 2) / (wide ? 2 : 1);
  constexpr int kStep = kFour * kTileRows;
  const int count = shape.count();
  const bool as_they_lie = (sources.goes_as_it_lies(shape) && ...);
  if (count % kFour == 0 && !(sources.one_row_for_all() || ...)) {
    DIFFSORT_ROLLED
    for (int e = kFour * lane; e < count; e += kAtOnce * kStep) {
      const auto four = [=](int j) { return e + j * kStep < count ? e + j * kStep : e; };
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) (sources.fetch(j, four(j)), ...);
      if (as_they_lie) {
        DIFFSORT_UNROLLED
        for (int j = 0; j < kAtOnce; ++j) (sources.put(j, four(j)), ...);
        continue;
      }
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) {
        const int first = shape.place(four(j)), second = shape.place(four(j) + 2);
        (sources.put(j, first, second), ...);
      }
    }
    return;
  }
  DIFFSORT_ROLLED
  for (int e = lane; e < count; e += kTileRows) {
    const int row_start = shape.row_of(e) * shape.n, place = shape.place(e);
    (sources.copy(e, row_start, place), ...);
  }
}

// Loads several arrays of one shape: where an element comes to is found out once for all of them.
template <class Team, class... Vs>
DIFFSORT_HD void load_together(Team& team, const TileShape& shape,
                               const TileSource<Vs>&... sources) {
  team.for_each(kTileRows, [=](int lane) { load_by_lane(shape, lane, sources...); });
}

template <class V>
class RowTile {
 public:
  DIFFSORT_HD RowTile(const TileShape& shape, V* data) : shape_(shape), data_(data) {}

  DIFFSORT_HD V* row(int r) const { return data_ + r * shape_.pitch(); }

  template <class Team>
  DIFFSORT_HD void load(Team& team, const DenseRows<const V>& rows) const {
    load_together(team, shape_, TileSource<V>(rows, 0, data_));
  }

  template <class Team>
  DIFFSORT_HD void store(Team& team, V* rows) const {
    const RowTile tile = *this;
    const bool as_it_lies = Four<V>::lies_in(shape_, data_);
    write(
        team, rows, [=](int e) { return tile.data_[tile.shape_.place(e)]; },
        [=](int e) {
          return as_it_lies ? Four<V>::load(tile.data_ + e)
                            : Four<V>::gather(tile.data_ + tile.shape_.place(e),
                                              tile.data_ + tile.shape_.place(e + 2));
        });
  }

  // The same value for all elements, whatever is in the tile.
  template <class Team>
  DIFFSORT_HD void store_constant(Team& team, V* rows, V value) const {
    write(
        team, rows, [=](int) { return value; },
        [=](int) { return Four<V>{{value, value, value, value}}; });
  }

 private:
  template <class Team, class One, class FourOf>
  DIFFSORT_HD void write(Team& team, V* rows, const One& one, const FourOf& four) const {
    const int count = shape_.count();
    const bool by_fours = count % kFour == 0 && Four<V>::fits(rows);
    team.for_each(kTileRows, [=](int lane) {
      if (by_fours) {
        DIFFSORT_ROLLED
        for (int e = kFour * lane; e < count; e += kFour * kTileRows) four(e).store(rows + e);
        return;
      }
      DIFFSORT_UNROLLED_BY(2)
      for (int e = lane; e < count; e += kTileRows) rows[e] = one(e);
    });
  }

  TileShape shape_;
  V* data_;
};

}  // namespace diffsort
