// Rows as kernels see them: dense along the sorted axis, one stride from row to row.
#pragma once

#include <cstdint>

#include "diffsort/host_device.h"

namespace diffsort {

// A stride of 0 is one row that serves all. A null pointer means: this operand is absent.
template <class T>
struct DenseRows {
  T* data = nullptr;
  std::int64_t stride = 0;  // in elements

  DIFFSORT_HD explicit operator bool() const { return data != nullptr; }
  DIFFSORT_HD T* row(std::int64_t r) const { return data == nullptr ? nullptr : data + r * stride; }
  DIFFSORT_HD DenseRows from(std::int64_t r) const { return {row(r), stride}; }
};

// One number per row, or one for all: float32 or float64 memory, read as double.
struct DensePerRow {
  const void* data = nullptr;  // null: `value` holds for every row
  std::int64_t stride = 0;
  bool is_float32 = false;
  double value = 0.0;

  DIFFSORT_HD DensePerRow from(std::int64_t r) const {
    const std::int64_t bytes = r * stride * (is_float32 ? 4 : 8);
    return {data == nullptr ? nullptr : static_cast<const char*>(data) + bytes, stride, is_float32,
            value};
  }

  DIFFSORT_HD double row(std::int64_t r) const {
    if (data == nullptr) return value;
    return is_float32 ? static_cast<double>(static_cast<const float*>(data)[r * stride])
                      : static_cast<const double*>(data)[r * stride];
  }
};

}  // namespace diffsort
