// The Python module `_diffsort_native`: reads arguments, releases the GIL, calls the solver.
//
// Every array is allocated by the caller. `axis` is negative (-1 is the last). An operand that is
// None stands for rho = (n, ..., 1), an output that is None is not wanted.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <optional>

#include "arguments.h"
#include "cuda.h"
#include "diffsort/projection.h"
#include "xla.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace diffsort {
namespace {

using Access = Array::Access;

// Calls body with a null pointer of the C++ type that the floating type stands for.
template <class Body>
void with_float_type(Type type, const char* name, const Body& body) {
  switch (type) {
    case Type::float32:
      return body(static_cast<float*>(nullptr));
    case Type::float64:
      return body(static_cast<double*>(nullptr));
    case Type::int32:
      throw nb::type_error((std::string(name) + " must hold float32 or float64").c_str());
  }
}

// Lets other threads of Python run during a call, unless it is over before they would notice: to give
// the lock away and to get it back costs as much as to solve a short row, and a thread that waits for
// it may keep it for milliseconds.
class Released {
 public:
  explicit Released(const RowSpace& space) {
    if (space.rows() * space.length > kElementsWorthReleasing) release_.emplace();
  }

 private:
  static constexpr std::int64_t kElementsWorthReleasing = 256;
  std::optional<nb::gil_scoped_release> release_;
};

void py_project(nb::handle z, nb::handle w, nb::handle strength, int axis, int regularization,
                double z_sign, double w_sign, nb::handle result, nb::handle block_z,
                nb::handle block_w, int threads) {
  const Optional z_in(z, "z"), w_in(w, "w");
  const Optional result_out(result, "result", Access::write);
  const Optional block_z_out(block_z, "block_z", Access::write);
  const Optional block_w_out(block_w, "block_w", Access::write);
  if (!z_in && !w_in) throw nb::value_error("z and w must not both be None");
  const Array& operand = z_in ? *z_in : *w_in;
  const Array& shaped = result_out ? *result_out : block_z_out ? *block_z_out : operand;

  Problem problem;
  problem.space = row_space(shaped, axis);
  problem.regularization = regularization_of(regularization);
  problem.z_sign = z_sign;
  problem.w_sign = w_sign;
  const PerRowArgument strength_in(strength, "strength");
  problem.strength = strength_in.per_row(problem.space, axis);

  with_float_type(operand.type(), operand.name(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const RowSpace& space = problem.space;
    const Projection<T> arrays{z_in.rows<const T>(space, axis, operand.type()),
                               w_in.rows<const T>(space, axis, operand.type()),
                               result_out.rows<T>(space, axis, operand.type()),
                               block_z_out.rows<std::int32_t>(space, axis, Type::int32),
                               block_w_out.rows<std::int32_t>(space, axis, Type::int32)};
    const Released released(space);
    project(problem, arrays, threads);
  });
}

Problem problem_of(const LinearizationArguments& arguments, int axis, int regularization,
                   double z_sign, double w_sign) {
  Problem problem;
  problem.space = row_space(*arguments.block_z, axis);
  problem.regularization = regularization_of(regularization);
  problem.z_sign = z_sign;
  problem.w_sign = w_sign;
  problem.strength = arguments.strength.per_row(problem.space, axis);
  return problem;
}

template <class T>
Linearization<T> linearization(const LinearizationArguments& arguments, const RowSpace& space,
                               int axis, Type type) {
  return {arguments.z.rows<const T>(space, axis, type),
          arguments.w.rows<const T>(space, axis, type),
          arguments.result.rows<const T>(space, axis, type),
          arguments.block_z.rows<const std::int32_t>(space, axis, Type::int32),
          arguments.block_w.rows<const std::int32_t>(space, axis, Type::int32)};
}

void py_project_vjp(nb::handle z, nb::handle w, nb::handle result, nb::handle block_z,
                    nb::handle block_w, nb::handle strength, int axis, int regularization,
                    double z_sign, double w_sign, nb::handle cotangent, nb::handle z_cotangent,
                    nb::handle w_cotangent, nb::handle strength_cotangent, int threads) {
  const LinearizationArguments arguments(z, w, result, block_z, block_w, strength);
  const Array g(cotangent, "cotangent", Access::read);
  const Optional z_out(z_cotangent, "z_cotangent", Access::write);
  const Optional w_out(w_cotangent, "w_cotangent", Access::write);
  const Optional strength_out(strength_cotangent, "strength_cotangent", Access::write);
  arguments.check(regularization, static_cast<bool>(w_out));
  const Problem problem = problem_of(arguments, axis, regularization, z_sign, w_sign);

  with_float_type(g.type(), g.name(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const RowSpace& space = problem.space;
    Cotangents<T> cotangents{{static_cast<const T*>(g.data()), g.strides(space, axis)},
                             z_out.rows<T>(space, axis, g.type()),
                             w_out.rows<T>(space, axis, g.type()),
                             {}};
    if (strength_out) {
      cotangents.strength = {strength_cotangent_of(*strength_out),
                             strength_out->strides(space, axis, /*one_per_row=*/true)};
    }
    const Linearization<T> at = linearization<T>(arguments, space, axis, g.type());
    const Released released(space);
    project_vjp(problem, at, cotangents, threads);
  });
}

void py_project_jvp(nb::handle z, nb::handle w, nb::handle result, nb::handle block_z,
                    nb::handle block_w, nb::handle strength, int axis, int regularization,
                    double z_sign, double w_sign, nb::handle z_tangent, nb::handle w_tangent,
                    nb::handle strength_tangent, nb::handle out, int threads) {
  const LinearizationArguments arguments(z, w, result, block_z, block_w, strength);
  const Optional dz(z_tangent, "z_tangent"), dw(w_tangent, "w_tangent");
  const Array tangent_out(out, "out", Access::write);
  arguments.check(regularization, static_cast<bool>(dw));
  const Problem problem = problem_of(arguments, axis, regularization, z_sign, w_sign);

  with_float_type(tangent_out.type(), tangent_out.name(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const RowSpace& space = problem.space;
    const Type type = tangent_out.type();
    Tangents<T> tangents;
    tangents.z = dz.rows<const T>(space, axis, type);
    tangents.w = dw.rows<const T>(space, axis, type);
    tangents.out = {static_cast<T*>(tangent_out.data()), tangent_out.strides(space, axis)};
    std::optional<PerRowArgument> dstrength;
    if (!strength_tangent.is_none()) {
      dstrength.emplace(strength_tangent, "strength_tangent");
      tangents.strength = dstrength->per_row(space, axis);
      tangents.has_strength = true;
    }
    const Linearization<T> at = linearization<T>(arguments, space, axis, type);
    const Released released(space);
    project_jvp(problem, at, tangents, threads);
  });
}

}  // namespace
}  // namespace diffsort

