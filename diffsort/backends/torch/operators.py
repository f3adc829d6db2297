"""The custom operators that find the blocks of a projection, as integers.

`diffsort::blocks` is the native solver, with a fake and a batching rule;
`diffsort::fallback_blocks` is `diffsort.core.fallback` in torch operations, for all devices.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffsort.backends.torch.kernels import kernels_of
from diffsort.backends.torch.tools import tools_of
from diffsort.core import fallback
from diffsort.core.spec import Spec, present

_library = torch.library.Library("diffsort", "DEF")
for _name in ("blocks", "fallback_blocks"):
    _library.define(
        f"{_name}(Tensor? z, Tensor? w, Tensor strength, int axis, int regularization,"
        " float z_sign, float w_sign) -> (Tensor, Tensor)",
        tags=(torch.Tag.pt2_compliant_tag,),
    )


def _blocks_native(
    z: Tensor | None,
    w: Tensor | None,
    strength: Tensor,
    axis: int,
    regularization: int,
    z_sign: float,
    w_sign: float,
) -> tuple[Tensor, Tensor]:
    spec = Spec("", "", axis, regularization, z_sign, w_sign)
    kernels = kernels_of(present(z, w))
    _, block_z, block_w = kernels.project(spec, z, w, strength, False, True, True)
    assert block_z is not None
    assert block_w is not None
    return block_z.contiguous(), block_w.contiguous()


def _blocks_anywhere(
    z: Tensor | None,
    w: Tensor | None,
    strength: Tensor,
    axis: int,
    regularization: int,
    z_sign: float,
    w_sign: float,
) -> tuple[Tensor, Tensor]:
    """On the device of the operands, whichever it is: nothing goes through the host."""
    tools = tools_of(present(z, w))
    block_z, block_w = fallback.find_blocks(
        tools,
        None if z is None else z_sign * z.to(tools.wide),
        None if w is None else w_sign * w.to(tools.wide),
        strength,
        axis,
        regularization,
    )
    # Outputs of an operator are contiguous here, and not one and the same.
    return block_z.contiguous(), block_w.clone(memory_format=torch.contiguous_format)


def _blocks_fake(
    z: Tensor | None, w: Tensor | None, strength: Tensor, *static: Any
) -> tuple[Tensor, Tensor]:
    values = present(z, w)
    block = torch.empty(values.shape, dtype=torch.int32, device=values.device)
    return block, torch.empty_like(block)


def _blocks_vmap(
    operator: Any, info: Any, in_dims: tuple[int | None, ...], *args: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    # Axes are negative, so a batch axis in front moves none of them.
    def batched(operand: Tensor | None, dim: int | None) -> Tensor | None:
        if operand is None:
            return None
        if dim is None:
            return operand.expand(info.batch_size, *operand.shape)
        return operand.movedim(dim, 0)

    operands = [batched(operand, dim) for operand, dim in zip(args[:3], in_dims[:3], strict=True)]
    return operator(*operands, *args[3:]), (0, 0)


for _device in ("CPU", "CUDA"):
    _library.impl("blocks", _blocks_native, _device)
_library.impl("fallback_blocks", _blocks_anywhere, "CompositeExplicitAutograd")
blocks, fallback_blocks = torch.ops.diffsort.blocks, torch.ops.diffsort.fallback_blocks
for _operator in (blocks, fallback_blocks):
    _qualified = _operator._qualified_op_name
    torch.library.register_fake(_qualified, _blocks_fake, lib=_library)
    torch.library.register_vmap(_qualified, partial(_blocks_vmap, _operator), lib=_library)
