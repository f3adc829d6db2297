// A pointer into a team's own memory, or none.
//
// On a device that is shared memory, which is reached by instructions of its own, with addresses of 32
// bits. Of a pointer that has been in memory, or comes from a caller, the compiler does not know;
// so this is an offset from the first byte of a block's dynamic shared memory, where a team's memory is.
// None is no offset, since 0 is one. The size is not that on the host: what kernels are given has none of
// these, and where the host measures memory for some (RowWork) a device takes less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "diffsort/host_device.h"

namespace diffsort {

#ifdef __CUDACC__
// By one name for all: to the compiler arrays of different names do not overlap.
__device__ inline char* memory_of_block() {
  extern __shared__ uint4 shared_memory[];
  return reinterpret_cast<char*>(shared_memory);
}
#endif

template <class V>
class TeamPointer {
#ifdef __CUDA_ARCH__
  using Address = std::int32_t;
  static constexpr Address kNone = INT32_MIN;
  __device__ static Address address_of(V* pointer) {
    return static_cast<Address>(__cvta_generic_to_shared(pointer)) -
           static_cast<Address>(__cvta_generic_to_shared(memory_of_block()));
  }
#else
  using Address = V*;
  static constexpr Address kNone = nullptr;
  static Address address_of(V* pointer) { return pointer; }
#endif

 public:
  TeamPointer() = default;
  DIFFSORT_HD TeamPointer(std::nullptr_t) {}
  // On a device: of a pointer that is not null, into dynamic shared memory.
  DIFFSORT_HD TeamPointer(V* pointer) : address_(address_of(pointer)) {}
  template <class Other, class = std::enable_if_t<std::is_convertible_v<Other*, V*>>>
  DIFFSORT_HD TeamPointer(const TeamPointer<Other>& other) : address_(other.address_) {}

  // Unless it is none.
  DIFFSORT_HD operator V*() const {
#ifdef __CUDA_ARCH__
    return reinterpret_cast<V*>(memory_of_block() + address_);
#else
    return address_;
#endif
  }

  explicit operator bool() const = delete;  // by the conversion above none would be something
  DIFFSORT_HD friend bool operator==(const TeamPointer& a, std::nullptr_t) {
    return a.address_ == kNone;
  }
  DIFFSORT_HD friend bool operator!=(const TeamPointer& a, std::nullptr_t) {
    return a.address_ != kNone;
  }

 private:
  template <class Other>
  friend class TeamPointer;

  Address address_ = kNone;
};

}  // namespace diffsort
