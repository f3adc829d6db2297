// Arrays on CUDA devices: arguments of Python on one side, the C interface of the library on the
// other.
//
// Rows lie along the last axis and are dense; an operand may be one row for all. A call asks the
// library for the size of its scratch memory, lets the caller's `allocate` provide it, enqueues the
// kernels on the caller's stream and returns. All arrays of a call are on one device.
#include "cuda.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

#include "arguments.h"

#ifndef _WIN32
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace nb = nanobind;

namespace diffsort {

// --- the library ----------------------------------------------------------------------------------

namespace {

constexpr const char* kFile = "libdiffsort_cuda.so";

#ifdef _WIN32

std::string library_path() {
  return {};
}

void open(const std::string&, CudaLibrary*) {}

#else

// Beside this module; empty if there is no such file.
std::string library_path() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&cuda_library), &info) == 0) return {};
  const std::string module = info.dli_fname;
  const std::string path = module.substr(0, module.rfind('/') + 1) + kFile;
  return access(path.c_str(), R_OK) == 0 ? path : std::string();
}

template <class Function>
void find(void* handle, const char* name, Function* function, std::string* problem) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  if (*function == nullptr) *problem = std::string(kFile) + " has no function " + name;
}

void open(const std::string& path, CudaLibrary* library) {
  std::string& problem = library->problem;
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    problem = std::string(kFile) + " cannot be opened: " + (reason ? reason : "no reason given");
    return;
  }
  find(handle, "diffsort_cuda_version", &library->version, &problem);
  if (!problem.empty()) return;
  if (library->version() != DIFFSORT_CUDA_VERSION) {
    problem = std::string(kFile) + " has version " + std::to_string(library->version()) +
              " of its interface, but version " + std::to_string(DIFFSORT_CUDA_VERSION) +
              " is needed";
    return;
  }
  find(handle, "diffsort_cuda_device_count", &library->device_count, &problem);
  find(handle, "diffsort_cuda_supports", &library->supports, &problem);
  find(handle, "diffsort_cuda_project_workspace", &library->project_workspace, &problem);
  find(handle, "diffsort_cuda_project", &library->project, &problem);
  find(handle, "diffsort_cuda_vjp_workspace", &library->vjp_workspace, &problem);
  find(handle, "diffsort_cuda_vjp", &library->vjp, &problem);
  find(handle, "diffsort_cuda_jvp_workspace", &library->jvp_workspace, &problem);
  find(handle, "diffsort_cuda_jvp", &library->jvp, &problem);
}

#endif

CudaLibrary opened() {
  CudaLibrary library;
  const std::string path = library_path();
  if (path.empty()) {
    library.problem = "this build of diffsort has no CUDA kernels";
  } else {
    open(path, &library);
  }
  return library;
}

// Why kernels cannot run, on a device or, without one, on any.
std::optional<std::string> cuda_problem(std::optional<int> device) {
  const CudaLibrary& library = cuda_library();
  if (!library.problem.empty()) return library.problem;
  if (!device) return std::nullopt;
  char message[512] = "";
  const int count = library.device_count(message, sizeof message);
  const std::string name = "cuda:" + std::to_string(*device);
  if (count == 0) return std::string("no CUDA device can be used: ") + message;
  if (*device < 0 || *device >= count) {
    return name + " is not among the " + std::to_string(count) + " CUDA devices";
  }
  if (library.supports(*device) == 0) {
    return "this build of diffsort has no kernels for the architecture of " + name;
  }
  return std::nullopt;
}

}  // namespace

const CudaLibrary& CudaLibrary::usable() const {
  if (!problem.empty()) throw std::runtime_error(problem);
  return *this;
}

const CudaLibrary& cuda_library() {
  static const CudaLibrary library = opened();
  return library;
}

std::string cuda_error(int status, const char* message) {
  const std::string text = message;
  return text.empty() ? "CUDA error " + std::to_string(status) : text;
}

// --- arrays ---------------------------------------------------------------------------------------

