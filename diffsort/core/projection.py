"""The projection at a point and its linear maps there, from the fallback's blocks and the formulas.

For libraries that do not differentiate by themselves; in the wide type from end to end.
"""

from __future__ import annotations

from typing import Any

from diffsort.core import isotonic
from diffsort.core.blocks import SegmentBlocks
from diffsort.core.fallback import find_blocks
from diffsort.core.spec import Spec
from diffsort.core.tools import Tools, rho

Array = Any


class Projection:
    """w_sign * P(z_sign * z / strength, w_sign * w); z or w None stands for ρ.

    The operands have the result's shape, the strength has as many dimensions and length 1 along
    the axis. They are copied: derivatives do not change with the caller's arrays.
    """

    def __init__(
        self, tools: Tools, spec: Spec, z: Array | None, w: Array | None, strength: Array
    ) -> None:
        self.tools, self.spec = tools, spec
        xp = tools.xp
        self.strength = xp.astype(strength, tools.wide)
        z = None if z is None else spec.z_sign * xp.astype(z, tools.wide)
        w = None if w is None else spec.w_sign * xp.astype(w, tools.wide)
        ids = find_blocks(tools, z, w, self.strength, spec.axis, spec.regularization)
        self.blocks = SegmentBlocks(tools, *ids, spec.axis)
        self.z, self.w = self._operand(z, w), self._operand(w, z)
        self.value = isotonic.value(
            xp, self.blocks, spec.regularization, self.z, self.w, self.strength
        )

    @property
    def result(self) -> Array:
        return self.spec.w_sign * self.value + 0.0  # never -0

    def vjp(self, cotangent: Array) -> dict[str, Array]:
        """The cotangents of "z", "w" and "strength" in the result's shape (one per row)."""
        spec, xp = self.spec, self.tools.xp
        found = isotonic.vjp(
            xp,
            self.blocks,
            spec.regularization,
            spec.w_sign * xp.astype(cotangent, self.tools.wide),
            self.value,
            self.z,
            self.w,
            self.strength,
        )
        return {"z": spec.z_sign * found.z, "w": spec.w_sign * found.w, "strength": found.strength}

    def jvp(self, tangents: dict[str, Array]) -> Array:
        """The tangent of the result for tangents that broadcast against it; absent ones are 0."""
        spec, xp = self.spec, self.tools.xp
        zero = xp.zeros_like(self.value)

        def tangent(name: str, sign: float) -> Array:
            if name not in tangents:
                return zero
            return sign * xp.astype(tangents[name], self.tools.wide) + zero

        strength = xp.zeros_like(self.strength)
        if "strength" in tangents:
            strength = xp.astype(tangents["strength"], self.tools.wide) + strength
        moved = isotonic.jvp(
            xp,
            self.blocks,
            spec.regularization,
            isotonic.Directions(tangent("z", spec.z_sign), tangent("w", spec.w_sign), strength),
            self.value,
            self.z,
            self.w,
            self.strength,
        )
        return spec.w_sign * moved

    def _operand(self, operand: Array | None, like: Array) -> Array:
        return operand if operand is not None else rho(self.tools, like, self.spec.axis)