NB_MODULE(_diffsort_native, m) {
  using namespace diffsort;
  m.doc() = "The native solver of diffsort. Private: use the functions of `diffsort`.";
  m.attr("__version__") = DIFFSORT_VERSION;
  m.attr("simd") = simd_level();  // a level that is not there becomes an ImportError
  m.attr("cuda") = DIFFSORT_CUDA_STATE;
  m.def("project", &py_project, "z"_a.none(), "w"_a.none(), "strength"_a, "axis"_a,
        "regularization"_a, "z_sign"_a, "w_sign"_a, "result"_a.none(), "block_z"_a.none(),
        "block_w"_a.none(), "threads"_a);
  m.def("project_vjp", &py_project_vjp, "z"_a.none(), "w"_a.none(), "result"_a.none(), "block_z"_a,
        "block_w"_a.none(), "strength"_a, "axis"_a, "regularization"_a, "z_sign"_a, "w_sign"_a,
        "cotangent"_a, "z_cotangent"_a.none(), "w_cotangent"_a.none(),
        "strength_cotangent"_a.none(), "threads"_a);
  m.def("project_jvp", &py_project_jvp, "z"_a.none(), "w"_a.none(), "result"_a.none(), "block_z"_a,
        "block_w"_a.none(), "strength"_a, "axis"_a, "regularization"_a, "z_sign"_a, "w_sign"_a,
        "z_tangent"_a.none(), "w_tangent"_a.none(), "strength_tangent"_a.none(), "out"_a,
        "threads"_a);
  bind_cuda(m);
#ifdef DIFFSORT_XLA
  bind_xla(m);
#else
  m.attr("xla_handlers") = nb::dict();
  m.attr("xla_cuda_handlers") = nb::dict();
  m.attr("xla_ffi_version") = nb::none();
  m.def("set_xla_threads", [](int) {}, "threads"_a);
#endif
}
