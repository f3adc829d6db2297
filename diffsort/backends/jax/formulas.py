"""The projection and its linear maps as operations of JAX.

They are the fallback on platforms without a native kernel, and what the linear primitives are
differentiated by. Sums are taken in float64 with x64, in float32 by pairs without.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsort.core import isotonic
from diffsort.core.blocks import SegmentBlocks
from diffsort.core.fallback import find_blocks
from diffsort.core.spec import Spec
from diffsort.core.tools import Segments, Tools, like_rows, rho, rows_of

Array = Any
Operands = dict[str, Any]

# The names of tangents and cotangents.
DIRECTION_OF = {"z": "dz", "w": "dw", "strength": "dstrength", "result": "dresult"}


class Static(NamedTuple):
    """What is known when a call is traced."""

    spec: Spec
    solver: str


def project(static: Static, at: Operands) -> dict[str, Array]:
    tools, spec = _tools(), static.spec
    strength = at["strength"].astype(tools.wide)
    ids = _find_blocks(tools, spec, at)
    value = isotonic.value(
        jnp,
        SegmentBlocks(tools, *ids, spec.axis),
        spec.regularization,
        _signed(tools, spec, at, "z"),
        _signed(tools, spec, at, "w"),
        strength,
    )
    # The sum turns -0 into 0.
    result = (spec.w_sign * value + 0.0).astype(float_dtype(at))
    return {"result": result, "block_z": ids[0], "block_w": ids[1]}


def _find_blocks(tools: Tools, spec: Spec, at: Operands) -> tuple[Array, Array]:
    shape = _like(at).shape
    length = shape[spec.axis]
    if not isinstance(length, int):
        raise ValueError(
            f"{spec.function}: {spec.argument} has the symbolic length {length} along axis "
            f"{spec.axis}, which the fallback solver has to know. Export a program for a fixed "
            "length, or for platforms with native kernels."
        )

    def rows(name: str) -> Array | None:
        return rows_of(jnp, _signed(tools, spec, at, name), spec.axis) if name in at else None

    strength = rows_of(jnp, at["strength"].astype(tools.wide), spec.axis)
    block_z, block_w = _blocks_of_rows(spec.regularization, rows("z"), rows("w"), strength)
    return like_rows(jnp, block_z, shape, spec.axis), like_rows(jnp, block_w, shape, spec.axis)


@partial(jax.jit, static_argnums=0)
def _blocks_of_rows(
    regularization: int, z: Array | None, w: Array | None, strength: Array
) -> tuple[Array, Array]:
    """Compiled once for all operators and axes, which takes longer than to run it."""
    return find_blocks(_tools(), z, w, strength, -1, regularization)


def pushforward(static: Static, at: Operands) -> dict[str, Array]:
    tools, spec = _tools(), static.spec
    zero = jnp.zeros(_like(at).shape, tools.wide)

    def tangent(name: str, sign: float) -> Array:
        direction = at.get(DIRECTION_OF[name])
        return zero if direction is None else sign * direction.astype(tools.wide)

    tangents = isotonic.Directions(
        tangent("z", spec.z_sign), tangent("w", spec.w_sign), tangent("strength", 1.0)
    )
    moved = isotonic.jvp(
        jnp, _blocks(tools, spec, at), spec.regularization, tangents, *_point(tools, spec, at)
    )
    return {"dresult": (spec.w_sign * moved).astype(float_dtype(at))}


def pullback(static: Static, at: Operands) -> dict[str, Array]:
    tools, spec = _tools(), static.spec
    found = isotonic.vjp(
        jnp,
        _blocks(tools, spec, at),
        spec.regularization,
        spec.w_sign * at["dresult"].astype(tools.wide),
        *_point(tools, spec, at),
    )
    dtype = float_dtype(at)
    return {
        "dz": (spec.z_sign * found.z).astype(dtype),
        "dw": (spec.w_sign * found.w).astype(dtype),
        "dstrength": found.strength.astype(at["strength"].dtype),
    }


def float_dtype(at: Operands) -> Any:
    """The dtype of the operands; strengths have one of their own."""
    return next(
        array.dtype
        for name, array in at.items()
        if "strength" not in name and not name.startswith("block")
    )


def _like(at: Operands) -> Array:
    """An operand of the common shape."""
    return next(array for name, array in at.items() if "strength" not in name)


def _point(tools: Tools, spec: Spec, at: Operands) -> tuple[Array, Array, Array, Array]:
    result, z, w = (_signed(tools, spec, at, name) for name in ("result", "z", "w"))
    return result, z, w, at["strength"].astype(tools.wide)


def _signed(tools: Tools, spec: Spec, at: Operands, name: str) -> Array:
    """An operand of P in the wide type; an absent one is ρ, or is not read."""
    if name not in at:
        return rho(tools, _like(at), spec.axis)
    return (spec.z_sign if name == "z" else spec.w_sign) * at[name].astype(tools.wide)


def _blocks(tools: Tools, spec: Spec, at: Operands) -> SegmentBlocks:
    return SegmentBlocks(tools, at["block_z"], at.get("block_w", at["block_z"]), spec.axis)


def _tools() -> Tools:
    return _Tools(jnp, None, jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)


class _Tools(Tools):
    """The standard's operations, but for what JAX has a scatter for."""

    def segments(self, starts: Array, axis: int) -> Segments:
        # In float32 long sums want fewer roundings than adding term by term has.
        if self.wide == jnp.float32:
            return super().segments(starts, axis)
        return _Segments(starts, axis)

    def constant(self, values: Array) -> Array:
        return jax.lax.stop_gradient(values)

    def take(self, values: Array, positions: Array) -> Array:
        columns = jnp.arange(values.shape[1])
        return values.at[positions, columns].get(mode="promise_in_bounds")

    def take_rows(self, values: Array, positions: Array) -> Array:
        rows = jnp.arange(values.shape[0])[:, None]
        return values.at[rows, positions].get(mode="promise_in_bounds")

    def unsort(self, values: Array, permutation: Array) -> Array:
        rows = jnp.arange(values.shape[0])[:, None]
        return jnp.zeros_like(values).at[rows, permutation].set(values, unique_indices=True)


class _Segments:
    """Sums over blocks by scatter."""

    def __init__(self, starts: Array, axis: int) -> None:
        self.axis = axis
        self.starts = self._rows(starts)
        self.index = (jnp.arange(self.starts.shape[0])[:, None], self.starts)

    def sum(self, values: Array) -> Array:
        rows = self._rows(values)
        return self._restored(jnp.zeros_like(rows).at[self.index].add(rows), values)

    def max(self, values: Array) -> Array:
        rows = self._rows(values)
        return self._restored(jnp.full_like(rows, -jnp.inf).at[self.index].max(rows), values)

    def at(self, sums: Array, starts: Array) -> Array:
        if sums.size == 0:  # of which JAX before 0.5 cannot gather
            return sums
        return jnp.take_along_axis(sums, starts, axis=self.axis)

    def _rows(self, array: Array) -> Array:
        return rows_of(jnp, array, self.axis)

    def _restored(self, rows: Array, like: Array) -> Array:
        return like_rows(jnp, rows, like.shape, self.axis)
