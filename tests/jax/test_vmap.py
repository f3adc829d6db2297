"""jax.vmap: over any axis and any argument, nested, around and inside derivatives."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from points import WEIGHTS, expected, expected_jvp, expected_vjp

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
    weighted,
)

STRENGTHS = [0.4, 1.1, 2.3]


@main_cases
def test_over_rows_strengths_or_both(case):
    x, strength = point(), array(STRENGTHS)
    assert_close(jax.vmap(case)(x, strength), expected(case, x, per_row()))
    assert_close(jax.vmap(case, in_axes=(0, None))(x, 0.7), expected(case, x, 0.7))
    many = expected(case, jnp.stack([x[0]] * 3), per_row())
    assert_close(jax.vmap(case, in_axes=(None, 0))(x[0], strength), many)
    assert_close(jax.vmap(case, in_axes=(1, 0))(x.T, strength), expected(case, x, per_row()))


@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("in_axis", [0, 1, 2])
def test_over_any_axis(in_axis, out_axis):
    x = array(np.random.default_rng(2).normal(size=(2, 3, 5)))  # lanes, batch, rows
    found = jax.vmap(
        lambda x, s: diffsort.soft_rank(x, regularization="kl", regularization_strength=s),
        in_axes=(in_axis, 0),
        out_axes=out_axis,
    )(jnp.moveaxis(x, 0, in_axis), array([0.4, 1.1]))
    inputs = {"values": x, "regularization_strength": array([[[0.4]], [[1.1]]])}
    truth = oracle.Batch("soft_rank", inputs, regularization="kl")
    assert_close(found, np.moveaxis(truth.value(), 0, out_axis))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@few_cases
def test_with_another_sorted_axis(case, axis):
    """`axis` counts without the mapped axis, before and after it."""
    x = array(np.random.default_rng(2).normal(size=(3, 4, 5)))
    for lane in (0, 1, 2):
        found = jax.vmap(lambda x: case(x, 0.6, axis=axis), in_axes=lane, out_axes=lane)(x)
        rows = np.moveaxis(np.asarray(x), lane, 0)
        rows = np.moveaxis(rows, axis + 1 if axis >= 0 else axis, -1)
        wanted = np.moveaxis(expected(case, rows, 0.6), -1, axis + 1 if axis >= 0 else axis)
        assert_close(found, np.moveaxis(wanted, 0, lane))


@few_cases
def test_nested(case):
    x, strength = point(), array(STRENGTHS)
    table = jax.vmap(jax.vmap(case, in_axes=(0, None)), in_axes=(None, 0))(x, strength)
    assert_close(table, np.stack([expected(case, x, s) for s in STRENGTHS]))
    cube = jnp.stack([x, 2 * x])
    found = jax.vmap(jax.vmap(case, in_axes=(1, 0), out_axes=1), in_axes=(0, None))(
        jnp.moveaxis(cube, 1, 2), strength
    )
    assert_close(jnp.moveaxis(found, 2, 1), expected(case, cube, per_row()))


@few_cases
def test_a_strength_per_row_in_each_lane(case):
    cube, strengths = jnp.stack([point(), 2 * point()]), jnp.stack([per_row(), per_row()[::-1]])
    assert_close(jax.vmap(case)(cube, strengths), expected(case, cube, strengths))
    swapped = jax.vmap(case, in_axes=(0, 1))(cube, jnp.moveaxis(strengths, 0, 1))
    assert_close(swapped, expected(case, cube, strengths))


@regularizations
def test_project_with_mixed_in_axes(regularization):
    z, w = point(), array([WEIGHTS, WEIGHTS[::-1], np.sqrt(WEIGHTS)])

    def project(z, w, strength):
        options = {"regularization": regularization, "regularization_strength": strength}
        return diffsort.project(z, w, **options)

    def truth(z, w, strength):
        inputs = {"values": z, "w": w, "regularization_strength": strength}
        return oracle.Batch("project", inputs, regularization=regularization).value()

    s = array(STRENGTHS)
    assert_close(jax.vmap(project)(z, w, s), truth(z, w, per_row()))
    found = jax.vmap(project, in_axes=(None, 0, None))(z[0], w, 0.7)
    assert_close(found, truth(z[:1], w, np.full((3, 1), 0.7)))
    found = jax.vmap(project, in_axes=(0, None, 0))(z, w[0], s)
    assert_close(found, truth(z, w[:1], per_row()))
    found = jax.vmap(project, in_axes=(1, 1, None), out_axes=1)(z.T, w.T, 0.7)
    assert_close(found.T, truth(z, w, np.full((3, 1), 0.7)))


@main_cases
def test_vmap_of_grad(case):
    x, s, g = point(), array(STRENGTHS), cotangent()
    gradient = jax.grad(weighted(case), argnums=(0, 1))
    dx, ds = jax.vmap(gradient)(x, s, g)
    wanted = expected_vjp(case, x, per_row(), g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@few_cases
def test_vmap_of_grad_over_one_argument(case):
    x, s, g = point(), array(STRENGTHS), cotangent()
    gradient = jax.grad(weighted(case), argnums=(0, 1))
    for in_axes in ((None, 0, None), (None, None, 0), (0, None, None)):
        arguments = [
            array if axis == 0 else array[0] for array, axis in zip((x, s, g), in_axes, strict=True)
        ]
        dx, ds = jax.vmap(gradient, in_axes=in_axes)(*arguments)
        rows, strengths, cotangents = (
            jnp.broadcast_to(array, (3, *np.shape(array)[-ndim:])) if ndim else array
            for array, ndim in zip(arguments, (1, 0, 1), strict=True)
        )
        strengths = jnp.broadcast_to(strengths, (3,))[:, None]
        wanted = expected_vjp(case, rows, strengths, cotangents)
        assert_close(dx, wanted[0])
        assert_close(ds, wanted[1][:, 0])


@main_cases
def test_grad_of_vmap(case):
    g = cotangent()

    def loss(x, s):
        return (g * jax.vmap(case)(x, s)).sum()

    dx, ds = jax.jit(jax.grad(loss, argnums=(0, 1)))(point(), array(STRENGTHS))
    wanted = expected_vjp(case, point(), per_row(), g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@few_cases
def test_vmap_of_vjp_and_jvp(case):
    x, s, g, v = point(), array(STRENGTHS), cotangent(), tangent()
    t = jax.vmap(lambda x, s, v: jax.jvp(case, (x, s), (v, 1.0))[1])(x, s, v)
    assert_close(t, expected_jvp(case, x, per_row(), v, 1.0))
    # Many tangents and cotangents at one point: the point is not batched.
    same = jnp.stack([x[0]] * 3)
    _, pull = jax.vjp(lambda x: case(x, 1.1), x[0])
    assert_close(jax.vmap(pull)(g)[0], expected_vjp(case, same, 1.1, g)[0])
    _, push = jax.linearize(lambda x: case(x, 1.1), x[0])
    assert_close(jax.vmap(push)(v), expected_jvp(case, same, 1.1, v))


@few_cases
def test_edge_rows(case):
    x, strength, g = edges()
    dx, ds = jax.vmap(jax.grad(weighted(case), argnums=(0, 1)))(x, strength, g)
    wanted = expected_vjp(case, x, strength, g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])


@few_cases
def test_jit_and_vmap_in_either_order(case):
    x, s = point(), array(STRENGTHS)
    for function in (jax.jit(jax.vmap(case)), jax.vmap(jax.jit(case))):
        assert_close(function(x, s), expected(case, x, per_row()))


@few_cases
def test_no_lane(case):
    assert jax.vmap(case)(jnp.zeros((0, 5)), jnp.zeros(0)).shape == (0, 5)


@few_cases
def test_custom_batching_rule_around_it(case):
    """A rule that a user writes: the batch as one call."""

    @jax.custom_batching.custom_vmap
    def operator(x, strength):
        return case(x, strength)

    calls = []

    @operator.def_vmap
    def _rule(axis_size, in_batched, x, strength):
        calls.append(axis_size)
        strength = jnp.broadcast_to(strength, (axis_size,))[:, None]
        return case(x, strength), True

    @jax.jit
    def f(x, s):
        return jax.vmap(operator)(x, s)

    assert_close(f(point(), array(STRENGTHS)), expected(case, point(), per_row()))
    assert calls == [3]
    assert_close(jax.jit(operator)(point()[0], 0.7), expected(case, point()[:1], 0.7)[0])


@few_cases
def test_sequential_vmap_of_it(case):
    operator = jax.custom_batching.sequential_vmap(case)
    found = jax.jit(jax.vmap(operator))(point(), array(STRENGTHS))
    assert_close(found, expected(case, point(), per_row()))
