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

// What a thread has done before, others of its team see before what it does after.
DIFFSORT_HD inline void fence_team() {
#ifdef __CUDA_ARCH__
  __threadfence_block();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

// Of two numbers, neither of them NaN. A device has an instruction for those of float.
DIFFSORT_HD inline double smaller(double a, double b) {
  return b < a ? b : a;
}
DIFFSORT_HD inline double larger(double a, double b) {
  return a < b ? b : a;
}
DIFFSORT_HD inline float smaller(float a, float b) {
#ifdef __CUDA_ARCH__
  return fminf(a, b);
#else
  return b < a ? b : a;
#endif
}
DIFFSORT_HD inline float larger(float a, float b) {
#ifdef __CUDA_ARCH__
  return fmaxf(a, b);
#else
  return a < b ? b : a;
#endif
}

// To the nearest integer.
DIFFSORT_HD inline std::int64_t round_to_integer(double x) {
#ifdef __CUDA_ARCH__
  return __double2ll_rn(x);
#else
  return static_cast<std::int64_t>(__builtin_llrint(x));
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

// x / y of a y between 1e-300 and 1e300. On a device it is rounded as a quotient is, but takes none of
// the code for other numbers; an infinite x stays so.
DIFFSORT_HD inline double plain_quotient(double x, double y) {
#ifdef __CUDA_ARCH__
  double inverse;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(inverse) : "d"(y));
  double error = __fma_rn(-y, inverse, 1.0);
  inverse = __fma_rn(inverse, __fma_rn(error, error, error), inverse);
  inverse = __fma_rn(inverse, __fma_rn(-y, inverse, 1.0), inverse);
  const double near = x * inverse;
  error = __fma_rn(-near, y, x);
  return error - error == 0.0 ? __fma_rn(error, inverse, near) : near;
#else
  return x / y;
#endif
}

// a m <= b n, exactly: of m and n below 2^31, and of numbers that are not negative.
DIFFSORT_HD inline bool product_at_most(std::int64_t a, std::uint32_t m, std::int64_t b,
                                        std::uint32_t n) {
  constexpr std::int64_t kLow = 0xffffffff;
  const std::int64_t low_a = (a & kLow) * m, low_b = (b & kLow) * n;
  const std::int64_t high_a = (a >> 32) * m + (low_a >> 32);
  const std::int64_t high_b = (b >> 32) * n + (low_b >> 32);
  return high_a != high_b ? high_a < high_b : (low_a & kLow) <= (low_b & kLow);
}
DIFFSORT_HD inline bool product_at_most(std::uint64_t a, std::uint64_t m, std::uint64_t b,
                                        std::uint64_t n) {
#ifdef __CUDA_ARCH__
  const std::uint64_t high_a = __umul64hi(a, m), high_b = __umul64hi(b, n);
  return high_a != high_b ? high_a < high_b : a * m <= b * n;
#else
  __extension__ using Product = unsigned __int128;
  return Product{a} * m <= Product{b} * n;
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

// How many bits of a word are set.
DIFFSORT_HD inline std::uint32_t count_bits(std::uint32_t word) {
#ifdef __CUDA_ARCH__
  return static_cast<std::uint32_t>(__popc(word));
#else
  return static_cast<std::uint32_t>(__builtin_popcount(word));
#endif
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
