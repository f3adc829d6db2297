"""Reverse mode: jax.grad, jax.value_and_grad, jax.vjp."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from points import EXACT, NUMBER, WEIGHTS, expected, expected_vjp

import diffsort

from .helpers import (
    array,
    assert_close,
    cotangent,
    edges,
    few_cases,
    jax,
    jnp,
    main_cases,
    per_row,
    point,
    regularizations,
    weighted,
)


@main_cases
def test_grad_in_values(case):
    x, g = point(), cotangent()
    for strength in (NUMBER, per_row()):
        dx = jax.grad(weighted(case))(x, strength, g)
        assert_close(dx, expected_vjp(case, x, strength, g)[0])


@main_cases
def test_grad_in_strength(case):
    x, g = point(), cotangent()
    ds = jax.grad(weighted(case), argnums=1)(x, NUMBER, g)
    assert_close(ds, expected_vjp(case, x, NUMBER, g)[1].sum())
    ds = jax.grad(weighted(case), argnums=1)(x, per_row(), g)
    assert_close(ds, expected_vjp(case, x, per_row(), g)[1])


@main_cases
def test_value_and_grad_under_jit(case):
    x, g = point(), cotangent()
    step = jax.jit(jax.value_and_grad(weighted(case), argnums=(0, 1)))
    value, (dx, ds) = step(x, per_row(), g)
    wanted = expected_vjp(case, x, per_row(), g)
    assert_close(value, (np.asarray(g) * expected(case, x, per_row())).sum())
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])


@main_cases
def test_vjp(case):
    x, g = point(), cotangent()
    value, pull = jax.vjp(case, x, per_row())
    assert_close(value, expected(case, x, per_row()))
    for c in (g, -2 * g[::-1]):  # one linear map for every cotangent
        dx, ds = pull(c)
        wanted = expected_vjp(case, x, per_row(), c)
        assert_close(dx, wanted[0])
        assert_close(ds, wanted[1])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 1)])
@few_cases
def test_the_gradient_has_the_shape_of_the_strength(case, shape):
    x, g, strength = point(), cotangent(), jnp.full(shape, 1.1)
    ds = jax.grad(weighted(case), argnums=1)(x, strength, g)
    each = expected_vjp(case, x, 1.1, g)[1]
    assert_close(ds, each if shape == (3, 1) else np.reshape(each.sum(), shape))


@regularizations
def test_project_in_both_operands_of_different_shapes(regularization):
    """w is one row for all: its gradient is summed over the batch."""
    z, w, g = point(), array(WEIGHTS), cotangent()

    def loss(z, w, strength):
        options = {"regularization": regularization, "regularization_strength": strength}
        return (g * diffsort.project(z, w, **options)).sum()

    inputs = {"values": z, "w": w, "regularization_strength": per_row()}
    truth = oracle.Batch("project", inputs, regularization=regularization)
    found = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(z, w, per_row())
    for gradient, name in zip(found, inputs, strict=True):
        assert_close(gradient, truth.vjp(g, name))
    # One row of z for several of w.
    ws = jnp.stack([w, w[::-1], 2 * w])
    inputs = {"values": z[0], "w": ws, "regularization_strength": per_row()}
    truth = oracle.Batch("project", inputs, regularization=regularization)
    found = jax.grad(loss, argnums=(0, 1, 2))(z[0], ws, per_row())
    for gradient, name in zip(found, inputs, strict=True):
        assert_close(gradient, truth.vjp(g, name))


@regularizations
def test_project_of_one_array_as_both_operands(regularization):
    x, g = jnp.abs(point()), cotangent()
    dx = jax.grad(lambda x: (g * diffsort.project(x, x, regularization=regularization)).sum())(x)
    truth = oracle.Batch("project", {"values": x, "w": x}, regularization=regularization)
    assert_close(dx, truth.vjp(g, "values") + truth.vjp(g, "w"))


@pytest.mark.parametrize("axis", [0, 1, -2])
@few_cases
def test_axis(case, axis):
    rng = np.random.default_rng(5)
    x, g = array(rng.normal(size=(3, 4, 2))), array(rng.normal(size=(3, 4, 2)))
    dx = jax.grad(lambda x: (g * case(x, 0.6, axis=axis)).sum())(x)
    rows = [jnp.moveaxis(values, axis, -1) for values in (x, g)]
    wanted = expected_vjp(case, rows[0], 0.6, rows[1])[0]
    assert_close(dx, np.moveaxis(wanted, -1, axis))


@main_cases
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    wanted = expected_vjp(case, x, strength, g)
    assert np.isnan(wanted[0]).any(axis=1).tolist() == [False, True, False, False, False]
    for gradient in (jax.grad(weighted(case), argnums=(0, 1)),) * 2:
        dx, ds = jax.jit(gradient)(x, strength, g)
        assert_close(dx, wanted[0])
        assert_close(ds, wanted[1])


@few_cases
def test_grad_through_a_chain(case):
    """The operator between other operations, used twice."""
    x, g = point()[0], np.asarray(cotangent()[0])

    def loss(x):
        y = case(jnp.tanh(x), 0.3)
        return (g * y * case(x, 1.1)).sum()

    t = np.tanh(np.asarray(x))
    y, u = case.value(t, 0.3), case.value(x, 1.1)
    wanted = ((g * u) @ case.jacobian(t, 0.3)) * (1 - t**2) + (g * y) @ case.jacobian(x, 1.1)
    assert_close(jax.grad(loss)(x), wanted, rtol=10 * EXACT, atol=10 * EXACT)


@few_cases
def test_grad_with_auxiliary_data_and_trees(case):
    g = cotangent()

    def loss(parameters):
        y = case(parameters["x"], parameters["strength"])
        return (g * y).sum(), y

    tree = {"x": point(), "strength": per_row(), "unused": jnp.ones(2)}
    gradient, y = jax.grad(loss, has_aux=True)(tree)
    wanted = expected_vjp(case, point(), per_row(), g)
    assert_close(y, expected(case, point(), per_row()))
    assert_close(gradient["x"], wanted[0])
    assert_close(gradient["strength"], wanted[1])
    assert_close(gradient["unused"], np.zeros(2))


@few_cases
def test_custom_vjp_and_stop_gradient_around_it(case):
    x, g = point(), cotangent()

    @jax.custom_vjp
    def doubled(x):
        return case(x, 1.1)

    def forward(x):
        return jax.vjp(lambda x: case(x, 1.1), x)

    doubled.defvjp(forward, lambda pull, c: pull(2 * c))
    wanted = expected_vjp(case, x, 1.1, g)[0]
    assert_close(jax.grad(lambda x: (g * doubled(x)).sum())(x), 2 * wanted)
    stopped = jax.grad(lambda x: (g * case(jax.lax.stop_gradient(x), 1.1) * x).sum())(x)
    assert_close(stopped, np.asarray(g) * expected(case, x, 1.1))
