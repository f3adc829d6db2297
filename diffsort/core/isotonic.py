"""The projection, its derivative and the transpose of that, in any framework's arrays.

All are formulas of the blocks. Once these are known, the projection is linear (l2) or smooth (kl),
so a framework that differentiates these lines differentiates the projection,
to any order. Only nearby numbers are subtracted; s - v, with v the dual solution, would lose every
digit at large n.

`xp` is an array namespace with the standard's elementwise functions, `blocks` a `Blocks`. All
arrays have one shape, except the strength, which has length 1 along the axis.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from diffsort.core.spec import KL, L2

Array = Any
Side = Literal["z", "w"]


class Blocks(Protocol):
    """Sums over the blocks of every row, for the elements of z and those of w."""

    axis: int
    nan_row: Array  # true in rows without a value
    infinite: Array  # true where z is infinite: derivatives with respect to it are zero

    def total(self, values: Array, *, of: Side, at: Side) -> Array:
        """For every element of `at`, the sum of `values` over the elements of `of` in its block."""

    def maximum(self, values: Array, *, of: Side, at: Side) -> Array:
        """The same with the maximum, as a constant that is not differentiated."""


class Directions(NamedTuple):
    """Tangents of the operands, or cotangents."""

    z: Array
    w: Array
    strength: Array  # one number per row: length 1 along the axis


def value(
    xp: Any, blocks: Blocks, regularization: int, z: Array, w: Array, strength: Array
) -> Array:
    """P(z / strength, w), block by block.

    l2: mean_B(w) + s_i - mean_B(s);  kl: softmax_B(s)_i Σ_B w;  log_kl: the logarithm of that with
    exp(w) for w; s = z / strength.
    """
    divisor = _divisor(xp, blocks, strength)
    z = _finite(xp, z, blocks.infinite)
    if regularization == L2:
        size = blocks.total(xp.ones_like(z), of="z", at="z")
        result = blocks.total(w, of="w", at="z") / size + _centred(blocks, z, size) / divisor
    elif regularization == KL:
        result = _kl_value(xp, blocks, z, w, divisor)
    else:
        s = (z - blocks.maximum(z, of="z", at="z")) / divisor
        result = s - xp.log(blocks.total(xp.exp(s), of="z", at="z")) + _lse(xp, blocks, w)
    return result * _nan_factor(xp, blocks, result)


def vjp(
    xp: Any,
    blocks: Blocks,
    regularization: int,
    cotangent: Array,
    result: Array,
    z: Array,
    w: Array,
    strength: Array,
) -> Directions:
    """The transposed Jacobian applied to `cotangent`; itself differentiable in every argument.

    With h = g (kl: r g) and p, q the weights of an element in its block (`result` is read for kl),
    z: (h - p Σ_B h) / ε;  w: q Σ_B h (kl: Σ_B p g);  ε: -⟨z's cotangent, z⟩ / ε.
    """
    divisor = _divisor(xp, blocks, strength)
    z = _finite(xp, z, blocks.infinite)
    if regularization == KL:
        result = _smoothed(xp, result, strength)
        p = _shares(xp, blocks, result, z, divisor)
        h = result * cotangent
        w_cotangent = blocks.total(p * cotangent, of="z", at="w")
    else:
        w = _finite(xp, w, _infinite_w(xp, blocks, w))
        p = _weights(xp, blocks, regularization, z, divisor, of="z")
        h = cotangent
        q = _weights(xp, blocks, regularization, w, 1.0, of="w")
        w_cotangent = q * blocks.total(h, of="z", at="w")
    z_cotangent = (h - p * blocks.total(h, of="z", at="z")) / divisor
    z_cotangent = _finite(xp, z_cotangent, blocks.infinite)
    z_cotangent = z_cotangent * _nan_factor(xp, blocks, z_cotangent)
    w_cotangent = w_cotangent * _nan_factor(xp, blocks, w_cotangent)
    # The map annihilates constants of a block, so z may be measured from any z in it. The largest
    # has weight; others may lie far away without any, and would lend their distance to rounding.
    products = z_cotangent * (z - blocks.maximum(z, of="z", at="z")) / divisor
    return Directions(z_cotangent, w_cotangent, -xp.sum(products, axis=blocks.axis, keepdims=True))


def jvp(
    xp: Any,
    blocks: Blocks,
    regularization: int,
    tangents: Directions,
    result: Array,
    z: Array,
    w: Array,
    strength: Array,
) -> Array:
    """The Jacobian applied to `tangents`: the transpose of `vjp`, of the same operands.

    With ds = dz / ε - z dε / ε² and p, q as in `vjp`,
    ds - ⟨p, ds⟩_B + ⟨q, dw⟩_B;  kl: r (ds - ⟨p, ds⟩_B) + p Σ_B dw.
    """
    divisor = _divisor(xp, blocks, strength)
    z = _finite(xp, z, blocks.infinite)
    relative = (z - blocks.maximum(z, of="z", at="z")) / divisor
    ds = _finite(xp, (tangents.z - relative * tangents.strength) / divisor, blocks.infinite)
    if regularization == KL:
        result = _smoothed(xp, result, strength)
        p = _shares(xp, blocks, result, z, divisor)
        moved = result * (ds - blocks.total(p * ds, of="z", at="z"))
        moved = moved + p * blocks.total(tangents.w, of="w", at="z")
    else:
        w = _finite(xp, w, _infinite_w(xp, blocks, w))
        p = _weights(xp, blocks, regularization, z, divisor, of="z")
        q = _weights(xp, blocks, regularization, w, 1.0, of="w")
        moved = ds - blocks.total(p * ds, of="z", at="z")
        moved = moved + blocks.total(q * tangents.w, of="w", at="z")
    return moved * _nan_factor(xp, blocks, moved)


def _kl_value(xp: Any, blocks: Blocks, z: Array, w: Array, divisor: Array) -> Array:
    """softmax_B(z / ε) Σ_B w. An infinite w is at strength 0, where z does not act: it is shared by
    size, without a derivative by z, which would be 0 times infinity."""
    infinite = _infinite_w(xp, blocks, w)
    size = blocks.total(xp.ones_like(z), of="z", at="z")
    smoothed = _softmax(xp, blocks, z, divisor, of="z") * blocks.total(
        _finite(xp, w, infinite), of="w", at="z"
    )
    return smoothed + blocks.total(_finite(xp, w, xp.logical_not(infinite)), of="w", at="z") / size


def _shares(xp: Any, blocks: Blocks, result: Array, z: Array, divisor: Array) -> Array:
    """The weights p of kl."""
    # If a block's weights w sum to zero, all its results are zero and its softmax cannot be
    # recovered from them: it is computed from z.
    total = blocks.total(result, of="z", at="z")
    softmax = _softmax(xp, blocks, z, divisor, of="z")
    return xp.where(total == 0, softmax, result / xp.where(total == 0, xp.ones_like(total), total))


def _smoothed(xp: Any, result: Array, strength: Array) -> Array:
    """The result of kl, but 1 at strength 0: there it may be infinite, derivatives by z are zero
    whatever it is, and a block's z are equal and have equal shares."""
    return xp.where(strength == 0, xp.ones_like(result), result)


