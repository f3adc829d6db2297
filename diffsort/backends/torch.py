"""PyTorch: a reference road for every transformation, and one fast road for plain eager calls.

Reference. The operator `diffsort::blocks` finds the blocks of the projection, as integers; the
value is then `diffsort.core.isotonic.value`, plain torch operations in float64 (float32 on devices
without it). Autograd, forward mode, torch.func, torch.compile and torch.export differentiate, batch
and trace those by themselves. On a device without a kernel, or where the fallback is asked for, the
operator is `diffsort::fallback_blocks`: `diffsort.core.fallback` in torch operations.

Fast. `_Projection` takes the value and first derivatives from the native solver. Derivatives of
these are formulas again: `diffsort.core.isotonic.vjp`.

`_is_plain` decides, and admits only what the fast road serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from array_api_compat import torch as xp
from torch import Tensor, get_num_threads, is_grad_enabled
from torch._C import (
    _are_functorch_transforms_active,
    _has_storage,
    _is_tracing,
    _len_torch_dispatch_stack,
    _len_torch_function_stack,
)
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from diffsort.backends import check_framework, check_sequence, solver
from diffsort.backends import numpy as numpy_backend
from diffsort.backends.kernels import Cpu, Cuda, Linearization, cuda_problem
from diffsort.core import fallback, isotonic
from diffsort.core.blocks import SegmentBlocks
from diffsort.core.checks import (
    broadcast_error,
    check_direction,
    check_same_length,
    check_strength,
    check_strength_shape,
    dtype_error,
    strength_type_error,
)
from diffsort.core.spec import KL, LOG_KL, Spec, present
from diffsort.core.tools import Segments, Tools, rho

NAME = "torch"

_COMPUTE = {  # the type that a floating type is solved in
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}
_PROMOTED = (
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)
_WITHOUT_COMPARISONS = (torch.uint16, torch.uint32, torch.uint64)
_PLAIN_TYPES = (Tensor, torch.nn.Parameter)

_is_exporting = getattr(torch.compiler, "is_exporting", None)  # from torch 2.7 on
_force_reference = False


@contextmanager
def reference_path() -> Iterator[None]:
    """Takes the reference road within the block, in all threads: for tests and for comparison."""
    global _force_reference
    before, _force_reference = _force_reference, True
    try:
        yield
    finally:
        _force_reference = before


def asarray(function: str, argument: str, values: Any, like: Tensor | None = None) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if is_dynamo_compiling() and isinstance(values, (list, tuple)):
        # Not by way of NumPy, whose dtypes Dynamo does not know.
        check_sequence(function, argument, values)
        if like is not None and like.is_floating_point():
            return torch.tensor(values, dtype=like.dtype, device=like.device)
        return torch.tensor(values)
    # By way of NumPy: one conversion of Python data, with one set of messages.
    array = numpy_backend.asarray(function, argument, values)
    if array.dtype.name == "bfloat16":  # known to ml_dtypes, not to torch.tensor
        return torch.tensor(array.astype(np.float32)).to(torch.bfloat16)
    try:
        tensor = torch.tensor(array.astype(array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise dtype_error(function, argument, f"dtype {array.dtype}") from None
    if isinstance(values, (np.ndarray, np.generic)):
        return tensor
    # Numbers of Python take the dtype of their surroundings.
    if like is not None and like.is_floating_point():
        return tensor.to(dtype=like.dtype, device=like.device)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def project(spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any) -> Tensor:
    values: Any = w if z is None else z
    if (  # the commonest arguments, which need neither checks nor conversions, in one look
        (z is None or w is None)
        and type(strength) is float
        and values.is_cpu
        and (values.dtype is torch.float32 or values.dtype is torch.float64)
        and _is_plain(values)
        and not values.is_nested
        and 0.0 <= strength < math.inf
        and solver.requested != "fallback"
    ):
        return _project_fast(spec, z, w, strength)
    z, w, dtype = _operands(spec, z, w)
    values = present(z, w)
    strength = _strength(spec, strength, values)
    if (
        solver.requested != "fallback"
        and all(_is_plain(operand) for operand in (z, w, strength) if isinstance(operand, Tensor))
        and _has_kernel(values)
    ):
        result = _project_fast(spec, z, w, strength)
    else:
        result = _project_reference(spec, z, w, strength)
    return result if result.dtype is dtype else result.to(dtype)


def vjp(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any, wrt: tuple[str, ...]
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    function, primals = _as_function(spec, z, w, strength, wrt)
    result, pull_back = torch.func.vjp(function, *primals)  # type: ignore[misc]
    return result, lambda cotangent: pull_back(_direction(spec, "cotangent", cotangent, result))


def jvp(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any, tangents: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    function, primals = _as_function(spec, z, w, strength, tuple(tangents))
    directions = tuple(
        _direction(spec, "tangent", tangent, primal)
        for tangent, primal in zip(tangents.values(), primals, strict=True)
    )
    result, tangent = torch.func.jvp(function, primals, directions)  # type: ignore[misc]
    return result, tangent


def _direction(spec: Spec, argument: str, values: Any, like: Tensor) -> Tensor:
    """A tangent or cotangent of `like`."""
    check_framework(spec.function, NAME, argument, values)
    tensor = asarray(spec.function, argument, values, like)
    _result_dtype(spec, argument, tensor)
    check_direction(spec.function, argument, tensor.shape, like.shape)
    return tensor.to(like.dtype)


def _as_function(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any, wrt: tuple[str, ...]
) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The projection as a function of the operands in `wrt`, and the point it is taken at."""
    _operands(spec, z, w)  # checks, before anything is converted
    strength = _strength(spec, strength, present(z, w))
    operands = {"z": z, "w": w, "strength": strength}
    for name in wrt:
        values = operands[name]
        if not isinstance(values, Tensor):  # a strength, kept as exact as a Python number
            values = torch.tensor(values, dtype=torch.float64)
        elif not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        operands[name] = values

    def function(*values: Tensor) -> Tensor:
        at = {**operands, **dict(zip(wrt, values, strict=True))}
        return project(spec, at["z"], at["w"], at["strength"])

    return function, tuple(operands[name] for name in wrt)


