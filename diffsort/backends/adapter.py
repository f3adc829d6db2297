"""What NumPy and CuPy share: calls and linear maps on arrays of a library without a tape.

A backend derives from `Adapter`, fills in what its library does differently, and exports the
methods as the functions of the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from diffsort.backends import check_framework
from diffsort.backends.kernels import Cpu, Cuda, Linearization
from diffsort.core.checks import (
    broadcast_error,
    check_direction,
    check_same_length,
    check_strength,
    check_strength_shape,
    dtype_error,
    strength_number,
    strength_type_error,
)
from diffsort.core.projection import Projection
from diffsort.core.spec import KL, LOG_KL, Spec, present
from diffsort.core.tools import Tools, sum_to_shape

Array = Any
Strength = float | Array
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Adapter:
    """The functions of a backend, for one library whose dtypes are NumPy's."""

    name: str
    xp: Any  # the library
    array_type: Any
    readable: bool  # whether the numbers of an array can be looked at without a wait for a device

    # What a library does differently.

    def asarray(
        self, function: str, argument: str, values: Any, like: Array | None = None
    ) -> Array:
        raise NotImplementedError

    def kernels(self, spec: Spec, values: Array) -> Cpu | Cuda | None:
        """The solver for the device of the values; None: the fallback."""
        raise NotImplementedError

    def tools(self, values: Array) -> Tools:
        """The fallback's operations on the device of the values."""
        raise NotImplementedError

    def is_half(self, dtype: np.dtype[Any]) -> bool:
        """Whether a type that NumPy does not count among its floats is one."""
        return False

    def as_type(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """The values in that type, as the solver reads them; copied only if they have to be."""
        raise NotImplementedError

    # The protocol.

    def project(self, spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
        z, w, values, dtype = self.operands(spec, z, w)
        strength = self.strength(spec, strength, values)
        kernels = self.kernels(spec, values)
        if kernels is None:
            return _Fallback(self, spec, z, w, strength, values).result.astype(dtype)
        result = kernels.project(spec, z, w, strength)[0]
        assert result is not None
        return result if dtype is values.dtype else result.astype(dtype)

    def vjp(
        self, spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
    ) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
        linearized = _Linearized(self, spec, z, w, strength, wrt)
        linearized.keep_for(wrt)
        return linearized.result, lambda cotangent: linearized.vjp(cotangent, wrt)

    def jvp(
        self,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: Any,
        tangents: dict[str, Any],
    ) -> tuple[Array, Array]:
        linearized = _Linearized(self, spec, z, w, strength, tangents)
        return linearized.result, linearized.jvp(tangents)

    # Arguments.

    def operands(
        self, spec: Spec, z: Array | None, w: Array | None
    ) -> tuple[Array | None, Array | None, Array, np.dtype[Any]]:
        """z and w as the solver reads them, the one that has the result's shape, the result's
        dtype."""
        if w is None:
            z, dtype = self._operand(spec, z)
            return z, None, z, dtype
        if z is None:
            w, dtype = self._operand(spec, w)
            return None, w, w, dtype
        check_same_length(spec.function, z.shape, w.shape, spec.axis)
        dtype = _promoted(self.result_dtype(spec, "z", z), self.result_dtype(spec, "w", w))
        try:
            z, w = self.xp.broadcast_arrays(self._computed(z, dtype), self._computed(w, dtype))
        except ValueError:
            raise broadcast_error(spec.function, z.shape, w.shape) from None
        return z, w, z, dtype

    def _operand(self, spec: Spec, values: Array) -> tuple[Array, np.dtype[Any]]:
        dtype = values.dtype
        if (dtype is _FLOAT32 or dtype is _FLOAT64) and self.is_aligned(values):
            return values, dtype
        dtype = self.result_dtype(spec, spec.argument, values)
        return self._computed(values, dtype), dtype

    def is_aligned(self, values: Array) -> bool:
        return True

    def result_dtype(self, spec: Spec, argument: str, values: Array) -> np.dtype[Any]:
        dtype: np.dtype[Any] = values.dtype
        if dtype.kind in "iub":
            return _FLOAT64
        if (is_real(dtype) and dtype.itemsize <= 8) or self.is_half(dtype):
            native_order: np.dtype[Any] = dtype.newbyteorder("=")
            return native_order
        raise dtype_error(spec.function, argument, dtype)

    def _computed(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """The values in the type that the solver computes `dtype` in."""
        return self.as_type(values, _FLOAT64 if dtype == _FLOAT64 else _FLOAT32)

    def strength(self, spec: Spec, strength: Any, values: Array) -> Strength:
        if type(strength) is float and 0.0 <= strength < math.inf:
            return strength
        check_framework(spec.function, self.name, "regularization_strength", strength)
        if isinstance(strength, (int, float)) and not isinstance(strength, bool):
            return strength_number(spec.function, strength)
        if not isinstance(strength, (np.generic, np.ndarray, self.array_type)):
            raise strength_type_error(spec.function, type(strength).__name__)
        check_unmasked(spec.function, "regularization_strength", strength)
        if not is_real(strength.dtype) and not self.is_half(strength.dtype):
            raise strength_type_error(spec.function, f"dtype {strength.dtype}")
        if not isinstance(strength, self.array_type):  # a number of NumPy
            return strength_number(spec.function, strength)
        strength = self.as_type(strength, _FLOAT64)
        if self.readable:  # where not, rows with an invalid strength come out as NaN
            valid = (strength >= 0.0) & (strength < np.inf)
            if not valid.all():
                check_strength(spec.function, float(strength[~valid].flat[0]))
            if strength.ndim == 0:
                return float(strength)
        check_strength_shape(spec.function, strength.shape, values.shape, spec.axis)
        return strength


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is one of NumPy's integers or floats, to whose kind a float8 may count itself."""
    return dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize >= 2)


def check_unmasked(function: str, argument: str, values: Any) -> None:
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{function}: {argument} must not be a masked array, whose mask would be ignored. "
            f"Pass {argument}.compressed() or {argument}.filled(...)."
        )


class _Linearized:
    """A projection together with what its linear maps by some of the inputs need."""

    def __init__(
        self,
        adapter: Adapter,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: Any,
        inputs: Collection[str],
    ) -> None:
        self.adapter, self.spec = adapter, spec
        self.inputs = {
            name: _Form(values) for name, values in (("z", z), ("w", w), ("strength", strength))
        }
        z, w, values, dtype = adapter.operands(spec, z, w)
        strength = adapter.strength(spec, strength, values)
        self.dtype, self.solved = dtype, values.dtype
        self.kernels = adapter.kernels(spec, values)
        if self.kernels is None:
            self.fallback = _Fallback(adapter, spec, z, w, strength, values)
            self.result = self.fallback.result.astype(dtype)  # which keeps its own
        else:
            result, block_z, block_w = self.kernels.project(
                spec, z, w, strength, True, True, "w" in inputs
            )
            assert result is not None
            assert block_z is not None
            self.result = result.astype(dtype, copy=False)
            read = result if spec.regularization == KL else None
            self.at = Linearization(z, w, read, block_z, block_w, strength)

    def keep_for(self, wrt: tuple[str, ...]) -> None:
        """Copies what the derivatives read of the inputs and the result, and drops the rest: the
        caller may write to them, which must not change a derivative that is taken later."""
        if self.kernels is None:  # whose operands are copies
            return
        reads_z = "strength" in wrt or ("w" in wrt and self.spec.regularization == KL)
        reads_w = "w" in wrt and self.spec.regularization == LOG_KL
        z, w, result, strength = self.at.z, self.at.w, self.at.result, self.at.strength
        self.at = self.at._replace(
            z=z.copy() if reads_z and z is not None else None,
            w=w.copy() if reads_w and w is not None else None,
            result=result.copy() if result is self.result and result is not None else result,
            strength=strength if isinstance(strength, float) else strength.copy(),
        )

    def vjp(self, cotangent: Any, wrt: tuple[str, ...]) -> tuple[Array, ...]:
        g = self._direction(cotangent, "cotangent", self.result.shape)
        if self.kernels is None:
            found = self.fallback.vjp(g)
        else:
            wanted = [name in wrt for name in self.inputs]
            found = dict(
                zip(self.inputs, self.kernels.vjp(self.spec, self.at, g, *wanted), strict=True)
            )
        return tuple(self._as_input(name, found[name]) for name in wrt)

    def jvp(self, tangents: dict[str, Any]) -> Array:
        given: dict[str, Any] = {
            name: self._direction(tangent, "tangent", self.inputs[name].shape)
            for name, tangent in tangents.items()
        }
        for name in given:
            if name != "strength":
                given[name] = self.adapter.xp.broadcast_to(given[name], self.result.shape)
        if self.kernels is None:
            found = self.fallback.jvp(given)
        else:
            directions = map(given.get, self.inputs)
            like = present(self.at.z, self.at.w)
            found = self.kernels.jvp(self.spec, self.at, like, *directions)
        return found.astype(self.dtype, copy=False)

    def _direction(self, values: Any, argument: str, shape: tuple[int, ...]) -> Array:
        adapter = self.adapter
        check_framework(self.spec.function, adapter.name, argument, values)
        array = adapter.asarray(self.spec.function, argument, values)
        check_direction(self.spec.function, argument, array.shape, shape)
        adapter.result_dtype(self.spec, argument, array)
        return adapter.as_type(array, self.solved)

    def _as_input(self, name: str, cotangent: Array) -> Array:
        """Summed to the input's shape, which the call broadcast, and in its dtype."""
        form = self.inputs[name]
        floating = form.dtype.kind == "f" or self.adapter.is_half(form.dtype)
        summed = sum_to_shape(self.adapter.xp, cotangent, form.shape)
        return summed.astype(form.dtype if floating else self.dtype, copy=False)


class _Form:
    """Shape and dtype of an input, which may be a number."""

    def __init__(self, values: Any) -> None:
        if not hasattr(values, "dtype"):
            values = np.asarray(values)
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype[Any] = values.dtype


class _Fallback:
    """The same without the native module."""

    def __init__(
        self,
        adapter: Adapter,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: Strength,
        values: Array,
    ) -> None:
        rows = adapter.xp.asarray(strength, np.float64)
        rows = rows.reshape((1,) * (values.ndim - rows.ndim) + rows.shape)
        with np.errstate(all="ignore"):  # infinities and NaN are results
            self.projection = Projection(adapter.tools(values), spec, z, w, rows)
            result = self.projection.result
            self.result: Array = adapter.xp.ascontiguousarray(result, values.dtype)

    def vjp(self, cotangent: Array) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return self.projection.vjp(cotangent)

    def jvp(self, tangents: dict[str, Array]) -> Array:
        with np.errstate(all="ignore"):
            return self.projection.jvp(tangents)


def _promoted(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    try:
        return np.result_type(a, b)
    except TypeError:  # float16 and bfloat16 have no common type of their own width
        return _FLOAT32
