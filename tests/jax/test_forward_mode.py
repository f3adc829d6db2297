"""Forward mode: jax.jvp, jax.linearize, jax.linear_transpose, tangents of type float0."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from points import NUMBER, WEIGHTS, expected, expected_jvp, expected_vjp

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
    tangent,
)

FLOAT0 = jax.dtypes.float0


@main_cases
def test_tangent_in_values(case):
    x, v = point(), tangent()
    for strength in (NUMBER, per_row()):
        y, t = jax.jvp(lambda x, strength=strength: case(x, strength), (x,), (v,))
        assert_close(y, expected(case, x, strength))
        assert_close(t, expected_jvp(case, x, strength, v))


@main_cases
def test_tangent_in_strength_alone(case):
    x = point()
    for strength, ds in ((NUMBER, 1.3), (per_row(), array([[0.7], [-0.4], [1.9]]))):
        y, t = jax.jvp(lambda s: case(x, s), (strength,), (ds,))
        wanted = expected_jvp(case, x, strength, jnp.zeros_like(x), ds)
        assert np.abs(wanted).max() > 0.01
        assert_close(y, expected(case, x, strength))
        assert_close(t, wanted)


@main_cases
def test_tangents_in_both_under_jit(case):
    x, v, ds = point(), tangent(), array([[0.7], [-0.4], [1.9]])
    y, t = jax.jit(lambda *pair: jax.jvp(case, *pair))((x, per_row()), (v, ds))
    assert_close(y, expected(case, x, per_row()))
    assert_close(t, expected_jvp(case, x, per_row(), v, ds))


@main_cases
def test_linearize(case):
    x, v = point(), tangent()
    y, push = jax.linearize(case, x, per_row())
    ds = array([[0.7], [-0.4], [1.9]])
    assert_close(y, expected(case, x, per_row()))
    for factor in (1, -2):
        wanted = factor * expected_jvp(case, x, per_row(), v, ds)
        assert_close(push(factor * v, factor * ds), wanted)
    assert_close(jax.jit(push)(v, 0 * ds), expected_jvp(case, x, per_row(), v))


@main_cases
def test_linear_transpose_of_the_pushforward(case):
    x, g = point(), cotangent()
    _, push = jax.linearize(lambda x: case(x, NUMBER), x)
    (dx,) = jax.linear_transpose(push, x)(g)
    assert_close(dx, expected_vjp(case, x, NUMBER, g)[0])


@main_cases
def test_transpose_of_the_pullback(case):
    """The pullback is linear in the cotangent; its transpose is the pushforward."""
    x, v = point(), tangent()
    _, pull = jax.vjp(lambda x: case(x, NUMBER), x)
    (t,) = jax.linear_transpose(lambda g: pull(g)[0], v)(v)
    assert_close(t, expected_jvp(case, x, NUMBER, v))
    _, pull = jax.vjp(case, x, per_row())
    ds = array([[0.7], [-0.4], [1.9]])
    (t,) = jax.linear_transpose(pull, v)((v, ds))
    assert_close(t, expected_jvp(case, x, per_row(), v, ds))


@regularizations
def test_project_tangents(regularization):
    z, w, v = point(), array(WEIGHTS), tangent()
    dw, ds = array([0.3, -0.2, 0.9, 0.1, -1.1]), array([[0.7], [-0.4], [1.9]])
    inputs = {"values": z, "w": w, "regularization_strength": per_row()}
    tangents = {"values": v, "w": dw, "regularization_strength": ds}
    truth = oracle.Batch("project", inputs, regularization=regularization)

    def function(at):
        return diffsort.project(
            at.get("values", z),
            at.get("w", w),
            regularization=regularization,
            regularization_strength=at.get("regularization_strength", per_row()),
        )

    for names in (["w"], ["values", "w"], ["w", "regularization_strength"], list(inputs)):
        at, along = ({name: source[name] for name in names} for source in (inputs, tangents))
        y, t = jax.jvp(function, (at,), (along,))
        assert_close(y, truth.value())
        assert_close(t, truth.jvp(along))


@pytest.mark.parametrize("axis", [0, 1, -2])
@few_cases
def test_axis(case, axis):
    rng = np.random.default_rng(5)
    x, v = array(rng.normal(size=(3, 4, 2))), array(rng.normal(size=(3, 4, 2)))
    _, t = jax.jvp(lambda x: case(x, 0.6, axis=axis), (x,), (v,))
    wanted = expected_jvp(case, jnp.moveaxis(x, axis, -1), 0.6, jnp.moveaxis(v, axis, -1))
    assert_close(t, np.moveaxis(wanted, -1, axis))


@main_cases
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, v = edges()
    ds = array([[0.5], [1.0], [-2.0], [0.25], [1.5]])
    y, t = jax.jvp(case, (x, strength), (v, ds))
    assert_close(y, expected(case, x, strength))
    assert_close(t, expected_jvp(case, x, strength, v, ds))


@few_cases
def test_integers_have_float0_tangents(case):
    x = jnp.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    nothing = np.zeros(x.shape, FLOAT0)
    y, t = jax.jvp(lambda x: case(x, 1.1), (x,), (nothing,))
    if case.op != "project":  # whose w the test would round to integers
        assert_close(y, expected(case, x, 1.1))
    assert_close(t, np.zeros(x.shape))
    y, t = jax.jvp(case, (x.astype(float), 1), (jnp.ones(x.shape), np.zeros((), FLOAT0)))
    assert_close(y, expected(case, x, 1))
    assert_close(t, expected_jvp(case, x, 1, np.ones(x.shape)))
    gradient = jax.grad(lambda x: case(x, 1.1).sum(), allow_int=True)(x)
    assert gradient.dtype == FLOAT0


@few_cases
def test_a_zero_tangent_costs_no_pushforward(case):
    """Symbolic zeros stay symbolic: nothing is bound for a tangent that is not there."""

    def along_nothing(x):
        return jax.jvp(lambda y: case(x, 1.1) + y, (x,), (jnp.ones_like(x),))[1]

    program = str(jax.make_jaxpr(along_nothing)(point()))
    assert "diffsort_pushforward" not in program
    assert_close(along_nothing(point()), np.ones((3, 5)))
