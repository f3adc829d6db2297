"""The checks of arguments, and the wording of their errors: one for all backends."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsFloat, SupportsIndex

from diffsort.core.tools import one_per_row

MAX_NDIM = 64  # of NumPy and torch as well


def check_axis(function: str, axis: SupportsIndex, ndim: int) -> int:
    """The axis as a negative number."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(
            f"{function}: axis must be an integer, got {axis!r}. Call once per axis."
        ) from None
    if not -ndim <= index < ndim:
        raise ValueError(
            f"{function}: axis must be between {-ndim} and {ndim - 1} for an array with {ndim} "
            f"dimensions, got {index}."
        )
    return index if index < 0 else index - ndim


def check_ndim(function: str, argument: str, ndim: int) -> None:
    if ndim > MAX_NDIM:
        raise ValueError(
            f"{function}: {argument} must have at most {MAX_NDIM} dimensions, got {ndim}. Reshape "
            "it: all axes but the sorted one may be one batch axis."
        )
    if ndim == 0:
        raise ValueError(
            f"{function}: {argument} must have at least 1 dimension, got a 0-d array or scalar. "
            f"Pass a sequence, for example [{argument}]."
        )


def check_option(function: str, argument: str, name: Any, choices: Iterable[str]) -> str:
    """The name as it is listed, in lower case."""
    if isinstance(name, str) and name.lower() in choices:
        return name.lower()
    allowed = " or ".join(f'"{choice}"' for choice in choices)
    raise ValueError(f"{function}: {argument} must be {allowed}, got {name!r}.")


def check_strength(function: str, strength: float) -> None:
    """Raises unless `strength`, a number or an array's first invalid entry, is ≥ 0 and finite."""
    if not 0.0 <= strength < float("inf"):
        raise ValueError(
            f"{function}: regularization_strength must be ≥ 0 and finite, got {strength}. "
            "Smaller values approach the hard result; try 0.1."
        )


def check_strength_shape(
    function: str, shape: tuple[int, ...], values_shape: tuple[int, ...], axis: int
) -> None:
    """One strength per row: broadcasts against the values, with length 1 along the axis."""
    fits = len(shape) <= len(values_shape) and all(
        size in (1, values_shape[-d] if -d != axis else 1)
        for d, size in enumerate(reversed(shape), start=1)
    )
    if not fits:
        wanted = one_per_row(values_shape, axis)
        raise ValueError(
            f"{function}: regularization_strength must broadcast to {wanted} (one per "
            f"row, length 1 along the axis) for values of shape {tuple(values_shape)}, got shape "
            f"{tuple(shape)}. Reshape it, or pass a number."
        )


def strength_number(function: str, strength: SupportsFloat) -> float:
    """A Python or NumPy number as a float, checked."""
    try:
        number = float(strength)
    except OverflowError:
        raise ValueError(
            f"{function}: regularization_strength must be ≥ 0 and finite in float64, got an "
            "integer beyond its range, 1.8e308. Pass a smaller number."
        ) from None
    check_strength(function, number)
    return number


def strength_type_error(function: str, got: str) -> TypeError:
    return TypeError(
        f"{function}: regularization_strength must be a real number or an array of floats of the "
        f"values' framework, got {got}. Pass a number, or make an array of it as numpy.array, "
        "torch.tensor and jax.numpy.array do."
    )


def check_same_length(
    function: str, z_shape: tuple[int, ...], w_shape: tuple[int, ...], axis: int
) -> None:
    """z and w of `project` have rows of one length."""
    if -axis > min(len(z_shape), len(w_shape)) or z_shape[axis] != w_shape[axis]:
        raise ValueError(
            f"{function}: z and w must have the same length along axis {axis}, got shapes "
            f"{tuple(z_shape)} and {tuple(w_shape)}. Only the other axes broadcast."
        )


def broadcast_error(
    function: str, z_shape: tuple[int, ...], w_shape: tuple[int, ...]
) -> ValueError:
    return ValueError(
        f"{function}: z and w must broadcast against each other in the batch axes, got shapes "
        f"{tuple(z_shape)} and {tuple(w_shape)}. Reshape one of them, or give it axes of length 1."
    )


def check_one_device(function: str, z_device: object, w_device: object) -> None:
    """z and w of `project` are on one device."""
    if z_device != w_device:
        raise ValueError(
            f"{function}: z and w must be on one device, got {z_device} and {w_device}. Move one "
            "of them."
        )


def check_strength_device(
    function: str, argument: str, device: object, strength_device: object
) -> None:
    """A strength in an array is where the values are."""
    if strength_device != device:
        raise ValueError(
            f"{function}: regularization_strength must be on the device of {argument}, {device}, "
            f"got {strength_device}. Move it there, or pass a number."
        )


def check_direction(
    function: str, argument: str, got: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    """A cotangent has the result's shape, a tangent its argument's."""
    if tuple(got) != tuple(shape):
        like = "the result" if argument == "cotangent" else "its argument"
        raise ValueError(
            f"{function}: {argument} must have the shape of {like}, {tuple(shape)}, got "
            f"{tuple(got)}. Broadcast or reshape it first."
        )


def dtype_error(function: str, argument: str, dtype: object) -> TypeError:
    return TypeError(
        f"{function}: {argument} must hold float64, float32, float16, bfloat16, integers or bools, "
        f"got {dtype}. Convert it, for example to float64."
    )
