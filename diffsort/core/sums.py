"""Sums over parts of solved halves, for the tree of `pooling`, and the values of blocks from them.

Nothing is taken as the difference of long sums. A half keeps the sums from its first element to
each one (`fore`) and from each one to its last (`aft`), so what crosses the point between two
halves is added up from that point outwards, about log2(n) additions deep. Terms are measured from
the element at that point, so an element far away costs the neighbours of the point no digits. When
halves become one, what was measured from its old end is moved by the difference of the two ends.

Values are those of Blondel et al. (2020), section 4, in y = s - w:
    l2: mean_B(y)      kl: lse_B(s) - log sum_B(w)      log_kl: lse_B(s) - lse_B(w)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from diffsort.core.pooling import columns, cut
from diffsort.core.tools import Tools

Array = Any


class Ends(NamedTuple):
    """A sorted operand at the first element of every half, and at the one behind its last."""

    first: Array
    behind: Array  # behind the end of a row any other number

    @property
    def centre(self) -> Array:
        """At the first element of R."""
        return cut(self.first)[1]

    @property
    def of_pair(self) -> Ends:
        return Ends(cut(self.first)[0], cut(self.behind)[1])


class Crossing(NamedTuple):
    """The last elements of L and the first of R, by their numbers, across the point between."""

    tools: Tools
    first: Array  # where the part of L begins, and 1, or 0 if it is empty
    some_left: Array
    last: Array  # where the part of R ends, likewise
    some_right: Array

    @classmethod
    def of(cls, tools: Tools, m: int, of_left: Array, of_right: Array) -> Crossing:
        clip = tools.xp.clip
        return cls(
            tools,
            clip(m - of_left, 0, m - 1),
            tools.real(of_left > 0),
            clip(of_right - 1, 0, m - 1),
            tools.real(of_right > 0),
        )

    def left(self, array: Array) -> Array:
        """`array` where the part of L begins, and 0 if it is empty."""
        return self.tools.take(array, self.first) * self.some_left

    def right(self, array: Array) -> Array:
        return self.tools.take(array, self.last) * self.some_right


class L2Sums:
    """Sums of y, in units in which y = z - strength w does not overflow."""

    slack = 0.0

    def __init__(self, tools: Tools, z: Array, w: Array, strength: Array) -> None:
        self.tools = tools
        unit, strength = _units(tools, z, w, strength)
        self.unit, self.strength = (_per_row(tools, each, z) for each in (unit, strength))
        self.z, self.w = _ends(tools, z), _ends(tools, w)
        self.fore = tools.xp.zeros_like(self.z.first)  # from the first element of the half
        self.aft = self._difference(self.z.first, self.z.behind, self.w.first, self.w.behind)
        self.block_fore, self.block_aft = self.fore, self.aft  # of each element's block, likewise

    def meet(self, sizes: Array) -> tuple[Array, Array]:
        pairs = sizes.shape[1] // 2
        self.unit, self.strength = self.unit[:, :pairs], self.strength[:, :pairs]
        self.sizes = cut(self.tools.real(sizes))
        self.forth, self.back = cut(self.fore), cut(self.aft)
        self.block_forth, self.block_back = cut(self.block_fore), cut(self.block_aft)
        # Equal fractions of exact sums have equal quotients: exact ties are ties.
        return self.block_back[0] / self.sizes[0], self.block_forth[1] / self.sizes[1]

    def value(self, of_left: Array, of_right: Array) -> Array:
        return self._total(of_left, of_right) / self.tools.real(of_left + of_right)

    def join(self, of_left: Array, of_right: Array, inside: Array) -> None:
        xp, tools, z, w = self.tools.xp, self.tools, self.z, self.w
        m = self.aft.shape[0]
        total, size = self._total(of_left, of_right), tools.real(of_left + of_right)
        self.z, self.w = z.of_pair, w.of_pair
        to_first = self._difference(z.centre, self.z.first, w.centre, self.w.first)
        to_end = self._difference(z.centre, self.z.behind, w.centre, self.w.behind)
        count = tools.real(tools.column(1, m + 1))
        left, right = self.forth
        self.fore = xp.concat([left, right + (count * to_first + left[-1:, :])])
        left, right = self.back
        self.aft = xp.concat([left + ((m + 1 - count) * to_end + right[:1, :]), right])
        left, right = self.block_forth
        moved = xp.concat([left, right + self.sizes[1] * to_first])
        self.block_fore = xp.where(inside, total + size * to_first, moved)
        left, right = self.block_back
        moved = xp.concat([left + self.sizes[0] * to_end, right])
        self.block_aft = xp.where(inside, total + size * to_end, moved)

    def _difference(self, z: Array, z_from: Array, w: Array, w_from: Array) -> Array:
        """y - y_from."""
        return self.unit * (z - z_from) - self.strength * (w - w_from)

    def _total(self, of_left: Array, of_right: Array) -> Array:
        part = Crossing.of(self.tools, self.aft.shape[0], of_left, of_right)
        return part.left(self.back[0]) + part.right(self.forth[1])


class KLSums:
    """Sums of exp(s) and of W = w or exp(w), each relative to its first term, the largest one.

    Of values the logarithms are kept; that of a block without weight is inf.
    """

    def __init__(self, tools: Tools, z: Array, w: Array, strength: Array, log_w: bool) -> None:
        self.tools, self.log_w = tools, log_w
        self.slack = 2 * tools.epsilon  # a quotient and its logarithm
        self.strength = _per_row(tools, strength, z)
        self.z, self.w = _ends(tools, z), _ends(tools, w)
        self.all_z, self.all_w = self.z.first, self.w.first
        one = tools.xp.ones_like(self.all_z)
        self.fore_s = self.aft_s = one
        self.fore_w = self.aft_w = one if log_w else self.all_w
        self.block_fore = -tools.xp.log(self.fore_w)  # from the first element of the half
        self.block_aft = self.block_fore + self._difference(
            self.z.first, self.z.behind, self.w.first, self.w.behind
        )

    def meet(self, sizes: Array) -> tuple[Array, Array]:
        self.strength = self.strength[:, : sizes.shape[1] // 2]
        self.s = self._ds(cut(self.all_z)[0], self.z.centre)  # of L, at least 0
        self.v = self._dw(cut(self.all_w)[0], self.w.centre) if self.log_w else None
        self.forth_s, self.back_s = cut(self.fore_s), cut(self.aft_s)
        self.forth_w, self.back_w = cut(self.fore_w), cut(self.aft_w)
        self.block_forth, self.block_back = cut(self.block_fore), cut(self.block_aft)
        return self.block_back[0], self.block_forth[1]

    def value(self, of_left: Array, of_right: Array) -> Array:
        xp = self.tools.xp
        part = Crossing.of(self.tools, self.aft_s.shape[0], of_left, of_right)
        apart = part.left(self.s)
        sum_s = part.left(self.back_s[0]) + part.right(self.forth_s[1]) * xp.exp(-apart)
        sum_w, of_w = part.left(self.back_w[0]), part.right(self.forth_w[1])
        if self.v is None:
            return apart - xp.log((sum_w + of_w) / sum_s)
        apart_w = part.left(self.v)
        return (apart - apart_w) - xp.log((sum_w + of_w * xp.exp(-apart_w)) / sum_s)

    def join(self, of_left: Array, of_right: Array, inside: Array) -> None:
        xp, z, w = self.tools.xp, self.z, self.w
        value = self.value(of_left, of_right)
        self.z, self.w = z.of_pair, w.of_pair
        ds = self._ds(z.centre, self.z.first)
        to_first, to_end = ds, self._ds(z.centre, self.z.behind)
        self.fore_s = _extended(xp, *self.forth_s, xp.exp(ds))
        self.aft_s = _preceded(xp, *self.back_s, xp.exp(-self.s))
        self.all_z = xp.concat(cut(self.all_z))
        if self.v is None:
            self.fore_w = _extended(xp, *self.forth_w, 1.0)
            self.aft_w = _preceded(xp, *self.back_w, 1.0)
        else:
            dw = self._dw(w.centre, self.w.first)
            to_first, to_end = to_first - dw, to_end - self._dw(w.centre, self.w.behind)
            self.fore_w = _extended(xp, *self.forth_w, xp.exp(dw))
            self.aft_w = _preceded(xp, *self.back_w, xp.exp(-self.v))
            self.all_w = xp.concat(cut(self.all_w))
        left, right = self.block_forth
        self.block_fore = xp.where(inside, value + to_first, xp.concat([left, right + to_first]))
        left, right = self.block_back
        self.block_aft = xp.where(inside, value + to_end, xp.concat([left + to_end, right]))

    def _difference(self, z: Array, z_from: Array, w: Array, w_from: Array) -> Array:
        """y - y_from, where y = s if w is linear."""
        s = self._ds(z, z_from)
        return s - self._dw(w, w_from) if self.log_w else s

    def _ds(self, z: Array, z_from: Array) -> Array:
        return self._finite((z - z_from) / self.strength)

    def _dw(self, w: Array, w_from: Array) -> Array:
        return self._finite(w - w_from)

    def _finite(self, difference: Array) -> Array:
        bound = self.tools.largest / 8
        return self.tools.xp.clip(difference, -bound, bound)


def _extended(xp: Any, left: Array, right: Array, scale: Array | float) -> Array:
    """Sums from the first element of a pair; `scale` brings those of R to it."""
    return xp.concat([left, right * scale + left[-1:, :]])


def _preceded(xp: Any, left: Array, right: Array, scale: Array | float) -> Array:
    """Sums to the last element of a pair; `scale` brings that of all R to each element of L."""
    return xp.concat([left + right[:1, :] * scale, right])


def _ends(tools: Tools, rows: Array) -> Ends:
    """Of halves of one element."""
    behind = tools.xp.concat([rows[:, 1:], rows[:, -1:]], axis=-1)
    return Ends(columns(tools, rows), columns(tools, behind))


def _per_row(tools: Tools, numbers: Array, rows: Array) -> Array:
    """One number per row (rows, 1), at every column of `rows`."""
    count, n = rows.shape
    xp = tools.xp
    return xp.reshape(xp.broadcast_to(xp.reshape(numbers, (1, count)), (n, count)), (1, -1))


def _units(tools: Tools, z: Array, w: Array, strength: Array) -> tuple[Array, Array]:
    """A power of two and its product with the strength: y in these units, summed, stays finite."""
    xp = tools.xp
    tiny = xp.full_like(strength, tools.smallest)

    def log2_of(x: Array) -> Array:
        return xp.log2(xp.maximum(xp.max(xp.abs(x), axis=-1, keepdims=True), tiny))

    size = xp.maximum(log2_of(z), log2_of(w) + log2_of(strength))
    excess = xp.ceil(size + (8.0 + z.shape[-1].bit_length() - math.log2(tools.largest)))
    zero = xp.zeros_like(excess)
    unit = xp.where(excess > 0, 2.0 ** -xp.where(excess > 0, excess, zero), zero + 1.0)
    return unit, unit * strength
