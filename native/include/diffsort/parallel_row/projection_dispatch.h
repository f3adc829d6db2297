// Which way the rows of a projection go, and the workspace they take.
//
//     short rows            a thread per row, all in one launch, without workspace (short_rows/project.h)
//     a team holds a row    all rows in one launch, without workspace (team_rows/project.h)
//     longer rows           in chunks, step by step over all rows of a chunk (long_rows/project.h)
//
// The way depends on shapes, types, and which operands and outputs there are, never on numbers, so
// that the workspace can be asked for beforehand. Without outputs there is nothing to do.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "diffsort/parallel_row/long_rows/project.h"
#include "diffsort/parallel_row/short_rows/project.h"
#include "diffsort/parallel_row/team_rows/project.h"

namespace diffsort {

template <class T, Regularization R, class Executor>
LongMemory<T, R> long_memory(Arena& arena, const Executor& executor,
                             const ProjectionRows<T>& arrays) {
  return {arena, rows_per_chunk(executor.chunk_elements(), arrays.rows, arrays.n), arrays.n,
          static_cast<bool>(arrays.z), static_cast<bool>(arrays.w)};
}

template <class T>
bool is_nothing(const ProjectionRows<T>& arrays) {
  return arrays.rows == 0 || arrays.n == 0 || !(arrays.result || arrays.block_z || arrays.block_w);
}

template <Regularization R, class Executor, class T>
std::size_t projection_workspace(Executor& executor, const ProjectionRows<T>& arrays) {
  if (is_nothing(arrays) || executor.fits(ProjectRows<T, R>(arrays))) return 0;
  Arena arena;
  long_memory<T, R>(arena, executor, arrays);
  return arena.bytes();
}

template <Regularization R, class Executor, class T>
void run_projection(Executor& executor, const ProjectionRows<T>& arrays, void* workspace) {
  if (is_nothing(arrays)) return;
  const ProjectTiles<T, R> tiles(arrays);
  if (executor.fits_tile(tiles)) return executor.for_each_tile("project_tile", tiles);
  const ProjectRows<T, R> fused(arrays);
  if (executor.fits(fused)) return executor.for_each_row("project_row", arrays.rows, fused);
  Arena arena(workspace);
  const LongMemory<T, R> memory = long_memory<T, R>(arena, executor, arrays);
  const std::int64_t step = rows_per_chunk(executor.chunk_elements(), arrays.rows, arrays.n);
  for (std::int64_t r = 0; r < arrays.rows; r += step) {
    project_chunk<R>(executor, arrays.part(r, std::min(step, arrays.rows - r)), memory);
  }
}

}  // namespace diffsort
