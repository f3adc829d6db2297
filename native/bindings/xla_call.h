// What the handlers of all platforms share: how a custom call is read.
//
// Operands and results are dense, row-major, of one shape; the strength has length 1 along the
// axis. Which of them are there is told by the attributes `operands` and `results`, whose bits
// follow the order in which the handlers read them. An absent z or w stands for rho.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace diffsort {

namespace ffi = xla::ffi;

using Buffer = std::optional<ffi::AnyBuffer>;

// The array arguments of a call, read one after the other: each bit of `present` is one of them.
template <class Source>
class Reader {
 public:
  Reader(const Source& source, std::int64_t present) : source_(source), present_(present) {}

  std::optional<ffi::AnyBuffer> next() {
    const bool present = (present_ & 1) != 0;
    present_ >>= 1;
    if (!present) return std::nullopt;
    return get(source_, index_++);
  }

 private:
  static ffi::AnyBuffer get(const ffi::RemainingArgs& source, std::size_t index) {
    return source.get<ffi::AnyBuffer>(index).value();
  }
  static ffi::AnyBuffer get(const ffi::RemainingRets& source, std::size_t index) {
    return *source.get<ffi::AnyBuffer>(index).value();
  }

  const Source& source_;
  std::int64_t present_;
  std::size_t index_ = 0;
};

// Attributes that every call has.
struct Options {
  std::int64_t axis, regularization;
  double z_sign, w_sign;
  std::int64_t operands, results;
};

// Binds the arguments, the results and the attributes in the order of Options.
template <class Binding>
auto with_arguments(Binding binding) {
  return std::move(binding)
      .RemainingArgs()
      .RemainingRets()
      .template Attr<std::int64_t>("axis")
      .template Attr<std::int64_t>("regularization")
      .template Attr<double>("z_sign")
      .template Attr<double>("w_sign")
      .template Attr<std::int64_t>("operands")
      .template Attr<std::int64_t>("results");
}

// Where the linear maps are taken: the operands that follow the directions of jvp and vjp.
struct XlaLinearization {
  Buffer z, w, result, block_z, block_w, strength;

  explicit XlaLinearization(Reader<ffi::RemainingArgs>& in) {
    for (Buffer* operand : {&z, &w, &result, &block_z, &block_w, &strength}) *operand = in.next();
  }
};

// What body returns; exceptions become XLA errors.
template <class Body>
ffi::Error guarded(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "diffsort: no memory for the scratch");
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("diffsort: ") + error.what());
  }
}

inline nanobind::capsule xla_capsule(XLA_FFI_Error* (*handler)(XLA_FFI_CallFrame*)) {
  return nanobind::capsule(reinterpret_cast<void*>(handler), "xla._CUSTOM_CALL_TARGET");
}

}  // namespace diffsort
