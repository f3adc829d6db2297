"""Arrays without elements, NaN and infinities, under jit and its derivatives."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from points import expected_jvp, expected_vjp

import diffsort

from .helpers import (
    array,
    assert_close,
    few_cases,
    jax,
    jnp,
    main_cases,
    weighted,
)

SHAPES = [((0,), -1), ((3, 0), -1), ((0, 3), -1), ((0, 3), 0), ((2, 0, 4), -1), ((2, 0, 4), 1)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@few_cases
def test_no_elements(case, shape, axis):
    x = jnp.zeros(shape)
    rows = list(shape)
    rows[axis] = 1
    strength = jnp.ones(rows)

    def loss(x, strength):
        return case(x, strength, axis=axis).sum()

    assert case(x, 0.7, axis=axis).shape == shape
    dx, ds = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, strength)
    assert_close(dx, np.zeros(shape))
    assert_close(ds, np.zeros(rows))  # a row without elements does not depend on its strength
    _, t = jax.jvp(loss, (x, strength), (x, strength))
    assert_close(t, 0.0)
    assert jax.vmap(lambda x: case(x, 0.7), out_axes=-1)(jnp.zeros((0, 5))).shape == (5, 0)
    assert jax.jit(jax.hessian(loss))(x, strength).shape == shape + shape


@few_cases
def test_one_element(case):
    value, (dx, ds) = jax.value_and_grad(weighted(case), argnums=(0, 1))(array([2.5]), 0.7, 3.0)
    assert_close(value, 3 * case.value([2.5], 0.7)[0])
    assert_close(dx, 3 * case.jacobian([2.5], 0.7)[0])
    assert_close(ds, 3 * case.strength_jacobian([2.5], 0.7)[0])


@main_cases
def test_nan_and_infinite_rows(case):
    inf, nan = float("inf"), float("nan")
    x = array(
        [[0.3, 1.7, 0.2], [nan, 1.0, 2.0], [inf, 0.5, 0.1], [-inf, 0.4, inf], [1.0, 2.0, nan]]
    )
    rng = np.random.default_rng(0)
    g, v = array(rng.normal(size=x.shape)), array(rng.normal(size=x.shape))
    strength = jnp.full((5, 1), 0.7)
    wanted = expected_vjp(case, x, strength, g)
    y, (dx, ds) = jax.jit(
        lambda x, s: (case(x, s), jax.grad(weighted(case), argnums=(0, 1))(x, s, g))
    )(x, strength)
    truth = np.stack([case.value(row, 0.7) for row in np.asarray(x)])
    assert_close(y, truth)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])
    _, t = jax.jvp(lambda x: case(x, strength), (x,), (v,))
    assert_close(t, expected_jvp(case, x, strength, v))
    nan_rows = np.isnan(truth).all(axis=1)
    assert nan_rows[[1, 4]].all()
    assert not nan_rows[0]


def test_second_derivatives_with_infinite_weights_at_strength_0():
    """The projection is linear in w there and does not depend on z."""
    inf = float("inf")
    z, w, g = (
        array([1.0, 2.0, 1.0, 0.5]),
        array([inf, 1.0, 0.25, inf]),
        array([0.3, -1.0, 2.0, 1.0]),
    )

    def loss(z, w, strength):
        y = diffsort.project(z, w, regularization="kl", regularization_strength=strength)
        return (g * y).sum()

    hessian = jax.jit(jax.hessian(loss, argnums=(0, 1, 2)))(z, w, 0.0)
    for second in jax.tree_util.tree_leaves(hessian):
        assert_close(second, np.zeros(second.shape))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 3), (2, 1, 2, 1, 3, 2)])
def test_many_dimensions(shape):
    x = array(np.random.default_rng(0).normal(size=shape))
    truth = oracle.Batch("soft_rank", {"values": x}, axis=-2 if len(shape) == 6 else -1)
    axis = -2 if len(shape) == 6 else -1
    assert_close(diffsort.soft_rank(x, axis=axis), truth.value())


def test_more_dimensions_than_a_sharding_rule_has_letters():
    x = array([0.3, 0.1, 0.2]).reshape((1,) * 30 + (3,))
    assert_close(diffsort.soft_rank(x).reshape(3), diffsort.soft_rank([0.3, 0.1, 0.2]))
