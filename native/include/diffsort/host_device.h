// Functions that run on the host and in CUDA kernels alike.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define DIFFSORT_HD __host__ __device__
// Compiled once for all kernels of a file, not again at every call.
#define DIFFSORT_NOINLINE __noinline__
#else
#define DIFFSORT_HD
#define DIFFSORT_NOINLINE
#endif

// Before a loop: its body is there once.
#ifdef __CUDA_ARCH__
#define DIFFSORT_ROLLED _Pragma("unroll 1")
#else
#define DIFFSORT_ROLLED
#endif

// Before a loop over an array that is to lie in registers: every index becomes a constant.
// UNROLLED_BY, before a loop that waits for memory: so many rounds of it ask at once.
#ifdef __CUDA_ARCH__
#define DIFFSORT_PRAGMA(words) _Pragma(#words)
#define DIFFSORT_UNROLLED _Pragma("unroll")
#define DIFFSORT_UNROLLED_BY(rounds) DIFFSORT_PRAGMA(unroll(rounds))
#else
#define DIFFSORT_UNROLLED
#define DIFFSORT_UNROLLED_BY(rounds)
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

// A count below 2^32. On a device an addition is far faster than a conversion: the bits of
// 2^52 + count are those of 2^52 with the count in the lowest ones.
DIFFSORT_HD inline double count_to_double(std::int64_t count) {
#ifdef __CUDA_ARCH__
  return __hiloint2double(0x43300000, static_cast<int>(count)) - 4503599627370496.0;
#else
  return static_cast<double>(count);
#endif
}

// A counter that other threads increase as well.
DIFFSORT_HD inline void count_one(std::uint32_t* counter) {
#ifdef __CUDA_ARCH__
  atomicAdd(counter, 1u);
#else
  __atomic_fetch_add(counter, 1u, __ATOMIC_RELAXED);
#endif
}

// The number of the highest, and of the lowest, bit that is set; the word is not 0.
DIFFSORT_HD inline int highest_bit(std::uint32_t word) {
#ifdef __CUDA_ARCH__
  return 31 - __clz(static_cast<int>(word));
#else
  return 31 - __builtin_clz(word);
#endif
}

DIFFSORT_HD inline int lowest_bit(std::uint32_t word) {
#ifdef __CUDA_ARCH__
  return __ffs(static_cast<int>(word)) - 1;
#else
  return __builtin_ctz(word);
#endif
}

}  // namespace diffsort
