"""What the fallback asks of an array library: the array API standard, and a few hooks.

The standard has no scatter, and its libraries differ in what they do fast, so `Tools` collects the
operations that a backend may replace. Every default here is written in the standard (2022.12 and
later) alone, for any library, device and tracer: static shapes, no look at a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any


class Tools:
    """The operations on one device. Rows lie along the last axis."""

    def __init__(self, xp: Any, device: Any, wide: Any) -> None:
        self.xp = xp
        self.device = device
        self.wide = wide  # the widest floating dtype of the device
        self.largest = float(xp.finfo(wide).max)
        self.smallest = float(xp.finfo(wide).smallest_normal)
        self.epsilon = float(xp.finfo(wide).eps)
        self.index = xp.arange(1, device=device).dtype  # the library's default integers

    def real(self, counts: Array) -> Array:
        """Integers as numbers of the wide type."""
        return self.xp.astype(counts, self.wide)

    def arange(self, start: int, stop: int, step: int = 1) -> Array:
        """Positions, in the library's default integer type."""
        return self.xp.arange(start, stop, step, device=self.device)

    def column(self, start: int, stop: int, step: int = 1) -> Array:
        """Positions as a column."""
        return self.arange(start, stop, step)[:, None]

    def take(self, values: Array, positions: Array) -> Array:
        """values[positions[i, j], j]: along the columns of two dimensions."""
        xp = self.xp
        columns = values.shape[1]
        flat = xp.reshape(positions * columns + self.arange(0, columns), (-1,))
        return xp.reshape(xp.take(xp.reshape(values, (-1,)), flat, axis=0), positions.shape)

    def take_rows(self, values: Array, positions: Array) -> Array:
        """values[i, positions[i, j]]: along the rows of two dimensions."""
        xp = self.xp
        rows, n = values.shape
        flat = xp.reshape(positions + (self.arange(0, rows) * n)[:, None], (-1,))
        return xp.reshape(xp.take(xp.reshape(values, (-1,)), flat, axis=0), positions.shape)

    def least(self, values: Array) -> Array:
        """The least along the first axis, which is 2^k long and becomes 1."""
        return self.xp.min(values, axis=0, keepdims=True)

    def argsort(self, values: Array) -> Array:
        """The stable permutation that sorts in descending order."""
        return self.xp.argsort(-values, axis=-1, stable=True)

    def unsort(self, values: Array, permutation: Array) -> Array:
        """out[i, permutation[i, j]] = values[i, j]."""
        return self.take_rows(values, self.xp.argsort(permutation, axis=-1, stable=True))

    def segments(self, starts: Array, axis: int) -> Segments:
        """Sums over the blocks that begin at `starts`, a position along `axis` for each element."""
        return SortedSegments(self, starts, axis)

    def constant(self, values: Array) -> Array:
        """The values, as something that no derivative is taken of."""
        return values


class Segments(Protocol):
    """Sums over blocks, found at the position where each block starts."""

    def sum(self, values: Array) -> Array: ...
    def max(self, values: Array) -> Array: ...
    def at(self, sums: Array, starts: Array) -> Array:
        """What was found for the blocks that start at `starts`."""


class SortedSegments:
    """By doubling over the elements in block order, where a block follows its start.

    After k rounds a position holds 2^k terms: the roundings of a sum grow with log n only.
    """

    def __init__(self, tools: Tools, starts: Array, axis: int) -> None:
        self.tools, self.axis = tools, axis
        rows = self._rows(starts)
        self.order = tools.xp.argsort(rows, axis=-1, stable=True)
        self.starts = tools.take_rows(rows, self.order)

    def sum(self, values: Array) -> Array:
        return self._reduced(values, lambda a, b: a + b, 0.0)

    def max(self, values: Array) -> Array:
        return self._reduced(values, self.tools.xp.maximum, -float("inf"))

    def at(self, sums: Array, starts: Array) -> Array:
        found = self.tools.take_rows(self._rows(sums), self._rows(starts))
        return self._restored(found, starts)

    def _reduced(self, values: Array, add: Callable[[Array, Array], Array], zero: float) -> Array:
        xp, starts = self.tools.xp, self.starts
        found = self.tools.take_rows(self._rows(values), self.order)
        step = 1
        while step < starts.shape[-1]:
            same = starts[:, :-step] == starts[:, step:]
            more = xp.where(same, found[:, step:], xp.full_like(found[:, step:], zero))
            found = xp.concat([add(found[:, :-step], more), found[:, -step:]], axis=-1)
            step *= 2
        return self._restored(found, values)

    def _rows(self, array: Array) -> Array:
        return rows_of(self.tools.xp, array, self.axis)

    def _restored(self, rows: Array, like: Array) -> Array:
        return like_rows(self.tools.xp, rows, tuple(like.shape), self.axis)


def rho(tools: Tools, like: Array, axis: int) -> Array:
    """(n, ..., 1) along the axis."""
    n = like.shape[axis]
    values = tools.xp.reshape(tools.real(n - tools.arange(0, n)), (n,) + (1,) * (-axis - 1))
    return tools.xp.broadcast_to(values, tuple(like.shape))


def one_per_row(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape with length 1 along the axis."""
    rows = list(shape)
    rows[axis] = 1
    return tuple(rows)


def axis_last(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """The shape with the axis behind all others."""
    moved = list(shape)
    moved.append(moved.pop(axis))
    return tuple(moved)


def rows_of(xp: Any, array: Array, axis: int) -> Array:
    """The rows along `axis` as an array of two dimensions."""
    array = xp.moveaxis(array, axis, -1)
    return xp.reshape(array, (math.prod(array.shape[:-1]), array.shape[-1]))


def like_rows(xp: Any, rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The inverse of `rows_of`, for an array of that shape."""
    return xp.moveaxis(xp.reshape(rows, axis_last(shape, axis)), -1, axis)


def sum_to_shape(xp: Any, array: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting an array of that shape."""
    extra = array.ndim - len(shape)
    stretched = tuple(
        d for d in range(array.ndim) if d < extra or shape[d - extra] != array.shape[d]
    )
    if not stretched:
        return array
    return xp.reshape(xp.sum(array, axis=stretched, keepdims=True), shape)
