// Scratch memory that grows, is not initialised, and is kept from row to row.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace diffsort {

// Memory for numbers. What is large comes in huge pages where the system has them: a row that is spread
// over its whole length meets far fewer address translations and page faults that way.
inline void* allocate_pages(std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  if (bytes >= kHugePage) {
    void* memory = nullptr;
    if (posix_memalign(&memory, kHugePage, bytes) != 0) return nullptr;
    madvise(memory, bytes, MADV_HUGEPAGE);  // the end, and where there are none all, in small ones
    return memory;
  }
#endif
  return std::malloc(bytes);
}

template <class V>
class Buffer {
 public:
  // At least `size` elements; what was there before is lost when it grows.
  V* get(std::size_t size) {
    if (size > capacity_) {
      release();  // never both at once
      memory_.reset(static_cast<V*>(allocate_pages(size * sizeof(V))));
      if (memory_ == nullptr) throw std::bad_alloc();
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
  static_assert(std::is_trivial_v<V>);
  struct Free {
    void operator()(V* memory) const { std::free(memory); }
  };

  std::unique_ptr<V[], Free> memory_;
  std::size_t capacity_ = 0;
};

}  // namespace diffsort
