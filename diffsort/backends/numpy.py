"""NumPy: the operators, their VJPs and their JVPs, all native unless the fallback is asked for."""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from diffsort.backends import check_sequence, solver, threads
from diffsort.backends.adapter import Adapter, check_unmasked, is_real
from diffsort.backends.kernels import Cpu
from diffsort.core.checks import strength_number, strength_type_error
from diffsort.core.spec import Spec
from diffsort.core.tools import Tools

NAME = "numpy"

Array = npt.NDArray[Any]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def asarray(function: str, argument: str, values: Any, like: Array | None = None) -> Array:
    check_unmasked(function, argument, values)
    check_sequence(function, argument, values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{function}: {argument} must be a rectangular array, got a ragged sequence ({error})."
        ) from None
    if like is None or isinstance(values, np.ndarray) or array.dtype.kind not in "biuf":
        return array
    follows = like.dtype.kind == "f" or _is_bfloat16(like.dtype)
    return array.astype(like.dtype) if follows else array


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return str(dtype.name) == "bfloat16"


def strength_as_number(function: str, strength: Any) -> float:
    """A strength of Python or NumPy, for backends with arrays of their own."""
    if isinstance(strength, bool) or not isinstance(strength, (int, float, np.number, np.ndarray)):
        raise strength_type_error(function, type(strength).__name__)
    check_unmasked(function, "regularization_strength", strength)
    if isinstance(strength, (np.number, np.ndarray)) and not is_real(strength.dtype):
        raise strength_type_error(function, f"dtype {strength.dtype}")
    return strength_number(function, strength)


class _Memory:
    int32, float64 = np.dtype(np.int32), np.dtype(np.float64)

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: np.dtype[Any], like: Array) -> Array:
        return np.empty(shape, dtype)

    @staticmethod
    def empty_like(like: Array, *, dtype: np.dtype[Any] | None = None) -> Array:
        return np.empty(like.shape, like.dtype if dtype is None else dtype)


class _NumPy(Adapter):
    name, xp, array_type, readable = NAME, np, np.ndarray, True

    _cpu = Cpu(_Memory(), lambda: threads.default)

    def project(self, spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
        """The adapter's, but for the commonest arguments without checks and conversions, which are
        what small arrays cost."""
        values = z if w is None else w if z is None else None
        if (
            values is not None
            and type(strength) is float
            and 0.0 <= strength < math.inf
            and (values.dtype is _FLOAT32 or values.dtype is _FLOAT64)
            and values.flags.aligned
            and solver.requested != "fallback"
        ):
            result: Array | None = self._cpu.project(spec, z, w, strength)[0]
        else:
            result = super().project(spec, z, w, strength)
        assert result is not None
        return result

    def kernels(self, spec: Spec, values: Array) -> Cpu | None:
        return None if solver.requested == "fallback" else self._cpu

    def tools(self, values: Array) -> Tools:
        return _TOOLS

    def asarray(
        self, function: str, argument: str, values: Any, like: Array | None = None
    ) -> Array:
        return asarray(function, argument, values, like)

    def is_half(self, dtype: np.dtype[Any]) -> bool:
        return _is_bfloat16(dtype)

    def is_aligned(self, values: Array) -> bool:
        return bool(values.flags.aligned)

    def as_type(self, values: Array, dtype: np.dtype[Any]) -> Array:
        return np.require(values, dtype, ["ALIGNED"])


_adapter = _NumPy()
project, vjp, jvp = _adapter.project, _adapter.vjp, _adapter.jvp


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
