"""Which solver a call uses: the native one or the fallback of `diffsort.core.fallback`."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from diffsort.backends import capabilities
from diffsort.errors import FallbackWarning, MissingKernelError

CHOICES = ("auto", "native", "fallback")

# Set by diffsort.set_solver.
requested = "auto"

_warned: set[tuple[str, str]] = set()


def fall_back_or_raise(
    function: str, argument: str, backend: str, device: str, what: str, reason: str | None = None
) -> None:
    """To be called where there is no kernel: "auto" warns once per backend and device, "native"
    raises. In their messages `what` describes the array, and `reason` says why there is none.
    """
    if requested == "fallback":
        return
    kernels = ", ".join(capabilities.devices(backend)) or "no device"
    if reason is not None:
        kernels += f" ({reason})"
    if requested == "native":
        raise MissingKernelError(
            f"{function}: {argument} is {what}, but this build has kernels for: {kernels}. Allow "
            'the fallback with diffsort.set_solver("auto"), or use another build or device. '
            "diffsort.show_config() prints what this build has."
        )
    if (backend, device) not in _warned:
        _warned.add((backend, device))
        warnings.warn(
            f"{function}: {argument} is {what}, but this build has kernels for: {kernels}. The "
            "fallback computes it there in operations of the array library, exact as well but "
            'slower. diffsort.set_solver("fallback") silences this warning.',
            FallbackWarning,
            stacklevel=_depth_of_caller(),
        )


# Dynamo evaluates this instead of tracing it: the choice is made when a function is traced.
fall_back_or_raise._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _depth_of_caller() -> int:
    """The stacklevel, as `fall_back_or_raise` counts it, of the first frame of neither this package
    nor a framework, which may be compiling a function of the user's."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _package(frame) in ("diffsort", "jax", "jaxlib", "torch"):
        depth, frame = depth + 1, frame.f_back
    return depth


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
