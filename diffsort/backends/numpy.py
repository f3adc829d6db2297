"""NumPy: the operators, their VJPs and their JVPs, all native unless the fallback is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import _diffsort_native as native
import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from diffsort.backends import check_framework, check_sequence, solver, threads
from diffsort.core.projection import Projection
from diffsort.core.spec import (
    KL,
    LOG_KL,
    Spec,
    broadcast_error,
    check_direction,
    check_same_length,
    check_strength,
    check_strength_shape,
    dtype_error,
    strength_number,
    strength_type_error,
)
from diffsort.core.tools import Tools, sum_to_shape

NAME = "numpy"

Array = npt.NDArray[Any]
Strength = float | Array
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_default_threads = threads.default()


def asarray(function: str, argument: str, values: Any, like: Array | None = None) -> Array:
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: {argument} must not be a masked array, whose mask would be ignored. "
            f"Pass {argument}.compressed() or {argument}.filled(...)."
        )
    check_sequence(function, argument, values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{function}: {argument} must be a rectangular array, got a ragged sequence ({error})."
        ) from None
    follows = like is not None and like.dtype.kind == "f" and not isinstance(values, np.ndarray)
    if follows and array.dtype.kind in "biuf":
        assert like is not None
        return array.astype(like.dtype)
    return array


def strength_as_number(function: str, strength: Any) -> float:
    """A strength of Python or NumPy, for backends with arrays of their own."""
    if isinstance(strength, bool) or not isinstance(strength, (int, float, np.number, np.ndarray)):
        raise strength_type_error(function, type(strength).__name__)
    if isinstance(strength, (np.number, np.ndarray)) and strength.dtype.kind not in "iuf":
        raise strength_type_error(function, f"dtype {strength.dtype}")
    return strength_number(function, strength)


def project(spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
    z, w, values, dtype = _native_operands(spec, z, w)
    strength = _native_strength(spec, strength, values)
    if solver.requested == "fallback":
        return _Fallback(spec, z, w, strength, values).result.astype(dtype)
    result = np.empty(values.shape, values.dtype)
    native.project(
        z,
        w,
        strength,
        spec.axis,
        spec.regularization,
        spec.z_sign,
        spec.w_sign,
        result,
        None,
        None,
        threads.requested or _default_threads,
    )
    return result if dtype is values.dtype else result.astype(dtype)


def vjp(
    spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
    point = _Point(spec, z, w, strength)
    point.keep_for(wrt)
    return point.result, lambda cotangent: point.vjp(cotangent, wrt)


def jvp(
    spec: Spec, z: Array | None, w: Array | None, strength: Any, tangents: dict[str, Any]
) -> tuple[Array, Array]:
    point = _Point(spec, z, w, strength)
    return point.result, point.jvp(tangents)


class _Point:
    """A projection together with what its linear maps need."""

    def __init__(self, spec: Spec, z: Array | None, w: Array | None, strength: Any) -> None:
        self.spec = spec
        inputs = {"z": z, "w": w, "strength": strength}
        self.shapes = {name: np.asarray(values).shape for name, values in inputs.items()}
        self.dtypes = {name: np.asarray(values).dtype for name, values in inputs.items()}
        self.z, self.w, values, dtype = _native_operands(spec, z, w)
        self.strength = _native_strength(spec, strength, values)
        self.fallback = None
        if solver.requested == "fallback":
            self.fallback = _Fallback(spec, self.z, self.w, self.strength, values)
            self.native_result = self.fallback.result
            self.result = self.native_result.astype(dtype)
            return
        self.native_result = np.empty(values.shape, values.dtype)
        self.block_z = np.empty(values.shape, np.int32)
        self.block_w = np.empty(values.shape, np.int32)
        native.project(
            self.z,
            self.w,
            self.strength,
            *spec[2:],
            self.native_result,
            self.block_z,
            self.block_w,
            threads.requested or _default_threads,
        )
        # A copy: the caller may write to the result before asking for derivatives.
        self.result = self.native_result.astype(dtype)

    def keep_for(self, wrt: tuple[str, ...]) -> None:
        """Copies what the derivatives read of the inputs, and drops the rest: the caller may write
        to the inputs, which must not change a derivative that is taken later."""
        reads_z = "strength" in wrt or ("w" in wrt and self.spec.regularization == KL)
        reads_w = "w" in wrt and self.spec.regularization == LOG_KL
        self.z = np.array(self.z) if reads_z and self.z is not None else None
        self.w = np.array(self.w) if reads_w else None
        self.strength = np.array(self.strength) if np.ndim(self.strength) else self.strength

    def vjp(self, cotangent: Any, wrt: tuple[str, ...]) -> tuple[Array, ...]:
        g = self._like_result(cotangent, "cotangent", self.result.shape)
        if self.fallback is not None:
            found = self.fallback.vjp(g)
            return tuple(self._as_input(name, found[name]) for name in wrt)
        out: dict[str, Array | None] = {"z": None, "w": None, "strength": None}
        for name in wrt:
            if name == "strength":
                rows = list(g.shape)
                rows[self.spec.axis] = 1
                out[name] = np.empty(rows, np.float64)
            else:
                out[name] = np.empty(g.shape, g.dtype)
        native.project_vjp(
            *self._linearization(),
            *self.spec[2:],
            g,
            out["z"],
            out["w"],
            out["strength"],
            threads.requested or _default_threads,
        )
        return tuple(self._as_input(name, out[name]) for name in wrt)

    def jvp(self, tangents: dict[str, Any]) -> Array:
        given: dict[str, Any] = {"z": None, "w": None, "strength": None}
        for name, tangent in tangents.items():
            given[name] = self._like_result(tangent, "tangent", self.shapes[name])
            if name != "strength":
                given[name] = np.broadcast_to(given[name], self.result.shape)
        if self.fallback is not None:
            return self.fallback.jvp(given).astype(self.result.dtype)
        out = np.empty(self.native_result.shape, self.native_result.dtype)
        native.project_jvp(
            *self._linearization(),
            *self.spec[2:],
            given["z"],
            given["w"],
            given["strength"],
            out,
            threads.requested or _default_threads,
        )
        return out.astype(self.result.dtype, copy=False)

    def _linearization(self) -> tuple[Any, Any, Array, Array, Array, Strength]:
        return self.z, self.w, self.native_result, self.block_z, self.block_w, self.strength

    def _like_result(self, values: Any, argument: str, shape: tuple[int, ...]) -> Array:
        check_framework(self.spec.function, NAME, argument, values)
        array = asarray(self.spec.function, argument, values)
        check_direction(self.spec.function, argument, array.shape, shape)
        _result_dtype(self.spec, argument, array)
        return np.require(array, self.native_result.dtype, ["ALIGNED"])

    def _as_input(self, name: str, cotangent: Array | None) -> Array:
        """Summed to the input's shape, which the call broadcast, and in its dtype."""
        assert cotangent is not None
        dtype = self.dtypes[name]
        floating = dtype.kind == "f" or dtype.name == "bfloat16"
        summed: Array = sum_to_shape(xp, cotangent, self.shapes[name])
        return summed.astype(dtype if floating else self.result.dtype, copy=False)


