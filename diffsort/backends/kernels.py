"""The native solver on arrays of a framework: in the memory of the CPU, and of CUDA devices.

`Cpu` and `Cuda` have the same three methods, over `Memory`, which says how a framework allocates
arrays and hands them out. The values of a call are in the type that is solved in, and have the
result's shape; a strength is a float or an array that broadcasts against them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import _diffsort_native as native

from diffsort.backends import threads
from diffsort.core.spec import Spec, present
from diffsort.core.tools import axis_last, one_per_row

Array = Any
_Three = tuple[Array | None, Array | None, Array | None]


class Linearization(NamedTuple):
    """Where the linear maps are taken; absent are operands that stand for ρ or are not read."""

    z: Array | None
    w: Array | None
    result: Array | None
    block_z: Array
    block_w: Array | None
    strength: float | Array


# The same without names, which take longer to make than a short row to solve.
PlainLinearization = tuple[
    Array | None, Array | None, Array | None, Array, Array | None, float | Array
]


class Memory(Protocol):
    """What `Cpu` asks of a framework."""

    int32: Any
    float64: Any

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        """A dense array in C order, on the device of `like`."""

    def empty_like(self, like: Array, *, dtype: Any = None) -> Array:
        """The same of the shape of `like`, and of its dtype by default."""


class CudaMemory(Memory, Protocol):
    """What `Cuda` asks of a framework. Nothing here may wait for the device."""

    def lend(self, array: Array) -> Array:
        """What the native module borrows of an array, a float or None."""

    def zeros(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array: ...
    def moveaxis(self, array: Array, source: int, destination: int) -> Array: ...
    def broadcast(self, array: Array, shape: tuple[int, ...]) -> Array: ...
    def dense(self, array: Array) -> Array:
        """The array, or a copy of it that is dense in C order."""

    def strides(self, array: Array) -> tuple[int, ...]: ...
    def stream(self, like: Array) -> int:
        """The framework's current stream on the device of `like`."""

    def on_device(self, like: Array) -> AbstractContextManager[Any]:
        """Within it, arrays are allocated on the device of `like`."""


class Cpu:
    """Arrays of any strides, borrowed as they are: read and written in place. A small call costs
    what surrounds the solver, so arguments are written out here."""

    def __init__(self, memory: Memory, default_threads: Callable[[], int]) -> None:
        self.memory, self.default_threads = memory, default_threads

    def project(
        self,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: float | Array,
        result: bool = True,
        block_z: bool = False,
        block_w: bool = False,
    ) -> _Three:
        """The outputs that are asked for; the others are None."""
        memory, like = self.memory, w if z is None else z
        out = memory.empty_like(like) if result else None
        out_z = memory.empty_like(like, dtype=memory.int32) if block_z else None
        out_w = memory.empty_like(like, dtype=memory.int32) if block_w else None
        native.project(
            z,
            w,
            strength,
            spec.axis,
            spec.regularization,
            spec.z_sign,
            spec.w_sign,
            out,
            out_z,
            out_w,
            threads.requested or self.default_threads(),
        )
        return out, out_z, out_w

    def vjp(
        self, spec: Spec, at: PlainLinearization, cotangent: Array, z: bool, w: bool, strength: bool
    ) -> _Three:
        """The cotangents that are asked for; that of the strength is float64, one per row."""
        memory = self.memory
        out_z = memory.empty_like(cotangent) if z else None
        out_w = memory.empty_like(cotangent) if w else None
        out_strength = (
            memory.empty(one_per_row(cotangent.shape, spec.axis), memory.float64, cotangent)
            if strength
            else None
        )
        native.project_vjp(
            *at,
            spec.axis,
            spec.regularization,
            spec.z_sign,
            spec.w_sign,
            cotangent,
            out_z,
            out_w,
            out_strength,
            threads.requested or self.default_threads(),
        )
        return out_z, out_w, out_strength

    def jvp(
        self,
        spec: Spec,
        at: Linearization,
        like: Array,
        z: Array | None,
        w: Array | None,
        strength: float | Array | None,
    ) -> Array:
        """The tangent of the result, of the type of `like`; absent tangents are zero."""
        out = self.memory.empty_like(at.block_z, dtype=like.dtype)
        native.project_jvp(
            *at, *spec[2:], z, w, strength, out, threads.requested or self.default_threads()
        )
        return out


