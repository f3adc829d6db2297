"""The table of what runs where. Messages and `show_config` read it, tests hold it to the truth."""

from __future__ import annotations

from typing import NamedTuple

import _diffsort_native as native


class Capability(NamedTuple):
    backend: str
    device: str
    dtype: str
    path: str  # how it is computed


def _cpu(backend: str, promoted: str) -> tuple[Capability, ...]:
    return (
        Capability(backend, "cpu", "float64", "native"),
        Capability(backend, "cpu", "float32", "native, sums in float64"),
        Capability(backend, "cpu", "float16", "native in float32"),
        Capability(backend, "cpu", "bfloat16", "native in float32"),
        Capability(backend, "cpu", "integers, bool", f"promoted to {promoted}"),
    )


def _cuda(backend: str, promoted: str, *halves: str) -> tuple[Capability, ...]:
    """With the CUDA library in the build. Which devices it has kernels for, it says itself."""
    if native.cuda_library is None:
        return ()
    return (
        Capability(backend, "cuda", "float64", "native"),
        Capability(backend, "cuda", "float32", "native, sums in float64"),
        *(Capability(backend, "cuda", half, "native in float32") for half in halves),
        Capability(backend, "cuda", "integers, bool", f"promoted to {promoted}"),
    )


def _cupy(promoted: str) -> tuple[Capability, ...]:
    """CuPy has no bfloat16."""
    return _cuda("cupy", promoted, "float16") or (
        *_fallback("cupy", "cuda", promoted),
        Capability("cupy", "cuda", "float16", "fallback in float32"),
    )


def _fallback(backend: str, device: str, promoted: str) -> tuple[Capability, ...]:
    return (
        Capability(backend, device, "float64", "fallback"),
        Capability(backend, device, "float32", "fallback in the widest float"),
        Capability(backend, device, "integers, bool", f"promoted to {promoted}"),
    )


def _fallback_of_halves(backend: str, device: str) -> tuple[Capability, ...]:
    return (
        Capability(backend, device, "float16", "fallback in float32"),
        Capability(backend, device, "bfloat16", "fallback in float32"),
    )


def _jax(promoted: str) -> tuple[Capability, ...]:
    """A build without the headers of XLA's FFI has no kernel for JAX."""
    if not native.xla_handlers:
        return (*_fallback("jax", "any", promoted), *_fallback_of_halves("jax", "any"))
    return (
        *_cpu("jax", promoted),
        *_cuda("jax", promoted, *_HALVES),
        *_fallback("jax", "others", promoted),
        *_fallback_of_halves("jax", "others"),
    )


_HALVES = ("float16", "bfloat16")


# Every operator runs on every row of this table; diffsort.set_solver can force the fallback.
TABLE: tuple[Capability, ...] = (
    *_cpu("numpy", "float64"),
    *_cpu("torch", "torch.get_default_dtype()"),
    *_cuda("torch", "torch.get_default_dtype()", *_HALVES),
    *_fallback("torch", "others", "torch.get_default_dtype()"),
    *_fallback_of_halves("torch", "others"),
    *_jax("float32, or float64 with x64"),
    *_cupy("float64"),
    # Arrays of any other library with the array API standard.
    *_fallback("array_api", "any", "the default of the library"),
)

# Backends that can be named, with the package that each needs.
PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "cupy": "cupy"}

# The package with which arrays of libraries without a backend of their own are served.
STANDARD = {"array_api": "array_api_compat"}


def devices(backend: str) -> tuple[str, ...]:
    """The devices with a kernel, in the order of the table."""
    rows = [row for row in TABLE if row.backend == backend and row.path.startswith("native")]
    return tuple(dict.fromkeys(row.device for row in rows))


_FORCED = {"float64": "fallback", "float32": "fallback in the widest float"}


def chosen(row: Capability, solver: str) -> Capability:
    """A row of the table where `diffsort.set_solver` has forced a side."""
    has_kernel = row.path.startswith("native")
    if solver == "fallback" and has_kernel:
        return row._replace(path=_FORCED.get(row.dtype, "fallback in float32"))
    if solver == "native" and row.path.startswith("fallback"):
        return row._replace(path="an error: no kernel")
    return row
