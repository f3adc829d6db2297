"""The table of capabilities is the truth: what it lists runs, what it does not list is refused."""

import contextlib

import _diffsort_native as native
import devices
import numpy as np
import pytest
from backends import JAX

import diffsort
from diffsort.backends import capabilities, solver

FLOATS = ("float64", "float32", "float16", "bfloat16")
INTEGERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def rows(backend):
    return [row for row in capabilities.TABLE if row.backend == backend]


def array(backend, dtype):
    if backend == "array_api":
        strict = pytest.importorskip("array_api_strict", minversion="2.4")
        numbers = strict.asarray([3, 1, 2], device=strict.Device("device1"))
        return strict.astype(numbers, getattr(strict, dtype))
    if backend == "numpy":
        if dtype == "bfloat16":
            dtype = pytest.importorskip("ml_dtypes").bfloat16
        return np.array([3, 1, 2]).astype(dtype)
    if backend == "jax":
        jax = pytest.importorskip("jax", minversion="0.4.31")
        return jax.numpy.array([3, 1, 2]).astype(dtype)
    if backend == "cupy":
        return devices.cupy().array([3, 1, 2]).astype(dtype)
    torch = pytest.importorskip("torch", minversion="2.6")
    return torch.tensor([3, 1, 2]).to(getattr(torch, dtype))


def types_as_named(backend):
    """JAX has types of 64 bits only with x64."""
    return JAX().x64("float64") if backend == "jax" else contextlib.nullcontext()


def dtypes_of(row):
    return INTEGERS if row.dtype == "integers, bool" else (row.dtype,)


def solver_of(row):
    """The choice that takes a row's path; other devices of torch and JAX are stood for by the CPU,
    and tests/gpu is about those with a kernel."""
    elsewhere = row.device != "cpu" and row.backend != "cupy"
    return "fallback" if row.path.startswith("fallback") or elsewhere else "native"


@pytest.mark.parametrize(
    ("backend", "dtype", "choice"),
    [
        (row.backend, dtype, solver_of(row))
        for row in capabilities.TABLE
        for dtype in dtypes_of(row)
    ],
)
@pytest.mark.parametrize("operator", [diffsort.soft_rank, diffsort.soft_sort])
def test_what_is_listed_runs(backend, dtype, choice, operator, monkeypatch):
    monkeypatch.setattr(solver, "requested", choice)
    with types_as_named(backend):
        result = operator(array(backend, dtype), regularization_strength=0.0)
    if dtype != "bool":  # True, True, True
        expected = [3, 1, 2] if operator is diffsort.soft_rank else [1, 2, 3]
        assert [float(result[i]) for i in range(3)] == expected
    if dtype in FLOATS:
        assert str(result.dtype).rpartition(".")[2] == dtype


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("backend", capabilities.PACKAGES)
def test_what_is_not_listed_is_refused(backend, dtype):
    with types_as_named(backend), pytest.raises(TypeError, match="values must hold"):
        diffsort.soft_rank(array(backend, dtype))


def test_every_backend_has_its_rows_and_devices():
    listed = {row.backend for row in capabilities.TABLE}
    assert listed == {*capabilities.PACKAGES, *capabilities.STANDARD}
    for backend in capabilities.PACKAGES:
        dtypes = {dtype for row in rows(backend) for dtype in dtypes_of(row)}
        missing = {"bfloat16"} if backend == "cupy" else set()  # which it does not know
        assert dtypes == {*FLOATS, *INTEGERS} - missing
    cuda = () if native.cuda_library is None else ("cuda",)
    assert capabilities.devices("numpy") == ("cpu",)
    assert capabilities.devices("torch") == ("cpu", *cuda)
    assert capabilities.devices("jax") == (("cpu", *cuda) if native.xla_handlers else ())
    assert capabilities.devices("cupy") == cuda
    for backend in capabilities.STANDARD:
        assert capabilities.devices(backend) == ()
