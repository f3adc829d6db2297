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
    few_cases,
    jax,
    jnp,
    main_cases,
    point,
    tangent,
    weighted,
)

BAD = [-1.0, float("nan"), float("inf")]
STRENGTHS = [0.4, *BAD, 2.3]
GOOD = np.array([0, 4])  # the rows with a valid strength
IS_BAD = [False, True, True, True, False]


def _rows(values):
    return jnp.stack([values[0], *values, values[1]])


@main_cases
def test_invalid_rows_are_nan_and_others_are_untouched(case):
    x, g, v, strength = *map(_rows, (point(), cotangent(), tangent())), array(STRENGTHS)[:, None]
    y, dx, ds, t = jax.jit(
        lambda x, strength, g, v: (
            case(x, strength),
            *jax.grad(weighted(case), argnums=(0, 1))(x, strength, g),
            jax.jvp(case, (x, strength), (v, jnp.ones_like(strength)))[1],
        )
    )(x, strength, g, v)
    for found in (y, dx, ds, t):
        assert jnp.isnan(found).all(axis=1).tolist() == IS_BAD
    at = x[GOOD], strength[GOOD]
    wanted = expected_vjp(case, *at, g[GOOD])
    assert_close(y[GOOD], expected(case, *at))
    assert_close(dx[GOOD], wanted[0])
    assert_close(ds[GOOD], wanted[1])
    assert_close(t[GOOD], expected_jvp(case, *at, v[GOOD], 1.0))


@few_cases
def test_under_vmap(case):
    x, strength = _rows(point()), array(STRENGTHS)
    y = jax.vmap(case)(x, strength)
    assert jnp.isnan(y).all(axis=1).tolist() == IS_BAD
    assert_close(y[GOOD], expected(case, x[GOOD], strength[GOOD, None]))


@few_cases
def test_one_invalid_strength_for_all_rows(case):
    assert jnp.isnan(jax.jit(case)(point(), -0.5)).all()


@few_cases
def test_under_jit_with_a_concrete_strength_it_stays_an_error(case):
    strength = array([[0.4], [-1.0], [2.3]])
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
    """Gradient descent in log space approaches the strength that made the target."""
    x = point()
    target = case(x, 1.1)

    def loss(log_strength):
        return ((case(x, jnp.exp(log_strength)) - target) ** 2).sum()

    def step(log_strength, _):
        value, gradient = jax.value_and_grad(loss)(log_strength)
        # The minimum is 0: this is the step to the zero of the square root's tangent.
        return log_strength - 2 * value / jnp.where(gradient == 0, 1, gradient), None

    found, _ = jax.jit(lambda start: jax.lax.scan(step, start, None, length=30))(jnp.log(1.3))
    assert abs(jnp.exp(found) - 1.1) < 1e-6
