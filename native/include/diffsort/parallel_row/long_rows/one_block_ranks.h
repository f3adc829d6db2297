// Ranks of long rows that are one block: what comes before all else that is done for ranks. It needs no
// sort. Steps over all rows of a chunk, each a launch, by a team for every part of a row:
//
//     spread_of_part    the range of the part's values, and their sum
//     weight_of_part    kl: the sum of their exponentials, where the spreads tell one block
//     rank_one_blocks   the ranks of such rows, which are settled then: what follows leaves them alone
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"
#include "diffsort/parallel_row/partition/one_block.h"
#include "diffsort/parallel_row/rows/projection_rows.h"
#include "diffsort/parallel_row/rows/row_parts.h"

namespace diffsort {

// Values in the terms of P itself.
template <class T>
struct SignedValues {
  const T* values;
  double sign;

  DIFFSORT_HD explicit SignedValues(const ProjectionRow<T>& row)
      : values(row.z), sign(row.z_sign) {}
  DIFFSORT_HD T operator[](std::int64_t i) const { return sign < 0.0 ? -values[i] : values[i]; }
};

// What parts of rows know for all of their row; [row][part].
template <class T>
struct PartsOfRanks {
  Regularization regularization;
  ProjectionRows<T> arrays;
  RowParts parts;
  Spread<T>* spreads;
  double* weights;  // kl: of the values of a part, in a row that is one block
};

template <class T>
struct SpreadOfPart {
  struct Shared {};

  PartsOfRanks<T> ranks;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(ranks.parts, k);
    const ProjectionRow<T> row = ranks.arrays.row(part.row);
    if (!is_moderate(row.strength)) return;
    const SignedValues<T> z(row);
    const T first = z[0];
    const Spread<T> spread = team.reduce(
        part.size(), Spread<T>::none(first),
        [&](std::int64_t i) { return Spread<T>::of(z[part.first + i], first); },
        typename Spread<T>::Combine{});
    team.for_each(1, [&](std::int64_t) { ranks.spreads[k] = spread; });
  }
};

// By the spreads of its parts.
template <class Team, class T>
DIFFSORT_HD OneBlock<T> one_block_of(Team& team, const PartsOfRanks<T>& ranks, std::int64_t r) {
  const ProjectionRow<T> row = ranks.arrays.row(r);
  const T first = SignedValues<T>(row)[0];
  Spread<T> spread = Spread<T>::none(first);
  if (is_moderate(row.strength)) {
    const Spread<T>* const of_row = ranks.spreads + r * ranks.parts.count;
    spread = team.reduce_few(
        ranks.parts.count, spread, [&](std::int64_t q) { return of_row[q]; },
        typename Spread<T>::Combine{});
  }
  return {ranks.regularization, spread, first, row.n, row.strength};
}

template <class T>
struct WeightOfPart {
  struct Shared {};

  PartsOfRanks<T> ranks;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(ranks.parts, k);
    const OneBlock<T> block = one_block_of(team, ranks, part.row);
    if (!block.whole) return;
    const SignedValues<T> z(ranks.arrays.row(part.row));
    const double weight = team.reduce(
        part.size(), 0.0, [&](std::int64_t i) { return block.weight(z[part.first + i]); },
        Addition{});
    team.for_each(1, [&](std::int64_t) { ranks.weights[k] = weight; });
  }
};

template <class T>
struct RankOneBlocks {
  struct Shared {};

  PartsOfRanks<T> ranks;
  std::uint32_t* settled;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(ranks.parts, k);
    OneBlock<T> block = one_block_of(team, ranks, part.row);
    if (part.index == 0) {
      team.for_each(1, [&](std::int64_t) { settled[part.row] = block.whole ? 1 : 0; });
    }
    if (!block.whole) return;
    const ProjectionRow<T> row = ranks.arrays.row(part.row);
    if (ranks.regularization == Regularization::kl && row.result) {
      const double* const of_row = ranks.weights + part.row * ranks.parts.count;
      block.weigh(team.reduce_few(
          ranks.parts.count, 0.0, [&](std::int64_t q) { return of_row[q]; }, Addition{}));
    }
    const SignedValues<T> z(row);
    team.stream(
        part.size(), [&](std::int64_t i) { return z[part.first + i]; },
        [&](std::int64_t i, T value) {
          row.write_one_block(part.first + i, block.template rank<true>(value));
        });
  }
};

template <class Executor, class T>
void settle_one_block_ranks(Executor& executor, const PartsOfRanks<T>& ranks,
                            std::uint32_t* settled) {
  const std::int64_t teams = ranks.arrays.rows * ranks.parts.count;
  executor.for_each_team("spread_of_part", teams, SpreadOfPart<T>{ranks});
  if (ranks.regularization == Regularization::kl && ranks.arrays.result) {
    executor.for_each_team("weight_of_part", teams, WeightOfPart<T>{ranks});
  }
  executor.for_each_team("rank_one_blocks", teams, RankOneBlocks<T>{ranks, settled});
}

}  // namespace diffsort
