"""Second and third derivatives, in every order of forward and reverse mode."""

from __future__ import annotations

import functools

import numpy as np
import oracle
import pytest
from points import EXACT, NUMERIC, PER_ROW, POINT, WEIGHTS, difference

import diffsort

from .helpers import (
    array,
    assert_close,
    cotangent,
    edges,
    enable_x64,
    every_case,
    few_cases,
    jax,
    jnp,
    kl_cases,
    main_cases,
    point,
    regularizations,
    tangent,
    weighted,
)

fwd, rev = jax.jacfwd, jax.jacrev
ORDERS = {
    "forward over reverse": (fwd, rev),
    "reverse over forward": (rev, fwd),
    "reverse over reverse": (rev, rev),
    "forward over forward": (fwd, fwd),
}
STRENGTH = 1.1


def _in_one_argument(function):
    """A function of (row, strength) as one of a single vector."""
    return lambda p, *rest: function(p[:-1], p[-1], *rest)


def _at(row, strength=STRENGTH):
    return jnp.append(point()[row], strength)


@functools.cache
def _derivatives(case):
    """Value and derivatives up to the third of each result entry at the first row, by `smooth`."""
    orders = [_in_one_argument(case.smooth(POINT[0], STRENGTH))]
    for _ in range(3):
        orders.append(fwd(orders[-1]))
    with enable_x64(True):
        return [np.asarray(y) for y in jax.jit(lambda p: [f(p) for f in orders])(_at(0))]


@every_case
def test_the_smooth_formula_is_the_oracle(case):
    """Value, Jacobian and Hessian: what the tests below take for true."""
    value, jacobian, hessian, _ = _derivatives(case)
    solution = case.solve(POINT[0], STRENGTH)
    np.testing.assert_allclose(value, solution.value, rtol=EXACT, atol=EXACT)
    wanted = [solution.jacobian[name] for name in ("values", "regularization_strength")]
    np.testing.assert_allclose(jacobian, np.hstack(wanted), rtol=EXACT, atol=EXACT)
    wanted = case.hessian(POINT[0], STRENGTH)
    np.testing.assert_allclose(hessian, wanted, rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("order", ORDERS)
@main_cases
def test_second_order_in_values_and_strength(case, order):
    outer, inner = ORDERS[order]
    hessian = jax.jit(outer(inner(_in_one_argument(case))))(_at(0))
    assert_close(hessian, _derivatives(case)[2])


@every_case
def test_the_test_point_has_second_derivatives_to_find(case):
    """Otherwise the comparisons above would hold for an implementation that returns zeros."""
    h = np.stack([case.hessian(row, s) for row, (s,) in zip(POINT, PER_ROW, strict=True)])
    values, mixed, strength = h[..., :-1, :-1], h[..., :-1, -1], h[..., -1, -1]
    assert (np.abs(values).max() > 0.01) == (case.regularization == "kl")
    assert (np.abs(mixed).max() > 0.01) == (case.op != "soft_sort")
    assert np.abs(strength).max() > 0.01


@every_case
def test_vmap_of_hessian(case):
    """Each row with its own strength; the Hessian is that of finite differences of the oracle."""
    per_row = jnp.asarray(PER_ROW)
    loss = _in_one_argument(weighted(case))
    at = jnp.concatenate([point(), per_row], axis=1)
    found = jax.jit(jax.vmap(jax.hessian(loss)))(at, cotangent())
    for i, (row, (strength,)) in enumerate(zip(POINT, PER_ROW, strict=True)):
        wanted = np.einsum("k,kij->ij", cotangent()[i], case.hessian(row, strength))
        assert_close(found[i], wanted, rtol=NUMERIC, atol=NUMERIC)


@kl_cases
def test_hessian_vector_products_of_a_batch(case):
    x, strength, g, v = point(), jnp.asarray(PER_ROW), cotangent(), tangent()
    u = array([[0.3], [-0.8], [1.2]])
    gradient = jax.grad(weighted(case), argnums=(0, 1))

    def along(x, strength):
        dx, ds = gradient(x, strength, g)
        return (dx * v).sum() + (ds * u).sum()

    @jax.jit
    def products(x, strength):
        _, forward = jax.jvp(lambda *at: gradient(*at, g), (x, strength), (v, u))
        return forward, jax.grad(along, argnums=(0, 1))(x, strength)

    forward, backward = products(x, strength)
    for i in range(3):
        h = np.einsum("k,kij->ij", g[i], case.hessian(POINT[i], PER_ROW[i][0]))
        wanted = h @ np.append(v[i], u[i])
        for dx, ds in (forward, backward):
            assert_close(dx[i], wanted[:-1], rtol=NUMERIC, atol=NUMERIC)
            assert_close(ds[i], wanted[-1:], rtol=NUMERIC, atol=NUMERIC)


@regularizations
def test_hessian_in_w_of_project(regularization):
    """All three operands in one vector; finite differences of the oracle's Jacobian."""

    def split(p):
        return {"values": p[:5], "w": p[5:10], "strength": p[10]}

    def operator(p):
        at = split(p)
        return diffsort.project(
            at["values"],
            at["w"],
            regularization=regularization,
            regularization_strength=at["strength"],
        )

    def jacobian(p):
        found = oracle.solve("project", **split(p), regularization=regularization).jacobian
        names = ("values", "w", "regularization_strength")
        return np.concatenate([found[name] for name in names], axis=1)

    at = np.concatenate([POINT[0], WEIGHTS, [STRENGTH]])
    wanted = difference(jacobian, at)
    assert np.abs(wanted[:, :, 5:10]).max() > (0.01 if regularization == "kl" else -1)
    found = jax.jit(jax.hessian(operator))(jnp.asarray(at))
    assert_close(found, wanted, rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("modes", [(fwd, fwd, rev), (rev, rev, rev)], ids=["ffr", "rrr"])
@kl_cases
def test_third_order(case, modes):
    g = cotangent()[0]
    loss = _in_one_argument(lambda x, strength: (g * case(x, strength)).sum())
    for mode in reversed(modes):
        loss = mode(loss)
    wanted = np.einsum("k,kabc->abc", g, _derivatives(case)[3])
    assert np.abs(wanted).max() > 0.1
    assert_close(jax.jit(loss)(_at(0)), wanted)


@few_cases
def test_of_edge_rows(case):
    """At ties the derivatives are those of the blocks; at strength 0 the second ones are 0."""
    x, strength, g = edges()
    hessian = jax.jit(jax.vmap(jax.hessian(weighted(case))))(x, strength, g)
    # l2 is linear in the values: that its second derivatives are 0 is known without the numbers.
    assert bool(jnp.isnan(hessian[1]).all()) == (case.regularization == "kl")
    assert_close(hessian[2], np.zeros((5, 5)))
    for i in (0, 3, 4):
        smooth = case.smooth(np.asarray(x[i]), float(strength[i, 0]))
        loss = lambda p, f=smooth, i=i: (g[i] * f(p, strength[i, 0])).sum()  # noqa: E731
        assert_close(hessian[i], jax.jit(fwd(fwd(loss)))(x[i]))


@kl_cases
def test_a_cotangent_that_depends_on_the_result(case):
    """The Hessian of |y|²/2 is J'J plus the curvature: both orders in one program."""
    found = jax.jit(jax.hessian(lambda p: (case(p[:-1], p[-1]) ** 2).sum() / 2))(_at(0))
    value, jacobian, hessian, _ = _derivatives(case)
    assert_close(found, jacobian.T @ jacobian + np.einsum("k,kij->ij", value, hessian))
