// Rows of a strided n-d array: the only view of memory that the solver has.
#pragma once

#include <cstddef>
#include <cstdint>

namespace diffsort {

constexpr int kMaxBatchDims = 64;

// The largest n: block ids are 32-bit integers, -2 - n being the least of them (projection.h).
constexpr std::int64_t kMaxLength = (std::int64_t{1} << 31) - 3;

// The axes of an array other than the one that is sorted, and that axis' length.
struct RowSpace {
  int batch_dims = 0;
  std::int64_t batch_shape[kMaxBatchDims];  // the first batch_dims are set
  std::int64_t length = 0;                  // n, at most kMaxLength

  std::int64_t rows() const {
    std::int64_t count = 1;
    for (int d = 0; d < batch_dims; ++d) count *= batch_shape[d];
    return count;
  }
};

// Strides are in elements and may be zero (broadcast) or negative (reversed).
struct Strides {
  std::int64_t along = 0;             // along the sorted axis
  std::int64_t batch[kMaxBatchDims];  // along each batch axis of the space

  // Offset of the first element of row `row`, rows being counted in C order of the batch axes.
  std::int64_t row_offset(const RowSpace& space, std::int64_t row) const {
    if (space.batch_dims == 0) return 0;
    std::int64_t offset = 0;
    for (int d = space.batch_dims - 1; d > 0; --d) {
      offset += (row % space.batch_shape[d]) * batch[d];
      row /= space.batch_shape[d];
    }
    return offset + row * batch[0];  // without a division, which short rows would notice
  }
};

// One row: element i lies at data[i * stride].
template <class T>
struct Row {
  T* data = nullptr;
  std::int64_t stride = 0;

  explicit operator bool() const { return data != nullptr; }
  T& operator[](std::int64_t i) const { return data[i * stride]; }
};

// All rows of one array. A null pointer means: this operand is absent.
template <class T>
struct Rows {
  T* data = nullptr;
  Strides strides;

  explicit operator bool() const { return data != nullptr; }
  Row<T> row(const RowSpace& space, std::int64_t r) const {
    if (data == nullptr) return {};
    return {data + strides.row_offset(space, r), strides.along};
  }
};

// One number per row, or one for all: float32 or float64 memory, read as double.
struct PerRow {
  const void* data = nullptr;  // null: `value` holds for every row
  bool is_float32 = false;
  double value = 0.0;
  Strides strides;

  double row(const RowSpace& space, std::int64_t r) const {
    if (data == nullptr) return value;
    const std::int64_t offset = strides.row_offset(space, r);
    return is_float32 ? static_cast<double>(static_cast<const float*>(data)[offset])
                      : static_cast<const double*>(data)[offset];
  }
};

}  // namespace diffsort
