// Scratch memory that grows, is not initialised, and is kept from row to row.
#pragma once

#include <cstddef>
#include <memory>

namespace diffsort {

template <class V>
class Buffer {
 public:
  // At least `size` elements; what was there before is lost when it grows.
  V* get(std::size_t size) {
    if (size > capacity_) {
      memory_.reset();  // never both at once
      memory_.reset(new V[size]);
      capacity_ = size;
    }
    return memory_.get();
  }
  V* data() const { return memory_.get(); }
  void release() {
    memory_.reset();
    capacity_ = 0;
  }

 private:
  std::unique_ptr<V[]> memory_;
  std::size_t capacity_ = 0;
};

}  // namespace diffsort
