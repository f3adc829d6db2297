"""A build without the headers of XLA's FFI (DIFFSORT_XLA=OFF) has no kernel for JAX arrays.

.ci/run makes one and runs this file on it; elsewhere the kernels are hidden.
"""

from __future__ import annotations

import warnings

import _diffsort_native as native
import pytest
from points import expected, expected_vjp

import diffsort
import diffsort.backends.jax  # registers the kernels where there are any
from diffsort import errors
from diffsort.backends import solver

from .helpers import FEW, assert_close, cotangent, jax, point, weighted

CASE = FEW[1]


@pytest.fixture(autouse=True)
def _without_kernels(monkeypatch):
    monkeypatch.setattr(native, "xla_handlers", {})
    monkeypatch.setattr(solver, "_warned", set())
    monkeypatch.setattr(solver, "requested", "auto")


def test_the_fallback_is_taken_and_said_once():
    message = "soft_rank: values is a JAX array, for which XLA's headers were left out of the build"
    with pytest.warns(errors.FallbackWarning, match=message) as seen:
        assert_close(CASE(point()), expected(CASE, point()))
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = jax.jit(jax.grad(weighted(CASE)))(point(), 0.4, cotangent())
    assert_close(gradient, expected_vjp(CASE, point(), 0.4, cotangent())[0])


def test_the_native_solver_alone_is_an_error():
    diffsort.set_solver("native")
    for function in (CASE, jax.jit(CASE), jax.jacfwd(CASE)):
        with pytest.raises(errors.MissingKernelError, match="soft_rank: values is a JAX array"):
            function(point())


def test_the_other_frameworks_keep_theirs():
    diffsort.set_solver("native")
    assert diffsort.soft_rank([2.0, 1.0, 3.0]).tolist() == [2.0, 1.0, 3.0]
