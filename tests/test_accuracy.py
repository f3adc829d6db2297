"""float32 at n = 10^6, far from zero, at strengths where blocks really pool."""

from functools import cache

import certified
import numpy as np
import pytest
from backends import rounded
from tolerances import assert_within, derivative_tolerance, result_tolerance

N = 1_000_000
REGIMES = [  # from thousands of blocks to one
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
def _row():
    rng = np.random.default_rng(1)
    return rounded(rng.normal(1000, 1, N), "float32"), rounded(rng.normal(size=N), "float32")


@cache
def _answer(op, regularization, strength):
    return certified.solve(op, *_row(), strength, "ascending", regularization)


@pytest.mark.parametrize(("op", "regularization", "strength"), REGIMES)
def test_a_million_float32_values_around_1000(backend, op, regularization, strength):
    values, cotangent = _row()
    answer = _answer(op, regularization, strength)
    alone = np.unique(values).size if op == "soft_rank" else N  # blocks if only ties pooled
    assert answer.blocks < alone
    inputs = {"values": values, "regularization_strength": strength}
    found, (gradient,) = backend.vjp(
        op, inputs, cotangent, ["values"], "float32", regularization=regularization
    )
    assert_within(found, answer.value, result_tolerance("float32", answer.value, answer.scale))
    assert_within(gradient, answer.vjp, derivative_tolerance("float32", answer.magnitude))
