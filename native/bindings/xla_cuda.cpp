// Handlers for XLA's typed FFI on CUDA devices: the calls of diffsort/cuda.h as custom calls.
//
// The axis is the last one, and the strength's cotangent is float64. Kernels go to XLA's stream. Scratch
// memory is a further result of a call, so that XLA may put the call into a CUDA graph (a command
// buffer): memory of XLA's scratch allocator would be somebody else's when the graph is replayed. How
// much of it a row needs the program's maker asks with xla_cuda_workspace.
#include <nanobind/stl/string.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda.h"
#include "diffsort/rows.h"
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
  if (problem.n > kMaxLength) throw std::invalid_argument("rows must be shorter than 2^31 - 2");
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

DiffsortLinearization linearization(const XlaLinearization& arrays,
                                    const DiffsortProblem& problem) {
  return {rows_of(arrays.z, problem), rows_of(arrays.w, problem), rows_of(arrays.result, problem),
          rows_of(arrays.block_z, problem), rows_of(arrays.block_w, problem)};
}

// Where a call of the library runs. With `asked` it does not: it tells how much scratch it wants.
struct Target {
  void* stream = nullptr;
  int device = -1;  // that of the stream
  std::size_t* asked = nullptr;

  // Both functions take the call last.
  template <class Ask, class Run>
  ffi::Error call(const Buffer& workspace, const Ask& ask, const Run& run) const {
    char message[512] = "";
    DiffsortCall call = {};
    call.device = device;
    call.stream = stream;
    call.message = message;
    call.message_bytes = sizeof message;
    if (workspace) {
      call.workspace = workspace->untyped_data();
      call.workspace_bytes = workspace->size_bytes();
    }
    const int status = asked != nullptr ? ask(&call, asked) : run(&call);
    if (status == 0) return ffi::Error::Success();
    const std::string problem = "diffsort: " + cuda_error(status, message);
    if (status != DIFFSORT_SMALL_WORKSPACE) return ffi::Error::Internal(problem);
    return ffi::Error(
        ffi::ErrorCode::kFailedPrecondition,
        problem +
            "; a program has the memory that rows need on the CUDA devices that are visible "
            "where it is made, and for as many devices as it is made for");
  }
};

ffi::Error project_handler(const Target& target, ffi::RemainingArgs args, ffi::RemainingRets rets,
                           const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer z = in.next(), w = in.next(), strength = in.next();
  const Buffer result = out.next(), block_z = out.next(), block_w = out.next();
  const Buffer workspace = out.next();
  const DiffsortProblem problem = problem_of(options, z ? *z : w.value(), strength);
  const DiffsortProjection arrays = {rows_of(z, problem), rows_of(w, problem),
                                     output_of<void>(result), output_of<std::int32_t>(block_z),
                                     output_of<std::int32_t>(block_w)};
  if (problem.rows * problem.n == 0) return ffi::Error::Success();
  const CudaLibrary& library = cuda_library().usable();
  return target.call(
      workspace,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.project_workspace(&problem, &arrays, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.project(&problem, &arrays, call); });
}

ffi::Error jvp_handler(const Target& target, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer dz = in.next(), dw = in.next(), dstrength = in.next();
  const XlaLinearization arrays(in);
  const Buffer tangent = out.next(), workspace = out.next();
  const DiffsortProblem problem = problem_of(options, tangent.value(), arrays.strength);
  const DiffsortLinearization at = linearization(arrays, problem);
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
  return target.call(
      workspace,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.jvp_workspace(&problem, &at, &tangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.jvp(&problem, &at, &tangents, call); });
}

ffi::Error vjp_handler(const Target& target, ffi::RemainingArgs args, ffi::RemainingRets rets,
                       const Options& options) {
  Reader<ffi::RemainingArgs> in(args, options.operands);
  Reader<ffi::RemainingRets> out(rets, options.results);
  const Buffer cotangent = in.next();
  const XlaLinearization arrays(in);
  const Buffer z = out.next(), w = out.next(), strength = out.next(), workspace = out.next();
  if (strength && strength->element_type() != ffi::DataType::F64) {
    throw std::invalid_argument("the cotangent of the strength must hold float64");
  }
  const DiffsortProblem problem = problem_of(options, cotangent.value(), arrays.strength);
  const DiffsortLinearization at = linearization(arrays, problem);
  const DiffsortCotangents cotangents = {rows_of(cotangent, problem), output_of<void>(z),
                                         output_of<void>(w), output_of<double>(strength)};
  // The strengths of empty rows have a cotangent all the same.
  if (problem.rows * problem.n == 0 && !(strength && problem.rows > 0)) {
    return ffi::Error::Success();
  }
  const CudaLibrary& library = cuda_library().usable();
  return target.call(
      workspace,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.vjp_workspace(&problem, &at, &cotangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.vjp(&problem, &at, &cotangents, call); });
}

