// What is done with short vectors of numbers (lanes.h).
//
// Sums run over kSumLanes partial sums whatever the width, so that all levels round alike.
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"

#if defined(DIFFSORT_LEVEL_IS_AVX512)
#include "instructions_avx512.h"
#elif defined(DIFFSORT_LEVEL_IS_AVX2)
#include "instructions_avx2.h"
#else
#include "instructions_portable.h"
#endif

namespace diffsort::DIFFSORT_LEVEL {

constexpr int kSumLanes = 16;              // partial sums of a long sum
constexpr int kSums = kSumLanes / kLanes;  // and the vectors that hold them

inline Doubles broadcast(double x) {
  return x - Doubles{};  // plus 0 would lose the sign of -0
}

inline Doubles load(const double* x) {
  Doubles v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

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

// The k-th of the pairs that lie side by side from `pairs` on.
inline Pair load_pair(const double* pairs, std::int64_t k) {
  Pair pair;
  std::memcpy(&pair, pairs + 2 * k, sizeof pair);
  return pair;
}
inline void store_pair(double* pairs, std::int64_t k, Pair pair) {
  std::memcpy(pairs + 2 * k, &pair, sizeof pair);
}

// For each of kLanes numbers, whether it is `value`.
inline Longs are(const std::int32_t* x, std::int32_t value) {
  HalfInts v;
  std::memcpy(&v, x, sizeof v);
  return widen(v == value);
}

// (0, 1, 2, ...)
inline Doubles iota() {
  Doubles v;
  for (int k = 0; k < kLanes; ++k) v[k] = k;
  return v;
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