class Cuda:
    """Rows along the last axis: the axis is moved there, and what is not dense is copied, unless it
    is one row for all. Kernels run on the framework's current stream, with scratch memory of the
    framework, and nothing waits for them. Floating results are dense; blocks keep the order in
    which they were written, which derivatives read them in."""

    def __init__(self, memory: CudaMemory) -> None:
        self.memory = memory

    def project(
        self,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: float | Array,
        result: bool = True,
        block_z: bool = False,
        block_w: bool = False,
    ) -> _Three:
        memory, like = self.memory, present(z, w)
        with memory.on_device(like):
            out = (
                self._output(like, like.dtype, spec.axis) if result else None,
                self._output(like, memory.int32, spec.axis) if block_z else None,
                self._output(like, memory.int32, spec.axis) if block_w else None,
            )
            native.cuda_project(
                self._rows(z, spec.axis),
                self._rows(w, spec.axis),
                self._per_row(strength, like, spec.axis),
                *spec[3:],
                *self._lent(out),
                *self._resources(like),
            )
            return (
                self._dense_result(out[0], spec.axis),
                self._result(out[1], spec.axis),
                self._result(out[2], spec.axis),
            )

    def vjp(
        self, spec: Spec, at: PlainLinearization, cotangent: Array, z: bool, w: bool, strength: bool
    ) -> _Three:
        memory = self.memory
        with memory.on_device(cotangent):
            out = (
                self._output(cotangent, cotangent.dtype, spec.axis) if z else None,
                self._output(cotangent, cotangent.dtype, spec.axis) if w else None,
                self._strength_output(cotangent, spec.axis) if strength else None,
            )
            native.cuda_project_vjp(
                *self._linearization(at, spec.axis),
                *spec[3:],
                self._rows(cotangent, spec.axis),
                *self._lent(out),
                *self._resources(cotangent),
            )
            return (
                self._dense_result(out[0], spec.axis),
                self._dense_result(out[1], spec.axis),
                self._result(out[2], spec.axis),
            )

    def jvp(
        self,
        spec: Spec,
        at: Linearization,
        like: Array,
        z: Array | None,
        w: Array | None,
        strength: float | Array | None,
    ) -> Array:
        with self.memory.on_device(like):
            out = self._output(at.block_z, like.dtype, spec.axis)
            native.cuda_project_jvp(
                *self._linearization(at, spec.axis),
                *spec[3:],
                self._rows(z, spec.axis),
                self._rows(w, spec.axis),
                self._per_row(strength, at.block_z, spec.axis),
                self.memory.lend(out),
                *self._resources(like),
            )
            return self._dense_result(out, spec.axis)

    def _output(self, like: Array, dtype: Any, axis: int) -> Array:
        """Memory for rows of the shape of `like`, the axis last."""
        if axis == -1:
            return self.memory.empty_like(like, dtype=dtype)
        return self.memory.empty(axis_last(like.shape, axis), dtype, like)

    def _strength_output(self, like: Array, axis: int) -> Array:
        """Of empty rows, which no kernel visits, the derivative is zero."""
        allocate = self.memory.empty if 0 not in like.shape else self.memory.zeros
        shape = axis_last(one_per_row(like.shape, axis), axis)
        return allocate(shape, self.memory.float64, like)

    def _result(self, rows: Array | None, axis: int) -> Array | None:
        return rows if rows is None or axis == -1 else self.memory.moveaxis(rows, -1, axis)

    def _dense_result(self, rows: Array | None, axis: int) -> Array | None:
        found = self._result(rows, axis)
        return found if axis == -1 or found is None else self.memory.dense(found)

    def _lent(self, out: _Three) -> _Three:
        first, second, third = map(self.memory.lend, out)
        return first, second, third

    def _rows(self, array: Array | None, axis: int) -> Array | None:
        if array is None:
            return None
        memory = self.memory
        if axis != -1:
            array = memory.moveaxis(array, axis, -1)
        strides = zip(array.shape[:-1], memory.strides(array)[:-1], strict=True)
        steps = [step for length, step in strides if length > 1]
        if steps and 0 not in array.shape and not any(steps):
            array = array[(0,) * (array.ndim - 1)]  # one row for all
        return memory.lend(memory.dense(array))

    def _per_row(self, strength: float | Array | None, like: Array, axis: int) -> Any:
        if strength is None or isinstance(strength, float):
            return strength
        rows = self.memory.broadcast(strength, one_per_row(like.shape, axis))
        return self._rows(rows, axis)

    def _linearization(self, at: PlainLinearization, axis: int) -> Linearization:
        *arrays, strength = at
        rows = [self._rows(array, axis) for array in arrays]
        return Linearization._make([*rows, self._per_row(strength, at[3], axis)])

    def _resources(self, like: Array) -> tuple[Callable[[int], Array], int]:
        """How to allocate scratch memory, and the stream."""
        memory = self.memory

        def allocate(words: int) -> Array:
            return memory.lend(memory.empty((words,), memory.int32, like))

        return allocate, memory.stream(like)


_problems: dict[int, str | None] = {}


def cuda_problem(device: int) -> str | None:
    """Why the kernels of this build cannot run on a CUDA device; None: they can."""
    if device not in _problems:
        _problems[device] = native.cuda_problem(device)
    return _problems[device]


# Dynamo evaluates this instead of tracing it: the answer stays the same.
cuda_problem._dynamo_marked_constant = True  # type: ignore[attr-defined]
