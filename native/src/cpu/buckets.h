// The buckets of values that a long row is divided into, in descending order.
//
//     by width    bucket(x) = floor((high - x) * (buckets - 1) / (high - low))
//     by bits     floor((key(x) - key(high)) * buckets / keys), of the order-preserving integers that
//                 floats are (diffsort/sort.h)
//
// By width, normal and uniform values spread evenly, and values with heavy tails, or with one outlier,
// crowd into a few buckets. By bits, each factor of two has its share of the buckets.
// Cost: 3 instructions for a vector of elements, or about 10.
// Chosen: by width, where no bucket then has more than a quarter of the row; else by bits, if so it has not; else
// neither.
#pragma once

#include <cstdint>

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

  // The values of a bucket lie between top and top - width, but for rounding.
  T top(std::int64_t bucket) const {
    return static_cast<T>(static_cast<double>(high_) - static_cast<double>(bucket) * width(bucket));
  }
  double width(std::int64_t) const { return 1.0 / static_cast<double>(scale_); }

 private:
  DenseOperand<T> x_{};
  T high_{}, scale_{};
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

  T top(std::int64_t bucket) const {
    const std::uint64_t above =
        ((static_cast<std::uint64_t>(bucket) << 32) + factor_ - 1) / factor_;
    return from_descending_key<float>(first_ + static_cast<std::uint32_t>(above));
  }
  double width(std::int64_t bucket) const {
    return static_cast<double>(top(bucket)) - static_cast<double>(top(bucket + 1));
  }

 private:
  static std::uint32_t key(T x) { return to_descending_key(static_cast<float>(x)); }

  DenseOperand<T> x_{};
  std::uint32_t first_ = 0;
  std::uint64_t factor_ = 1;
};

}  // namespace diffsort::DIFFSORT_LEVEL