class _Fallback:
    """The same without the native module."""

    def __init__(
        self, spec: Spec, z: Array | None, w: Array | None, strength: Strength, values: Array
    ) -> None:
        rows = np.asarray(strength, np.float64)
        rows = rows.reshape((1,) * (values.ndim - rows.ndim) + rows.shape)
        with np.errstate(all="ignore"):  # infinities and NaN are results
            self.projection = Projection(_TOOLS, spec, z, w, rows)
            self.result: Array = np.require(self.projection.result, values.dtype, ["C"])

    def vjp(self, cotangent: Array) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return self.projection.vjp(cotangent)

    def jvp(self, tangents: dict[str, Array | None]) -> Array:
        given = {name: tangent for name, tangent in tangents.items() if tangent is not None}
        with np.errstate(all="ignore"):
            tangent: Array = self.projection.jvp(given)
        return tangent


class _Tools(Tools):
    def unsort(self, values: Array, permutation: Array) -> Array:
        out = np.empty(values.shape, values.dtype)
        n = values.shape[1]
        out.reshape(-1)[permutation + n * np.arange(len(values))[:, None]] = values
        return out

    def segments(self, starts: Array, axis: int) -> _Segments:
        return _Segments(starts, axis)


class _Segments:
    """Sums over blocks with NumPy's own scatters."""

    def __init__(self, starts: Array, axis: int) -> None:
        self.axis = axis
        moved = np.moveaxis(starts, axis, -1)
        self.shape = *rows, n = moved.shape
        offsets = n * np.arange(math.prod(rows)).reshape((*rows, 1))
        self.flat = (moved + offsets).ravel()

    def sum(self, values: Array) -> Array:
        weights = np.moveaxis(values, self.axis, -1).ravel()
        return self._restored(np.bincount(self.flat, weights, minlength=weights.size))

    def max(self, values: Array) -> Array:
        out = np.full(values.size, -np.inf)
        np.maximum.at(out, self.flat, np.moveaxis(values, self.axis, -1).ravel())
        return self._restored(out)

    def at(self, sums: Array, starts: Array) -> Array:
        return np.take_along_axis(sums, starts, axis=self.axis)

    def _restored(self, flat: Array) -> Array:
        return np.moveaxis(flat.reshape(self.shape), -1, self.axis)


