// The part of the DLPack ABI that is used here, major version 1, laid out as the standard defines
// it: https://dmlc.github.io/dlpack/latest/c_api.html. nanobind declares the tensor itself; the
// managed tensor and the C exchange API (DLPack 1.2, torch 2.10 and newer) are declared below.
#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>

namespace diffsort::dlpack {

using Tensor = nanobind::dlpack::dltensor;
using TypeCode = nanobind::dlpack::dtype_code;

constexpr std::uint32_t kMajorVersion = 1;
constexpr std::uint64_t kReadOnly = 1;

struct Version {
  std::uint32_t major, minor;
};

struct ManagedTensor {  // up to DLPack 0.8; capsules named "dltensor"
  Tensor tensor;
  void* manager_context;
  void (*deleter)(ManagedTensor*);
};

struct ManagedTensorVersioned {  // from DLPack 1.0; capsules named "dltensor_versioned"
  Version version;
  void* manager_context;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

// Found as a capsule "dlpack_exchange_api" in the type attribute `__dlpack_c_exchange_api__`.
struct ExchangeApi {
  struct Header {
    Version version;
    Header* previous;
  } header;
  int (*allocate)(Tensor*, ManagedTensorVersioned**, void*,
                  void (*)(void*, const char*, const char*));
  int (*managed_from_object)(void*, ManagedTensorVersioned**);
  int (*object_from_managed)(ManagedTensorVersioned*, void**);
  int (*tensor_from_object)(void*, Tensor*);  // may be null; the view lives as long as the object
  int (*current_stream)(int, std::int32_t, void**);
};

}  // namespace diffsort::dlpack
