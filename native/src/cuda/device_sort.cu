#include <cub/device/device_radix_sort.cuh>

#include "device_sort.cuh"

namespace diffsort {

template <class Key, class Value>
cudaError_t device_sort(void* scratch, std::size_t& scratch_bytes, DoubleBuffer<Key>& keys,
                        DoubleBuffer<Value>& values, std::int64_t count, int begin_bit, int end_bit,
                        cudaStream_t stream) {
  cub::DoubleBuffer<Key> key_buffer(keys.current, keys.other);
  cub::DoubleBuffer<Value> value_buffer(values.current, values.other);
  const cudaError_t status =
      cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, key_buffer, value_buffer,
                                      static_cast<int>(count), begin_bit, end_bit, stream);
  keys = {key_buffer.Current(), key_buffer.Alternate()};
  values = {value_buffer.Current(), value_buffer.Alternate()};
  return status;
}

#define DIFFSORT_DEVICE_SORT(Key, Value)                                                          \
  template cudaError_t device_sort(void*, std::size_t&, DoubleBuffer<Key>&, DoubleBuffer<Value>&, \
                                   std::int64_t, int, int, cudaStream_t);
DIFFSORT_DEVICE_SORT(std::uint32_t, std::uint32_t)
DIFFSORT_DEVICE_SORT(std::uint64_t, std::uint32_t)
DIFFSORT_DEVICE_SORT(std::uint32_t, std::uint64_t)

}  // namespace diffsort
