"""Arrays of any other library with the array API standard: the fallback, in that library.

Only the standard is used. The result and the derivatives stay on the device of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diffsort.backends import check_framework, solver
from diffsort.backends import numpy as numpy_backend
from diffsort.core.checks import (
    broadcast_error,
    check_direction,
    check_one_device,
    check_same_length,
    check_strength,
    check_strength_device,
    check_strength_shape,
    dtype_error,
    strength_type_error,
)
from diffsort.core.projection import Projection
from diffsort.core.spec import Spec, present
from diffsort.core.tools import Tools, sum_to_shape
from diffsort.errors import BackendMismatchError

NAME = "array_api"

Array = Any


def asarray(function: str, argument: str, values: Any, like: Array | None = None) -> Array:
    if hasattr(values, "__array_namespace__") and not isinstance(values, (np.ndarray, np.generic)):
        if like is not None and values.__array_namespace__() is not like.__array_namespace__():
            raise BackendMismatchError(
                f"{function}: {argument} is a {_name(values)}, but the values are a {_name(like)}. "
                "Pass all arrays of one library."
            )
        return values
    assert like is not None  # data of Python follow another array
    array = numpy_backend.asarray(function, argument, values)
    if array.dtype.kind not in "biuf":
        raise dtype_error(function, argument, f"dtype {array.dtype}")
    xp = like.__array_namespace__()
    dtype = like.dtype if _is_real(xp, like.dtype) else _default_dtype(xp, like.device)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    return xp.asarray(array.tolist(), dtype=dtype, device=like.device)


def project(spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
    return _Linearized(spec, z, w, strength).result


def vjp(
    spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
    linearized = _Linearized(spec, z, w, strength)
    return linearized.result, lambda cotangent: linearized.vjp(cotangent, wrt)


def jvp(
    spec: Spec, z: Array | None, w: Array | None, strength: Any, tangents: dict[str, Any]
) -> tuple[Array, Array]:
    linearized = _Linearized(spec, z, w, strength)
    return linearized.result, linearized.jvp(tangents)


class _Linearized:
    """A projection together with the form of its inputs."""

    def __init__(self, spec: Spec, z: Array | None, w: Array | None, strength: Any) -> None:
        self.spec = spec
        self.inputs = {"z": z, "w": w, "strength": strength}
        self.shapes = {
            name: tuple(getattr(values, "shape", ())) for name, values in self.inputs.items()
        }
        z, w, values, self.dtype = _operands(spec, z, w)
        self.xp = values.__array_namespace__()
        what = f"{values.dtype} on {values.device}"
        solver.fall_back_or_raise(spec.function, spec.argument, NAME, str(values.device), what)
        self.tools = Tools(self.xp, values.device, _widest(self.xp, values.device))
        strength = _strength(spec, strength, values, self.tools)
        with _quiet():
            self.projection = Projection(self.tools, spec, z, w, strength)
            self.result = self.xp.astype(self.projection.result, self.dtype)

    def vjp(self, cotangent: Any, wrt: tuple[str, ...]) -> tuple[Array, ...]:
        g = self._direction(cotangent, "cotangent", self.result.shape)
        with _quiet():
            found = self.projection.vjp(g)
            return tuple(self._as_input(name, found[name]) for name in wrt)

    def jvp(self, tangents: dict[str, Any]) -> Array:
        given = {
            name: self._direction(tangent, "tangent", self.shapes[name])
            for name, tangent in tangents.items()
        }
        with _quiet():
            return self.xp.astype(self.projection.jvp(given), self.dtype)

    def _direction(self, values: Any, argument: str, shape: tuple[int, ...]) -> Array:
        check_framework(self.spec.function, NAME, argument, values)
        array = asarray(self.spec.function, argument, values, like=self.result)
        check_direction(self.spec.function, argument, array.shape, shape)
        _result_dtype(self.spec, argument, array)
        return self.xp.astype(array, self.tools.wide)

    def _as_input(self, name: str, cotangent: Array) -> Array:
        """Summed to the input's shape, which the call broadcast, and in its dtype."""
        like = self.inputs[name]
        dtype = self.dtype
        if hasattr(like, "dtype") and _is_real(self.xp, like.dtype):
            dtype = like.dtype
        return self.xp.astype(sum_to_shape(self.xp, cotangent, self.shapes[name]), dtype)


def _quiet() -> Any:
    """Infinities and NaN are results here; libraries on top of NumPy would warn of them."""
    return np.errstate(all="ignore")


def _operands(
    spec: Spec, z: Array | None, w: Array | None
) -> tuple[Array | None, Array | None, Array, Any]:
    """z and w in the result's shape, the one of them that is there, the result's dtype."""
    if z is None or w is None:
        values = present(z, w)
        return z, w, values, _result_dtype(spec, spec.argument, values)
    xp = z.__array_namespace__()
    dtypes = _result_dtype(spec, "z", z), _result_dtype(spec, "w", w)
    check_same_length(spec.function, z.shape, w.shape, spec.axis)
    check_one_device(spec.function, z.device, w.device)
    try:
        z, w = xp.broadcast_arrays(z, w)
    except ValueError:
        raise broadcast_error(spec.function, z.shape, w.shape) from None
    return z, w, z, xp.result_type(*dtypes)


def _result_dtype(spec: Spec, argument: str, values: Array) -> Any:
    xp = values.__array_namespace__()
    if _is_real(xp, values.dtype):
        return values.dtype
    if xp.isdtype(values.dtype, ("integral", "bool")):
        return _default_dtype(xp, values.device)
    raise dtype_error(spec.function, argument, values.dtype)


def _is_real(xp: Any, dtype: Any) -> bool:
    return bool(xp.isdtype(dtype, "real floating"))


def _default_dtype(xp: Any, device: Any) -> Any:
    return xp.zeros(1, device=device).dtype


def _widest(xp: Any, device: Any) -> Any:
    """float64 where the device has it."""
    dtypes = xp.__array_namespace_info__().dtypes(device=device, kind="real floating")
    return dtypes.get("float64", xp.float32)


def _strength(spec: Spec, strength: Any, values: Array, tools: Tools) -> Array:
    """In the wide type, with as many dimensions as the values."""
    xp = tools.xp
    check_framework(spec.function, NAME, "regularization_strength", strength)
    if not hasattr(strength, "__array_namespace__") or isinstance(strength, np.generic):
        number = numpy_backend.strength_as_number(spec.function, strength)
        return xp.full((1,) * values.ndim, number, dtype=tools.wide, device=values.device)
    strength = asarray(spec.function, "regularization_strength", strength, like=values)
    if not xp.isdtype(strength.dtype, ("integral", "real floating")):
        raise strength_type_error(spec.function, f"dtype {strength.dtype}")
    check_strength_shape(spec.function, strength.shape, values.shape, spec.axis)
    check_strength_device(spec.function, spec.argument, values.device, strength.device)
    missing = values.ndim - strength.ndim
    strength = xp.reshape(strength, (1,) * missing + tuple(strength.shape))
    strength = xp.astype(strength, tools.wide)
    invalid = ~((strength >= 0) & (strength < float("inf")))
    if bool(xp.any(invalid)):
        first = xp.argmax(xp.astype(xp.reshape(invalid, (-1,)), tools.index))
        check_strength(spec.function, float(xp.reshape(strength, (-1,))[int(first)]))
    return strength


def _name(values: Any) -> str:
    return f"{type(values).__module__}.{type(values).__qualname__}"
