// The float32 cotangent of ranks (l2, kl), or of l2's sorted values, alone, of long rows that are one
// block: what comes before all else that is done for such cotangents. It needs no sort and no
// blocks. Two steps over all rows of a chunk, each a launch:
//
//     sum      of each tile, in float64, and whether it is of the row's first block alone
//     settle   rows that are one block are written; whatever follows leaves them alone
//
// The formulas are those of team_rows/cotangent.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team_rows/cotangent.h"

namespace diffsort {

// What a tile of a row knows for all of it. Of tiles, so that a row's mean is the same however many rows
// there are, and however long its parts are.
struct TileSum {
  double terms = 0.0, weights = 0.0;  // <p, g> is their quotient; in l2 weights are 1
  std::uint32_t behind_first = 0;     // 0 if all ids are that of the first block

  struct Combine {
    DIFFSORT_HD TileSum operator()(const TileSum& a, const TileSum& b) const {
      return {a.terms + b.terms, a.weights + b.weights, a.behind_first | b.behind_first};
    }
  };
};

constexpr std::uint32_t kSettled = 2;  // a row that is written

// What both steps share: a chunk of rows, and the workspace.
struct OneBlockCotangents {
  std::int64_t n;
  bool of_w;
  double scale_sign, weight_sign;
  DensePerRow strength;
  DenseRows<const float> g, weights;  // kl's results; absent of l2
  DenseRows<const std::int32_t> block_z, block_w;
  float* out;
  RowParts parts;

  std::uint32_t not_settled;         // what rows have in `settled` that are not
  std::uint32_t* settled = nullptr;  // [row]
  TileSum* tile_sums = nullptr;      // [row][tile]
  std::uint32_t* invalid = nullptr;  // [row]: to be cleared, if it is there

  template <Regularization R>
  static bool serves(const LinearizedRows& at, const RowDirections& along) {
    return R != Regularization::log_kl && is_one_cotangent<R>(at, along) &&
           along.cotangents.g.is_float32 && at.set.n >= 2;
  }

  OneBlockCotangents(Regularization regularization, const LinearizedRows& at,
                     const RowDirections& along, std::uint32_t not_settled)
      : n(at.set.n),
        of_w(along.wants_w()),
        scale_sign(at.z_sign * at.w_sign),
        weight_sign(at.w_sign),
        strength(at.strength),
        g{static_cast<const float*>(along.cotangents.g.data), along.cotangents.g.stride},
        block_z(at.block_z),
        block_w(at.block_w),
        out(static_cast<float*>(of_w ? along.cotangents.w.data : along.cotangents.z.data)),
        parts(at.set.rows, n),
        not_settled(not_settled) {
    if (regularization == Regularization::kl) {
      weights = {static_cast<const float*>(at.result.data), at.result.stride};
    }
  }

  DIFFSORT_HD static std::int64_t tiles_of_row(std::int64_t n) { return (n + kTile - 1) / kTile; }

  DIFFSORT_HD TileSum* sums_of(std::int64_t r) const { return tile_sums + r * tiles_of_row(n); }
  // 0 in the hard limit.
  DIFFSORT_HD double scale(std::int64_t r) const {
    return strength_factor(strength.row(r), scale_sign);
  }
  // What the g of the row's element i is weighed by.
  DIFFSORT_HD double weight(std::int64_t r, std::int64_t i) const {
    return weights ? weight_sign * static_cast<double>(weights.row(r)[i]) : 1.0;
  }
};

struct SumTiles {
  struct Shared {};

  OneBlockCotangents c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    std::uint32_t behind_first = 0;
    DIFFSORT_ROLLED
    for (std::int64_t first = part.first; first < part.last; first += kTile) {
      TileSum sum{0.0, 0.0, behind_first};
      if (behind_first == 0) {
        sum = sum_of(team, part.row, first, part.last - first < kTile ? part.last - first : kTile);
        behind_first = sum.behind_first;
      }
      team.for_each(1, [&](int) { c.sums_of(part.row)[first / kTile] = sum; });
    }
  }

 private:
  template <class Team>
  DIFFSORT_HD TileSum sum_of(Team& team, std::int64_t r, std::int64_t first,
                             std::int64_t size) const {
    const std::int32_t* const ids = c.block_z.row(r) + first;
    const std::int32_t* const ids_w = c.of_w ? c.block_w.row(r) + first : ids;
    const float* const g = c.g.row(r) + first;
    const auto id_bits = [=](std::int64_t i) {
      return static_cast<std::uint32_t>(ids[i] | ids_w[i]);
    };
    constexpr std::int64_t kFew = 512;  // mostly these tell
    const std::uint32_t of_few =
        team.reduce_few(size < kFew ? size : kFew, std::uint32_t{0}, id_bits,
                        [](std::uint32_t a, std::uint32_t b) { return a | b; });
    if (of_few != 0) return {0.0, 0.0, of_few};
    return team.reduce(
        size, TileSum{},
        [=](std::int64_t i) {
          const double weight = c.weight(r, first + i);
          return TileSum{weight * static_cast<double>(g[i]), weight, id_bits(i)};
        },
        TileSum::Combine{});
  }
};

struct SettleRows {
  struct Shared {};

  OneBlockCotangents c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    const TileSum* const of_row = c.sums_of(r);
    const TileSum sum = team.reduce_few(
        OneBlockCotangents::tiles_of_row(c.n), TileSum{}, [=](std::int64_t t) { return of_row[t]; },
        TileSum::Combine{});
    const bool settles = sum.behind_first == 0;
    if (part.index == 0) {
      team.for_each(1, [&](int) {
        c.settled[r] = settles ? kSettled : c.not_settled;
        if (c.invalid != nullptr) c.invalid[r] = 0;
      });
    }
    if (!settles) return;
    const double mean = c.weights ? share_of(sum.terms, sum.weights)
                                  : plain_quotient(sum.terms, count_to_double(c.n));
    const double scale = c.scale(r);
    const float* const g = c.g.row(r) + part.first;
    float* const out = c.out + r * c.n + part.first;
    const bool of_w = c.of_w;
    struct Read {
      float g, weight;
    };
    team.stream(
        part.size(),
        [=](std::int64_t i) {
          return Read{of_w ? 0.0f : g[i], static_cast<float>(c.weight(r, part.first + i))};
        },
        [=](std::int64_t i, const Read& own) {
          out[i] = static_cast<float>(
              of_w ? mean : cotangent_of_z(scale, double{own.g}, mean, double{own.weight}));
        });
  }
};

template <class Executor>
void settle_one_blocks(Executor& executor, const char* name, std::int64_t rows,
                       const OneBlockCotangents& c) {
  executor.for_each_team(name, rows * c.parts.count, SumTiles{c});
  executor.for_each_team(name, rows * c.parts.count, SettleRows{c});
}

}  // namespace diffsort
