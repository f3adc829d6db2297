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

namespace diffsort {

constexpr int kTileRows = 32;
constexpr std::int64_t kShortRow = 32;  // the longest row of a tile: a bit of a word per element

DIFFSORT_HD inline std::int64_t tiles_of(std::int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}

// An array in a tile's memory, or none.
template <class V>
struct Piece {
  int offset = -1;

  DIFFSORT_HD V* in(char* memory) const {
    return offset < 0 ? nullptr : reinterpret_cast<V*>(memory + offset);
  }
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

// One row's elements of an array of Column layout.
template <class V>
class Column {
 public:
  DIFFSORT_HD explicit Column(V* first = nullptr) : first_(first) {}

  DIFFSORT_HD explicit operator bool() const { return first_ != nullptr; }
  DIFFSORT_HD V& operator[](std::int64_t i) const {
    return first_[static_cast<int>(i) * kTileRows];
  }
  // What follows `elements` elements.
  DIFFSORT_HD Column operator+(std::int64_t elements) const {
    return Column(first_ + elements * kTileRows);
  }
  DIFFSORT_HD Column of_row(int r) const {
    return Column(first_ == nullptr ? nullptr : first_ + r);
  }

 private:
  V* first_;
};

// How elements lie in a tile of `rows` rows of n.
class TileShape {
 public:
  DIFFSORT_HD TileShape(std::int64_t rows, std::int64_t n)
      : rows(static_cast<int>(rows)),
        n(static_cast<int>(n)),
        reciprocal_(((1u << kShift) - 1) / static_cast<std::uint32_t>(n > 0 ? n : 1) + 1) {}

  int rows, n;

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

template <class V>
class RowTile {
 public:
  DIFFSORT_HD RowTile(const TileShape& shape, V* data)
      : shape_(shape), data_(data), count_(shape.count()), padding_(shape.pitch() - shape.n) {}

  DIFFSORT_HD V* row(int r) const { return data_ + r * shape_.pitch(); }

  // From the tile's rows in an array. Several loads are under way at a time.
  template <class Team>
  DIFFSORT_HD void load(Team& team, const DenseRows<const V>& rows) const {
    const int one_row_for_all = rows.stride == 0 ? shape_.n : 0;
    const V* const from = rows.data;
    const RowTile tile = *this;
    team.for_each(batches() * kTileRows, [=](int k) {
      V values[kAtOnce];
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) {
        const int e = element(k, j);
        if (e < tile.count_) values[j] = from[e - tile.shape_.row_of(e) * one_row_for_all];
      }
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) {
        const int e = element(k, j);
        if (e < tile.count_) tile.at(e) = values[j];
      }
    });
  }

  template <class Team>
  DIFFSORT_HD void store(Team& team, V* rows) const {
    const RowTile tile = *this;
    team.for_each(batches() * kTileRows, [=](int k) {
      DIFFSORT_UNROLLED
      for (int j = 0; j < kAtOnce; ++j) {
        const int e = element(k, j);
        if (e < tile.count_) rows[e] = tile.at(e);
      }
    });
  }

 private:
  static constexpr int kAtOnce = 8;

  DIFFSORT_HD int batches() const {
    return (count_ + kAtOnce * kTileRows - 1) / (kAtOnce * kTileRows);
  }
  // The j-th element of thread k % 32 in batch k / 32: neighbours for neighbouring threads.
  DIFFSORT_HD static int element(int k, int j) {
    return (k & ~(kTileRows - 1)) * kAtOnce + (k & (kTileRows - 1)) + j * kTileRows;
  }
  // The tile's e-th element, counted as the array counts them.
  DIFFSORT_HD V& at(int e) const { return data_[e + shape_.row_of(e) * padding_]; }

  TileShape shape_;
  V* data_;
  int count_, padding_;
};

}  // namespace diffsort
