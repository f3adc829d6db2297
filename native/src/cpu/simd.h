// Short vectors of numbers, as wide as the registers of the level that is compiled (see levels.h).
//
// The vector extensions of GCC and Clang: operators work lane by lane, a comparison gives lanes of
// all ones or all zeros, and `mask ? a : b` selects. Sums run over kSumLanes partial sums whatever
// the width, so that all levels round alike.
#pragma once

#include <cstdint>
#include <cstring>

#include "levels.h"

namespace diffsort::DIFFSORT_LEVEL {

constexpr int kLanes = kVectorBytes / 8;   // doubles in a vector
constexpr int kSumLanes = 16;              // partial sums of a long sum
constexpr int kSums = kSumLanes / kLanes;  // and the vectors that hold them

typedef double Doubles __attribute__((vector_size(kVectorBytes)));
typedef std::int64_t Longs __attribute__((vector_size(kVectorBytes)));
typedef std::uint64_t Bits __attribute__((vector_size(kVectorBytes)));
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef float HalfFloats __attribute__((vector_size(kVectorBytes / 2)));
typedef std::int32_t HalfInts __attribute__((vector_size(kVectorBytes / 2)));

// T side by side, and what comparing them gives.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef Floats Values;
  typedef Ints Counts;
};
template <>
struct Lanes<double> {
  typedef Doubles Values;
  typedef Longs Counts;
};

inline Doubles broadcast(double x) {
  return x - Doubles{};  // plus 0 would lose the sign of -0
}

