// The buckets of values that a long row is divided into, in descending order.
//
//     by width    bucket(x) = floor((high - x) * (buckets - 1) / (high - low))
//     by bits     floor((key(x) - key(high)) * buckets / keys), of the order-preserving integers that
//                 floats are (diffsort/sort.h)
//
// By width, normal and uniform values spread evenly, and values with heavy tails, or with one outlier,
// crowd into a few buckets. By bits, each factor of two has its share of the buckets. A value that many
// elements have (the zeros that a ReLU leaves, one of few integers) crowds both ways; so it gets buckets
// of its own between those of the others, for where in the row its elements stand: equal values keep their order.
// Cost: 3 instructions for a vector of elements, or about 10 for an element; 3 more where values are tied.
// Chosen: by width, if no bucket then has more than a quarter of the row; else by bits, if none then has.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cells.h"
#include "diffsort/sort.h"
#include "row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T>
class BucketsByWidth {
 public:
  BucketsByWidth() = default;
  BucketsByWidth(DenseOperand<T> x, std::int64_t buckets, T high, double range)
      : x_(x), high_(high), scale_(cell_scale<T>(buckets, range)) {}

  // False: the range is nothing that T can divide.
  bool divide() const { return scale_ != T(0); }

  // Of element i. Falls where values rise, rounding included.
  std::int32_t operator()(std::int64_t i) const {
    return static_cast<std::int32_t>((high_ - x_.sign * x_.values[i]) * scale_);
  }

 private:
  DenseOperand<T> x_{};
  T high_{}, scale_{};
};

// The values that most elements have, of those that have a sixth of a row or more: three at the most, for
// no more can have a quarter.
template <class T>
class TiedValues {
 public:
  TiedValues() = default;
  TiedValues(DenseOperand<T> x, std::int64_t n) : x_(x) {
    while ((n - 1) >> shift_ >= kPieces) ++shift_;
    std::fill_n(tied_, kMost, -std::numeric_limits<T>::infinity());
    find(n);
  }

  // How many buckets these values have.
  std::int64_t buckets() const { return count_ * (kPieces + 1); }

  // How many of them come before element i: those of larger values, one of the tied value itself for what
  // is above in the same bucket of the others, and those of its elements in earlier pieces of the row.
  std::int32_t before(std::int64_t i) const {
    const T x = x_.sign * x_.values[i];
    const std::int32_t piece = 1 + (static_cast<std::int32_t>(i) >> shift_);
    std::int32_t buckets = 0;
    for (const T tied : tied_) {
      buckets += (x == tied ? piece : 0) + (x < tied ? static_cast<std::int32_t>(kPieces) + 1 : 0);
    }
    return buckets;
  }

 private:
  static constexpr std::int64_t kPieces = 256;
  static constexpr int kMost = 3, kLooks = 256, kMany = kLooks / 6;

  // By a look at some elements, in no step with the row.
  void find(std::int64_t n) {
    T values[kLooks];
    for (std::uint64_t k = 0; k < kLooks; ++k) {
      const std::uint64_t fraction = k * 0x9e3779b9u & 0xffffffffu;  // of 2^32
      values[k] = x_.sign * x_.values[fraction * static_cast<std::uint64_t>(n) >> 32];
    }
    std::sort(values, values + kLooks);
    int sizes[kMost] = {};
    for (int begin = 0, end; begin < kLooks; begin = end) {
      for (end = begin + 1; end < kLooks && values[end] == values[begin];) ++end;
      int* const least = std::min_element(sizes, sizes + kMost);
      if (end - begin < kMany || end - begin <= *least) continue;
      count_ += *least == 0 ? 1 : 0;
      *least = end - begin;
      tied_[least - sizes] = values[begin];
    }
  }

  DenseOperand<T> x_{};
  T tied_[kMost] = {};  // minus infinity where there are fewer
  int count_ = 0, shift_ = 0;
};

template <class T, class Buckets>
struct BesideTies {
  const Buckets& others;
  const TiedValues<T>& ties;

  // Of element i.
  std::int32_t operator()(std::int64_t i) const { return others(i) + ties.before(i); }
};

// Of the values rounded to float32, whose powers of two are fewer than those of float64.
template <class T>
class BucketsByBits {
 public:
  BucketsByBits() = default;
  BucketsByBits(DenseOperand<T> x, std::int64_t buckets, T high, T low) : x_(x), first_(key(high)) {
    const std::uint64_t keys = std::uint64_t{key(low) - first_} + 1;
    factor_ = (static_cast<std::uint64_t>(buckets) << 32) / keys;
  }

  std::int32_t operator()(std::int64_t i) const {
    const std::uint64_t above = key(x_.sign * x_.values[i]) - first_;
    return static_cast<std::int32_t>(above * factor_ >> 32);
  }

 private:
  static std::uint32_t key(T x) { return to_descending_key(static_cast<float>(x)); }

  DenseOperand<T> x_{};
  std::uint32_t first_ = 0;
  std::uint64_t factor_ = 1;
};

}  // namespace diffsort::DIFFSORT_LEVEL
