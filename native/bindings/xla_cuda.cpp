// Handlers for XLA's typed FFI on CUDA devices: the calls of diffsort/cuda.h as custom calls.
//
// The axis is the last one, and the strength's cotangent is float64. Kernels go to XLA's stream and
// use scratch memory of XLA, which gives it to others on that stream only.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda.h"
#include "xla.h"
#include "xla_call.h"

namespace nb = nanobind;

namespace diffsort {
namespace {

int type_code(const ffi::AnyBuffer& array) {
  switch (array.element_type()) {
    case ffi::DataType::F32:
      return DIFFSORT_FLOAT32;
    case ffi::DataType::F64:
      return DIFFSORT_FLOAT64;
    default:
      throw std::invalid_argument("arrays must hold float32 or float64");
  }
}

DiffsortProblem problem_of(const Options& options, const ffi::AnyBuffer& shaped,
                           const Buffer& strength) {
  const auto dims = shaped.dimensions();
  if (!strength) throw std::invalid_argument("the strength is missing");
  if (options.axis != -1 || dims.size() == 0) throw std::invalid_argument("the axis is not last");
  DiffsortProblem problem = {};
  problem.n = dims[dims.size() - 1];
  problem.rows = 1;
  for (std::size_t d = 0; d + 1 < dims.size(); ++d) problem.rows *= dims[d];
  if (problem.n > INT32_MAX - 2) throw std::invalid_argument("rows must be shorter than 2^31 - 2");
  problem.type = type_code(shaped);
  problem.regularization = static_cast<std::int32_t>(options.regularization);
  problem.z_sign = options.z_sign;
  problem.w_sign = options.w_sign;
  problem.strength = {strength->untyped_data(), 1, type_code(*strength), 0.0};
  return problem;
}

DiffsortRows rows_of(const Buffer& array, const DiffsortProblem& problem) {
  if (!array) return {};
  return {array->untyped_data(), problem.n};
}

template <class T>
T* output_of(const Buffer& array) {
  return array ? static_cast<T*>(array->untyped_data()) : nullptr;
}

DiffsortLinearization linearization(const XlaPoint& point, const DiffsortProblem& problem) {
  return {rows_of(point.z, problem), rows_of(point.w, problem), rows_of(point.result, problem),
          rows_of(point.block_z, problem), rows_of(point.block_w, problem)};
}

// What a call of the library is given by XLA.
struct Resources {
  void* stream;
  ffi::ScratchAllocator& scratch;

  // Asks for the scratch, allocates it, runs. Both functions take the call last.
  template <class Workspace, class Run>
  ffi::Error call(const Workspace& workspace, const Run& run) const {
    char message[512] = "";
    DiffsortCall call = {};
    call.device = -1;  // that of the stream
    call.stream = stream;
    call.message = message;
    call.message_bytes = sizeof message;
    std::size_t bytes = 0;
    int status = workspace(&call, &bytes);
    if (status == 0 && bytes > 0) {
      constexpr std::size_t kAlignment = 16;  // the most that XLA can be asked for
      const std::optional<void*> memory = scratch.Allocate(bytes, kAlignment);
      if (!memory) {
        return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                          "diffsort: no memory for " + std::to_string(bytes) + " bytes of scratch");
      }
      call.workspace = *memory;
      call.workspace_bytes = bytes;
    }
    if (status == 0) status = run(&call);
    if (status == 0) return ffi::Error::Success();
    return ffi::Error::Internal("diffsort: " + cuda_error(status, message));
  }
};

ffi::Error project_handler(const Resources& resources, ffi::RemainingArgs args,
                           ffi::RemainingRets rets, const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer z = in.next(), w = in.next(), strength = in.next();
  const Buffer result = out.next(), block_z = out.next(), block_w = out.next();
  const DiffsortProblem problem = problem_of(options, z ? *z : w.value(), strength);
  const DiffsortProjection arrays = {rows_of(z, problem), rows_of(w, problem),
                                     output_of<void>(result), output_of<std::int32_t>(block_z),
                                     output_of<std::int32_t>(block_w)};
  if (problem.rows * problem.n == 0) return ffi::Error::Success();
  const CudaLibrary& library = cuda_library().usable();
  return resources.call(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.project_workspace(&problem, &arrays, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.project(&problem, &arrays, call); });
}

ffi::Error jvp_handler(const Resources& resources, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer dz = in.next(), dw = in.next(), dstrength = in.next();
  const XlaPoint point(in);
  const Buffer tangent = out.next();
  const DiffsortProblem problem = problem_of(options, tangent.value(), point.strength);
  const DiffsortLinearization at = linearization(point, problem);
  DiffsortTangents tangents = {};
  tangents.z = rows_of(dz, problem);
  tangents.w = rows_of(dw, problem);
  if (dstrength) {
    tangents.strength = {dstrength->untyped_data(), 1, type_code(*dstrength), 0.0};
    tangents.has_strength = 1;
  }
  tangents.out = output_of<void>(tangent);
  if (problem.rows * problem.n == 0) return ffi::Error::Success();
  const CudaLibrary& library = cuda_library().usable();
  return resources.call(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.jvp_workspace(&problem, &at, &tangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.jvp(&problem, &at, &tangents, call); });
}

ffi::Error vjp_handler(const Resources& resources, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer cotangent = in.next();
  const XlaPoint point(in);
  const Buffer z = out.next(), w = out.next(), strength = out.next();
  if (strength && strength->element_type() != ffi::DataType::F64) {
    throw std::invalid_argument("the cotangent of the strength must hold float64");
  }
  const DiffsortProblem problem = problem_of(options, cotangent.value(), point.strength);
  const DiffsortLinearization at = linearization(point, problem);
  const DiffsortCotangents cotangents = {rows_of(cotangent, problem), output_of<void>(z),
                                         output_of<void>(w), output_of<double>(strength)};
  // The strengths of empty rows have a cotangent all the same.
  if (problem.rows * problem.n == 0 && !(strength && problem.rows > 0)) {
    return ffi::Error::Success();
  }
  const CudaLibrary& library = cuda_library().usable();
  return resources.call(
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.vjp_workspace(&problem, &at, &cotangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.vjp(&problem, &at, &cotangents, call); });
}

using Implementation = ffi::Error (*)(const Resources&, ffi::RemainingArgs, ffi::RemainingRets,
                                      const Options&);

template <Implementation implementation>
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame) {
  static auto* const handler =
      with_arguments(
          ffi::Ffi::Bind().Ctx<ffi::PlatformStream<void*>>().Ctx<ffi::ScratchAllocator>())
          .To([](void* stream, ffi::ScratchAllocator scratch, ffi::RemainingArgs args,
                 ffi::RemainingRets rets, std::int64_t axis, std::int64_t regularization,
                 double z_sign, double w_sign, std::int64_t operands, std::int64_t results) {
            return guarded([&] {
              return implementation({stream, scratch}, args, rets,
                                    {axis, regularization, z_sign, w_sign, operands, results});
            });
          })
          .release();
  return handler->Call(frame);
}

}  // namespace

nb::dict xla_cuda_handlers() {
  nb::dict handlers;
  handlers["diffsort_project"] = xla_capsule(handle<project_handler>);
  handlers["diffsort_jvp"] = xla_capsule(handle<jvp_handler>);
  handlers["diffsort_vjp"] = xla_capsule(handle<vjp_handler>);
  return handlers;
}

}  // namespace diffsort
