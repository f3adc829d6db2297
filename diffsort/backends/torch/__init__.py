"""PyTorch: a reference path for every transformation, and one fast path for plain eager calls.

Reference. The operator `diffsort::blocks` finds the blocks of the projection, as integers; the
value is then `diffsort.core.isotonic.value`, plain torch operations in float64 (float32 on devices
without it). Autograd, forward mode, torch.func, torch.compile and torch.export differentiate, batch
and trace those by themselves. On a device without a kernel, or where the fallback is asked for, the
operator is `diffsort::fallback_blocks`: `diffsort.core.fallback` in torch operations.

Fast. `fast._Projection` takes the value and first derivatives from the native solver. Derivatives
of these are formulas again: `diffsort.core.isotonic.vjp`.

`paths.is_plain` decides, and admits only what the fast path serves.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from diffsort.backends import solver
from diffsort.backends.functional import Functional
from diffsort.backends.torch.arguments import (
    as_float,
    asarray,
    checked_operands,
    read_direction,
    read_operands,
    read_strength,
)
from diffsort.backends.torch.fast import project as project_fast
from diffsort.backends.torch.kernels import has_kernel
from diffsort.backends.torch.paths import is_plain, reference_path
from diffsort.backends.torch.reference import project as project_reference
from diffsort.core.spec import Spec, present

__all__ = ["NAME", "asarray", "jvp", "project", "reference_path", "vjp"]

NAME = "torch"


def project(spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any) -> Tensor:
    values: Any = w if z is None else z
    if (  # the commonest arguments, which need neither checks nor conversions, in one look
        (z is None or w is None)
        and type(strength) is float
        and values.is_cpu
        and (values.dtype is torch.float32 or values.dtype is torch.float64)
        and is_plain(values)
        and not values.is_nested
        and 0.0 <= strength < math.inf
        and solver.requested != "fallback"
    ):
        return project_fast(spec, z, w, strength)
    z, w, dtype = read_operands(spec, z, w)
    values = present(z, w)
    strength = read_strength(spec, strength, values)
    if (
        solver.requested != "fallback"
        and all(is_plain(operand) for operand in (z, w, strength) if isinstance(operand, Tensor))
        and has_kernel(values)
    ):
        result = project_fast(spec, z, w, strength)
    else:
        result = project_reference(spec, z, w, strength)
    return result if result.dtype is dtype else result.to(dtype)


_functional = Functional(torch.func, project, checked_operands, as_float, read_direction)
vjp, jvp = _functional.vjp, _functional.jvp
