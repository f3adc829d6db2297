// The projection on a CUDA device, compiled once for each type and regularization.
#pragma once

#include <cstddef>

#include "diffsort/parallel_row/projection_rows.h"
#include "diffsort/projection.h"

namespace diffsort {

class CudaExecutor;

template <class T, Regularization R>
struct DeviceProjection {
  static std::size_t workspace(CudaExecutor& executor, const ProjectionRows<T>& arrays);
  static void run(CudaExecutor& executor, const ProjectionRows<T>& arrays, void* workspace);
};

}  // namespace diffsort
