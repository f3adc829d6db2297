"""CuPy: as NumPy, on CUDA devices. Nothing is copied to the host, and nothing waits for a device.

So the numbers of a strength in an array are not looked at: rows with an invalid one come out as
NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat.cupy as xp
import cupy
import numpy as np

from diffsort.backends import numpy as numpy_backend
from diffsort.backends import solver
from diffsort.backends.adapter import Adapter
from diffsort.backends.kernels import Cuda, cuda_problem
from diffsort.core.checks import check_one_device, check_strength_device, dtype_error
from diffsort.core.spec import Spec, present
from diffsort.core.tools import Tools

NAME = "cupy"

Array = Any


def asarray(function: str, argument: str, values: Any, like: Array | None = None) -> Array:
    if isinstance(values, cupy.ndarray):
        return values
    # By way of NumPy: one conversion of Python data, with one set of messages.
    array = numpy_backend.asarray(function, argument, values, like)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise dtype_error(function, argument, f"dtype {array.dtype}")
    with nullcontext() if like is None else like.device:
        return cupy.asarray(array)


class _Memory:
    """CuPy's arrays as the native module has them: see `kernels.CudaMemory`."""

    int32, float64 = np.dtype(np.int32), np.dtype(np.float64)
    moveaxis = staticmethod(cupy.moveaxis)
    broadcast = staticmethod(cupy.broadcast_to)
    dense = staticmethod(cupy.ascontiguousarray)

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: np.dtype[Any], like: Array) -> Array:
        return cupy.empty(shape, dtype)

    @staticmethod
    def empty_like(like: Array, *, dtype: np.dtype[Any] | None = None) -> Array:
        return cupy.empty(like.shape, like.dtype if dtype is None else dtype)

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: np.dtype[Any], like: Array) -> Array:
        return cupy.zeros(shape, dtype)

    @staticmethod
    def lend(array: Array) -> Array:
        return array

    @staticmethod
    def strides(array: Array) -> tuple[int, ...]:
        strides: tuple[int, ...] = array.strides
        return strides

    @staticmethod
    def stream(like: Array) -> int:
        return int(cupy.cuda.get_current_stream().ptr)

    @staticmethod
    def on_device(like: Array) -> AbstractContextManager[Any]:
        device: AbstractContextManager[Any] = like.device
        return device


class _CuPy(Adapter):
    name, xp, array_type, readable = NAME, cupy, cupy.ndarray, False

    _cuda = Cuda(_Memory())

    def asarray(
        self, function: str, argument: str, values: Any, like: Array | None = None
    ) -> Array:
        return asarray(function, argument, values, like)

    def as_type(self, values: Array, dtype: np.dtype[Any]) -> Array:
        return values.astype(dtype, copy=False)

    def kernels(self, spec: Spec, values: Array) -> Cuda | None:
        if solver.requested == "fallback":
            return None
        device = values.device.id
        hip = cupy.cuda.runtime.is_hip
        missing = "there are none for ROCm" if hip else cuda_problem(device)
        if missing is None:
            return self._cuda
        what = f"{values.dtype} on cuda:{device}"
        solver.fall_back_or_raise(spec.function, spec.argument, NAME, "cuda", what, missing)
        return None

    def tools(self, values: Array) -> Tools:
        return Tools(xp, None, np.dtype(np.float64))  # on the current device

    # CuPy works on its current device, which is made that of the values.

    def project(self, spec: Spec, z: Array | None, w: Array | None, strength: Any) -> Array:
        with _device(spec, z, w, strength):
            return super().project(spec, z, w, strength)

    def vjp(
        self, spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
    ) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
        device = _device(spec, z, w, strength)
        with device:
            result, pull_back = super().vjp(spec, z, w, strength, wrt)

        def there(cotangent: Any) -> tuple[Array, ...]:
            with device:
                return pull_back(cotangent)

        return result, there

    def jvp(
        self,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: Any,
        tangents: dict[str, Any],
    ) -> tuple[Array, Array]:
        with _device(spec, z, w, strength):
            return super().jvp(spec, z, w, strength, tangents)


def _device(
    spec: Spec, z: Array | None, w: Array | None, strength: Any
) -> AbstractContextManager[Any]:
    """The one device that all arrays are on."""
    values = present(z, w)
    if z is not None and w is not None:
        check_one_device(spec.function, _name(z), _name(w))
    if isinstance(strength, cupy.ndarray):
        check_strength_device(spec.function, spec.argument, _name(values), _name(strength))
    device: AbstractContextManager[Any] = values.device
    return device


def _name(values: Array) -> str:
    return f"cuda:{values.device.id}"


_adapter = _CuPy()
project, vjp, jvp = _adapter.project, _adapter.vjp, _adapter.jvp