_TOOLS = _Tools(xp, "cpu", np.float64)


def _native_operands(
    spec: Spec, z: Array | None, w: Array | None
) -> tuple[Array | None, Array | None, Array, np.dtype[Any]]:
    """z and w as the solver reads them, the one that has the result's shape, the result's dtype."""
    if w is None:
        assert z is not None
        if (z.dtype is _FLOAT32 or z.dtype is _FLOAT64) and z.flags.aligned:
            return z, None, z, z.dtype
        dtype = _result_dtype(spec, spec.argument, z)
        z = _native_array(z, dtype)
        return z, None, z, dtype
    if z is None:
        if (w.dtype is _FLOAT32 or w.dtype is _FLOAT64) and w.flags.aligned:
            return None, w, w, w.dtype
        dtype = _result_dtype(spec, spec.argument, w)
        w = _native_array(w, dtype)
        return None, w, w, dtype
    check_same_length(spec.function, z.shape, w.shape, spec.axis)
    dtype = _promoted(_result_dtype(spec, "z", z), _result_dtype(spec, "w", w))
    try:
        z, w = np.broadcast_arrays(_native_array(z, dtype), _native_array(w, dtype))
    except ValueError:
        raise broadcast_error(spec.function, z.shape, w.shape) from None
    return z, w, z, dtype


def _result_dtype(spec: Spec, argument: str, values: Array) -> np.dtype[Any]:
    dtype: np.dtype[Any] = values.dtype
    if dtype.kind in "iub":
        return _FLOAT64
    if (dtype.kind == "f" and dtype.itemsize <= 8) or dtype.name == "bfloat16":
        native_order: np.dtype[Any] = dtype.newbyteorder("=")
        return native_order
    raise dtype_error(spec.function, argument, dtype)


def _promoted(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    try:
        return np.result_type(a, b)
    except TypeError:  # float16 and bfloat16 have no common type of their own width
        return _FLOAT32


def _native_array(values: Array, dtype: np.dtype[Any]) -> Array:
    """The values in the type that the solver computes `dtype` in."""
    return np.require(values, _FLOAT64 if dtype == _FLOAT64 else _FLOAT32, ["ALIGNED"])


def _native_strength(spec: Spec, strength: Any, values: Array) -> Strength:
    if type(strength) is float and 0.0 <= strength < 1e300:
        return strength
    check_framework(spec.function, NAME, "regularization_strength", strength)
    if isinstance(strength, bool) or not isinstance(strength, (int, float, np.generic, np.ndarray)):
        raise strength_type_error(spec.function, type(strength).__name__)
    if isinstance(strength, (int, float)):
        return strength_number(spec.function, strength)
    array = np.asarray(strength)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise strength_type_error(spec.function, f"dtype {array.dtype}")
    array = np.require(array, np.float64, ["ALIGNED"])
    valid = (array >= 0.0) & (array < np.inf)
    if not valid.all():
        check_strength(spec.function, float(array[~valid].flat[0]))
    if array.ndim == 0:
        return float(array)
    check_strength_shape(spec.function, array.shape, values.shape, spec.axis)
    return array
