// Dense rows of float32 or float64, read and written as double.
//
// Derivatives compute in double whatever the type of the arrays, so that one kernel serves both: it
// asks for the type at every access, where all threads get the same answer.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// A stride of 0 is one row that serves all. A null pointer means: this operand is absent.
struct FloatRows {
  const void* data = nullptr;
  std::int64_t stride = 0;  // in elements
  bool is_float32 = false;

  DIFFSORT_HD explicit operator bool() const { return data != nullptr; }
  DIFFSORT_HD double operator[](std::int64_t i) const {
    return is_float32 ? static_cast<double>(static_cast<const float*>(data)[i])
                      : static_cast<const double*>(data)[i];
  }
  // Where `is_float32` says so.
  template <class T>
  DIFFSORT_HD const T* as() const {
    return static_cast<const T*>(data);
  }
  DIFFSORT_HD FloatRows from(std::int64_t row) const {
    const std::int64_t bytes = row * stride * (is_float32 ? 4 : 8);
    return {data == nullptr ? nullptr : static_cast<const char*>(data) + bytes, stride, is_float32};
  }
};

// Rows of n, one after the other, to write to.
struct FloatOutput {
  void* data = nullptr;
  bool is_float32 = false;

  DIFFSORT_HD explicit operator bool() const { return data != nullptr; }
  DIFFSORT_HD double operator[](std::int64_t i) const {
    return is_float32 ? static_cast<double>(static_cast<float*>(data)[i])
                      : static_cast<double*>(data)[i];
  }
  DIFFSORT_HD void write(std::int64_t i, double value) const {
    if (is_float32) {
      static_cast<float*>(data)[i] = static_cast<float>(value);
    } else {
      static_cast<double*>(data)[i] = value;
    }
  }
  DIFFSORT_HD FloatOutput from(std::int64_t element) const {
    const std::int64_t bytes = element * (is_float32 ? 4 : 8);
    return {data == nullptr ? nullptr : static_cast<char*>(data) + bytes, is_float32};
  }
};

}  // namespace diffsort
