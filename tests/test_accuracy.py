"""Rows longer than the min-max oracle can take, against certified answers."""

from functools import cache

import certified
import numpy as np
import pytest
from backends import rounded
from tolerances import assert_within, derivative_tolerance, result_tolerance

import diffsort

MILLION = [  # from thousands of blocks to one
    ("soft_rank", "l2", 3e-6),
    ("soft_rank", "l2", 1e-5),
    ("soft_rank", "l2", 1e-3),
    ("soft_rank", "kl", 1e-1),
    ("soft_rank", "kl", 1.0),
    ("soft_sort", "l2", 1e5),
    ("soft_sort", "l2", 1e6),
    ("soft_sort", "kl", 1e5),
    ("soft_sort", "kl", 1e6),
]
FEW_OF_A_MILLION = [("soft_rank", "l2", 1e-5), ("soft_rank", "kl", 1.0)]


@cache
def _million():
    rng = np.random.default_rng(1)
    values, cotangent = rng.normal(1000, 1, 10**6), rng.normal(size=10**6)
    return rounded(values, "float32"), rounded(cotangent, "float32")


@cache
def _answer(op, regularization, strength):
    return certified.solve(op, *_million(), strength, "ascending", regularization)


def check(backend, op, inputs, cotangent, answer, dtype, **options):
    found, (gradient,) = backend.vjp(op, inputs, cotangent, ["values"], dtype, **options)
    assert_within(found, answer.value, result_tolerance(dtype, answer.value, answer.scale))
    assert_within(gradient, answer.vjp, derivative_tolerance(dtype, answer.magnitude))


@pytest.mark.parametrize(("op", "regularization", "strength"), MILLION)
def test_a_million_float32_values_around_1000(backend, op, regularization, strength):
    if not backend.thorough and (op, regularization, strength) not in FEW_OF_A_MILLION:
        pytest.skip("long: a few for this backend")
    values, cotangent = _million()
    answer = _answer(op, regularization, strength)
    alone = np.unique(values).size if op == "soft_rank" else values.size  # if only ties pooled
    assert answer.blocks < alone
    inputs = {"values": values, "regularization_strength": strength}
    check(backend, op, inputs, cotangent, answer, "float32", regularization=regularization)


# Strengths at which rows of n normal values fall into many blocks of several elements.
STRENGTH = {
    ("soft_rank", "l2"): lambda n: 1.7 / n,
    ("soft_rank", "kl"): lambda n: 0.37,
    ("soft_sort", "l2"): lambda n: 0.23 * n,
    ("soft_sort", "kl"): lambda n: 0.23 * n,
}


@pytest.mark.parametrize("n", [15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 3000, 70_000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("direction", ["ascending", "descending"])
@pytest.mark.parametrize(("op", "regularization"), STRENGTH)
def test_every_length_sorts_stably(backend, op, regularization, direction, dtype, n):
    """Lengths around those where algorithms change; ties, and zeros of both signs among them."""
    if not backend.thorough and n > 3000 and (dtype, direction) != ("float32", "descending"):
        pytest.skip("long: a few for this backend")
    rng = np.random.default_rng(n)
    values, cotangent = rng.normal(size=n), rounded(rng.normal(size=n), dtype)
    values = rounded(np.where(rng.random(n) < 0.3, np.round(4 * values) / 4, values), dtype)
    strength = STRENGTH[op, regularization](n)
    answer = certified.solve(op, values, cotangent, strength, direction, regularization)
    assert 1 < answer.blocks < n
    inputs = {"values": values, "regularization_strength": strength}
    options = {"regularization": regularization, "direction": direction}
    check(backend, op, inputs, cotangent, answer, dtype, **options)


def test_float32_rows_longer_than_float32_counts():
    """rho = (n, ..., 1) is no float32 beyond 2^24, so the derivative by the strength must not make
    it one. kl takes softmax_B(rho / strength) there; the weights are stored as float32, 2^-24."""
    x = np.zeros(2**24 + 11)
    g = np.zeros_like(x)
    x[:4], g[:4] = [-6.0, -9.0, -4.0, -2.5], [1.0, -2.0, 3.0, 0.5]
    options = {"wrt": "regularization_strength", "regularization": "kl"}
    exact = diffsort.vjp(diffsort.soft_sort, x, **options)[1](g)
    single = diffsort.vjp(diffsort.soft_sort, x.astype(np.float32), **options)[1](
        g.astype(np.float32)
    )
    assert abs(exact) > 1
    # Four products of a weight and a distance in rho below 100, each with a relative error 2^-24.
    np.testing.assert_allclose(single, exact, rtol=0, atol=4 * 100 * 2.0**-24)
