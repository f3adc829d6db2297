"""The native solver on tensors, and the devices that it has kernels for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, get_num_threads

from diffsort.backends.kernels import Cpu, Cuda, cuda_problem


class Memory:
    """Tensors as the native module has them: see `CudaMemory`."""

    int32, float64 = torch.int32, torch.float64

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=like.device)

    empty_like = staticmethod(partial(torch.empty_like, memory_format=torch.contiguous_format))

    @staticmethod
    def zeros(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=like.device)

    @staticmethod
    def lend(tensor: Any) -> Any:
        """As DLPack exports it, which knows neither gradients nor the lazy negative bit."""
        if not isinstance(tensor, Tensor):
            return tensor
        if tensor.requires_grad:
            tensor = tensor.detach()
        return tensor.resolve_neg() if tensor.is_neg() else tensor

    @staticmethod
    def moveaxis(tensor: Tensor, source: int, destination: int) -> Tensor:
        return tensor.movedim(source, destination)

    @staticmethod
    def broadcast(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        return tensor.expand(shape)

    @staticmethod
    def dense(tensor: Tensor) -> Tensor:
        return tensor.contiguous()

    @staticmethod
    def strides(tensor: Tensor) -> tuple[int, ...]:
        return tensor.stride()

    @staticmethod
    def stream(like: Tensor) -> int:
        return int(torch.cuda.current_stream(like.device).cuda_stream)

    @staticmethod
    def on_device(like: Tensor) -> AbstractContextManager[Any]:
        return nullcontext()  # `empty` says the device


_cpu = Cpu(Memory(), get_num_threads)
_cuda = Cuda(Memory())


def kernels_of(values: Any) -> Cpu | Cuda:
    return _cuda if values.is_cuda else _cpu


def has_kernel(values: Tensor) -> bool:
    return values.is_cpu or missing_kernel(values) is None


def missing_kernel(values: Tensor) -> str | None:
    """Why there is no kernel for the device of a tensor; None: there is one."""
    device = values.device
    if device.type in _ALWAYS_WITH_KERNEL:
        return None
    if device.type == "cuda" and torch.version.hip is None:
        index = torch.cuda.current_device() if device.index is None else device.index
        return cuda_problem(index)
    return f"there are none for {device.type}"


_ALWAYS_WITH_KERNEL = ("cpu", "meta")
