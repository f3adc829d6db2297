"""The fallback on JAX: platforms without a kernel, every transformation, float32 without x64."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import backends
import numpy as np
import pytest
import test_conformance
from points import COTANGENT, EDGE_POINT, EDGE_STRENGTH, POINT

import diffsort
from diffsort import errors
from diffsort.backends import solver

from .helpers import jax, jnp, without_x64

lowering = pytest.importorskip("diffsort.backends.jax.lowering")

SUITE = Path(test_conformance.__file__)
OPERATORS = [
    (op, regularization)
    for op in (diffsort.soft_rank, diffsort.soft_sort)
    for regularization in ("l2", "kl")
]
operators = pytest.mark.parametrize(("op", "regularization"), OPERATORS)


def test_the_conformance_suite_passes(tmp_path):
    """In a process of its own: conftest.py leaves this backend out of the tests of all others."""
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", SUITE, "-q", "--tb=short"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--junit-xml={report}"],
        env={**os.environ, "DIFFSORT_TEST_BACKEND": "jax-fallback"},
        cwd=SUITE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert len(cases) > 400
    assert not [case for case in cases if case.find("skipped") is not None]


def loss(op, regularization):
    g = jnp.asarray(COTANGENT)

    def function(x, strength):
        result = op(x, regularization=regularization, regularization_strength=strength)
        return jnp.sum(jnp.sin(result) * g)

    return function


TRANSFORMATIONS = {
    "jit of grad": lambda f, x, s: jax.jit(jax.grad(f, argnums=(0, 1)))(x, s),
    "jvp": lambda f, x, s: jax.jvp(f, (x, s), (jnp.cos(x), s)),
    "vmap of grad": lambda f, x, s: jax.vmap(jax.grad(f, argnums=(0, 1)), (0, None))(
        jnp.stack([x, -x]), s
    ),
    "hessian": lambda f, x, s: jax.hessian(f, argnums=(0, 1))(x, s),
    "scan": lambda f, x, s: jax.grad(
        lambda x: jax.lax.scan(lambda c, _: (c + f(x, s), None), 0.0, None, length=2)[0]
    )(x),
}


@pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
@pytest.mark.parametrize(("op", "regularization"), OPERATORS[1:3])
def test_transformations_agree_with_the_native_solver(op, regularization, transform):
    f, x, strength = loss(op, regularization), jnp.asarray(POINT), jnp.asarray(0.7)
    expected = transform(f, x, strength)
    with backends.fallback():
        found = transform(f, x, strength)
    for a, b in zip(
        jax.tree_util.tree_leaves(found), jax.tree_util.tree_leaves(expected), strict=True
    ):
        # Values and derivatives of order 10 to 100, up to rounding of both.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


@operators
def test_jax_debug_nans_finds_none_in_rows_with_values(op, regularization):
    """Ties, strength 0, one block, infinite ranks: no NaN comes and goes where JAX looks."""
    x = np.asarray(EDGE_POINT)[[0, 2, 3]]
    x[0, 2:] = [np.inf, 0.0, -np.inf] if op is diffsort.soft_rank else x[0, 2:]
    x, strength = jnp.asarray(x), jnp.asarray(EDGE_STRENGTH)[np.array([0, 2, 3])]
    derivatives = jax.value_and_grad(loss(op, regularization), argnums=(0, 1))
    with backends.fallback(), jax.debug_nans(True):
        value, (dx, ds) = derivatives(x, strength)
        jax.block_until_ready(jax.jit(derivatives)(x, strength))
    assert all(jnp.isfinite(array).all() for array in (value, dx, ds))


def test_ranks_are_promoted_whatever_the_caller_allows():
    x = jnp.asarray(POINT)
    with backends.fallback(), jax.numpy_rank_promotion("raise"):
        hessian = jax.hessian(loss(diffsort.soft_sort, "kl"))(x, jnp.asarray(0.7))
    expected = jax.hessian(loss(diffsort.soft_sort, "kl"))(x, jnp.asarray(0.7))
    np.testing.assert_allclose(hessian, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n", [10, 50])
@operators
def test_float32_without_x64(op, regularization, n):
    """Within the bounds of test_accuracy_without_float64 of the truth, which the native solver in
    float64 tells to more digits."""
    values = np.random.default_rng(n).normal(size=(2, n)).astype(np.float32)
    strength = {"l2": 1.7 / n, "kl": 0.37}[regularization]
    strength = np.float32(strength if op is diffsort.soft_rank else 0.23 * n)
    options = {"regularization": regularization, "regularization_strength": float(strength)}
    exact = op(values.astype(np.float64), **options)
    with backends.fallback(), without_x64():
        found = np.asarray(op(jnp.asarray(values), **options))
    assert found.dtype == np.float32
    roundings = 8 + np.log2(n) * (2 if regularization == "l2" else np.log(n))
    scale = n if op is diffsort.soft_rank else max(1, np.abs(values).max())
    if op is diffsort.soft_rank and regularization == "kl":
        scale = exact
    assert (np.abs(found - exact) <= roundings * 2.0**-23 * scale).all()


@pytest.mark.parametrize("op", [diffsort.soft_rank, diffsort.soft_sort])
def test_float32_without_x64_where_blocks_are_nearly_tied(op):
    """Evenly spaced values, at the strength where all gaps are a block's by a rounding."""
    values = (np.arange(64) * 0.01).astype(np.float32)
    strength = 0.01 if op is diffsort.soft_rank else 100.0
    exact = op(values.astype(np.float64), regularization_strength=float(np.float32(strength)))
    with backends.fallback(), without_x64():
        found = np.asarray(op(jnp.asarray(values), regularization_strength=strength))
    scale = 64 if op is diffsort.soft_rank else 1
    assert np.abs(found - exact).max() <= (8 + 2 * 6) * 2.0**-23 * scale


