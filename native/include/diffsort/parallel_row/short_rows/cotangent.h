// The cotangent of one operand of short rows, which is what training asks for: a tile of rows per 32
// threads, a row per thread, by the formulas of short_rows/cotangent_row.h. All else that there is to
// differentiate is left to short_rows/derivatives.h.
//
// w's operands take the place of z's once these have been added up.
//
// Memory of a row: for each element T and 4 bytes, and in l2 8 more, in kl and log_kl T and 16; 4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/parallel_row/short_rows/cotangent_row.h"
#include "diffsort/parallel_row/short_rows/tile.h"

namespace diffsort {

template <Regularization R, class T>
struct CotangentLayout {
  Piece<std::int32_t> ids;
  Piece<T> values, result, largest;
  Piece<CotangentSum<R>> sums;
  Piece<std::uint32_t> starts;
  std::size_t bytes;

  explicit CotangentLayout(std::int64_t n) {
    TileLayout tile(n);
    ids = tile.rows<std::int32_t>();
    values = tile.rows<T>();
    result = tile.rows<T>(R == Regularization::kl);
    largest = tile.columns<T>(n, R == Regularization::log_kl);
    sums = tile.columns<CotangentSum<R>>(n);
    starts = tile.columns<std::uint32_t>(1);
    bytes = tile.bytes();
  }
};

// What an executor runs for tile k (see executor.cuh). T: the type of all arrays.
template <Regularization R, class T>
class CotangentTiles {
 public:
  static constexpr bool kl = R == Regularization::kl, log_kl = R == Regularization::log_kl;

  CotangentTiles(const LinearizedRows& at, const RowDirections& along)
      : rows_(at.set.rows),
        shape_(kTileRows, at.set.n),
        layout_(at.set.n),
        of_z_(along.wants_z()),
        sign_(of_z_ ? at.z_sign * at.w_sign : at.w_sign),
        w_sign_(at.w_sign),
        strength_(at.strength),
        block_z_(at.block_z),
        block_w_(at.block_w),
        g_(typed(along.cotangents.g)),
        result_(typed(at.result)),
        w_(typed(at.w)),
        out_(static_cast<T*>((of_z_ ? along.cotangents.z : along.cotangents.w).data)) {
    for (int size = 1; size <= kShortRow; ++size) reciprocals_[size] = 1.0 / size;
  }

  std::int64_t length() const { return shape_.n; }
  std::int64_t tiles() const { return shape_.n == 0 ? 0 : tiles_of(rows_); }
  std::size_t bytes() const { return layout_.bytes; }

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, std::int64_t k, char* memory) const {
    const std::int64_t first = k * kTileRows, left = rows_ - first;
    const TileShape shape = shape_.with_rows(left < kTileRows ? left : kTileRows);
    const CotangentRow<R, T> tile = first_row(memory);
    std::uint32_t* const starts = layout_.starts.at(memory);
    load_z(team, shape, tile, first);
    team.for_each(shape.rows, [&](int r) {
      const auto row = tile.row(r);
      const CotangentBlocks blocks = row.gather(w_sign_);
      if (!log_kl && of_z_) {
        row.write_z(blocks, strength_.row(first + r), sign_);
      } else {
        starts[r] = blocks.starts;
      }
    });
    if (!kl && !of_z_) {
      load_w(team, shape, tile, first);
      team.for_each(shape.rows, [&](int r) { tile.row(r).write_w(starts[r], T(sign_)); });
    }
    RowTile<T>(shape, tile.values).store(team, out_ + first * shape.n);
  }

 private:
  static DenseRows<const T> typed(const FloatRows& rows) {
    return {static_cast<const T*>(rows.data), rows.stride};
  }

  DIFFSORT_HD CotangentRow<R, T> first_row(char* memory) const {
    return {shape_.n,
            shape_.pitch(),
            layout_.ids.at(memory),
            layout_.values.at(memory),
            layout_.result.at(memory),
            layout_.sums.column(memory),
            layout_.largest.column(memory),
            reciprocals_};
  }

  // z's blocks, the cotangent, and what weighs it.
  template <class Team>
  DIFFSORT_HD void load_z(Team& team, const TileShape& shape, const CotangentRow<R, T>& tile,
                          std::int64_t first) const {
    const TileSource<std::int32_t> ids(block_z_, first, tile.ids);
    const TileSource<T> g(g_, first, tile.values);
    if constexpr (kl) {
      load_together(team, shape, ids, g, TileSource<T>(result_, first, tile.result));
    } else {
      load_together(team, shape, ids, g);
    }
  }

  // w's blocks, and w where that matters, in the same place.
  template <class Team>
  DIFFSORT_HD void load_w(Team& team, const TileShape& shape, const CotangentRow<R, T>& tile,
                          std::int64_t first) const {
    const TileSource<std::int32_t> ids(block_w_, first, tile.ids);
    if constexpr (log_kl) {
      load_together(team, shape, ids, TileSource<T>(w_, first, tile.values));
    } else {
      load_together(team, shape, ids);
    }
  }

  std::int64_t rows_;
  TileShape shape_;
  CotangentLayout<R, T> layout_;
  bool of_z_;  // which operand's cotangent it is
  double sign_, w_sign_;
  DensePerRow strength_;
  DenseRows<const std::int32_t> block_z_, block_w_;
  DenseRows<const T> g_, result_, w_;
  T* out_;
  double reciprocals_[kShortRow + 1] = {};
};

}  // namespace diffsort
