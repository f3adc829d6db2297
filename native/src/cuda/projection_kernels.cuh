// Included where a projection of projection.cuh is compiled.
#pragma once

#include "diffsort/parallel_row/dispatch.h"
#include "executor.cuh"
#include "projection.cuh"

namespace diffsort {

template <class T, Regularization R>
std::size_t DeviceProjection<T, R>::workspace(CudaExecutor& executor,
                                              const ProjectionRows<T>& arrays) {
  return projection_workspace<R>(executor, arrays);
}

template <class T, Regularization R>
void DeviceProjection<T, R>::run(CudaExecutor& executor, const ProjectionRows<T>& arrays,
                                 void* workspace) {
  run_projection<R>(executor, arrays, workspace);
}

}  // namespace diffsort
