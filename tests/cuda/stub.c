/* A library with the interface of libdiffsort_cuda.so and no kernels: it calls back into the test
 * that compiled it, if the test has set the hooks, and else does nothing and succeeds. */
#include <stdio.h>

#include "diffsort/cuda.h"

#ifndef VERSION
#define VERSION DIFFSORT_CUDA_VERSION
#endif
#ifndef DEVICES
#define DEVICES 2
#endif

int diffsort_cuda_version(void) { return VERSION; }

int diffsort_cuda_device_count(char* message, size_t message_bytes) {
  if (DEVICES == 0 && message) snprintf(message, message_bytes, "%s", "the driver is too old");
  return DEVICES;
}

int diffsort_cuda_supports(int32_t device) { return device == 0; }

#ifndef WITHOUT_FUNCTIONS

typedef int (*Hook)(const DiffsortProblem*, const void* at, const void* directions,
                    const DiffsortCall*, size_t* bytes);

Hook project_hook, vjp_hook, jvp_hook; /* `bytes` is null in the call that computes */

int diffsort_cuda_project_workspace(const DiffsortProblem* problem, const DiffsortProjection* arrays,
                                    const DiffsortCall* call, size_t* bytes) {
  return project_hook ? project_hook(problem, arrays, 0, call, bytes) : 0;
}

int diffsort_cuda_project(const DiffsortProblem* problem, const DiffsortProjection* arrays,
                          const DiffsortCall* call) {
  return project_hook ? project_hook(problem, arrays, 0, call, 0) : 0;
}

int diffsort_cuda_vjp_workspace(const DiffsortProblem* problem, const DiffsortLinearization* at,
                                const DiffsortCotangents* cotangents, const DiffsortCall* call,
                                size_t* bytes) {
  return vjp_hook ? vjp_hook(problem, at, cotangents, call, bytes) : 0;
}

int diffsort_cuda_vjp(const DiffsortProblem* problem, const DiffsortLinearization* at,
                      const DiffsortCotangents* cotangents, const DiffsortCall* call) {
  return vjp_hook ? vjp_hook(problem, at, cotangents, call, 0) : 0;
}

int diffsort_cuda_jvp_workspace(const DiffsortProblem* problem, const DiffsortLinearization* at,
                                const DiffsortTangents* tangents, const DiffsortCall* call,
                                size_t* bytes) {
  return jvp_hook ? jvp_hook(problem, at, tangents, call, bytes) : 0;
}

int diffsort_cuda_jvp(const DiffsortProblem* problem, const DiffsortLinearization* at,
                      const DiffsortTangents* tangents, const DiffsortCall* call) {
  return jvp_hook ? jvp_hook(problem, at, tangents, call, 0) : 0;
}

#endif
