// Words of memory that several threads change at a time.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// A word of bits of which other threads may be changing others meanwhile.
DIFFSORT_HD inline std::uint32_t load_bits(const std::uint32_t* word) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile std::uint32_t*>(word);
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

// The same word in whole: all who write it write the same.
DIFFSORT_HD inline void store_bits(std::uint32_t* word, std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  *static_cast<volatile std::uint32_t*>(word) = bits;
#else
  __atomic_store_n(word, bits, __ATOMIC_RELAXED);
#endif
}

DIFFSORT_HD inline void set_bits(std::uint32_t* word, std::uint32_t mask) {
#ifdef __CUDA_ARCH__
  atomicOr(word, mask);
#else
  __atomic_fetch_or(word, mask, __ATOMIC_RELAXED);
#endif
}

// What the word was before.
DIFFSORT_HD inline std::uint32_t clear_bits(std::uint32_t* word, std::uint32_t mask) {
#ifdef __CUDA_ARCH__
  return atomicAnd(word, ~mask);
#else
  return __atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
#endif
}

// A word to which other threads add as well; what it was before.
DIFFSORT_HD inline std::uint32_t add_to_word(std::uint32_t* word, std::uint32_t number) {
#ifdef __CUDA_ARCH__
  return atomicAdd(word, number);
#else
  return __atomic_fetch_add(word, number, __ATOMIC_RELAXED);
#endif
}
DIFFSORT_HD inline void add_to_integer(std::int64_t* integer, std::int64_t number) {
#ifdef __CUDA_ARCH__
  static_assert(sizeof(unsigned long long) == sizeof(std::int64_t));
  atomicAdd(reinterpret_cast<unsigned long long*>(integer),
            static_cast<unsigned long long>(number));
#else
  __atomic_fetch_add(integer, number, __ATOMIC_RELAXED);
#endif
}
DIFFSORT_HD inline std::uint32_t count_one(std::uint32_t* counter) {
  return add_to_word(counter, 1);
}

// A word that other threads raise as well.
DIFFSORT_HD inline void raise_word(std::uint32_t* word, std::uint32_t number) {
  if (load_bits(word) >= number) return;
#ifdef __CUDA_ARCH__
  atomicMax(word, number);
#else
  std::uint32_t old = load_bits(word);
  while (old < number && !__atomic_compare_exchange_n(word, &old, number, true, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED)) {
  }
#endif
}

// What a thread has done before, others of its team see before what it does after; and all of them find
// the fences of the team in one order. Two threads that each write, fence and then read need that
// (Hull::look_again): with fences that only acquire and release, neither might see the other's write.
DIFFSORT_HD inline void fence_team() {
#ifdef __CUDA_ARCH__
  __threadfence_block();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

}  // namespace diffsort
