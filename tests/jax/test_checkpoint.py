"""jax.checkpoint: what is recomputed gives the same derivatives."""

from __future__ import annotations

import pytest
from points import expected, expected_vjp

from .helpers import (
    array,
    assert_close,
    cotangent,
    jax,
    jnp,
    kl_cases,
    main_cases,
    per_row,
    point,
    weighted,
)

POLICIES = {
    "default": None,
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "everything": jax.checkpoint_policies.everything_saveable,
}


@pytest.mark.parametrize("policy", POLICIES)
@kl_cases
def test_grad(case, policy):
    x, g = point(), cotangent()
    saved = jax.checkpoint(case, policy=POLICIES[policy])
    value, (dx, ds) = jax.jit(jax.value_and_grad(weighted(saved), argnums=(0, 1)))(x, per_row(), g)
    wanted = expected_vjp(case, x, per_row(), g)
    assert_close(value, (g * expected(case, x, per_row())).sum())
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])


@main_cases
def test_the_residuals_are_the_arguments(case):
    """Without jit the pullback holds what was saved: x and the strength, no blocks, no result."""
    _, pull = jax.vjp(jax.checkpoint(case), point(), per_row())
    assert not any(leaf.dtype == jnp.int32 for leaf in jax.tree_util.tree_leaves(pull))
    wanted = expected_vjp(case, point(), per_row(), cotangent())
    assert_close(pull(cotangent())[0], wanted[0])


@kl_cases
def test_second_order_and_scan(case):
    g = cotangent()[0]

    def loss(x):
        step = jax.checkpoint(case)
        _, y = jax.lax.scan(lambda carry, s: (carry, step(x, s)), 0, array([0.4, 1.1, 2.3]))
        return (g * y**2).sum()

    smooth = [case.smooth(point()[0], s) for s in (0.4, 1.1, 2.3)]

    def wanted(x):
        return sum((g * f(x, s) ** 2).sum() for f, s in zip(smooth, (0.4, 1.1, 2.3), strict=True))

    for transform in (jax.grad, jax.hessian):
        found = jax.jit(transform(loss))(point()[0])
        assert_close(found, jax.jit(transform(wanted))(point()[0]))
