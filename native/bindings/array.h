// Arrays of any framework, borrowed without a copy for the length of one call.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "diffsort/rows.h"
#include "dlpack.h"

namespace diffsort {

enum class Type { float32, float64, int32 };

// An array on loan, in the memory of the host or of a CUDA device. Three roads, the fastest first:
// DLPack's C exchange API, the buffer protocol (NumPy, read-only arrays included; on the host only),
// `__dlpack__`, which is asked not to order streams: the caller names the one that it works on.
// The Python object must outlive the loan.
// Throws TypeError or BufferError for what the solver cannot read: another type or device, a tensor
// without memory (fake, meta), memory that is not aligned to the type.
class Array {
 public:
  enum class Access { read, write };
  enum class Memory { host, cuda };

  Array(nanobind::handle object, const char* name, Access access, Memory memory = Memory::host);
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  Type type() const { return type_; }
  int ndim() const { return ndim_; }
  std::int64_t shape(int d) const { return shape_[d]; }
  const char* name() const { return name_; }
  void* data() const { return data_; }
  int device() const { return device_; }  // the ordinal of the CUDA device

  // Strides seen as rows along `axis` (negative, counted from the end) of `space`, to which the
  // array broadcasts; along the axis itself the length is 1 if `one_per_row`, n otherwise.
  Strides strides(const RowSpace& space, int axis, bool one_per_row = false) const;

 private:
  bool load_exchange_api(nanobind::handle object);
  bool load_buffer(nanobind::handle object, Access access);
  void load_capsule(nanobind::handle object, Access access);
  void check_device(const dlpack::Tensor& tensor) const;
  void adopt(const dlpack::Tensor& tensor);
  void check_memory() const;

  const char* name_;
  Memory memory_;
  int device_ = 0;
  Type type_ = Type::float32;
  int ndim_ = 0;
  void* data_ = nullptr;
  std::int64_t shape_[kMaxBatchDims + 1];
  std::int64_t strides_[kMaxBatchDims + 1];  // in elements
  struct Buffer {                            // released also where the constructor throws later on
    Py_buffer view = {};
    ~Buffer() {
      if (view.obj) PyBuffer_Release(&view);
    }
  } buffer_;
  nanobind::object capsule_;
};

// The row space of an array whose axis `axis` (negative) holds the rows.
RowSpace row_space(const Array& array, int axis);

}  // namespace diffsort