# --- arguments ------------------------------------------------------------------------------------


def _operands(
    spec: Spec, z: Tensor | None, w: Tensor | None
) -> tuple[Tensor | None, Tensor | None, torch.dtype]:
    """z and w in the type that the solver computes in, and the result's type."""
    if z is None or w is None:
        values = present(z, w)
        dtype = _result_dtype(spec, spec.argument, values)
        compute = _COMPUTE[dtype]
        if values.dtype is not compute:
            values = values.to(compute)
        return (None, values, dtype) if z is None else (values, None, dtype)
    dtype = torch.promote_types(_result_dtype(spec, "z", z), _result_dtype(spec, "w", w))
    check_same_length(spec.function, z.shape, w.shape, spec.axis)
    if z.device != w.device:
        raise ValueError(
            f"{spec.function}: z and w must be on one device, got {z.device} and {w.device}. "
            "Move one of them."
        )
    try:
        shape = torch.broadcast_shapes(z.shape, w.shape)
    except RuntimeError:
        raise broadcast_error(spec.function, z.shape, w.shape) from None
    compute = _COMPUTE[dtype]
    return z.to(compute).expand(shape), w.to(compute).expand(shape), dtype


def _result_dtype(spec: Spec, argument: str, values: Tensor) -> torch.dtype:
    _check_dense(spec, argument, values)
    if values.dtype in _COMPUTE:
        return values.dtype
    if values.dtype in _PROMOTED:
        return torch.get_default_dtype()
    raise dtype_error(spec.function, argument, values.dtype)


