// Arithmetic for which a device has instructions of its own, and bits of words.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

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

// How many bits of a word are set.
DIFFSORT_HD inline std::uint32_t count_bits(std::uint32_t word) {
#ifdef __CUDA_ARCH__
  return static_cast<std::uint32_t>(__popc(word));
#else
  return static_cast<std::uint32_t>(__builtin_popcount(word));
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

// How many words the bits of `count` elements take.
template <class Integer>
DIFFSORT_HD constexpr Integer words_of_bits(Integer count) {
  return (count + 31) / 32;
}

// The bits of a word before, and behind, one of them.
DIFFSORT_HD inline std::uint32_t bits_before(std::int32_t bit) {
  return (std::uint32_t{1} << bit) - 1;
}
DIFFSORT_HD inline std::uint32_t bits_behind(std::int32_t bit) {
  return ~std::uint32_t{1} << bit;
}

// How many bits the numbers below `count` take.
DIFFSORT_HD inline int bits_below(std::int64_t count) {
  int bits = 0;
  while (bits < 63 && (std::int64_t{1} << bits) < count) ++bits;
  return bits;
}

}  // namespace diffsort
