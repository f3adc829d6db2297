"""JAX: one jitted function over the primitive of the projection.

Its JVP rule binds a linear primitive, whose transpose is registered: reverse mode is that
transpose, the very map that `jax.custom_vjp` would be given, and forward mode, Hessians in any
order and batches of them come from the same rule. `jax.custom_vjp` alone would refuse forward mode,
and a rule of `jax.custom_jvp` is lost in second derivatives through `jax.lax.scan`.
"""

from __future__ import annotations

from typing import Any

import _diffsort_native as native
import jax
import jax.numpy as jnp
import numpy as np

from diffsort.backends import check_framework, solver
from diffsort.backends import numpy as numpy_backend
from diffsort.backends.functional import Functional
from diffsort.backends.jax import compat, meshes
from diffsort.backends.jax.formulas import Static
from diffsort.backends.jax.primitives import bind, projection_p
from diffsort.core.checks import (
    broadcast_error,
    check_direction,
    check_same_length,
    check_strength,
    check_strength_shape,
    dtype_error,
    strength_type_error,
)
from diffsort.core.spec import Spec, present
from diffsort.core.tools import one_per_row
from diffsort.errors import MissingKernelError

NAME = "jax"

Array = Any

_MISFIT = compat.misfit(native.xla_ffi_version)
if _MISFIT is None:
    compat.register_targets()

_COMPUTE = {  # the type that a floating type is solved in
    np.dtype(np.float64): np.dtype(np.float64),
    np.dtype(np.float32): np.dtype(np.float32),
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(jnp.bfloat16): np.dtype(np.float32),
}