def _check_dense(spec: Spec, argument: str, values: Tensor) -> None:
    if values.layout is not torch.strided or values.is_nested:
        kind = "a nested tensor" if values.is_nested else f"layout {values.layout}"
        raise TypeError(
            f"{spec.function}: {argument} must be a dense tensor, got {kind}. "
            f"Pass {argument}.to_dense(), or a padded tensor."
        )


def _strength(spec: Spec, strength: Any, values: Tensor) -> float | Tensor:
    if type(strength) is float:
        check_strength(spec.function, strength)
        return strength
    if isinstance(strength, Tensor):
        return _strength_tensor(spec, strength, values)
    if isinstance(strength, (torch.SymFloat, torch.SymInt)):  # computed from a length of any size
        return _strength_rows(torch.sym_float(strength), values)
    check_framework(spec.function, NAME, "regularization_strength", strength)
    if is_dynamo_compiling() and isinstance(strength, (np.ndarray, np.generic)):
        # To Dynamo, NumPy's numbers are tensors; torch 2.13 exports them without their values.
        if _is_exporting is not None and _is_exporting():
            kind = "a number of NumPy, whose value torch.export(strict=True) loses"
            raise strength_type_error(spec.function, kind)
        return _strength_tensor(spec, torch.as_tensor(strength, device=values.device), values)
    return numpy_backend.strength_as_number(spec.function, strength)


def _strength_tensor(spec: Spec, strength: Tensor, values: Tensor) -> Tensor:
    _check_dense(spec, "regularization_strength", strength)
    if strength.dtype not in _COMPUTE:
        if strength.dtype not in _PROMOTED or strength.dtype is torch.bool:
            raise strength_type_error(spec.function, f"dtype {strength.dtype}")
        if strength.dtype in _WITHOUT_COMPARISONS:
            strength = strength.to(_wide(strength))
    check_strength_shape(spec.function, tuple(strength.shape), tuple(values.shape), spec.axis)
    if strength.device != values.device:
        raise ValueError(
            f"{spec.function}: regularization_strength must be on the device of {spec.argument}, "
            f"{values.device}, got {strength.device}. Pass regularization_strength.to(...)."
        )
    if _is_readable(strength):
        # Where the numbers cannot be looked at, rows with an invalid strength come out as NaN.
        detached = strength.detach()
        valid = (detached >= 0) & (detached < float("inf"))
        if not bool(valid.all()):
            check_strength(spec.function, float(detached[~valid].flatten()[0]))
    return strength


def _is_plain(tensor: Tensor) -> bool:
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


def _is_readable(tensor: Tensor) -> bool:
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


# --- the reference road ---------------------------------------------------------------------------


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


def _wide(values: Tensor) -> torch.dtype:
    """The widest float of the device."""
    return torch.float32 if values.device.type in _WITHOUT_FLOAT64 else torch.float64


def _tools(values: Tensor) -> _Tools:
    return _Tools(xp, values.device, _wide(values))


def _project_reference(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: float | Tensor
) -> Tensor:
    values = present(z, w)
    epsilon = _strength_rows(strength, values)
    tools, operators = _tools(values), torch.ops.diffsort
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
    missing = _missing_kernel(values)
    if missing is not None:
        what, device = f"{values.dtype} on {values.device}", values.device.type
        solver.fall_back_or_raise(spec.function, spec.argument, NAME, device, what, missing)
    return missing is None


def _has_kernel(values: Tensor) -> bool:
    return values.is_cpu or _missing_kernel(values) is None


def _missing_kernel(values: Tensor) -> str | None:
    """Why there is no kernel for the device of a tensor; None: there is one."""
    device = values.device
    if device.type in _ALWAYS_WITH_KERNEL:
        return None
    if device.type == "cuda" and torch.version.hip is None:
        index = torch.cuda.current_device() if device.index is None else device.index
        return cuda_problem(index)
    return f"there are none for {device.type}"


_ALWAYS_WITH_KERNEL = ("cpu", "meta")


