// A sorted operand of the projection: rho, or values in memory. Both are read one by one or side by
// side.
#pragma once

#include <cstdint>

#include "simd.h"

namespace diffsort::DIFFSORT_LEVEL {

// rho = (n, n-1, ..., 1): sorted already, and in order.
struct Rho {
  std::int64_t n;

  double operator()(std::int64_t i) const { return static_cast<double>(n - i); }
  Doubles vector(std::int64_t i) const { return static_cast<double>(n - i) - iota(); }
  // x_i - x_{i+1}
  Doubles gaps(std::int64_t) const { return broadcast(1.0); }
  static std::int64_t index(std::int64_t i) { return i; }
};

template <class T>
struct SortedValues {
  const T* values;
  const std::int32_t* from;  // where each value stood

  double operator()(std::int64_t i) const { return static_cast<double>(values[i]); }
  Doubles vector(std::int64_t i) const { return load(values + i); }
  Doubles gaps(std::int64_t i) const { return load(values + i) - load(values + i + 1); }
  std::int64_t index(std::int64_t i) const { return from[i]; }
};

// The same, with exp((x_i - x_0) / strength) known.
template <class T>
struct KnownParts : SortedValues<T> {
  const double* parts;
};

// The same, of a part of a row from `begin` on, in memory of its own.
template <class T>
struct SortedPart {
  std::int64_t begin;
  const T* values;
  const std::int32_t* from;

  double operator()(std::int64_t i) const { return static_cast<double>(values[i - begin]); }
  Doubles vector(std::int64_t i) const { return load(values + (i - begin)); }
  std::int64_t index(std::int64_t i) const { return from[i - begin]; }
};

}  // namespace diffsort::DIFFSORT_LEVEL
