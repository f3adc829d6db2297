// Handlers for XLA's typed FFI on the CPU: the three functions of projection.h as custom calls.
#include "xla.h"

#include <atomic>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "diffsort/projection.h"
#include "xla_call.h"

namespace nb = nanobind;
namespace ffi = xla::ffi;

namespace diffsort {
namespace {

// Set by set_num_threads of the package; 0: as many as the machine runs at once.
std::atomic<int> max_threads{0};

struct XlaPool {};  // stands for XLA's own threads in the handlers' signatures

}  // namespace
}  // namespace diffsort

template <>
struct xla::ffi::CtxDecoding<diffsort::XlaPool> {
  using Type = diffsort::Workers;

  static std::optional<Type> Decode(const XLA_FFI_Api* api, XLA_FFI_ExecutionContext* context,
                                    DiagnosticEngine&) {
    static const int all = static_cast<int>(std::thread::hardware_concurrency());  // not cheap
    const int wanted = diffsort::max_threads.load(std::memory_order_relaxed);
    diffsort::Workers workers(wanted > 0 ? wanted : all);
    // jaxlib 0.4.31 has an API that ends before this entry. (The number of the pool's threads is
    // not asked for: the place of that entry has changed within version 0.1.)
    constexpr std::size_t kNeeded =
        offsetof(XLA_FFI_Api, XLA_FFI_ThreadPool_Schedule) + sizeof(XLA_FFI_ThreadPool_Schedule*);
    if (api->struct_size < kNeeded) {
      workers.threads = 1;
      return workers;
    }
    workers.schedule = [api, context](std::function<void()> task) {
      auto* const data = new std::function<void()>(std::move(task));
      XLA_FFI_ThreadPool_Schedule_Args args = {};
      args.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
      args.ctx = context;
      args.data = data;
      args.task = [](void* task_data) {
        const std::unique_ptr<std::function<void()>> owned(
            static_cast<std::function<void()>*>(task_data));
        (*owned)();
      };
      XLA_FFI_Error* const error = api->XLA_FFI_ThreadPool_Schedule(&args);
      if (error == nullptr) return true;
      internal::DestroyError(api, error);
      delete data;
      return false;
    };
    return workers;
  }
};

namespace diffsort {
namespace {

// The rows of an array of the common shape; axis is negative.
RowSpace row_space(const ffi::AnyBuffer& array, std::int64_t axis) {
  const auto dims = array.dimensions();
  RowSpace space;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (static_cast<std::int64_t>(d) == static_cast<std::int64_t>(dims.size()) + axis) {
      space.length = dims[d];
    } else {
      space.batch_shape[space.batch_dims++] = dims[d];
    }
  }
  return space;
}

// Strides of a dense array, whose length along the axis may be 1.
Strides dense_strides(const ffi::AnyBuffer& array, std::int64_t axis) {
  const auto dims = array.dimensions();
  const auto ndim = static_cast<std::int64_t>(dims.size());
  Strides strides;
  std::int64_t stride = 1, batch = ndim - 2;
  for (std::int64_t d = ndim - 1; d >= 0; --d) {
    if (d == ndim + axis) {
      strides.along = stride;
    } else {
      strides.batch[batch--] = stride;
    }
    stride *= dims[static_cast<std::size_t>(d)];
  }
  return strides;
}

template <class T>
Rows<T> rows(const Buffer& array, std::int64_t axis) {
  if (!array) return {};
  return {static_cast<T*>(array->untyped_data()), dense_strides(*array, axis)};
}

PerRow per_row(const ffi::AnyBuffer& array, std::int64_t axis) {
  PerRow result;
  result.data = array.untyped_data();
  result.is_float32 = array.element_type() == ffi::DataType::F32;
  result.strides = dense_strides(array, axis);
  return result;
}

Problem problem_of(const Options& options, const ffi::AnyBuffer& shaped, const Buffer& strength) {
  if (!strength) throw std::invalid_argument("the strength is missing");
  const auto ndim = static_cast<std::int64_t>(shaped.dimensions().size());
  if (options.axis >= 0 || options.axis < -ndim || ndim > kMaxBatchDims + 1) {
    throw std::invalid_argument("axis must be negative and within at most 65 dimensions");
  }
  Problem problem;
  problem.space = row_space(shaped, options.axis);
  if (problem.space.length > kMaxLength) {
    throw std::invalid_argument("rows must be shorter than 2^31 - 2");
  }
  problem.regularization = static_cast<Regularization>(options.regularization);
  problem.z_sign = options.z_sign;
  problem.w_sign = options.w_sign;
  problem.strength = per_row(*strength, options.axis);
  return problem;
}

// Calls body with a null pointer of the floating type of `array`; exceptions become XLA errors.
template <class Body>
ffi::Error with_float_type(const ffi::AnyBuffer& array, const Body& body) {
  return guarded([&] {
    switch (array.element_type()) {
      case ffi::DataType::F32:
        body(static_cast<float*>(nullptr));
        return ffi::Error::Success();
      case ffi::DataType::F64:
        body(static_cast<double*>(nullptr));
        return ffi::Error::Success();
      default:
        return ffi::Error::InvalidArgument("diffsort: arrays must hold float32 or float64");
    }
  });
}

ffi::Error project_handler(const Workers& workers, ffi::RemainingArgs args, ffi::RemainingRets rets,
                           Options options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer z = in.next(), w = in.next(), strength = in.next();
  const Buffer result = out.next(), block_z = out.next(), block_w = out.next();
  const ffi::AnyBuffer& shaped = z ? *z : w.value();
  return with_float_type(shaped, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const std::int64_t axis = options.axis;
    const Problem problem = problem_of(options, shaped, strength);
    Projection<T> arrays;
    arrays.z = rows<const T>(z, axis);
    arrays.w = rows<const T>(w, axis);
    arrays.result = rows<T>(result, axis);
    arrays.block_z = rows<std::int32_t>(block_z, axis);
    arrays.block_w = rows<std::int32_t>(block_w, axis);
    project(problem, arrays, workers);
  });
}

