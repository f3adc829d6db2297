#include "array.h"

#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace nb = nanobind;

namespace diffsort {
namespace {

[[noreturn]] void type_error(const char* name, const std::string& what) {
  throw nb::type_error((std::string(name) + " " + what).c_str());
}

std::size_t item_size(Type type) {
  return type == Type::float64 ? 8 : 4;
}

const dlpack::ExchangeApi* find_exchange_api(PyTypeObject* type) {
  static PyObject* const attribute = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const dlpack::ExchangeApi* api = nullptr;
  if (PyObject* capsule = PyObject_GetAttr(reinterpret_cast<PyObject*>(type), attribute)) {
    api = static_cast<const dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_DECREF(capsule);
  }
  PyErr_Clear();
  const bool usable =
      api && api->header.version.major == dlpack::kMajorVersion && api->tensor_from_object;
  return usable ? api : nullptr;
}

// The exchange API of a type, or null. Types are few and live long: they are kept in a cache. The
// lock is never held while Python runs, which may wait for the GIL or come back here.
const dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  static std::mutex mutex;
  static std::unordered_map<PyTypeObject*, const dlpack::ExchangeApi*> cache;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = cache.find(type);
    if (found != cache.end()) return found->second;
  }
  const dlpack::ExchangeApi* const api = find_exchange_api(type);
  const std::lock_guard<std::mutex> lock(mutex);
  if (cache.emplace(type, api).second) Py_INCREF(type);  // the key must not become another type
  return api;
}

bool type_of_format(const char* format, Type* type) {
  if (format == nullptr) return false;
  if (*format == '@' || *format == '=') ++format;
  if (std::strcmp(format, "f") == 0) return *type = Type::float32, true;
  if (std::strcmp(format, "d") == 0) return *type = Type::float64, true;
  if (std::strcmp(format, "i") == 0) return *type = Type::int32, true;
  if (std::strcmp(format, "l") == 0 && sizeof(long) == 4) return *type = Type::int32, true;
  return false;
}

}  // namespace

Array::Array(nb::handle object, const char* name, Access access, Memory memory)
    : name_(name), memory_(memory) {
  const bool loaded =
      load_exchange_api(object) || (memory == Memory::host && load_buffer(object, access));
  if (!loaded) load_capsule(object, access);
  check_memory();
}

bool Array::load_exchange_api(nb::handle object) {
  const dlpack::ExchangeApi* api = exchange_api(Py_TYPE(object.ptr()));
  if (api == nullptr) return false;
  dlpack::Tensor tensor;
  if (api->tensor_from_object(object.ptr(), &tensor) != 0) throw nb::python_error();
  adopt(tensor);
  return true;
}

bool Array::load_buffer(nb::handle object, Access access) {
  if (!PyObject_CheckBuffer(object.ptr())) return false;
  const int flags = PyBUF_FORMAT | PyBUF_STRIDES | (access == Access::write ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &buffer_.view, flags) != 0) throw nb::python_error();
  const Py_buffer& view = buffer_.view;
  if (!type_of_format(view.format, &type_)) {
    type_error(name_, "must hold float32, float64 or int32");
  }
  if (view.ndim > kMaxBatchDims + 1) type_error(name_, "has too many dimensions");
  ndim_ = view.ndim;
  data_ = view.buf;
  const auto item = static_cast<std::int64_t>(item_size(type_));
  for (int d = 0; d < ndim_; ++d) {
    shape_[d] = view.shape[d];
    if (shape_[d] > 1 && view.strides[d] % item != 0) {
      throw nb::buffer_error((std::string(name_) + " has strides that split its elements").c_str());
    }
    strides_[d] = view.strides[d] / item;
  }
  return true;
}

