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
// UNROLLED_BY, before a loop that waits for memory, or has little to do: so many rounds of it at once.
#ifdef __CUDA_ARCH__
#define DIFFSORT_PRAGMA(words) _Pragma(#words)
#define DIFFSORT_UNROLLED _Pragma("unroll")
#define DIFFSORT_UNROLLED_BY(rounds) DIFFSORT_PRAGMA(unroll(rounds))
#else
#define DIFFSORT_UNROLLED
#define DIFFSORT_UNROLLED_BY(rounds)
#endif