# Finite in either type that JAX may make of a Python number: float32 without x64.
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def asarray(function: str, argument: str, values: Any, like: Array | None = None) -> Array:
    if isinstance(values, jax.Array):
        return values
    if hasattr(values, "__jax_array__"):  # Flax's parameters, for example
        return values.__jax_array__()
    # By way of NumPy: one conversion of Python data, with one set of messages.
    array = numpy_backend.asarray(function, argument, values)
    known = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    if not known and array.dtype.name != "bfloat16":
        raise dtype_error(function, argument, f"dtype {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if isinstance(values, (np.ndarray, np.generic)):
        return jnp.asarray(array)
    # Numbers of Python take the dtype of their surroundings.
    if like is not None and jnp.issubdtype(like.dtype, jnp.floating):
        return jnp.asarray(array, dtype=like.dtype)
    return jnp.asarray(array)


def project(spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
    dtype, shape = _check_operands(spec, z, w)
    strength = _strength(spec, strength, shape)
    static = _static(spec)
    # Of the fallback only the search for the blocks is compiled, which calls then share.
    call = _project_now if static.solver == "fallback" else _project
    return call(static, dtype, z, w, strength)


def _direction(spec: Spec, argument: str, values: Any, like: Array) -> Array:
    """A tangent or cotangent of `like`."""
    if isinstance(values, np.ndarray) and values.dtype == jax.dtypes.float0:
        values = jnp.zeros(values.shape, like.dtype)  # what JAX makes of directions of integers
    check_framework(spec.function, NAME, argument, values)
    array = asarray(spec.function, argument, values, like)
    _result_dtype(spec, argument, array)
    check_direction(spec.function, argument, array.shape, like.shape)
    return meshes.shard_like(array.astype(like.dtype), like)


def _checked_operands(
    spec: Spec, z: Array | None, w: Array | None, strength: Any
) -> dict[str, Any]:
    _, shape = _check_operands(spec, z, w)
    return {"z": z, "w": w, "strength": _strength(spec, strength, shape)}


def _as_float(values: Any, like: Array) -> Array:
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values
    return values.astype(_default_dtype())


_functional = Functional(jax, project, _checked_operands, _as_float, _direction)
vjp, jvp = _functional.vjp, _functional.jvp


# --- arguments ------------------------------------------------------------------------------------


def _static(spec: Spec) -> Static:
    """The spec with the choice of the solver; where it cannot be native, says so in time."""
    if solver.requested == "fallback":
        return Static(spec, "fallback")
    if _MISFIT is not None:
        raise MissingKernelError(
            f"{spec.function}: {_MISFIT}. Install diffsort for this jaxlib (pip install "
            "--no-build-isolation takes the headers of the jaxlib that is installed), or another "
            'jaxlib, or take the fallback: diffsort.set_solver("fallback").'
        )
    if not native.xla_handlers:
        what = "a JAX array, for which XLA's headers were left out of the build"
        solver.fall_back_or_raise(spec.function, spec.argument, NAME, "cpu", what)
        return Static(spec, "fallback")
    return Static(spec, "native")


def _check_operands(
    spec: Spec, z: Array | None, w: Array | None
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The result's dtype and shape."""
    if z is None or w is None:
        values = present(z, w)
        return _result_dtype(spec, spec.argument, values), values.shape
    for name, values in (("z", z), ("w", w)):
        _result_dtype(spec, name, values)  # a check
    dtype = jnp.result_type(z, w)  # as for any operation of JAX: weak types give way
    if dtype not in _COMPUTE:
        dtype = _default_dtype()
    check_same_length(spec.function, z.shape, w.shape, spec.axis)
    try:
        return dtype, jnp.broadcast_shapes(z.shape, w.shape)
    except ValueError:
        raise broadcast_error(spec.function, z.shape, w.shape) from None


def _result_dtype(spec: Spec, argument: str, values: Array) -> np.dtype[Any]:
    dtype: np.dtype[Any] = values.dtype
    if dtype in _COMPUTE:
        return dtype
    if jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_:
        return _default_dtype()
    raise dtype_error(spec.function, argument, dtype)


def _default_dtype() -> np.dtype[Any]:
    return np.dtype(np.float64 if jax.config.jax_enable_x64 else np.float32)


def _strength(spec: Spec, strength: Any, shape: tuple[int, ...]) -> float | Array:
    if type(strength) is float and 0.0 <= strength <= _FLOAT32_MAX:
        return strength
    if hasattr(strength, "__jax_array__") and not isinstance(strength, jax.Array):
        strength = strength.__jax_array__()
    if isinstance(strength, jax.Array):
        return _strength_array(spec, strength, shape)
    check_framework(spec.function, NAME, "regularization_strength", strength)
    number = numpy_backend.strength_as_number(spec.function, strength)
    if number > float(jnp.finfo(_default_dtype()).max):
        raise ValueError(
            f"{spec.function}: regularization_strength must be finite in float32, got {number}. "
            "Enable JAX's x64, or pass a smaller number."
        )
    return number


def _strength_array(spec: Spec, strength: Array, shape: tuple[int, ...]) -> Array:
    real = jnp.issubdtype(strength.dtype, jnp.floating) or jnp.issubdtype(
        strength.dtype, jnp.integer
    )
    if not real:
        raise strength_type_error(spec.function, f"dtype {strength.dtype}")
    check_strength_shape(spec.function, strength.shape, shape, spec.axis)
    if _is_readable(strength):
        # Where the numbers cannot be looked at, rows with an invalid strength come out as NaN.
        numbers = np.asarray(strength).astype(np.float64)
        valid = (numbers >= 0) & (numbers < np.inf)
        if not valid.all():
            check_strength(spec.function, float(numbers[~valid].flat[0]))
    return strength


def _is_readable(array: Array) -> bool:
    """Whether its numbers can be looked at without a wait for another device."""
    if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
        return False
    return all(device.platform == "cpu" for device in array.devices())


# --- the projection -------------------------------------------------------------------------------


def _project_now(
    static: Static,
    dtype: np.dtype[Any],
    z: Array | None,
    w: Array | None,
    strength: Array,
) -> Array:
    """Everything that is left to do once the arguments are checked."""
    shape = jnp.broadcast_shapes(*(array.shape for array in (z, w) if array is not None))
    rows = one_per_row(shape, static.spec.axis)
    operands = {
        name: array.astype(_COMPUTE[dtype])
        for name, array in (("z", z), ("w", w))
        if array is not None
    }
    for name, array in operands.items():
        argument = name if len(operands) > 1 else static.spec.argument
        meshes.check_whole_rows(static.spec, argument, array)
    strength = jnp.asarray(strength)
    exact = strength.dtype == np.float64
    operands["strength"] = strength.astype(np.float64 if exact else np.float32)
    shapes = [rows if name == "strength" else shape for name in operands]
    arrays = meshes.broadcast(static.spec, list(operands.values()), shapes)
    operands = dict(zip(operands, arrays, strict=True))
    found = bind(projection_p, static, ("result",), **operands)
    return found["result"].astype(dtype)


_project = jax.jit(_project_now, static_argnums=(0, 1))