void Array::load_capsule(nb::handle object, Access access) {
  nb::object exporter = nb::borrow(object);
  // A tensor of torch that requires a gradient refuses to be exported; its detached view does not.
  if (nb::getattr(object, "requires_grad", nb::none()).is(nb::handle(Py_True))) {
    exporter = object.attr("detach")();
  }
  nb::object method = nb::getattr(exporter, "__dlpack__", nb::none());
  if (method.is_none()) type_error(name_, "supports neither DLPack nor the buffer protocol");
  nb::dict options;
  if (memory_ == Memory::cuda) options["stream"] = -1;  // no wait between streams
  options["max_version"] = nb::make_tuple(dlpack::kMajorVersion, 0);
  try {
    capsule_ = method(**options);
  } catch (nb::python_error& error) {  // exporters older than DLPack 1.0 do not know max_version
    if (!error.matches(PyExc_TypeError)) throw;
    nb::del(options["max_version"]);
    capsule_ = method(**options);
  }
  PyObject* const capsule = capsule_.ptr();
  // The capsule keeps its name, and with it the duty to free the tensor when it is dropped.
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    const auto* managed = static_cast<dlpack::ManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->version.major != dlpack::kMajorVersion) {
      type_error(name_, "is exported through a DLPack version that is not supported");
    }
    if (access == Access::write && (managed->flags & dlpack::kReadOnly)) {
      type_error(name_, "is read-only");
    }
    adopt(managed->tensor);
  } else if (PyCapsule_IsValid(capsule, "dltensor")) {
    adopt(static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"))->tensor);
  } else {
    type_error(name_, "returned no DLPack capsule");
  }
}

void Array::check_device(const dlpack::Tensor& tensor) const {
  const int kind = tensor.device.device_type;
  if (memory_ == Memory::host && kind != nb::device::cpu::value) {
    type_error(name_, "must be on the CPU");
  }
  const bool cuda = kind == nb::device::cuda::value || kind == nb::device::cuda_managed::value;
  if (memory_ == Memory::cuda && !cuda) type_error(name_, "must be on a CUDA device");
}

void Array::adopt(const dlpack::Tensor& tensor) {
  check_device(tensor);
  device_ = tensor.device.device_id;
  const auto code = static_cast<dlpack::TypeCode>(tensor.dtype.code);
  const int bits = tensor.dtype.lanes == 1 ? tensor.dtype.bits : 0;
  if (code == dlpack::TypeCode::Float && bits == 32) {
    type_ = Type::float32;
  } else if (code == dlpack::TypeCode::Float && bits == 64) {
    type_ = Type::float64;
  } else if (code == dlpack::TypeCode::Int && bits == 32) {
    type_ = Type::int32;
  } else {
    type_error(name_, "must hold float32, float64 or int32");
  }
  if (tensor.ndim > kMaxBatchDims + 1) type_error(name_, "has too many dimensions");
  ndim_ = tensor.ndim;
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  if (tensor.data == nullptr) data_ = nullptr;
  std::int64_t contiguous = 1;
  for (int d = ndim_ - 1; d >= 0; --d) {
    shape_[d] = tensor.shape[d];
    strides_[d] = tensor.strides ? tensor.strides[d] : contiguous;
    contiguous *= shape_[d];
  }
}

void Array::check_memory() const {
  bool empty = false;
  for (int d = 0; d < ndim_; ++d) empty |= shape_[d] == 0;
  if (empty) return;
  if (data_ == nullptr) {
    type_error(name_, "has no memory: it is a fake, meta or functional tensor");
  }
  if (reinterpret_cast<std::uintptr_t>(data_) % item_size(type_) != 0) {
    throw nb::buffer_error((std::string(name_) + " is not aligned to its type").c_str());
  }
}

Strides Array::strides(const RowSpace& space, int axis, bool one_per_row) const {
  // Axes are counted from the end, as broadcasting does: -1 is the last one.
  const int ndim = space.batch_dims + 1;
  const auto mismatch = [&] { type_error(name_, "does not broadcast to the shape of the values"); };
  if (ndim_ > ndim) mismatch();
  Strides result;
  int batch = space.batch_dims - 1;
  for (int from_end = -1; from_end >= -ndim; --from_end) {
    const int d = ndim_ + from_end;
    const std::int64_t size = d >= 0 ? shape_[d] : 1;
    const std::int64_t stride = d >= 0 && size != 1 ? strides_[d] : 0;
    if (from_end == axis) {
      if (size != (one_per_row ? 1 : space.length)) mismatch();
      result.along = stride;
    } else {
      if (size != 1 && size != space.batch_shape[batch]) mismatch();
      result.batch[batch--] = stride;
    }
  }
  return result;
}

RowSpace row_space(const Array& array, int axis) {
  if (axis >= 0 || axis < -array.ndim()) {
    throw nb::value_error("axis must be negative and within the dimensions");
  }
  RowSpace space;
  for (int d = 0; d < array.ndim(); ++d) {
    if (d == array.ndim() + axis) {
      space.length = array.shape(d);
    } else {
      space.batch_shape[space.batch_dims++] = array.shape(d);
    }
  }
  if (space.length > kMaxLength) throw nb::value_error("rows must be shorter than 2^31 - 2");
  return space;
}

}  // namespace diffsort