using Implementation = ffi::Error (*)(const Target&, ffi::RemainingArgs, ffi::RemainingRets,
                                      const Options&);

template <Implementation implementation>
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame) {
  static auto* const handler =
      with_arguments(ffi::Ffi::Bind().Ctx<ffi::PlatformStream<void*>>())
          .To(
              [](void* stream, ffi::RemainingArgs args, ffi::RemainingRets rets, std::int64_t axis,
                 std::int64_t regularization, double z_sign, double w_sign, std::int64_t operands,
                 std::int64_t results) {
                return guarded([&] {
                  return implementation(Target{stream}, args, rets,
                                        {axis, regularization, z_sign, w_sign, operands, results});
                });
              },
              {ffi::Traits::kCmdBufferCompatible})
          .release();
  return handler->Call(frame);
}

// --- the size of the scratch memory ---------------------------------------------------------------

// Arrays that are shapes alone, one for each bit of `present`, in the way that handlers are given them.
template <class Frame, class Kind>
class Shapes {
 public:
  Shapes(std::int64_t present, XLA_FFI_Buffer* buffer, Kind kind) {
    for (; present != 0; present &= present - 1) {
      kinds_.push_back(kind);
      buffers_.push_back(buffer);
    }
    frame_ = {sizeof(Frame), nullptr, static_cast<std::int64_t>(buffers_.size()), kinds_.data(),
              buffers_.data()};
  }
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;

  void set(std::size_t i, XLA_FFI_Buffer* buffer) { buffers_[i] = buffer; }
  const Frame* frame() const { return &frame_; }

 private:
  std::vector<Kind> kinds_;
  std::vector<void*> buffers_;
  Frame frame_;
};

struct Handler {
  const char* name;
  Implementation implementation;
  XLA_FFI_Handler* entry;
};

const std::array<Handler, 3> kHandlers = {{
    {"diffsort_project", project_handler, handle<project_handler>},
    {"diffsort_jvp", jvp_handler, handle<jvp_handler>},
    {"diffsort_vjp", vjp_handler, handle<vjp_handler>},
}};

// In bytes, for a row of n elements on a device (-1: the current one). `operands` and `results` are
// those of the call, without the scratch memory itself.
std::size_t workspace(const std::string& name, std::int64_t n, bool is_float64,
                      std::int64_t regularization, std::int64_t operands, std::int64_t results,
                      int device) {
  static char somewhere;  // arrays are there or not, and never read
  std::int64_t dims[] = {1, n};
  XLA_FFI_Buffer values = {sizeof(XLA_FFI_Buffer),
                           nullptr,
                           is_float64 ? XLA_FFI_DataType_F64 : XLA_FFI_DataType_F32,
                           &somewhere,
                           2,
                           dims};
  XLA_FFI_Buffer wide = values;
  wide.dtype = XLA_FFI_DataType_F64;
  Shapes<XLA_FFI_Args, XLA_FFI_ArgType> args(operands, &values, XLA_FFI_ArgType_BUFFER);
  Shapes<XLA_FFI_Rets, XLA_FFI_RetType> rets(results, &values, XLA_FFI_RetType_BUFFER);
  std::size_t bytes = 0;
  for (const Handler& handler : kHandlers) {
    if (name != handler.name) continue;
    // The strength's cotangent, the last one.
    if (handler.implementation == vjp_handler && (results & 4) != 0) {
      rets.set(static_cast<std::size_t>(rets.frame()->size - 1), &wide);
    }
    const ffi::Error error = handler.implementation(
        Target{nullptr, device, &bytes}, ffi::RemainingArgs(args.frame(), 0),
        ffi::RemainingRets(rets.frame(), 0), {-1, regularization, 1.0, 1.0, operands, results});
    if (error.failure()) throw std::runtime_error(error.message());
    return bytes;
  }
  throw std::invalid_argument("there is no handler " + name);
}

}  // namespace

void bind_xla_cuda(nb::module_& m) {
  using namespace nb::literals;
  nb::dict handlers;
  for (const Handler& handler : kHandlers) handlers[handler.name] = xla_capsule(handler.entry);
  m.attr("xla_cuda_handlers") = handlers;
  m.def("xla_cuda_workspace", &workspace, "target"_a, "n"_a, "is_float64"_a, "regularization"_a,
        "operands"_a, "results"_a, "device"_a);
}

}  // namespace diffsort
