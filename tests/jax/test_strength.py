"""A strength whose numbers cannot be looked at: under tracing, invalid ones make NaN rows."""

from __future__ import annotations

import numpy as np
import pytest
from points import expected, expected_jvp, expected_vjp

import diffsort

from .helpers import (
    array,
    assert_close,
    cotangent,
    every_case,
    few_cases,
    jax,
    jnp,
    point,
    tangent,
    weighted,
)

BAD = [-1.0, float("nan"), float("inf")]
GOOD = [0, 2]  # the rows with a valid strength


def _strengths(bad):
    return array([[0.4], [bad], [2.3]])


@pytest.mark.parametrize("bad", BAD, ids=str)
@every_case
def test_invalid_rows_are_nan_and_others_are_untouched(case, bad):
    x, g, v, strength = point(), cotangent(), tangent(), _strengths(bad)
    y, dx, ds, t = jax.jit(
        lambda x, strength, g, v: (
            case(x, strength),
            *jax.grad(weighted(case), argnums=(0, 1))(x, strength, g),
            jax.jvp(case, (x, strength), (v, jnp.ones_like(strength)))[1],
        )
    )(x, strength, g, v)
    rows = np.array(GOOD)
    for found in (y, dx, ds, t):
        assert jnp.isnan(found).all(axis=1).tolist() == [False, True, False]
    at = x[rows], strength[rows]
    wanted = expected_vjp(case, *at, g[rows])
    assert_close(y[rows], expected(case, *at))
    assert_close(dx[rows], wanted[0])
    assert_close(ds[rows], wanted[1])
    assert_close(t[rows], expected_jvp(case, *at, v[rows], 1.0))


@few_cases
def test_under_vmap(case):
    x = point()
    for bad in BAD:
        y = jax.vmap(case)(x, _strengths(bad)[:, 0])
        assert jnp.isnan(y).all(axis=1).tolist() == [False, True, False]
        assert_close(y[0], expected(case, x[:1], 0.4)[0])


@few_cases
def test_one_invalid_strength_for_all_rows(case):
    assert jnp.isnan(jax.jit(case)(point(), -0.5)).all()


@few_cases
def test_under_jit_with_a_concrete_strength_it_stays_an_error(case):
    strength = _strengths(-1.0)
    with pytest.raises(ValueError, match=r"regularization_strength must be ≥ 0 .* got -1\.0"):
        jax.jit(lambda x: case(x, strength))(point())
    with pytest.raises(ValueError, match="regularization_strength must be ≥ 0"):
        jax.jit(case, static_argnums=1)(point(), -0.5)


@few_cases
def test_strength_zero_under_tracing(case):
    x, g = point(), cotangent()
    dx, ds = jax.jit(jax.grad(weighted(case), argnums=(0, 1)))(x, 0.0, g)
    wanted = expected_vjp(case, x, 0.0, g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1].sum())


def test_shape_is_checked_under_tracing():
    with pytest.raises(ValueError, match=r"must broadcast to \(3, 1\)"):
        jax.jit(lambda s: diffsort.soft_rank(point(), regularization_strength=s))(jnp.ones((3, 5)))


@few_cases
def test_learning_the_strength(case):
    """Gradient descent in log space finds the strength that made the target."""
    x = point()
    target = case(x, 1.1)

    @jax.jit
    def step(log_strength, _):
        loss = lambda log_strength: ((case(x, jnp.exp(log_strength)) - target) ** 2).sum()  # noqa: E731
        gradient, curvature = jax.grad(loss)(log_strength), jax.hessian(loss)(log_strength)
        return log_strength - 0.5 * gradient / jnp.abs(curvature), None

    found, _ = jax.lax.scan(step, jnp.log(1.3), None, length=60)
    assert abs(float(jnp.exp(found)) - 1.1) < 1e-6