inline Doubles load(const double* x) {
  Doubles v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

// GCC 12 converts halves of the vector one by one, through memory.
#if defined(DIFFSORT_LEVEL_IS_AVX2) && !defined(__clang__)
inline Doubles widen(HalfFloats v) {
  return __builtin_ia32_cvtps2pd256(v);
}
inline HalfFloats narrow(Doubles v) {
  return __builtin_ia32_cvtpd2ps256(v);
}
#else
inline Doubles widen(HalfFloats v) {
  return __builtin_convertvector(v, Doubles);
}
inline HalfFloats narrow(Doubles v) {
  return __builtin_convertvector(v, HalfFloats);
}
#endif

inline Doubles load(const float* x) {
  HalfFloats v;
  std::memcpy(&v, x, sizeof v);
  return widen(v);
}

inline void store(double* x, Doubles v) {
  std::memcpy(x, &v, sizeof v);
}

inline void store(float* x, Doubles v) {
  const HalfFloats single = narrow(v);
  std::memcpy(x, &single, sizeof single);
}

// For each of kLanes numbers, whether it is `value`.
inline Longs are(const std::int32_t* x, std::int32_t value) {
  HalfInts v;
  std::memcpy(&v, x, sizeof v);
#if defined(DIFFSORT_LEVEL_IS_AVX2) && !defined(__clang__)
  return reinterpret_cast<Longs>(__builtin_ia32_pmovsxdq256(v == value));
#else
  return __builtin_convertvector(v == value, Longs);
#endif
}

// x > y ? x : y and x < y ? x : y, which GCC does not see to be one instruction each.
#if defined(DIFFSORT_LEVEL_IS_AVX2)
inline Doubles larger(Doubles x, Doubles y) {
  return __builtin_ia32_maxpd256(x, y);
}
inline Doubles smaller(Doubles x, Doubles y) {
  return __builtin_ia32_minpd256(x, y);
}
inline Floats larger(Floats x, Floats y) {
  return __builtin_ia32_maxps256(x, y);
}
inline Floats smaller(Floats x, Floats y) {
  return __builtin_ia32_minps256(x, y);
}
#else
template <class V>
V larger(V x, V y) {
  return x > y ? x : y;
}
template <class V>
V smaller(V x, V y) {
  return x < y ? x : y;
}
#endif

// (at(0), at(1), ...)
template <class At>
Doubles gather(const At& at) {
#if defined(DIFFSORT_LEVEL_IS_AVX2)
  return Doubles{at(0), at(1), at(2), at(3)};
#else
  return Doubles{at(0), at(1)};
#endif
}

// Element j of x[i] becomes element i of x[j], for kLanes vectors.
inline void transpose(Doubles* x) {
#if defined(DIFFSORT_LEVEL_IS_AVX2)
  const Doubles a = __builtin_shufflevector(x[0], x[1], 0, 4, 2, 6);
  const Doubles b = __builtin_shufflevector(x[0], x[1], 1, 5, 3, 7);
  const Doubles c = __builtin_shufflevector(x[2], x[3], 0, 4, 2, 6);
  const Doubles d = __builtin_shufflevector(x[2], x[3], 1, 5, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  x[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#else
  const Doubles a = x[0], b = x[1];
  x[0] = Doubles{a[0], b[0]};
  x[1] = Doubles{a[1], b[1]};
#endif
}

// (0, 1, 2, ...)
inline Doubles iota() {
  Doubles v;
  for (int k = 0; k < kLanes; ++k) v[k] = k;
  return v;
}

// Bit k is set where lane k of a comparison holds.
inline unsigned mask_bits(Longs mask) {
#if defined(DIFFSORT_LEVEL_IS_AVX2)
  return static_cast<unsigned>(__builtin_ia32_movmskpd256(reinterpret_cast<Doubles>(mask)));
#else
  unsigned bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= static_cast<unsigned>(mask[k] & 1) << k;
  return bits;
#endif
}

template <class V>
bool any_lane(V mask) {
  std::uint64_t words[sizeof(V) / 8], any = 0;
  std::memcpy(words, &mask, sizeof mask);
  for (const std::uint64_t word : words) any |= word;
  return any != 0;
}

// The total of a vector's lanes, and of kSumLanes partial sums, in an order that does not depend on
// the width.
inline double add_lanes(Doubles v) {
  double parts[kLanes];
  std::memcpy(parts, &v, sizeof parts);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) parts[k] += parts[k + half];
  }
  return parts[0];
}
inline double add_up(Doubles* sums) {
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return add_lanes(sums[0]);
}

// A sum in kSumLanes parts: term(i) gives the vector of terms i, ..., i + kLanes - 1, and
// last_term(i) a single one.
template <class Term, class LastTerm>
double sum_of(std::int64_t begin, std::int64_t end, const Term& term, const LastTerm& last_term) {
  Doubles sums[kSums] = {};
  std::int64_t i = begin;
  for (; i + kSumLanes <= end; i += kSumLanes) {
    for (int k = 0; k < kSums; ++k) sums[k] += term(i + k * kLanes);
  }
  if (i < end) {
    double rest[kSumLanes] = {};
    for (int k = 0; i < end; ++i, ++k) rest[k] = last_term(i);
    for (int k = 0; k < kSums; ++k) sums[k] += load(rest + k * kLanes);
  }
  return add_up(sums);
}

// The same where terms beyond the end can be computed, too: they are left out.
template <class Term>
double padded_sum_of(std::int64_t begin, std::int64_t end, const Term& term) {
  const auto up_to_end = [&](std::int64_t i) {
    return iota() < static_cast<double>(end - i) ? term(i) : Doubles{};
  };
  constexpr std::int64_t kFew = 4;  // many blocks are that short
  if (end - begin <= kFew) {
    Doubles sum = up_to_end(begin);
    if (kLanes < kFew) sum += up_to_end(begin + kLanes);
    return add_lanes(sum);
  }
  Doubles sums[kSums] = {};
  std::int64_t i = begin;
  for (; i + kSumLanes <= end; i += kSumLanes) {
    for (int k = 0; k < kSums; ++k) sums[k] += term(i + k * kLanes);
  }
  for (int k = 0; i < end; i += kLanes, ++k) sums[k] += up_to_end(i);
  return add_up(sums);
}

// The same in one part, from begin to end.
template <class Term>
double sum_in_order_of(std::int64_t begin, std::int64_t end, const Term& term) {
  double sum = 0.0;
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const Doubles terms = term(i);
    for (std::int64_t k = 0; k < kLanes && i + k < end; ++k) sum += terms[k];
  }
  return sum;
}

// out[i] = f(x[i]), where f takes vectors. x and out may be the same.
template <class T, class F>
void map(const T* x, std::int64_t n, T* out, const F& f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(x + i)));
  for (; i < n; ++i) out[i] = static_cast<T>(f(broadcast(static_cast<double>(x[i])))[0]);
}

}  // namespace diffsort::DIFFSORT_LEVEL
