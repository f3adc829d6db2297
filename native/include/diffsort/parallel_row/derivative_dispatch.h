// Which way the rows of a linear map go.
//
//     short rows     a thread per row, all in one launch, without workspace (short_derivatives.h)
//     longer rows    by teams, or step by step over all rows of a chunk (long_derivatives.h)
//
// The way depends on shapes and types, and on what is asked for, never on numbers.
#pragma once

#include <cstddef>

#include "diffsort/parallel_row/long_derivatives.h"
#include "diffsort/parallel_row/short_derivatives.h"

namespace diffsort {

template <Regularization R, class Executor>
std::size_t linear_map_workspace(Executor& executor, const LinearizedRows& at,
                                 const RowDirections& along) {
  return derivative_workspace(executor, DerivativeProgram<R>{at, along});
}

template <Regularization R, class Executor>
void run_linear_map(Executor& executor, const char* name, const LinearizedRows& at,
                    const RowDirections& along, void* workspace) {
  const auto run_tiles = [&](const auto& tiles) {
    if (!executor.fits_tile(tiles)) return false;
    executor.for_each_tile(name, tiles);
    return true;
  };
  const bool is_float32 =
      along.forward ? along.tangents.out.is_float32 : along.cotangents.g.is_float32;
  const bool done = is_float32 ? run_tiles(DerivativeTiles<R, float>(at, along))
                               : run_tiles(DerivativeTiles<R, double>(at, along));
  if (!done) run_derivative(executor, name, DerivativeProgram<R>{at, along}, workspace);
}

}  // namespace diffsort