namespace {

using Access = Array::Access;
constexpr Array::Memory kCuda = Array::Memory::cuda;

int type_code(const Array& array) {
  if (array.type() == Type::int32) {
    throw nb::type_error((std::string(array.name()) + " must hold float32 or float64").c_str());
  }
  return array.type() == Type::float32 ? DIFFSORT_FLOAT32 : DIFFSORT_FLOAT64;
}

// The stride from one row of `length` elements to the next: `length` where the rows are dense, 0
// where one row serves all.
std::int64_t row_stride(const Array& array, const Strides& strides, const RowSpace& space,
                        std::int64_t length, Access access) {
  bool dense = true, shared = access == Access::read;
  std::int64_t expected = length;
  for (int d = space.batch_dims - 1; d >= 0; --d) {
    if (space.batch_shape[d] == 1) continue;
    dense = dense && strides.batch[d] == expected;
    shared = shared && strides.batch[d] == 0;
    expected *= space.batch_shape[d];
  }
  const bool empty = length == 0 || expected == 0;
  const bool unit = length <= 1 || strides.along == 1;
  if (!empty && !(unit && (dense || shared))) {
    throw nb::buffer_error((std::string(array.name()) + " must have dense rows").c_str());
  }
  return empty || dense ? length : 0;
}

DiffsortRows rows_of(const Optional& array, const RowSpace& space, Type type) {
  if (!array) return {};
  const Rows<const char> rows = array.rows<const char>(space, -1, type);
  return {rows.data, row_stride(*array, rows.strides, space, space.length, Access::read)};
}

template <class T>
T* output_of(const Optional& array, const RowSpace& space, Type type) {
  if (!array) return nullptr;
  const Rows<char> rows = array.rows<char>(space, -1, type);
  row_stride(*array, rows.strides, space, space.length, Access::write);
  return reinterpret_cast<T*>(rows.data);
}

DiffsortPerRow per_row(const PerRowArgument& argument, const RowSpace& space) {
  const PerRow found = argument.per_row(space, -1);
  if (found.data == nullptr) return {nullptr, 0, DIFFSORT_FLOAT64, found.value};
  const std::int64_t stride = row_stride(*argument.array(), found.strides, space, 1, Access::read);
  return {found.data, stride, found.is_float32 ? DIFFSORT_FLOAT32 : DIFFSORT_FLOAT64, 0.0};
}

// The ordinal of the one device that the arrays are on.
int device_of(std::initializer_list<const Array*> arrays) {
  const Array* first = nullptr;
  for (const Array* const array : arrays) {
    if (array == nullptr) continue;
    if (first == nullptr) first = array;
    if (array->device() != first->device()) {
      throw nb::value_error((std::string(array->name()) +
                             " is on cuda:" + std::to_string(array->device()) + ", but " +
                             first->name() + " is on cuda:" + std::to_string(first->device()))
                                .c_str());
    }
  }
  return first == nullptr ? -1 : first->device();
}

const Array* pointer(const Optional& array) {
  return array ? &*array : nullptr;
}

DiffsortProblem problem_of(const RowSpace& space, int type, int regularization, double z_sign,
                           double w_sign, const PerRowArgument& strength) {
  DiffsortProblem problem = {};
  problem.rows = space.rows();
  problem.n = space.length;
  problem.type = type;
  problem.regularization = static_cast<int>(regularization_of(regularization));
  problem.z_sign = z_sign;
  problem.w_sign = w_sign;
  problem.strength = per_row(strength, space);
  return problem;
}

// --- calls ----------------------------------------------------------------------------------------

// Asks for the scratch, allocates it, runs. Both functions take the call last.
template <class Workspace, class Run>
void call(int device, std::uintptr_t stream, nb::handle allocate, const Workspace& workspace,
          const Run& run) {
  char message[512] = "";
  DiffsortCall call = {};
  call.device = device;
  call.stream = reinterpret_cast<void*>(stream);
  call.message = message;
  call.message_bytes = sizeof message;
  std::size_t bytes = 0;
  int status = 0;
  {
    const nb::gil_scoped_release release;
    status = workspace(&call, &bytes);
  }
  if (status != 0) throw std::runtime_error(cuda_error(status, message));

  nb::object memory = nb::none();
  std::optional<Array> scratch;
  if (bytes > 0) {
    const std::size_t words = (bytes + 3) / 4;
    memory = allocate(words);
    scratch.emplace(memory, "workspace", Access::write, kCuda);
    const bool fits = scratch->type() == Type::int32 && scratch->ndim() == 1 &&
                      scratch->shape(0) >= static_cast<std::int64_t>(words) &&
                      scratch->device() == device;
    if (!fits) throw nb::value_error("allocate must return int32 elements on the device");
    call.workspace = scratch->data();
    call.workspace_bytes = bytes;
  }
  {
    const nb::gil_scoped_release release;
    status = run(&call);
  }
  if (status != 0) throw std::runtime_error(cuda_error(status, message));
}

void py_project(nb::handle z, nb::handle w, nb::handle strength, int regularization, double z_sign,
                double w_sign, nb::handle result, nb::handle block_z, nb::handle block_w,
                nb::handle allocate, std::uintptr_t stream) {
  const Optional z_in(z, "z", Access::read, kCuda), w_in(w, "w", Access::read, kCuda);
  const Optional result_out(result, "result", Access::write, kCuda);
  const Optional block_z_out(block_z, "block_z", Access::write, kCuda);
  const Optional block_w_out(block_w, "block_w", Access::write, kCuda);
  const PerRowArgument strength_in(strength, "strength", kCuda);
  if (!z_in && !w_in) throw nb::value_error("z and w must not both be None");
  const Array& operand = z_in ? *z_in : *w_in;
  const Array& shaped = result_out ? *result_out : block_z_out ? *block_z_out : operand;
  const int device = device_of({pointer(z_in), pointer(w_in), pointer(result_out),
                                pointer(block_z_out), pointer(block_w_out), strength_in.array()});

  const RowSpace space = row_space(shaped, -1);
  const Type type = operand.type();
  const DiffsortProblem problem =
      problem_of(space, type_code(operand), regularization, z_sign, w_sign, strength_in);
  DiffsortProjection arrays = {};
  arrays.z = rows_of(z_in, space, type);
  arrays.w = rows_of(w_in, space, type);
  arrays.result = output_of<void>(result_out, space, type);
  arrays.block_z = output_of<std::int32_t>(block_z_out, space, Type::int32);
  arrays.block_w = output_of<std::int32_t>(block_w_out, space, Type::int32);
  const CudaLibrary& library = cuda_library().usable();
  if (problem.rows * problem.n == 0) return;
  call(
      device, stream, allocate,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.project_workspace(&problem, &arrays, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.project(&problem, &arrays, call); });
}

DiffsortLinearization linearization(const LinearizationArguments& arguments, const RowSpace& space,
                                    Type type) {
  return {rows_of(arguments.z, space, type), rows_of(arguments.w, space, type),
          rows_of(arguments.result, space, type), rows_of(arguments.block_z, space, Type::int32),
          rows_of(arguments.block_w, space, Type::int32)};
}

// Throws where arrays of the linearization are not all on one device.
const Array& on_one_device(const LinearizationArguments& arguments) {
  device_of({pointer(arguments.block_z), pointer(arguments.block_w), pointer(arguments.z),
             pointer(arguments.w), pointer(arguments.result), arguments.strength.array()});
  return *arguments.block_z;
}

void py_project_vjp(nb::handle z, nb::handle w, nb::handle result, nb::handle block_z,
                    nb::handle block_w, nb::handle strength, int regularization, double z_sign,
                    double w_sign, nb::handle cotangent, nb::handle z_cotangent,
                    nb::handle w_cotangent, nb::handle strength_cotangent, nb::handle allocate,
                    std::uintptr_t stream) {
  const LinearizationArguments arguments(z, w, result, block_z, block_w, strength, kCuda);
  const Array& block_z_in = on_one_device(arguments);
  const Optional g(cotangent, "cotangent", Access::read, kCuda);
  const Optional z_out(z_cotangent, "z_cotangent", Access::write, kCuda);
  const Optional w_out(w_cotangent, "w_cotangent", Access::write, kCuda);
  const Optional strength_out(strength_cotangent, "strength_cotangent", Access::write, kCuda);
  if (!g) throw nb::value_error("cotangent must be given");
  arguments.check(regularization, static_cast<bool>(w_out));
  const int device =
      device_of({&block_z_in, &*g, pointer(z_out), pointer(w_out), pointer(strength_out)});

  // Of an output, which is never one row for all; that of the strength has one element per row.
  const Array& shaped = z_out ? *z_out : w_out ? *w_out : block_z_in;
  const RowSpace space = row_space(shaped, -1);
  const DiffsortProblem problem =
      problem_of(space, type_code(*g), regularization, z_sign, w_sign, arguments.strength);
  const DiffsortLinearization at = linearization(arguments, space, g->type());
  DiffsortCotangents cotangents = {};
  cotangents.g = rows_of(g, space, g->type());
  cotangents.z_out = output_of<void>(z_out, space, g->type());
  cotangents.w_out = output_of<void>(w_out, space, g->type());
  if (strength_out) {
    cotangents.strength_out = strength_cotangent_of(*strength_out);
    const Strides strides = strength_out->strides(space, -1, /*one_per_row=*/true);
    row_stride(*strength_out, strides, space, 1, Access::write);
  }
  const CudaLibrary& library = cuda_library().usable();
  if (problem.rows * problem.n == 0) return;
  call(
      device, stream, allocate,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.vjp_workspace(&problem, &at, &cotangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.vjp(&problem, &at, &cotangents, call); });
}

void py_project_jvp(nb::handle z, nb::handle w, nb::handle result, nb::handle block_z,
                    nb::handle block_w, nb::handle strength, int regularization, double z_sign,
                    double w_sign, nb::handle z_tangent, nb::handle w_tangent,
                    nb::handle strength_tangent, nb::handle out, nb::handle allocate,
                    std::uintptr_t stream) {
  const LinearizationArguments arguments(z, w, result, block_z, block_w, strength, kCuda);
  const Array& block_z_in = on_one_device(arguments);
  const Optional dz(z_tangent, "z_tangent", Access::read, kCuda);
  const Optional dw(w_tangent, "w_tangent", Access::read, kCuda);
  const Optional tangent_out(out, "out", Access::write, kCuda);
  if (!tangent_out) throw nb::value_error("out must be given");
  arguments.check(regularization, static_cast<bool>(dw));
  std::optional<PerRowArgument> dstrength;
  if (!strength_tangent.is_none()) dstrength.emplace(strength_tangent, "strength_tangent", kCuda);
  const int device = device_of({&block_z_in, &*tangent_out, pointer(dz), pointer(dw),
                                dstrength ? dstrength->array() : nullptr});

  const RowSpace space = row_space(*tangent_out, -1);
  const Type type = tangent_out->type();
  const DiffsortProblem problem = problem_of(space, type_code(*tangent_out), regularization, z_sign,
                                             w_sign, arguments.strength);
  const DiffsortLinearization at = linearization(arguments, space, type);
  DiffsortTangents tangents = {};
  tangents.z = rows_of(dz, space, type);
  tangents.w = rows_of(dw, space, type);
  if (dstrength) {
    tangents.strength = per_row(*dstrength, space);
    tangents.has_strength = 1;
  }
  tangents.out = output_of<void>(tangent_out, space, type);
  const CudaLibrary& library = cuda_library().usable();
  if (problem.rows * problem.n == 0) return;
  call(
      device, stream, allocate,
      [&](const DiffsortCall* call, std::size_t* bytes) {
        return library.jvp_workspace(&problem, &at, &tangents, call, bytes);
      },
      [&](const DiffsortCall* call) { return library.jvp(&problem, &at, &tangents, call); });
}

}  // namespace

