"""The fallback's operations on tensors, and the type that they are done in."""

from __future__ import annotations

import torch
from array_api_compat import torch as xp
from torch import Tensor

from diffsort.core.tools import Segments, Tools


class _Tools(Tools):
    """Scatter and gather, which the standard lacks."""

    def take(self, values: Tensor, positions: Tensor) -> Tensor:
        return values.gather(0, positions)

    def take_rows(self, values: Tensor, positions: Tensor) -> Tensor:
        return values.gather(-1, positions)

    def least(self, values: Tensor) -> Tensor:
        # By halves: torch's own reduction of the first axis takes several times as long.
        while values.shape[0] > 1:
            half = values.shape[0] // 2
            values = torch.minimum(values[:half], values[half:])
        return values

    def unsort(self, values: Tensor, permutation: Tensor) -> Tensor:
        return torch.empty_like(values).scatter(-1, permutation, values)

    def segments(self, starts: Tensor, axis: int) -> Segments:
        # In float32 long sums want fewer roundings than adding term by term has.
        if self.wide == torch.float32:
            return super().segments(starts, axis)
        return _Segments(starts, axis)

    def constant(self, values: Tensor) -> Tensor:
        return values.detach()


class _Segments:
    """Sums over blocks by scatter."""

    def __init__(self, starts: Tensor, axis: int) -> None:
        self.starts, self.axis = starts, axis

    def sum(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values).scatter_add(self.axis, self.starts, values)

    def max(self, values: Tensor) -> Tensor:
        lowest = torch.full_like(values, float("-inf"))
        return lowest.scatter_reduce(self.axis, self.starts, values, "amax")

    def at(self, sums: Tensor, starts: Tensor) -> Tensor:
        return sums.gather(self.axis, starts)


_WITHOUT_FLOAT64 = ("mps",)


def wide(values: Tensor) -> torch.dtype:
    """The widest float of the device."""
    return torch.float32 if values.device.type in _WITHOUT_FLOAT64 else torch.float64


def tools_of(values: Tensor) -> _Tools:
    return _Tools(xp, values.device, wide(values))


def strength_rows(strength: float | Tensor, values: Tensor) -> Tensor:
    """The strength in the wide type with as many dimensions as the values."""
    if isinstance(strength, Tensor):
        missing = values.ndim - strength.ndim
        return strength.to(wide(values)).reshape((1,) * missing + tuple(strength.shape))
    # A sum, not torch.full, for which Dynamo would compile anew for every number.
    zero = torch.zeros((1,) * values.ndim, dtype=wide(values), device=values.device)
    return zero + strength
