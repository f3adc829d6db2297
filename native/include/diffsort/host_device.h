// Functions that run on the host and in CUDA kernels alike.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define DIFFSORT_HD __host__ __device__
#else
#define DIFFSORT_HD
#endif

namespace diffsort {

// A word of bits of which other threads may be changing others meanwhile.
DIFFSORT_HD inline std::uint32_t load_bits(const std::uint32_t* word) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile std::uint32_t*>(word);
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

DIFFSORT_HD inline void set_bits(std::uint32_t* word, std::uint32_t mask) {
#ifdef __CUDA_ARCH__
  atomicOr(word, mask);
#else
  __atomic_fetch_or(word, mask, __ATOMIC_RELAXED);
#endif
}

DIFFSORT_HD inline void clear_bits(std::uint32_t* word, std::uint32_t mask) {
#ifdef __CUDA_ARCH__
  atomicAnd(word, ~mask);
#else
  __atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
#endif
}

}  // namespace diffsort
