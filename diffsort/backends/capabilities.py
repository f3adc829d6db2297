"""The table of what runs where. Messages and `show_config` read it, tests hold it to the truth."""

from __future__ import annotations

from typing import NamedTuple


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


# Every operator runs on every row of this table.
TABLE: tuple[Capability, ...] = (
    *_cpu("numpy", "float64"),
    *_cpu("torch", "torch.get_default_dtype()"),
    *_cpu("jax", "float32, or float64 with x64"),
)

# Backends that can be named, with the package that each needs.
PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax"}
PLANNED = ("cupy",)


def devices(backend: str) -> tuple[str, ...]:
    """The devices with a kernel, in the order of the table."""
    return tuple(dict.fromkeys(row.device for row in TABLE if row.backend == backend))
