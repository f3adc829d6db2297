"""Cases and expected values of tests/points.py for JAX, and what differs between its versions."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import points
import pytest
from points import COTANGENT, EXACT, NUMBER, PER_ROW, POINT, TANGENT, WEIGHTS

jax = pytest.importorskip("jax", minversion="0.4.31")

import jax.numpy as jnp  # noqa: E402

import diffsort  # noqa: E402

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # before 0.8
    from jax.experimental import enable_x64


def without_x64():
    return enable_x64(False)


@dataclass(frozen=True)
class Case(points.Operator):
    """One operator with its options, on JAX arrays."""

    def __call__(self, x, strength=NUMBER, **options):
        options = {
            "regularization": self.regularization,
            "regularization_strength": strength,
            **options,
        }
        if self.op == "project":
            axis = options.get("axis", -1)
            shape = [1] * x.ndim
            shape[axis] = -1
            w = jnp.asarray(WEIGHTS[: x.shape[axis]], dtype=x.dtype).reshape(shape)
            return diffsort.project(x, w, **options)
        return getattr(diffsort, self.op)(x, direction=self.direction, **options)

    def smooth(self, row, strength):
        """The function of (row, strength) that the operator is near these, where blocks stay.

        A dense formula over the oracle's blocks, for derivatives of any order by JAX's own rules;
        test_hessian.py holds it to the oracle.
        """
        z, w, sign = self._operands(np.asarray(row), strength)
        of_z = self.solve(row, strength).block
        of_w = np.empty_like(of_z)
        of_w[np.argsort(-w, kind="stable")] = of_z[np.argsort(-z, kind="stable")]
        inside = (of_z[:, None] == of_z).astype(float)
        across = (of_z[:, None] == of_w).astype(float)

        def function(x, strength):
            z, w, _ = self._operands(x, strength)
            if self.regularization == "l2":
                return sign * (z + (across @ w - inside @ z) / inside.sum(axis=1))
            exponentials = jnp.exp(z)
            if self.op == "soft_sort":
                return sign * (z - jnp.log(inside @ exponentials) + jnp.log(across @ jnp.exp(w)))
            return exponentials / (inside @ exponentials) * (across @ w)

        return function

    def _operands(self, x, strength):
        """(z / strength, w, sign): the operator is sign * P(z / strength, w)."""
        rho = np.arange(x.size, 0, -1, dtype=x.dtype)
        ascending = self.direction == "ascending"
        if self.op == "soft_sort":
            sign = -1 if ascending else 1
            return rho / strength, sign * x, sign
        w = np.array(WEIGHTS) if self.op == "project" else rho
        return (x if ascending else -x) / strength, w, 1


CASES = points.operators(Case)
FEW = points.few_operators(Case)
# Every regularization with every operand that may be absent. That all options have the right
# derivatives by jax.vjp and jax.jvp is the conformance suite's to say.
MAIN = [*FEW, CASES[-1]]

main_cases = pytest.mark.parametrize("case", MAIN, ids=str)
every_case = pytest.mark.parametrize("case", CASES, ids=str)
# Where l2 has little to show, such as second derivatives, and compiling takes seconds.
kl_cases = pytest.mark.parametrize(
    "case", [case for case in FEW if case.regularization == "kl"], ids=str
)
few_cases = pytest.mark.parametrize("case", FEW, ids=str)
regularizations = pytest.mark.parametrize("regularization", ["l2", "kl"])


def array(values, dtype="float64"):
    return jnp.asarray(values, dtype=dtype)


def point(dtype="float64"):
    return array(POINT, dtype)


def cotangent(dtype="float64"):
    return array(COTANGENT, dtype)


def tangent(dtype="float64"):
    return array(TANGENT, dtype)


def per_row(dtype="float64"):
    return array(PER_ROW, dtype)


def edges(dtype="float64"):
    """Rows where the derivative is defined by convention, their strengths and cotangents."""
    arrays = (points.EDGE_POINT, points.EDGE_STRENGTH, points.EDGE_COTANGENT)
    return tuple(array(values, dtype) for values in arrays)


def weighted(function):
    """A scalar function: <g, function(x, strength)>."""

    def loss(x, strength, g):
        return (g * function(x, strength)).sum()

    return loss


def assert_close(found, wanted, rtol=EXACT, atol=EXACT):
    """Equal values, NaN where NaN is wanted, whatever the floating dtype of `found`."""
    assert isinstance(found, jax.Array)
    assert found.shape == np.shape(wanted)
    wanted = np.asarray(wanted, dtype=np.float64)
    np.testing.assert_allclose(np.asarray(found, dtype=np.float64), wanted, rtol=rtol, atol=atol)


def same_bits(found, wanted):
    return [np.asarray(a).tobytes() for a in jax.tree_util.tree_leaves(found)] == [
        np.asarray(a).tobytes() for a in jax.tree_util.tree_leaves(wanted)
    ]


class Counter:
    """A function that counts how often Python runs it, which under jit is: is traced."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *arguments, **options):
        self.count += 1
        return self.function(*arguments, **options)


_compiled: list[str] = []


def _on_event(name, *_, **__):
    if name == "/jax/core/compile/backend_compile_duration":
        _compiled.append(name)


jax.monitoring.register_event_duration_secs_listener(_on_event)


@contextlib.contextmanager
def compilations():
    """A list that grows by one with every program that XLA compiles inside."""
    _compiled.clear()
    yield _compiled


def run(script, path, *arguments, **environment):
    """Standard output of a fresh interpreter; the script stops at the first thing that is wrong."""
    file = path / "script.py"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file), *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        cwd=path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout
