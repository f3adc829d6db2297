// The C interface of the library (diffsort/cuda.h): the linear maps.
#include <cstddef>

#include "api.cuh"
#include "derivative_arguments.h"
#include "diffsort/parallel_row/derivative_dispatch.h"
#include "executor.cuh"

namespace diffsort {
namespace {

std::size_t needed(CudaExecutor& executor, const DiffsortProblem& problem, const LinearizedRows& at,
                   const RowDirections& along) {
  return with_regularization(regularization_of(problem), [&](auto regularization) {
    return linear_map_workspace<regularization()>(executor, at, along);
  });
}

int workspace(const char* function, const DiffsortProblem& problem, const LinearizedRows& at,
              const RowDirections& along, const DiffsortCall& call, std::size_t& bytes) {
  CudaExecutor executor(call, function, problem.rows, problem.n);
  if (executor.ok()) bytes = needed(executor, problem, at, along);
  return executor.status();
}

int run(const char* function, const DiffsortProblem& problem, const LinearizedRows& at,
        const RowDirections& along, const DiffsortCall& call) {
  CudaExecutor executor(call, function, problem.rows, problem.n);
  if (!executor.ok()) return executor.status();
  if (!executor.fit_chunks(call.workspace_bytes,
                           [&] { return needed(executor, problem, at, along); })) {
    return refuse_workspace(call, function);
  }
  with_regularization(regularization_of(problem), [&](auto regularization) {
    run_linear_map<regularization()>(executor, function, at, along, call.workspace);
  });
  return executor.status();
}

}  // namespace
}  // namespace diffsort

using namespace diffsort;

extern "C" {

int diffsort_cuda_vjp_workspace(const DiffsortProblem* problem, const DiffsortLinearization* at,
                                const DiffsortCotangents* cotangents, const DiffsortCall* call,
                                size_t* bytes) {
  *bytes = 0;
  if (const char* wrong = check_vjp(*problem, *at, *cotangents)) return refuse(*call, "vjp", wrong);
  return workspace("vjp", *problem, linearized_rows(*problem, *at),
                   row_directions(*problem, *cotangents), *call, *bytes);
}

int diffsort_cuda_vjp(const DiffsortProblem* problem, const DiffsortLinearization* at,
                      const DiffsortCotangents* cotangents, const DiffsortCall* call) {
  if (const char* wrong = check_vjp(*problem, *at, *cotangents)) return refuse(*call, "vjp", wrong);
  return run("vjp", *problem, linearized_rows(*problem, *at), row_directions(*problem, *cotangents),
             *call);
}

int diffsort_cuda_jvp_workspace(const DiffsortProblem* problem, const DiffsortLinearization* at,
                                const DiffsortTangents* tangents, const DiffsortCall* call,
                                size_t* bytes) {
  *bytes = 0;
  if (const char* wrong = check_jvp(*problem, *at, *tangents)) return refuse(*call, "jvp", wrong);
  return workspace("jvp", *problem, linearized_rows(*problem, *at),
                   row_directions(*problem, *tangents), *call, *bytes);
}

int diffsort_cuda_jvp(const DiffsortProblem* problem, const DiffsortLinearization* at,
                      const DiffsortTangents* tangents, const DiffsortCall* call) {
  if (const char* wrong = check_jvp(*problem, *at, *tangents)) return refuse(*call, "jvp", wrong);
  return run("jvp", *problem, linearized_rows(*problem, *at), row_directions(*problem, *tangents),
             *call);
}

}  // extern "C"
