// The C interface of the library (diffsort/cuda.h): the projection.
#include <cstddef>

#include "api.cuh"
#include "arguments.h"
#include "diffsort/parallel_row/projection_dispatch.h"
#include "executor.cuh"

namespace diffsort {
namespace {

std::size_t needed(CudaExecutor& executor, const DiffsortProblem& problem,
                   const DiffsortProjection& arrays) {
  return dispatch(problem, [&](auto type, auto regularization) {
    using T = typename decltype(type)::Type;
    return projection_workspace<regularization()>(executor, projection_rows<T>(problem, arrays));
  });
}

}  // namespace
}  // namespace diffsort

using namespace diffsort;

extern "C" {

int diffsort_cuda_project_workspace(const DiffsortProblem* problem,
                                    const DiffsortProjection* arrays, const DiffsortCall* call,
                                    size_t* bytes) {
  *bytes = 0;
  if (const char* wrong = check_projection(*problem, *arrays))
    return refuse(*call, "project", wrong);
  if (problem->rows == 0 || problem->n == 0) return 0;
  CudaExecutor executor(*call, "project", problem->rows, problem->n);
  if (executor.ok()) *bytes = needed(executor, *problem, *arrays);
  return executor.status();
}

int diffsort_cuda_project(const DiffsortProblem* problem, const DiffsortProjection* arrays,
                          const DiffsortCall* call) {
  if (const char* wrong = check_projection(*problem, *arrays))
    return refuse(*call, "project", wrong);
  if (problem->rows == 0 || problem->n == 0) return 0;
  CudaExecutor executor(*call, "project", problem->rows, problem->n);
  if (!executor.ok()) return executor.status();
  if (!executor.fit_chunks(call->workspace_bytes,
                           [&] { return needed(executor, *problem, *arrays); })) {
    return refuse_workspace(*call, "project");
  }
  dispatch(*problem, [&](auto type, auto regularization) {
    using T = typename decltype(type)::Type;
    run_projection<regularization()>(executor, projection_rows<T>(*problem, *arrays),
                                     call->workspace);
  });
  return executor.status();
}

}  // extern "C"
