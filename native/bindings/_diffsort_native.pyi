"""The native solver of diffsort. Private: use the functions of `diffsort`."""

from collections.abc import Callable
from typing import Any

__version__: str
simd: str  # the vector instructions of the CPU's solver, "portable", "avx2" or "avx512"
cuda: str
# Handlers of XLA's FFI by target name, and the FFI's version; empty and None if built without them.
xla_handlers: dict[str, Any]
xla_cuda_handlers: dict[str, Any]  # of the platform CUDA; they call the CUDA library
xla_ffi_version: tuple[int, int] | None

def set_xla_threads(threads: int) -> None: ...  # 0: as many as the machine runs at once

# Bytes of scratch memory that a row of a call of a handler in xla_cuda_handlers needs, as a further
# result. Device -1 is the current one. Absent where there are no such handlers.
def xla_cuda_workspace(
    target: str,
    n: int,
    is_float64: bool,
    regularization: int,
    operands: int,
    results: int,
    device: int,
) -> int: ...

# Arrays are anything that exports its memory: DLPack or the buffer protocol. None for z or w stands
# for (n, ..., 1); None for an output means that it is not wanted.

def project(
    z: Any,
    w: Any,
    strength: Any,
    axis: int,
    regularization: int,
    z_sign: float,
    w_sign: float,
    result: Any,
    block_z: Any,
    block_w: Any,
    threads: int,
) -> None: ...
def project_vjp(
    z: Any,
    w: Any,
    result: Any,
    block_z: Any,
    block_w: Any,
    strength: Any,
    axis: int,
    regularization: int,
    z_sign: float,
    w_sign: float,
    cotangent: Any,
    z_cotangent: Any,
    w_cotangent: Any,
    strength_cotangent: Any,
    threads: int,
) -> None: ...
def project_jvp(
    z: Any,
    w: Any,
    result: Any,
    block_z: Any,
    block_w: Any,
    strength: Any,
    axis: int,
    regularization: int,
    z_sign: float,
    w_sign: float,
    z_tangent: Any,
    w_tangent: Any,
    strength_tangent: Any,
    out: Any,
    threads: int,
) -> None: ...

# The same on CUDA devices. Rows lie along the last axis and are dense; an operand may be one row
# for all. `allocate(n)` returns an int32 array of n elements on the device of the arrays; `stream`
# is a cudaStream_t. Errors of the library are RuntimeErrors.
cuda_library: str | None  # its path, where this build has one; it is opened on first use

def cuda_device_count() -> int: ...

# Why the kernels cannot be used at all or, if a device is given, on that one; None: they can.
def cuda_problem(device: int | None = None) -> str | None: ...
def cuda_project(
    z: Any,
    w: Any,
    strength: Any,
    regularization: int,
    z_sign: float,
    w_sign: float,
    result: Any,
    block_z: Any,
    block_w: Any,
    allocate: Callable[[int], Any],
    stream: int,
) -> None: ...
def cuda_project_vjp(
    z: Any,
    w: Any,
    result: Any,
    block_z: Any,
    block_w: Any,
    strength: Any,
    regularization: int,
    z_sign: float,
    w_sign: float,
    cotangent: Any,
    z_cotangent: Any,
    w_cotangent: Any,
    strength_cotangent: Any,
    allocate: Callable[[int], Any],
    stream: int,
) -> None: ...
def cuda_project_jvp(
    z: Any,
    w: Any,
    result: Any,
    block_z: Any,
    block_w: Any,
    strength: Any,
    regularization: int,
    z_sign: float,
    w_sign: float,
    z_tangent: Any,
    w_tangent: Any,
    strength_tangent: Any,
    out: Any,
    allocate: Callable[[int], Any],
    stream: int,
) -> None: ...