def _strength_rows(strength: float | Tensor, values: Tensor) -> Tensor:
    """The strength in the wide type with as many dimensions as the values."""
    if isinstance(strength, Tensor):
        missing = values.ndim - strength.ndim
        return strength.to(_wide(values)).reshape((1,) * missing + tuple(strength.shape))
    # A sum, not torch.full, for which Dynamo would compile anew for every number.
    zero = torch.zeros((1,) * values.ndim, dtype=_wide(values), device=values.device)
    return zero + strength


def _signed(tools: Tools, sign: float, operand: Tensor | None, like: Tensor, axis: int) -> Tensor:
    """An operand of P in the wide type; an absent one is ρ."""
    return rho(tools, like, axis) if operand is None else sign * operand.to(tools.wide)


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
    kernels = _kernels(present(z, w))
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
    values = present(z, w)
    wide = _wide(values)
    block_z, block_w = fallback.find_blocks(
        _tools(values),
        None if z is None else z_sign * z.to(wide),
        None if w is None else w_sign * w.to(wide),
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
for _operator in (torch.ops.diffsort.blocks, torch.ops.diffsort.fallback_blocks):
    _qualified = _operator._qualified_op_name
    torch.library.register_fake(_qualified, _blocks_fake, lib=_library)
    torch.library.register_vmap(_qualified, partial(_blocks_vmap, _operator), lib=_library)


# --- the fast road --------------------------------------------------------------------------------


class _Memory:
    """Tensors as the native module has them: see `kernels.CudaMemory`."""

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


_cpu = Cpu(_Memory(), get_num_threads)
_cuda = Cuda(_Memory())


def _kernels(values: Any) -> Cpu | Cuda:
    return _cuda if values.is_cuda else _cpu


def _project_fast(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: float | Tensor
) -> Tensor:
    if is_grad_enabled() and (
        (z is not None and z.requires_grad)
        or (w is not None and w.requires_grad)
        or (not isinstance(strength, float) and strength.requires_grad)
    ):
        result: Tensor = _apply(z, w, strength, spec)
        return result
    epsilon = strength if isinstance(strength, float) else strength.to(torch.float64)
    solved = _kernels(w if z is None else z).project(spec, z, w, epsilon)[0]
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
        result, block_z, block_w = _kernels(w if z is None else z).project(
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
        if is_grad_enabled() or not _is_plain(cotangent):
            epsilon = strength if number is None else number
            at = Linearization(z, w, result, block_z, block_w, epsilon)
            needs = needs_z, needs_w, needs_strength
            return *_vjp_formula(spec, at, cotangent, *needs), None
        epsilon = number if strength is None else strength.to(torch.float64)
        of_z, of_w, of_strength = _kernels(cotangent).vjp(
            spec,
            (z, w, result, block_z, block_w, epsilon),
            cotangent,
            needs_z,
            needs_w,
            needs_strength,
        )
        if of_strength is not None:
            of_strength = _like_strength(of_strength, strength)
        return of_z, of_w, of_strength, None


# `_Projection.apply` without its look for transforms of functorch, which `_is_plain` has had.
_apply = super(torch.autograd.Function, _Projection).apply


def _vjp_formula(
    spec: Spec, at: Linearization, cotangent: Tensor, z: bool, w: bool, strength: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """In the terms of P: signs on the way in and on the way out. What is not needed is a zero."""
    tools = _tools(cotangent)
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
        _strength_rows(at.strength, cotangent),
    )
    dtype = cotangent.dtype
    return (
        (spec.z_sign * found.z).to(dtype) if z else None,
        (spec.w_sign * found.w).to(dtype) if w else None,
        _like_strength(found.strength, at.strength) if strength else None,
    )


def _like_strength(cotangent: Tensor, strength: float | Tensor) -> Tensor:
    assert isinstance(strength, Tensor)
    return cotangent.sum_to_size(strength.shape).to(strength.dtype)
