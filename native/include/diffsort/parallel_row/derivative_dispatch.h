// Which way the rows of a linear map go.
//
//     short rows     a thread per row, all in one launch, without workspace: the float32 cotangent of a
//                    single operand (short_rows/cotangent.h) or anything else (short_rows/derivatives.h)
//     longer rows    by teams: the same cotangent without a sort (team_rows/cotangent.h), or anything else;
//                    and step by step over all rows of a chunk: the same of l2 without a sort
//                    (long_rows/cotangent.h), or anything else (long_rows/derivatives.h)
//
// The way depends on shapes and types, and on what is asked for, never on numbers.
#pragma once

#include <cstddef>

#include "diffsort/parallel_row/long_rows/cotangent.h"
#include "diffsort/parallel_row/long_rows/derivatives.h"
#include "diffsort/parallel_row/short_rows/cotangent.h"
#include "diffsort/parallel_row/short_rows/derivatives.h"
#include "diffsort/parallel_row/team_rows/cotangent.h"

namespace diffsort {

// Of rows that no team holds.
template <Regularization R, class Executor>
bool goes_without_sort(const Executor& executor, const LinearizedRows& at,
                       const RowDirections& along) {
  return LongCotangent::serves(R, at, along) && !executor.fits(DerivativeProgram<R>{at, along});
}

template <Regularization R, class Executor>
std::size_t linear_map_workspace(Executor& executor, const LinearizedRows& at,
                                 const RowDirections& along) {
  if (goes_without_sort<R>(executor, at, along)) {
    return long_cotangent_workspace(executor, at, along);
  }
  return derivative_workspace(executor, DerivativeProgram<R>{at, along});
}

// Whether it was such a cotangent, and rows are not too long.
template <class Program, class Executor>
bool run_cotangent(Executor& executor, const char* name, const LinearizedRows& at,
                   const RowDirections& along) {
  if (!Program::serves(at, along)) return false;
  const Program program(at, along);
  if (!executor.fits(program)) return false;
  executor.for_each_row(name, at.set.rows, program);
  return true;
}

template <Regularization R, class Executor>
void run_linear_map(Executor& executor, const char* name, const LinearizedRows& at,
                    const RowDirections& along, void* workspace) {
  const auto run_tiles = [&](const auto& tiles) {
    if (!executor.fits_tile(tiles)) return false;
    executor.for_each_tile(name, tiles);
    return true;
  };
  // Not of float64, whose kernels would be as large again, and are seldom asked for.
  using Cotangent = CotangentTiles<R, float>;
  const bool is_float32 =
      along.forward ? along.tangents.out.is_float32 : along.cotangents.g.is_float32;
  const bool done =
      (is_float32 && is_one_cotangent<R>(at, along) ? run_tiles(Cotangent(at, along))
                                                    : run_tiles(DerivativeTiles<R>(at, along))) ||
      run_cotangent<CotangentProgram<R>>(executor, name, at, along);
  if (done) return;
  if (goes_without_sort<R>(executor, at, along)) {
    return run_long_cotangent(executor, name, at, along, workspace);
  }
  run_derivative(executor, name, DerivativeProgram<R>{at, along}, workspace);
}

}  // namespace diffsort
