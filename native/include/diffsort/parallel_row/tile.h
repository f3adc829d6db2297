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
#include "diffsort/parallel_row/arena.h"
#include "diffsort/parallel_row/dense_rows.h"
#include "diffsort/parallel_row/team_pointer.h"

namespace diffsort {

constexpr int kTileRows = 32;
constexpr int kMostAtOnce = 16;         // elements that a thread asks for before the first is there
constexpr int kStoredAtOnce = 4;        // and writes at a time
constexpr std::int64_t kShortRow = 32;  // the longest row of a tile: a bit of a word per element

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

 private:
  static constexpr int kShift = 20;

  std::uint32_t reciprocal_;
};

// An array of a tile's rows, as one of 32 threads loads its elements.
template <class V>
class TileSource {
 public:
  DIFFSORT_HD TileSource(const DenseRows<const V>& rows, std::int64_t first_row, V* tile)
      : next_(rows.data + first_row * rows.stride),
        tile_(tile),
        one_row_for_all_(rows.stride == 0) {}

  DIFFSORT_HD bool one_row_for_all() const { return one_row_for_all_; }
  DIFFSORT_HD void skip(int elements) { next_ += elements; }
  // The element 32 j behind the next one, which comes to `place` of the tile.
  DIFFSORT_HD void fetch(int j) { values_[j] = next_[j * kTileRows]; }
  // The same, or the element 32 `last` behind if that comes before.
  DIFFSORT_HD void fetch_until(int j, int last) {
    values_[j] = next_[(j < last ? j : last) * kTileRows];
  }
  DIFFSORT_HD void put(int j, int place) const { tile_[place] = values_[j]; }
  // The next element, whose row starts `row_start` elements behind the tile's first one.
  DIFFSORT_HD void copy(int row_start, int place) const {
    tile_[place] = one_row_for_all_ ? *(next_ - row_start) : *next_;
  }

 private:
  const V* next_;
  V* tile_;
  bool one_row_for_all_;
  V values_[kMostAtOnce];
};

// What one of 32 threads does of load_together. It asks for many elements before the first is there:
// few warps are resident, and memory answers as late as ever.
template <class... Vs>
DIFFSORT_HD void load_by_lane(const TileShape& shape, int lane, TileSource<Vs>... sources) {
  constexpr int kAtOnce = kMostAtOnce / (sizeof...(Vs) == 1 ? 1 : 2);
  const int count = shape.count(), padding = shape.pitch() - shape.n;
  const bool as_they_lie = !(sources.one_row_for_all() || ...);
  int e = lane;
  if (e >= count) return;
  (sources.skip(lane), ...);
  DIFFSORT_ROLLED
  for (; as_they_lie && e < count; e += kAtOnce * kTileRows) {
    const int last = (count - 1 - e) / kTileRows;
    if (last >= kAtOnce - 1) {
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) (sources.fetch(j), ...);
    } else {
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) (sources.fetch_until(j, last), ...);
    }
    DIFFSORT_UNROLLED
    for (int j = 0; j < kAtOnce; ++j) {
      const int f = e + j * kTileRows, place = f + shape.row_of(f) * padding;
      if (j <= last) (sources.put(j, place), ...);
    }
    (sources.skip(kAtOnce * kTileRows), ...);
  }
  DIFFSORT_ROLLED
  for (; e < count; e += kTileRows) {
    const int row = shape.row_of(e);
    (sources.copy(row * shape.n, e + row * padding), ...);
    (sources.skip(kTileRows), ...);
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
  DIFFSORT_HD RowTile(const TileShape& shape, V* data)
      : shape_(shape), data_(data), count_(shape.count()), padding_(shape.pitch() - shape.n) {}

  DIFFSORT_HD V* row(int r) const { return data_ + r * shape_.pitch(); }

  template <class Team>
  DIFFSORT_HD void load(Team& team, const DenseRows<const V>& rows) const {
    load_together(team, shape_, TileSource<V>(rows, 0, data_));
  }

  template <class Team>
  DIFFSORT_HD void store(Team& team, V* rows) const {
    const RowTile tile = *this;
    team.for_each(kTileRows, [=](int lane) {
      int e = lane;
      DIFFSORT_ROLLED
      for (; e < tile.count_ - (kStoredAtOnce - 1) * kTileRows; e += kStoredAtOnce * kTileRows) {
        DIFFSORT_UNROLLED
        for (int j = 0; j < kStoredAtOnce; ++j)
          (rows + e)[j * kTileRows] = tile.at(e + j * kTileRows);
      }
      DIFFSORT_ROLLED
      for (; e < tile.count_; e += kTileRows) rows[e] = tile.at(e);
    });
  }

 private:
  // The tile's e-th element, counted as the array counts them.
  DIFFSORT_HD V& at(int e) const { return data_[e + shape_.row_of(e) * padding_]; }

  TileShape shape_;
  V* data_;
  int count_, padding_;
};

}  // namespace diffsort