def _weights(
    xp: Any, blocks: Blocks, regularization: int, values: Array, divisor: Array | float, *, of: Side
) -> Array:
    """1 / |B| for l2, softmax_B(values / divisor) for kl."""
    if regularization == L2:
        return 1 / blocks.total(xp.ones_like(values), of=of, at=of)
    return _softmax(xp, blocks, values, divisor, of=of)


def _divisor(xp: Any, blocks: Blocks, strength: Array) -> Array:
    """What z is divided by: the strength, whose inverse may be too large for a float. Infinity at
    strength 0, where the blocks are groups of equal z and no z acts; NaN in NaN rows."""
    nan_row = xp.any(blocks.nan_row, axis=blocks.axis, keepdims=True)
    # A factor, so that derivatives by the strength are NaN as well.
    strength = strength * xp.where(nan_row, float("nan"), xp.ones_like(strength))
    return xp.where(strength == 0, float("inf"), strength)


def _finite(xp: Any, values: Array, infinite: Array) -> Array:
    return xp.where(infinite, xp.zeros_like(values), values)


def _nan_factor(xp: Any, blocks: Blocks, like: Array) -> Array:
    """NaN in rows without a value, else 1: a factor, so that derivatives are NaN there as well."""
    return xp.where(blocks.nan_row, float("nan"), xp.ones_like(like))


def _centred(blocks: Blocks, z: Array, size: Array) -> Array:
    """z - mean_B(z), from differences: equal z are centred at 0 exactly. The second subtraction
    removes the rounding of the first."""
    centred = z - blocks.maximum(z, of="z", at="z")
    centred = centred - blocks.total(centred, of="z", at="z") / size
    return centred - blocks.total(centred, of="z", at="z") / size


def _softmax(xp: Any, blocks: Blocks, values: Array, divisor: Array | float, *, of: Side) -> Array:
    """softmax_B(values / divisor), by differences: an offset of the values costs no digits."""
    exponentials = xp.exp((values - blocks.maximum(values, of=of, at=of)) / divisor)
    return exponentials / blocks.total(exponentials, of=of, at=of)


def _infinite_w(xp: Any, blocks: Blocks, w: Array) -> Array:
    """Where w is infinite in a row with a value: at strength 0."""
    return xp.isinf(w) & xp.logical_not(blocks.nan_row)


def _lse(xp: Any, blocks: Blocks, w: Array) -> Array:
    """log Σ_B exp(w) at z's elements."""
    infinite = _infinite_w(xp, blocks, w)
    finite = _finite(xp, w, infinite)
    shifted = finite - blocks.maximum(finite, of="w", at="w")
    total = blocks.total(xp.exp(shifted), of="w", at="z")
    finite_part = xp.log(total) + blocks.maximum(finite, of="w", at="z")
    return finite_part + blocks.total(_finite(xp, w, xp.logical_not(infinite)), of="w", at="z")