template <class T>
Linearization<T> linearization(const XlaLinearization& arrays, std::int64_t axis) {
  return {rows<const T>(arrays.z, axis), rows<const T>(arrays.w, axis),
          rows<const T>(arrays.result, axis), rows<const std::int32_t>(arrays.block_z, axis),
          rows<const std::int32_t>(arrays.block_w, axis)};
}

ffi::Error jvp_handler(const Workers& workers, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       Options options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer dz = in.next(), dw = in.next(), dstrength = in.next();
  const XlaLinearization arrays(in);
  const Buffer tangent = out.next();
  return with_float_type(tangent.value(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const std::int64_t axis = options.axis;
    const Problem problem = problem_of(options, *tangent, arrays.strength);
    Tangents<T> tangents;
    tangents.z = rows<const T>(dz, axis);
    tangents.w = rows<const T>(dw, axis);
    tangents.has_strength = dstrength.has_value();
    if (dstrength) tangents.strength = per_row(*dstrength, axis);
    tangents.out = rows<T>(tangent, axis);
    project_jvp(problem, linearization<T>(arrays, axis), tangents, workers);
  });
}

// The strength's cotangent is computed in double; the result may be float32.
class PerRowResult {
 public:
  PerRowResult(const Buffer& array, std::int64_t axis) : array_(array) {
    if (!array) return;
    rows_ = rows<double>(array, axis);
    if (array->element_type() == ffi::DataType::F32) {
      wide_.resize(array->element_count());
      rows_.data = wide_.data();
    }
  }
  const Rows<double>& rows_to_write() const { return rows_; }
  void finish() const {
    if (wide_.empty()) return;
    auto* const narrow = static_cast<float*>(array_->untyped_data());
    for (std::size_t i = 0; i < wide_.size(); ++i) narrow[i] = static_cast<float>(wide_[i]);
  }

 private:
  const Buffer& array_;
  std::vector<double> wide_;
  Rows<double> rows_;
};

ffi::Error vjp_handler(const Workers& workers, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       Options options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer cotangent = in.next();
  const XlaLinearization arrays(in);
  const Buffer z = out.next(), w = out.next(), strength = out.next();
  return with_float_type(cotangent.value(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const std::int64_t axis = options.axis;
    const Problem problem = problem_of(options, *cotangent, arrays.strength);
    const PerRowResult per_row_result(strength, axis);
    Cotangents<T> cotangents;
    cotangents.g = rows<const T>(cotangent, axis);
    cotangents.z = rows<T>(z, axis);
    cotangents.w = rows<T>(w, axis);
    cotangents.strength = per_row_result.rows_to_write();
    project_vjp(problem, linearization<T>(arrays, axis), cotangents, workers);
    per_row_result.finish();
  });
}

using Implementation = ffi::Error (*)(const Workers&, ffi::RemainingArgs, ffi::RemainingRets,
                                      Options);

template <Implementation implementation>
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame) {
  static auto* const handler =
      with_arguments(ffi::Ffi::Bind().Ctx<XlaPool>())
          .To([](const Workers& workers, ffi::RemainingArgs args, ffi::RemainingRets rets,
                 std::int64_t axis, std::int64_t regularization, double z_sign, double w_sign,
                 std::int64_t operands, std::int64_t results) {
            return implementation(workers, args, rets,
                                  {axis, regularization, z_sign, w_sign, operands, results});
          })
          .release();
  return handler->Call(frame);
}

}  // namespace

void bind_xla(nb::module_& m) {
  nb::dict handlers;
  handlers["diffsort_project"] = xla_capsule(handle<project_handler>);
  handlers["diffsort_jvp"] = xla_capsule(handle<jvp_handler>);
  handlers["diffsort_vjp"] = xla_capsule(handle<vjp_handler>);
  m.attr("xla_handlers") = handlers;
  m.attr("xla_ffi_version") = nb::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
  m.def("set_xla_threads", [](int threads) { max_threads = threads; }, nb::arg("threads"));
  bind_xla_cuda(m);
}

}  // namespace diffsort
