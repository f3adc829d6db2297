// The C interface of the library (diffsort/cuda.h): its version, and devices.
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "diffsort/cuda.h"

namespace diffsort {
namespace {

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

// Whether a device of this compute capability runs the library's kernels: machine code of the same
// generation that is not newer, or PTX that is not newer (DIFFSORT_LOWEST_PTX, of cmake/Cuda.cmake).
bool has_kernels(int major, int minor) {
  const int capability = 100 * major + 10 * minor;
  for (const int architecture : {__CUDA_ARCH_LIST__}) {
    if (architecture / 100 == major && architecture <= capability) return true;
  }
  return 10 * DIFFSORT_LOWEST_PTX <= capability;
}

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

// By numbers of the device, and not by a look at a kernel there: that would make the device current and
// create its context, and restoring the former one create that of another, of hundreds of megabytes.
int diffsort_cuda_supports(int32_t device) {
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess) {
    return has_kernels(major, minor) ? 1 : 0;
  }
  cudaGetLastError();
  return 1;
}

}  // extern "C"
