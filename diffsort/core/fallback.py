"""The blocks of the projection without a native kernel, in any array library.

The same blocks, in the same form, as the native module finds: see docs/architecture.md, "The
structure and the linear maps". Rows are sorted, pooled by the tree of `pooling`, and the block
starts are put back into input order. Shapes are static and no number is looked at, so the functions
here can be traced; what is special about a row is decided by masks.
"""

from __future__ import annotations

from typing import Any

from diffsort.core.pooling import Limits, pool
from diffsort.core.spec import KL, L2, LOG_KL
from diffsort.core.sums import KLSums, L2Sums
from diffsort.core.tools import Tools, like_rows, one_per_row, rows_of

Array = Any


def find_blocks(
    tools: Tools,
    z: Array | None,
    w: Array | None,
    strength: Array,
    axis: int,
    regularization: int,
) -> tuple[Array, Array]:
    """int32 blocks of every element of z and of w, which have one shape. None stands for ρ.

    `strength` has length 1 along `axis` (negative) and broadcasts against the others.
    """
    xp = tools.xp
    operand = z if w is None else w
    assert operand is not None
    shape = tuple(operand.shape)
    if 0 in shape:
        empty = xp.zeros(shape, dtype=xp.int32, device=tools.device)
        return empty, empty

    def rows(array: Array) -> Array:
        return rows_of(xp, xp.astype(array, tools.wide), axis)

    found = _blocks_of_rows(
        tools,
        None if z is None else rows(z),
        None if w is None else rows(w),
        rows(xp.broadcast_to(strength, one_per_row(shape, axis))),
        shape[axis],
        regularization,
    )
    block_z, block_w = (like_rows(xp, ids, shape, axis) for ids in found)
    return block_z, block_w


def _blocks_of_rows(
    tools: Tools, z: Array | None, w: Array | None, strength: Array, n: int, regularization: int
) -> tuple[Array, Array]:
    xp = tools.xp
    invalid = _invalid(xp, z, w, strength, regularization)
    zero = xp.zeros_like(strength)
    rho = tools.real(n - tools.arange(0, n)) + zero
    hard = (strength == 0) | invalid
    strength = xp.where(hard, zero + 1.0, strength)
    sorted_z, z_order = _sorted(tools, z, invalid, rho)
    sorted_w, w_order = _sorted(tools, w, invalid, rho)
    infinite = xp.isinf(sorted_z)
    limits = _limits(tools, sorted_z, infinite)
    # In the hard limit blocks are the groups of equal z. Pooling finds them, and no others, if all
    # values decrease strictly from position to position and there is no w.
    position = tools.real(tools.arange(0, n))
    sorted_z = xp.where(hard, -position, xp.where(infinite, 0.0 * position, sorted_z))
    sorted_w = xp.where(hard, zero + (1.0 if regularization == KL else 0.0), sorted_w)
    size = 1 << (n - 1).bit_length()
    z_padded, w_padded = (_padded(tools, array, size) for array in (sorted_z, sorted_w))
    sums = _sums(tools, z_padded, w_padded, strength, regularization)
    start = pool(tools, size, sums, limits)[:, :n]
    block_z = xp.where(infinite, -2 - start, start)
    nan = xp.zeros_like(start) - 1
    block_z = xp.astype(xp.where(invalid, nan, block_z), xp.int32)
    block_w = xp.astype(xp.where(invalid, nan, start), xp.int32)
    return (
        block_z if z_order is None else tools.unsort(block_z, z_order),
        block_w if w_order is None else tools.unsort(block_w, w_order),
    )


def _invalid(
    xp: Any, z: Array | None, w: Array | None, strength: Array, regularization: int
) -> Array:
    """Rows without a value: with NaN, an infinite w that is smoothed, or a negative w in kl."""
    invalid = ~((strength >= 0) & (strength < float("inf")))
    if z is not None:
        invalid = invalid | xp.any(xp.isnan(z), axis=-1, keepdims=True)
    if w is not None:
        wrong = xp.isnan(w) | (xp.isinf(w) & (strength > 0))
        if regularization == KL:
            wrong = wrong | (w < 0)
        invalid = invalid | xp.any(wrong, axis=-1, keepdims=True)
    return invalid


def _sorted(
    tools: Tools, values: Array | None, invalid: Array, rho: Array
) -> tuple[Array, Array | None]:
    """In descending order, ties in input order, with the permutation; ρ is sorted already."""
    if values is None:
        return rho, None
    values = tools.xp.where(invalid, 0.0 * rho, values)
    order = tools.argsort(values)
    return tools.take_rows(values, order), order


def _limits(tools: Tools, z: Array, infinite: Array) -> Limits:
    """Infinite z share blocks among themselves only; what fills the row up comes with the last."""
    xp = tools.xp
    rows, n = z.shape
    size = 1 << (n - 1).bit_length()

    def count(mask: Array) -> Array:
        return xp.sum(xp.astype(mask, tools.index), axis=-1, keepdims=True)

    first = count(infinite & (z > 0))  # of the finite ones
    last = n - count(infinite & (z < 0))
    position = tools.arange(0, size)
    low = xp.where(position < first, 0 * first, xp.where(position < last, first, last))
    high = xp.where(position < first, first, xp.where(position < last, last, 0 * last + size))
    equal = z[:, 1:] == z[:, :-1]
    edges = [xp.zeros((rows, k), dtype=equal.dtype, device=tools.device) for k in (1, size - n)]
    equal = xp.concat([edges[0], equal, edges[1]], axis=-1)
    return Limits(equal, position - low, high - position)


def _padded(tools: Tools, array: Array, size: int) -> Array:
    """Up to `size` by repeating the last element."""
    n = array.shape[-1]
    if n == size:
        return array
    last = tools.xp.broadcast_to(array[:, -1:], (array.shape[0], size - n))
    return tools.xp.concat([array, last], axis=-1)


def _sums(
    tools: Tools, z: Array, w: Array, strength: Array, regularization: int
) -> L2Sums | KLSums:
    if regularization == L2:
        return L2Sums(tools, z, w, strength)
    xp = tools.xp

    def shrink(array: Array, limit: float) -> Array:
        """A power of two that keeps differences (or sums) of the rows finite."""
        too_large = xp.any(xp.abs(array) > limit, axis=-1, keepdims=True)
        return xp.where(too_large, 2.0**-42 + 0.0 * strength, 1.0 + 0.0 * strength)

    unit = shrink(z, tools.largest / 4)
    if regularization == KL:
        w = w * shrink(w, tools.largest * 2.0**-42)  # n < 2^31 of them
    return KLSums(tools, z * unit, w, strength * unit, regularization == LOG_KL)
