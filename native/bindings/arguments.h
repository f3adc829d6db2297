// Arguments of the Python functions: arrays that may be None, numbers that may be arrays.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <string>

#include "array.h"
#include "diffsort/projection.h"

namespace diffsort {

// An array that may be None.
class Optional {
 public:
  Optional(nanobind::handle object, const char* name, Array::Access access = Array::Access::read,
           Array::Memory memory = Array::Memory::host) {
    if (!object.is_none()) array_.emplace(object, name, access, memory);
  }
  explicit operator bool() const { return array_.has_value(); }
  const Array& operator*() const { return *array_; }
  const Array* operator->() const { return &*array_; }

  template <class T>
  Rows<T> rows(const RowSpace& space, int axis, Type type) const {
    if (!array_) return {};
    if (array_->type() != type) {
      throw nanobind::type_error(
          (std::string(array_->name()) + " has an unexpected dtype").c_str());
    }
    return {static_cast<T*>(array_->data()), array_->strides(space, axis)};
  }

 private:
  std::optional<Array> array_;
};

// A Python number, or an array with one number per row.
class PerRowArgument {
 public:
  PerRowArgument(nanobind::handle object, const char* name,
                 Array::Memory memory = Array::Memory::host) {
    if (PyFloat_Check(object.ptr()) || PyLong_Check(object.ptr())) {
      value_ = nanobind::cast<double>(object);
    } else {
      array_.emplace(object, name, Array::Access::read, memory);
    }
  }
  const Array* array() const { return array_ ? &*array_ : nullptr; }
  PerRow per_row(const RowSpace& space, int axis) const {
    PerRow result;
    result.value = value_;
    if (!array_) return result;
    if (array_->type() == Type::int32) {
      throw nanobind::type_error((std::string(array_->name()) + " must hold floats").c_str());
    }
    result.data = array_->data();
    result.is_float32 = array_->type() == Type::float32;
    result.strides = array_->strides(space, axis, /*one_per_row=*/true);
    return result;
  }

 private:
  double value_ = 0.0;
  std::optional<Array> array_;
};

inline Regularization regularization_of(int code) {
  if (code < 0 || code > 2) throw nanobind::value_error("unknown regularization code");
  return static_cast<Regularization>(code);
}

// What the linear maps read of the projection at which they are taken.
struct LinearizationArguments {
  Optional z, w, result, block_z, block_w;
  PerRowArgument strength;

  LinearizationArguments(nanobind::handle z, nanobind::handle w, nanobind::handle result,
                         nanobind::handle block_z, nanobind::handle block_w,
                         nanobind::handle strength, Array::Memory memory = Array::Memory::host)
      : z(z, "z", Array::Access::read, memory),
        w(w, "w", Array::Access::read, memory),
        result(result, "result", Array::Access::read, memory),
        block_z(block_z, "block_z", Array::Access::read, memory),
        block_w(block_w, "block_w", Array::Access::read, memory),
        strength(strength, "strength", memory) {
    if (!this->block_z) throw nanobind::value_error("block_z must be given");
  }

  void check(int regularization, bool differentiates_w) const {
    if (regularization_of(regularization) == Regularization::kl && !result) {
      throw nanobind::value_error("result must be given for kl");
    }
    if (differentiates_w && !block_w) {
      throw nanobind::value_error("block_w must be given to differentiate w");
    }
  }
};

// The strength's cotangent is in float64, whatever the other arrays are in.
inline double* strength_cotangent_of(const Array& array) {
  if (array.type() != Type::float64) {
    throw nanobind::type_error("strength_cotangent must hold float64");
  }
  return static_cast<double*>(array.data());
}

}  // namespace diffsort
