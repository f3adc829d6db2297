// Functions that run on the host and in CUDA kernels alike.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define DIFFSORT_HD __host__ __device__
#else
#define DIFFSORT_HD
#endif

namespace diffsort {

// Clears the bits of `mask` in a word that other threads may be clearing other bits of.
DIFFSORT_HD inline void clear_bits(std::uint32_t* word, std::uint32_t mask) {
#ifdef __CUDA_ARCH__
  atomicAnd(word, ~mask);
#else
  *word &= ~mask;
#endif
}

}  // namespace diffsort
