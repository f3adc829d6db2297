"""The reference path: the projection and its VJP in torch operations, from the blocks."""

from __future__ import annotations

import torch
from array_api_compat import torch as xp
from torch import Tensor

from diffsort.backends import solver
from diffsort.backends.kernels import Linearization
from diffsort.backends.torch import operators
from diffsort.backends.torch.kernels import missing_kernel
from diffsort.backends.torch.tools import strength_rows, tools_of
from diffsort.core import isotonic
from diffsort.core.blocks import SegmentBlocks
from diffsort.core.spec import Spec, present
from diffsort.core.tools import Tools, rho


def project(spec: Spec, z: Tensor | None, w: Tensor | None, strength: float | Tensor) -> Tensor:
    values = present(z, w)
    epsilon = strength_rows(strength, values)
    tools = tools_of(values)
    find_blocks = operators.blocks if _use_native(spec, values) else operators.fallback_blocks
    block_z, block_w = find_blocks(
        None if z is None else z.detach(),
        None if w is None else w.detach(),
        epsilon.detach(),
        *spec[2:],
    )
    result = isotonic.value(
        xp,
        SegmentBlocks(tools, block_z, block_w, spec.axis),
        spec.regularization,
        _signed(tools, spec.z_sign, z, values, spec.axis),
        _signed(tools, spec.w_sign, w, values, spec.axis),
        epsilon,
    )
    return (spec.w_sign * result + 0.0).to(values.dtype)  # never -0


def _use_native(spec: Spec, values: Tensor) -> bool:
    if solver.requested == "fallback":
        return False
    missing = missing_kernel(values)
    if missing is not None:
        what, device = f"{values.dtype} on {values.device}", values.device.type
        solver.fall_back_or_raise(spec.function, spec.argument, "torch", device, what, missing)
    return missing is None


def vjp(
    spec: Spec, at: Linearization, cotangent: Tensor, z: bool, w: bool, strength: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """In the terms of P: signs on the way in and on the way out. What is not needed is a zero."""
    tools = tools_of(cotangent)
    zero = torch.zeros_like(at.block_z, dtype=tools.wide)
    block_w = at.block_z if at.block_w is None else at.block_w
    found = isotonic.vjp(
        xp,
        SegmentBlocks(tools, at.block_z, block_w, spec.axis),
        spec.regularization,
        spec.w_sign * cotangent.to(tools.wide),
        zero if at.result is None else spec.w_sign * at.result.to(tools.wide),
        _signed(tools, spec.z_sign, at.z, cotangent, spec.axis) if w or strength else zero,
        zero if at.w is None else spec.w_sign * at.w.to(tools.wide),
        strength_rows(at.strength, cotangent),
    )
    dtype = cotangent.dtype
    return (
        (spec.z_sign * found.z).to(dtype) if z else None,
        (spec.w_sign * found.w).to(dtype) if w else None,
        like_strength(found.strength, at.strength) if strength else None,
    )


def like_strength(cotangent: Tensor, strength: float | Tensor) -> Tensor:
    """Summed to the shape that the call broadcast, and in its dtype."""
    assert isinstance(strength, Tensor)
    return cotangent.sum_to_size(strength.shape).to(strength.dtype)


def _signed(tools: Tools, sign: float, operand: Tensor | None, like: Tensor, axis: int) -> Tensor:
    """An operand of P in the wide type; an absent one is ρ."""
    return rho(tools, like, axis) if operand is None else sign * operand.to(tools.wide)
