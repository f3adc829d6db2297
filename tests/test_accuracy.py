"""Rows longer than the min-max oracle can take, against certified answers."""

from functools import cache

import certified
import numpy as np
import pytest
from backends import rounded
from tolerances import assert_within, derivative_tolerance, result_tolerance

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
    rng = np.random.default_rng(n)
    values, cotangent = rng.normal(size=n), rounded(rng.normal(size=n), dtype)
    values = rounded(np.where(rng.random(n) < 0.3, np.round(4 * values) / 4, values), dtype)
    strength = STRENGTH[op, regularization](n)
    answer = certified.solve(op, values, cotangent, strength, direction, regularization)
    assert 1 < answer.blocks < n
    inputs = {"values": values, "regularization_strength": strength}
    options = {"regularization": regularization, "direction": direction}
    check(backend, op, inputs, cotangent, answer, dtype, **options)