class TestPlatforms:
    """Lowered for a platform that need not be there."""

    @pytest.fixture(autouse=True)
    def _fresh(self, monkeypatch):
        monkeypatch.setattr(solver, "_warned", set())
        monkeypatch.setattr(solver, "requested", "auto")

    def lowered(self, platform, op=diffsort.soft_rank):
        def function(x):
            return jax.value_and_grad(lambda x: op(x, regularization="kl").sum())(x)

        traced = jax.jit(function)
        if not hasattr(traced, "trace"):
            pytest.skip("this JAX lowers for its own platform only")
        return traced.trace(jnp.asarray(POINT)).lower(lowering_platforms=(platform,)).as_text()

    def test_a_cpu_calls_the_native_module(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "diffsort_project" in self.lowered("cpu")

    @pytest.mark.parametrize("platform", ["tpu", "cuda", "rocm"])
    def test_others_call_nothing_and_warn_once(self, platform, monkeypatch):
        """CUDA in a build without its library; tests/cuda/test_lowering.py is about one with it."""
        monkeypatch.setattr(lowering.native, "cuda_problem", lambda device=None: "no library")
        with pytest.warns(
            errors.FallbackWarning, match=rf"soft_rank: values .* {platform}"
        ) as seen:
            text = self.lowered(platform)
        assert [warning.filename for warning in seen] == [__file__]
        assert "diffsort_" not in text.replace("diffsort_projection", "")
        assert "callback" not in text  # no copy to the host
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.lowered(platform, diffsort.soft_sort)

    def test_the_native_solver_alone_is_an_error_there(self):
        diffsort.set_solver("native")
        with pytest.raises(errors.MissingKernelError, match=r"soft_rank: values .* tpu"):
            self.lowered("tpu")

    def test_a_choice_of_the_fallback_is_silent(self):
        diffsort.set_solver("fallback")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "custom_call @diffsort" not in self.lowered("cpu")
            assert "custom_call @diffsort" not in self.lowered("tpu")
