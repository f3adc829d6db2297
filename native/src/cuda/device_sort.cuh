// Stable sorts of device memory by cub::DeviceRadixSort, compiled once for all who need them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "diffsort/parallel_row/double_buffer.h"

namespace diffsort {

// Sorts by bits [begin_bit, end_bit) of the keys. Without scratch only `scratch_bytes` is set.
template <class Key, class Value>
cudaError_t device_sort(void* scratch, std::size_t& scratch_bytes, DoubleBuffer<Key>& keys,
                        DoubleBuffer<Value>& values, std::int64_t count, int begin_bit, int end_bit,
                        cudaStream_t stream);

}  // namespace diffsort
