// The C interface of the library (diffsort/cuda.h): devices, and the projection.
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "api.cuh"
#include "arguments.h"
#include "executor.cuh"
#include "projection.cuh"

namespace diffsort {
namespace {

__global__ void probe_kernel() {}

// Why there are no devices. Without a driver CUDA says that the driver is too old.
void explain(cudaError_t status, char* message, std::size_t bytes) {
  if (message == nullptr || bytes == 0) return;
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) {
    std::snprintf(message, bytes, "there is no CUDA driver");
  } else {
    std::snprintf(message, bytes, "%s (driver for CUDA %d.%d, library built with CUDA %d.%d)",
                  cudaGetErrorString(status), driver / 1000, driver % 1000 / 10,
                  CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  }
}

struct ProjectionWorkspace {
  const DiffsortProblem& problem;
  const DiffsortProjection& arrays;
  CudaExecutor& executor;

  template <class T, Regularization R>
  std::size_t operator()(TypeTag<T>, RegularizationTag<R>) const {
    return DeviceProjection<T, R>::workspace(executor, projection_rows<T>(problem, arrays));
  }
};

struct RunProjection {
  const DiffsortProblem& problem;
  const DiffsortProjection& arrays;
  CudaExecutor& executor;
  void* workspace;

  template <class T, Regularization R>
  void operator()(TypeTag<T>, RegularizationTag<R>) const {
    DeviceProjection<T, R>::run(executor, projection_rows<T>(problem, arrays), workspace);
  }
};

}  // namespace
}  // namespace diffsort

using namespace diffsort;

extern "C" {

int diffsort_cuda_version(void) {
  return DIFFSORT_CUDA_VERSION;
}

int diffsort_cuda_device_count(char* message, size_t message_bytes) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  if (status == cudaSuccess) status = cudaErrorNoDevice;
  explain(status, message, message_bytes);
  return 0;
}

int diffsort_cuda_supports(int32_t device) {
  DiffsortCall call{};
  call.device = device;
  CudaExecutor executor(call, "supports", 0, 0);
  cudaFuncAttributes attributes;
  if (executor.ok() && cudaFuncGetAttributes(&attributes, probe_kernel) == cudaSuccess) return 1;
  cudaGetLastError();
  return 0;
}

int diffsort_cuda_project_workspace(const DiffsortProblem* problem,
                                    const DiffsortProjection* arrays, const DiffsortCall* call,
                                    size_t* bytes) {
  *bytes = 0;
  if (const char* wrong = check_projection(*problem, *arrays))
    return refuse(*call, "project", wrong);
  if (problem->rows == 0 || problem->n == 0) return 0;
  CudaExecutor executor(*call, "project", problem->rows, problem->n);
  if (executor.ok()) *bytes = dispatch(*problem, ProjectionWorkspace{*problem, *arrays, executor});
  return executor.status();
}

int diffsort_cuda_project(const DiffsortProblem* problem, const DiffsortProjection* arrays,
                          const DiffsortCall* call) {
  if (const char* wrong = check_projection(*problem, *arrays))
    return refuse(*call, "project", wrong);
  if (problem->rows == 0 || problem->n == 0) return 0;
  CudaExecutor executor(*call, "project", problem->rows, problem->n);
  if (!executor.ok()) return executor.status();
  const ProjectionWorkspace needed{*problem, *arrays, executor};
  if (!executor.fit_chunks(call->workspace_bytes, [&] { return dispatch(*problem, needed); })) {
    return refuse_workspace(*call, "project");
  }
  dispatch(*problem, RunProjection{*problem, *arrays, executor, call->workspace});
  return executor.status();
}

}  // extern "C"
