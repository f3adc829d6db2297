"""Isotonic regression of sorted rows as a tree: neighbouring solved halves are joined, all at once.

Two solved halves L | R, with block values that decrease in each, need at most one new block, which
bridges the point between them: it takes the last blocks of L and the first blocks of R. Two
searches find its ends. A left block of value t joins if the rest of what it would join, the blocks
of L behind it and those of R with values of at least t, has a value of at least t; a right block
joins if its value is at least that of all before it. Ties join. Both conditions are monotone, so a
search of a half of m elements is two rounds of about sqrt(m) probes.

Cost for rows of n elements: O(n log n) work, O(n) memory, O(log^2 n) array operations of shapes
that depend on n alone; no number is looked at.

Arrays have the shape (m, halves): halves are columns, so that what is done to short ones runs along
long rows. Column k of the first half of the columns is the left neighbour of column k of the
second half, on every level: `columns` brings the rows into that order, bit-reversed positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from diffsort.core.tools import Tools

Array = Any


class Limits(NamedTuple):
    """Which neighbours may share a block, and which must, for every position of the rows."""

    equal: Array  # true where z equals the z before it: the two must
    before: Array  # how many positions before this one may share a block with it
    behind: Array  # how many from this one on may


class Sums(Protocol):
    """Sums over parts of the solved halves, and what they are worth."""

    slack: float  # values that differ by no more are equal

    def meet(self, sizes: Array) -> tuple[Array, Array]:
        """The values of the blocks of L and of R, at each element; those of one pair compare."""

    def value(self, of_left: Array, of_right: Array) -> Array:
        """The value of the last `of_left` elements of L with the first `of_right` of R."""

    def join(self, of_left: Array, of_right: Array, inside: Array) -> None:
        """Makes those one block, `inside` of which the elements lie, and one half of each pair."""


def columns(tools: Tools, rows: Array) -> Array:
    """Rows (rows, n) as halves of one element, (1, n rows)."""
    xp = tools.xp
    n = rows.shape[-1]
    order = tools.arange(0, 1)
    while order.shape[0] < n:
        order = xp.concat([2 * order, 2 * order + 1])
    return xp.reshape(xp.take(xp.permute_dims(rows, (1, 0)), order, axis=0), (1, -1))


def cut(array: Array) -> tuple[Array, Array]:
    """The left and the right halves."""
    pairs = array.shape[1] // 2
    return array[:, :pairs], array[:, pairs:]


def pool(tools: Tools, n: int, sums: Sums, limits: Limits) -> Array:
    """For every position of the sorted rows, the position at which its block starts: (rows, n)."""
    xp = tools.xp
    limits = Limits(*(columns(tools, array) for array in limits))
    start = xp.zeros_like(limits.before)
    end = start + 1
    while start.shape[0] < n:
        start, end = _join(tools, start, end, sums, limits, 2 * start.shape[0] == n)
        limits = Limits(*(cut(array)[0] for array in limits))
    return xp.permute_dims(start, (1, 0))


def _join(
    tools: Tools, start: Array, end: Array, sums: Sums, limits: Limits, last_level: bool
) -> tuple[Array, Array]:
    """Joins the halves in pairs. `start` and `end` of blocks count from the start of their half."""
    xp = tools.xp
    m = start.shape[0]
    of_left, of_right = _bridge(tools, start, end, sums, limits)
    grid = tools.column(0, 2 * m)
    first, last = m - of_left, m + of_right
    inside = (grid >= first) & (grid < last)
    if not last_level:
        sums.join(of_left, of_right, inside)
    (start_left, start_right), (end_left, end_right) = cut(start), cut(end)
    return (
        xp.where(inside, first, xp.concat([start_left, start_right + m])),
        xp.where(inside, last, xp.concat([end_left, end_right + m])),
    )


def _bridge(
    tools: Tools, start: Array, end: Array, sums: Sums, limits: Limits
) -> tuple[Array, Array]:
    """How many elements of L and of R the bridging block has; both are 0 if there is none."""
    xp = tools.xp
    m = start.shape[0]
    forced, room_left, room_right = (cut(array)[1] for array in limits)
    left, right = sums.meet(end - start)
    if m == 1:
        joins = ((right >= left - sums.slack) | forced) & (room_left > 0)
        one_or_none = xp.astype(joins, tools.index)
        return one_or_none, one_or_none
    within = tools.column(0, m) < room_right
    right = xp.where(within, right, xp.full_like(right, float("-inf")))
    # For each element of L the number of those behind its block, for each of R those before it.
    behind, before = m - cut(end)[0], cut(start)[1]

    def left_joins(pick: _Pick, at: Array) -> Array:
        value, rest = pick(left) - sums.slack, pick(behind)
        others = _count_at_least(tools, right, value)
        joins = (others > 0) & (sums.value(rest, others) >= value)
        return (joins | (forced & (rest == 0))) & (at >= m - room_left)

    # Where values differ by rounding alone, a search may end inside of a block: blocks join whole.
    of_left = _count_last(tools, m, left_joins)
    first = tools.take(cut(start)[0], xp.clip(m - of_left, 0, m - 1))
    of_left = xp.where(of_left > 0, m - first, of_left)

    def right_joins(pick: _Pick, at: Array) -> Array:
        value, others = pick(right), pick(before)
        joins = (others == 0) | (value >= sums.value(of_left, others) - sums.slack)
        return joins & (at < room_right) & (of_left > 0)

    of_right = _count_first(tools, m, right_joins)
    last = tools.take(cut(end)[1], xp.clip(of_right - 1, 0, m - 1))
    return of_left, xp.where(of_right > 0, last, of_right)


# --- monotone searches ----------------------------------------------------------------------------

_ALL = 3  # among up to 2^3 candidates every one is probed
_Pick = Callable[[Array], Array]


def _rounds(m: int, bits: int) -> list[tuple[int, int]]:
    """(probes, distance between them) of each round of a search among m = 2^k candidates."""
    left = m.bit_length() - 1
    found = []
    while True:
        now = min(bits, left)
        left -= now
        found.append((2**now, 2**left))
        if left == 0:
            return found


def _count_first(tools: Tools, m: int, holds: Callable[[_Pick, Array], Array]) -> Array:
    """How many elements hold before the first that does not."""
    found = None
    for probes, apart in _rounds(m, max(_ALL, m.bit_length() // 2)):
        offsets = tools.column(apart - 1, apart * probes, apart)
        if found is None:
            found = apart * _leading(tools, holds(_every(apart - 1, apart), offsets))
        else:
            at = found + offsets
            yes = holds(_those(tools, at, m), at) & (at < m)
            found = found + apart * _leading(tools, yes)
    return found


def _count_last(tools: Tools, m: int, holds: Callable[[_Pick, Array], Array]) -> Array:
    """How many elements hold behind the last that does not."""
    found = None
    for probes, apart in _rounds(m, max(_ALL, m.bit_length() // 2)):
        if found is None:
            yes = holds(_every(0, apart), tools.column(0, m, apart))
            found = apart * _trailing(tools, yes)
        else:
            at = (m - apart * probes) - found + tools.column(0, apart * probes, apart)
            yes = holds(_those(tools, at, m), at) & (at >= 0)
            found = found + apart * _trailing(tools, yes)
    return found


def _every(first: int, step: int) -> _Pick:
    return lambda array: array[first::step, :]


def _those(tools: Tools, at: Array, m: int) -> _Pick:
    """Positions from 0 to m - 1 as they are; others stand for any."""
    inside = tools.xp.clip(at, 0, m - 1)
    return lambda array: tools.take(array, inside)


def _count_at_least(tools: Tools, values: Array, bounds: Array) -> Array:
    """How many of the decreasing values (m, pairs) are at least each of the bounds (k, pairs)."""
    xp = tools.xp
    (m, pairs), k = values.shape, bounds.shape[0]
    found = None
    for probes, apart in _rounds(m, _ALL):
        if found is None:
            yes = values[apart - 1 :: apart, None, :] >= bounds[None, :, :]
            found = apart * _leading(tools, yes)[0, ...]
        else:
            at = found[None, :, :] + tools.column(apart - 1, apart * probes, apart)[:, :, None]
            inside = xp.reshape(xp.clip(at, 0, m - 1), (probes * k, pairs))
            probed = xp.reshape(tools.take(values, inside), (probes, k, pairs))
            yes = (probed >= bounds[None, :, :]) & (at < m)
            found = found + apart * _leading(tools, yes)[0, ...]
    return found


# What holds is a run, but for rounding, which can let others hold far away from it: count the run.


def _leading(tools: Tools, yes: Array) -> Array:
    """How many hold, along the first axis, before the first that does not."""
    return _least_failing(tools, yes, _numbered(tools, yes))


def _trailing(tools: Tools, yes: Array) -> Array:
    """How many hold behind the last that does not."""
    return _least_failing(tools, yes, yes.shape[0] - 1 - _numbered(tools, yes))


def _least_failing(tools: Tools, yes: Array, index: Array) -> Array:
    """The least index of those that do not hold, and the number of all if every one does."""
    xp = tools.xp
    return tools.least(xp.where(yes, xp.full_like(index, yes.shape[0]), index))


def _numbered(tools: Tools, yes: Array) -> Array:
    index = tools.xp.reshape(tools.arange(0, yes.shape[0]), (-1,) + (1,) * (yes.ndim - 1))
    return tools.xp.broadcast_to(index, yes.shape)
