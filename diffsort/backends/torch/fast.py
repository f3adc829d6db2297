"""The fast path: the value and first derivatives from the native solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, is_grad_enabled

from diffsort.backends.kernels import Linearization
from diffsort.backends.torch import reference
from diffsort.backends.torch.kernels import kernels_of
from diffsort.backends.torch.paths import is_plain
from diffsort.core.spec import KL, LOG_KL, Spec


def project(spec: Spec, z: Tensor | None, w: Tensor | None, strength: float | Tensor) -> Tensor:
    if is_grad_enabled() and (
        (z is not None and z.requires_grad)
        or (w is not None and w.requires_grad)
        or (not isinstance(strength, float) and strength.requires_grad)
    ):
        result: Tensor = _apply(z, w, strength, spec)
        return result
    epsilon = strength if isinstance(strength, float) else strength.to(torch.float64)
    solved = kernels_of(w if z is None else z).project(spec, z, w, epsilon)[0]
    assert solved is not None
    return solved


class _Projection(torch.autograd.Function):
    """The projection and its first derivatives by the native solver."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor | None, w: Tensor | None, strength: float | Tensor, spec: Spec
    ) -> Tensor:
        _, needs_w, needs_strength, _ = ctx.needs_input_grad
        is_number = isinstance(strength, float)
        epsilon = strength if isinstance(strength, float) else strength.to(torch.float64)
        result, block_z, block_w = kernels_of(w if z is None else z).project(
            spec, z, w, epsilon, True, True, needs_w
        )
        assert result is not None
        # No more is kept than the derivatives read, in the order of `Linearization`.
        ctx.save_for_backward(
            z if needs_strength or (needs_w and spec.regularization == KL) else None,
            w if needs_w and spec.regularization == LOG_KL else None,
            result if spec.regularization == KL else None,
            block_z,
            block_w,
            None if is_number else strength,
        )
        ctx.static = spec, strength if is_number else None
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        spec, number = ctx.static
        z, w, result, block_z, block_w, strength = ctx.saved_tensors
        needs_z, needs_w, needs_strength, _ = ctx.needs_input_grad
        # A graph of the derivative is wanted, or the engine runs batched: then by formula.
        if is_grad_enabled() or not is_plain(cotangent):
            epsilon = strength if number is None else number
            at = Linearization(z, w, result, block_z, block_w, epsilon)
            needs = needs_z, needs_w, needs_strength
            return *reference.vjp(spec, at, cotangent, *needs), None
        epsilon = number if strength is None else strength.to(torch.float64)
        of_z, of_w, of_strength = kernels_of(cotangent).vjp(
            spec,
            (z, w, result, block_z, block_w, epsilon),
            cotangent,
            needs_z,
            needs_w,
            needs_strength,
        )
        if of_strength is not None:
            of_strength = reference.like_strength(of_strength, strength)
        return of_z, of_w, of_strength, None


# `_Projection.apply` without its look for transforms of functorch, which `is_plain` has had.
_apply = super(torch.autograd.Function, _Projection).apply
