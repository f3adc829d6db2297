"""Which path a call takes: whether tensors are plain, and may be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._C import (
    _are_functorch_transforms_active,
    _has_storage,
    _is_tracing,
    _len_torch_dispatch_stack,
    _len_torch_function_stack,
)
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)

_force_reference = False


@contextmanager
def reference_path() -> Iterator[None]:
    """Takes the reference path within the block, in all threads: for tests and for comparison."""
    global _force_reference
    before, _force_reference = _force_reference, True
    try:
        yield
    finally:
        _force_reference = before


def is_plain(tensor: Tensor) -> bool:
    """A plain tensor, and nothing around that would have to see or change what is computed."""
    return not (
        _is_transformed()
        or _force_reference
        or _len_torch_function_stack() > 0
        or forward_ad._current_level >= 0
    ) and (
        type(tensor) in _PLAIN_TYPES
        and (tensor.is_cpu or tensor.is_cuda)
        and _has_storage(tensor)  # not so in the autograd engine's own batching
        and not tensor._is_zerotensor()  # autograd's zeros, which take no memory
        and not tensor.is_neg()  # a lazy bit, of which DLPack knows nothing
    )


def is_readable(tensor: Tensor) -> bool:
    """Whether its numbers can be looked at, without a wait for another device."""
    return (
        tensor.is_cpu
        and not _is_transformed()
        and (
            isinstance(tensor, torch.nn.Parameter)
            or (type(tensor) is Tensor and _has_storage(tensor))
        )
    )


def _is_transformed() -> bool:
    """Whether calls are traced or batched, so that tensors may stand for others. Every tracer but
    Dynamo has modes for it."""
    return (
        is_dynamo_compiling()
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
        or _is_tracing()
    )
