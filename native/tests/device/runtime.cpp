#include "runtime.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <utility>

namespace diffsort::device {

namespace {

constexpr int kDefaultSharedBytes = 48 * 1024;

// Fat binaries, as nvcc puts them into objects: a header, and entries one after the other.
struct FatBinaryInObject {
  std::uint32_t magic, version;
  const unsigned char* data;
  void* file;
};
struct FatBinaryHeader {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;
};
struct FatBinaryEntry {
  std::uint16_t kind, version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;
  std::uint32_t compressed_bytes, options;
  std::uint16_t minor, major;
  std::uint32_t architecture;
};
constexpr std::uint16_t kPtx = 1;

struct Kernel {
  std::size_t binary;
  std::string name;
  int most_dynamic_shared = kDefaultSharedBytes;
};

struct State {
  Machine machine;
  Properties properties = kHopper;
  std::vector<const unsigned char*> binaries;
  std::map<std::pair<std::size_t, int>, Module> modules;  // of binaries; read when first used
  std::unordered_map<const void*, Kernel> kernels;
  std::map<std::string, Counts> counts;
  std::string message;
  cudaError_t last = cudaSuccess;
  int current_device = 0;
  std::vector<int> made_current;  // since it was last asked
  int last_launch = -1;           // the device that was current
};

State& state() {
  static State all;
  return all;
}

bool is_device(int ordinal) {
  return ordinal >= 0 && ordinal < kDevices;
}

cudaError_t failure(cudaError_t status, const std::string& message) {
  state().message = message;
  return state().last = status;
}

std::string ptx_of(const unsigned char* data, int capability) {
  FatBinaryHeader header;
  std::memcpy(&header, data, sizeof header);
  for (std::uint64_t at = header.header_bytes; at < header.header_bytes + header.bytes;) {
    FatBinaryEntry entry;
    std::memcpy(&entry, data + at, sizeof entry);
    if (entry.kind == kPtx && entry.architecture == static_cast<std::uint32_t>(capability)) {
      if (entry.compressed_bytes != 0) throw std::runtime_error("compressed PTX is not read");
      const char* text = reinterpret_cast<const char*>(data + at + entry.header_bytes);
      return {text, strnlen(text, entry.bytes)};
    }
    at += entry.header_bytes + entry.bytes;
  }
  throw std::runtime_error("no PTX for sm_" + std::to_string(capability));
}

const Module& module_of(const Kernel& kernel) {
  State& all = state();
  const int capability = all.properties.compute_capability;
  const std::pair key(kernel.binary, capability);
  const auto found = all.modules.find(key);
  if (found != all.modules.end()) return found->second;
  const std::string ptx = ptx_of(all.binaries[kernel.binary], capability);
  return all.modules.emplace(key, read_module(ptx)).first->second;
}

const Function& function_of(const Kernel& kernel) {
  const Module& module = module_of(kernel);
  return module.functions[static_cast<std::size_t>(module.function_by_name.at(kernel.name))];
}

int static_shared_of(const Function& kernel) {
  int bytes = 0;
  for (const Bytes& area : kernel.shared) bytes += (area.size + 15) / 16 * 16;
  return bytes;
}

std::vector<unsigned char> parameters_of(const Function& function, void** arguments) {
  std::vector<unsigned char> parameters(static_cast<std::size_t>(function.parameter_bytes));
  for (std::size_t k = 0; k < function.parameters.size(); ++k) {
    const Bytes& bytes = function.parameters[k];
    std::memcpy(parameters.data() + bytes.at, arguments[k], static_cast<std::size_t>(bytes.size));
  }
  return parameters;
}

cudaError_t launch(Kernel& kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared) {
  const Function& function = function_of(kernel);
  if (grid.x == 0 || grid.y != 1 || grid.z != 1 || block.y != 1 || block.z != 1 || block.x == 0 ||
      block.x > static_cast<unsigned>(function.most_threads)) {
    return failure(cudaErrorInvalidConfiguration, kernel.name + ": blocks that it cannot have");
  }
  if (shared > static_cast<std::size_t>(kernel.most_dynamic_shared) ||
      (kernel.most_dynamic_shared == kDefaultSharedBytes &&
       shared + static_cast<std::size_t>(static_shared_of(function)) > kDefaultSharedBytes)) {
    return failure(cudaErrorInvalidValue, kernel.name + ": more shared memory than it asked for");
  }
  state().last_launch = state().current_device;
  state().counts[kernel.name] += state().machine.run(
      {&module_of(kernel), &function, grid.x, block.x, parameters_of(function, arguments), shared});
  return cudaSuccess;
}

}  // namespace

Machine& machine() {
  return state().machine;
}

// What was asked of kernels before was asked of another device.
void become(const Properties& properties) {
  state().properties = properties;
  for (auto& [function, kernel] : state().kernels) kernel.most_dynamic_shared = kDefaultSharedBytes;
}

std::vector<int> take_made_current() {
  return std::exchange(state().made_current, {});
}

int device_of_last_launch() {
  return state().last_launch;
}

std::map<std::string, Counts> take_counts() {
  return std::exchange(state().counts, {});
}

}  // namespace diffsort::device

using namespace diffsort::device;

extern "C" {

void** __cudaRegisterFatBinary(void* in_object) {
  state().binaries.push_back(static_cast<const FatBinaryInObject*>(in_object)->data);
  return reinterpret_cast<void**>(state().binaries.size());
}

void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}

void __cudaRegisterFunction(void** binary, const char* function, char*, const char* name, int,
                            uint3*, uint3*, dim3*, dim3*, int*) {
  state().kernels[function] = {reinterpret_cast<std::size_t>(binary) - 1, name};
}

// Of kernels that are launched by <<<>>>, which none is.
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) {
  return cudaErrorNotSupported;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) {
  return cudaErrorNotSupported;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t) {
  const auto found = state().kernels.find(function);
  if (found == state().kernels.end()) return failure(cudaErrorInvalidDeviceFunction, "no kernel");
  try {
    return launch(found->second, grid, block, arguments, shared);
  } catch (const std::exception& error) {
    return failure(cudaErrorLaunchFailure, error.what());
  }
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const auto found = state().kernels.find(function);
  if (found == state().kernels.end()) return failure(cudaErrorInvalidDeviceFunction, "no kernel");
  Kernel& kernel = found->second;
  try {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize ||
        value + static_shared_of(function_of(kernel)) > state().properties.shared_bytes) {
      return failure(cudaErrorInvalidValue, kernel.name + ": an attribute that it cannot have");
    }
  } catch (const std::exception& error) {
    return failure(cudaErrorInvalidValue, error.what());
  }
  kernel.most_dynamic_shared = value;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!is_device(device)) return failure(cudaErrorInvalidDevice, "invalid device ordinal");
  const Properties& properties = state().properties;
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = properties.shared_bytes;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.compute_capability / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.compute_capability % 10;
      return cudaSuccess;
    default:
      return failure(cudaErrorNotSupported, "this attribute is not there");
  }
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = state().current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return failure(cudaErrorInvalidDevice, "invalid device ordinal");
  state().current_device = device;
  state().made_current.push_back(device);
  return cudaSuccess;
}
cudaError_t cudaStreamGetDevice(cudaStream_t, int* device) {
  return cudaGetDevice(device);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return std::exchange(state().last, cudaSuccess);
}
const char* cudaGetErrorString(cudaError_t) {
  return state().message.c_str();
}

}  // extern "C"
