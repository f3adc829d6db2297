// libdiffsort_cuda.so, opened on first use, and its functions for Python.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "diffsort/cuda.h"

namespace diffsort {

// The functions of diffsort/cuda.h. The library lies beside this module, is opened by the first
// call of `cuda_library` and stays open. Nothing is linked to it, so that a build without it, or a
// machine without a driver, has the rest.
struct CudaLibrary {
  decltype(&diffsort_cuda_version) version = nullptr;
  decltype(&diffsort_cuda_device_count) device_count = nullptr;
  decltype(&diffsort_cuda_supports) supports = nullptr;
  decltype(&diffsort_cuda_project_workspace) project_workspace = nullptr;
  decltype(&diffsort_cuda_project) project = nullptr;
  decltype(&diffsort_cuda_vjp_workspace) vjp_workspace = nullptr;
  decltype(&diffsort_cuda_vjp) vjp = nullptr;
  decltype(&diffsort_cuda_jvp_workspace) jvp_workspace = nullptr;
  decltype(&diffsort_cuda_jvp) jvp = nullptr;

  std::string problem;  // why none of them can be called; empty: they can

  // Throws std::runtime_error where there is a problem.
  const CudaLibrary& usable() const;
};

const CudaLibrary& cuda_library();

// What a failed call left in its message; never empty.
std::string cuda_error(int status, const char* message);

// Adds to the module: `cuda_library`, the path of the library or None; `cuda_device_count`,
// `cuda_problem`, `cuda_project`, `cuda_project_vjp`, `cuda_project_jvp`.
void bind_cuda(nanobind::module_& m);

}  // namespace diffsort
