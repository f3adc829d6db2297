"""Sums over the blocks of rows, from the block ids that the solvers find."""

from __future__ import annotations

from typing import Any

from diffsort.core.isotonic import Side
from diffsort.core.tools import Tools

Array = Any


class SegmentBlocks:
    """`isotonic.Blocks` by the segment sums of a library."""

    def __init__(self, tools: Tools, block_z: Array, block_w: Array, axis: int) -> None:
        self.tools, self.axis = tools, axis
        self.nan_row = block_z == -1
        self.infinite = block_z <= -2
        self._starts = {"z": self._positions(block_z), "w": self._positions(block_w)}
        self._segments = {
            side: tools.segments(starts, axis) for side, starts in self._starts.items()
        }

    def total(self, values: Array, *, of: Side, at: Side) -> Array:
        segments = self._segments[of]
        return segments.at(segments.sum(values), self._starts[at])

    def maximum(self, values: Array, *, of: Side, at: Side) -> Array:
        segments = self._segments[of]
        return segments.at(segments.max(self.tools.constant(values)), self._starts[at])

    def _positions(self, block: Array) -> Array:
        """Block ids as positions; in a NaN row, where there are none, any position serves."""
        xp = self.tools.xp
        starts = xp.where(block < -1, -2 - block, xp.where(block < 0, 0 * block, block))
        return xp.astype(starts, self.tools.index)