void bind_cuda(nb::module_& m) {
  using namespace nb::literals;
  const std::string path = library_path();
  m.attr("cuda_library") = path.empty() ? nb::none() : nb::object(nb::str(path.c_str()));
  m.def("cuda_device_count", [] {
    const CudaLibrary& library = cuda_library();
    return library.problem.empty() ? library.device_count(nullptr, 0) : 0;
  });
  m.def("cuda_problem", &cuda_problem, "device"_a.none() = nb::none());
  m.def("cuda_project", &py_project, "z"_a.none(), "w"_a.none(), "strength"_a, "regularization"_a,
        "z_sign"_a, "w_sign"_a, "result"_a.none(), "block_z"_a.none(), "block_w"_a.none(),
        "allocate"_a, "stream"_a);
  m.def("cuda_project_vjp", &py_project_vjp, "z"_a.none(), "w"_a.none(), "result"_a.none(),
        "block_z"_a, "block_w"_a.none(), "strength"_a, "regularization"_a, "z_sign"_a, "w_sign"_a,
        "cotangent"_a, "z_cotangent"_a.none(), "w_cotangent"_a.none(),
        "strength_cotangent"_a.none(), "allocate"_a, "stream"_a);
  m.def("cuda_project_jvp", &py_project_jvp, "z"_a.none(), "w"_a.none(), "result"_a.none(),
        "block_z"_a, "block_w"_a.none(), "strength"_a, "regularization"_a, "z_sign"_a, "w_sign"_a,
        "z_tangent"_a.none(), "w_tangent"_a.none(), "strength_tangent"_a.none(), "out"_a,
        "allocate"_a, "stream"_a);
}

}  // namespace diffsort
