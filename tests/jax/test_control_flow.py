"""Inside lax.scan, lax.map, while_loop, fori_loop, cond and switch."""

from __future__ import annotations

import numpy as np
from points import EXACT, expected, expected_jvp, expected_vjp

from .helpers import (
    Counter,
    array,
    assert_close,
    cotangent,
    few_cases,
    jax,
    jnp,
    per_row,
    point,
    tangent,
)

STRENGTHS = [0.4, 1.1, 2.3]
# Three steps of maps with derivatives up to 1 / 0.4 each, over one another.
CHAINED = 2.5**3 * EXACT


def _over_rows(case):
    """Each row with its own strength, one per step of a scan."""

    def step(carry, at):
        y = case(*at)
        return carry + y.sum(), y

    return lambda x, s: jax.lax.scan(step, jnp.zeros((), x.dtype), (x, s))


@few_cases
def test_scan(case):
    total, y = _over_rows(case)(point(), array(STRENGTHS))
    wanted = expected(case, point(), per_row())
    assert_close(y, wanted)
    assert_close(total, wanted.sum())


@few_cases
def test_grad_of_scan(case):
    g = cotangent()

    def loss(x, s):
        return (g * _over_rows(case)(x, s)[1]).sum()

    dx, ds = jax.jit(jax.grad(loss, argnums=(0, 1)))(point(), array(STRENGTHS))
    wanted = expected_vjp(case, point(), per_row(), g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@few_cases
def test_jvp_and_vmap_of_scan(case):
    x, s, v = point(), array(STRENGTHS), tangent()
    _, t = jax.jvp(lambda x: _over_rows(case)(x, s)[1], (x,), (v,))
    assert_close(t, expected_jvp(case, x, per_row(), v))
    cube = jnp.stack([x, 2 * x])
    found = jax.vmap(lambda x: _over_rows(case)(x, s)[1])(cube)
    assert_close(found, expected(case, cube, per_row()))


@few_cases
def test_a_carry_through_the_operator(case):
    """The result of each step is the next one's input: derivatives by the chain rule."""
    x, g = np.asarray(point()[0]), np.asarray(cotangent()[0])

    def loss(x):
        y, _ = jax.lax.scan(lambda x, s: (jnp.sin(case(x, s)), None), x, array(STRENGTHS))
        return (g * y).sum()

    value, jacobian = x, np.eye(5)
    for strength in STRENGTHS:
        y = case.value(value, strength)
        jacobian = np.cos(y)[:, None] * case.jacobian(value, strength) @ jacobian
        value = np.sin(y)
    found, gradient = jax.value_and_grad(loss)(array(x))
    assert_close(found, g @ value, rtol=CHAINED, atol=CHAINED)
    assert_close(gradient, g @ jacobian, rtol=CHAINED, atol=CHAINED)


@few_cases
def test_map(case):
    found = jax.lax.map(lambda at: case(*at), (point(), array(STRENGTHS)))
    assert_close(found, expected(case, point(), per_row()))


@few_cases
def test_while_loop_over_strengths(case):
    """Doubles the strength until the largest result is below 3.5; one trace for all of them."""
    count = Counter(case)

    @jax.jit
    def f(x):
        def body(at):
            strength, _ = at
            return 2 * strength, count(x, 2 * strength)

        return jax.lax.while_loop(lambda at: at[0] < 3, body, (0.25, count(x, 0.25)))

    strength, y = f(point())
    assert strength == 4
    assert_close(y, expected(case, point(), 4.0))
    # One before the loop, one in it (JAX may trace a body twice to settle weak types).
    assert count.count <= 3


@few_cases
def test_forward_mode_through_while_loop(case):
    def f(x):
        return jax.lax.while_loop(
            lambda at: at[0] < 1, lambda at: (at[0] + 1, case(at[1], 1.1)), (0, x)
        )[1]

    _, t = jax.jvp(f, (point(),), (tangent(),))
    assert_close(t, expected_jvp(case, point(), 1.1, tangent()))


@few_cases
def test_fori_loop_with_grad(case):
    x, g = point()[0], cotangent()[0]

    def loss(x):
        steps = array(STRENGTHS)
        return jax.lax.fori_loop(0, 3, lambda i, y: y + (g * case(x, steps[i])).sum(), 0.0)

    wanted = sum(np.asarray(g) @ case.jacobian(x, s) for s in STRENGTHS)
    assert_close(jax.grad(loss)(x), wanted)


@few_cases
def test_cond_and_switch(case):
    x, g = point(), cotangent()

    def loss(x, soft):
        y = jax.lax.cond(soft, lambda x: case(x, 1.1), lambda x: 3 * x, x)
        return (g * y).sum()

    gradient = jax.jit(jax.grad(loss))
    assert_close(gradient(x, True), expected_vjp(case, x, 1.1, g)[0])
    assert_close(gradient(x, False), 3 * np.asarray(g))
    # With a batched predicate cond becomes a select, which evaluates both.
    found = jax.vmap(
        lambda i, x: jax.lax.switch(i, [lambda x: case(x, 0.4), lambda x: case(x, 2.3)], x)
    )(jnp.array([0, 1, 0]), x)
    assert_close(found, expected(case, x, [[0.4], [2.3], [0.4]]))
