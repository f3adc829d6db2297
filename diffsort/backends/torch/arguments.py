"""Arguments as the solver reads them, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from diffsort.backends import check_framework, check_sequence
from diffsort.backends import numpy as numpy_backend
from diffsort.backends.torch.paths import is_readable
from diffsort.backends.torch.tools import strength_rows, wide
from diffsort.core.checks import (
    broadcast_error,
    check_direction,
    check_one_device,
    check_same_length,
    check_strength,
    check_strength_device,
    check_strength_shape,
    dtype_error,
    strength_type_error,
)
from diffsort.core.spec import Spec, present

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

_is_exporting = getattr(torch.compiler, "is_exporting", None)  # from torch 2.7 on


def asarray(function: str, argument: str, values: Any, like: Tensor | None = None) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if is_dynamo_compiling() and isinstance(values, (list, tuple)):
        # Not by way of NumPy, whose dtypes Dynamo does not know.
        check_sequence(function, argument, values)
        if like is None:
            return torch.tensor(values)
        dtype = like.dtype if like.is_floating_point() else None
        return torch.tensor(values, dtype=dtype, device=like.device)
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
    # Numbers of Python take the dtype and the device of their surroundings.
    dtype = torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype
    if like is None:
        return tensor.to(dtype)
    return tensor.to(dtype=like.dtype if like.is_floating_point() else dtype, device=like.device)


def read_operands(
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
    check_one_device(spec.function, z.device, w.device)
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


def read_strength(spec: Spec, strength: Any, values: Tensor) -> float | Tensor:
    if type(strength) is float:
        check_strength(spec.function, strength)
        return strength
    if isinstance(strength, Tensor):
        return _strength_tensor(spec, strength, values)
    if isinstance(strength, (torch.SymFloat, torch.SymInt)):  # computed from a length of any size
        return strength_rows(torch.sym_float(strength), values)
    check_framework(spec.function, "torch", "regularization_strength", strength)
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
            strength = strength.to(wide(strength))
    check_strength_shape(spec.function, tuple(strength.shape), tuple(values.shape), spec.axis)
    check_strength_device(spec.function, spec.argument, values.device, strength.device)
    if is_readable(strength):
        # Where the numbers cannot be looked at, rows with an invalid strength come out as NaN.
        detached = strength.detach()
        valid = (detached >= 0) & (detached < float("inf"))
        if not bool(valid.all()):
            check_strength(spec.function, float(detached[~valid].flatten()[0]))
    return strength


def read_direction(spec: Spec, argument: str, values: Any, like: Tensor) -> Tensor:
    """A tangent or cotangent of `like`."""
    check_framework(spec.function, "torch", argument, values)
    tensor = asarray(spec.function, argument, values, like)
    _result_dtype(spec, argument, tensor)
    check_direction(spec.function, argument, tensor.shape, like.shape)
    tensor = tensor.to(like.dtype)
    return tensor if isinstance(values, Tensor) else tensor.to(like.device)  # a number of NumPy


def checked_operands(
    spec: Spec, z: Tensor | None, w: Tensor | None, strength: Any
) -> dict[str, Any]:
    """The operands as they are, but for the strength, by name."""
    read_operands(spec, z, w)
    return {"z": z, "w": w, "strength": read_strength(spec, strength, present(z, w))}


def as_float(values: float | Tensor, like: Tensor) -> Tensor:
    """An operand to differentiate by, where `like` is."""
    if not isinstance(values, Tensor):  # a strength, kept as exact as a Python number
        return torch.tensor(values, dtype=wide(like), device=like.device)
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())
