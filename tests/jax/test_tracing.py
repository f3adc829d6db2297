"""Without numbers: eval_shape, make_jaxpr, lowering."""

from __future__ import annotations

import numpy as np
import pytest
from points import expected

import diffsort

from .helpers import (
    assert_close,
    cotangent,
    few_cases,
    jax,
    jnp,
    main_cases,
    per_row,
    point,
    weighted,
)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int32"])
@pytest.mark.parametrize(("shape", "axis"), [((5,), -1), ((3, 4), 0), ((2, 0, 3), 1), ((0, 3), -1)])
def test_eval_shape(shape, axis, dtype):
    out = jax.eval_shape(
        lambda x: diffsort.soft_sort(x, axis=axis), jax.ShapeDtypeStruct(shape, dtype)
    )
    assert out.shape == shape
    assert out.dtype == ("float64" if dtype == "int32" else dtype)


@few_cases
def test_eval_shape_of_derivatives(case):
    x, g = point("float32"), cotangent("float32")
    dx, ds = jax.eval_shape(jax.grad(weighted(case), argnums=(0, 1)), x, per_row(), g)
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    assert (ds.shape, ds.dtype) == ((3, 1), per_row().dtype)


@main_cases
def test_a_jaxpr_can_be_evaluated(case):
    closed = jax.make_jaxpr(case)(point(), per_row())
    (y,) = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, point(), per_row())
    assert_close(y, expected(case, point(), per_row()))


def test_what_is_not_asked_for_is_not_computed():
    """The forward pass keeps no blocks; the gradient of l2 reads nothing else of the point."""
    x = point()
    forward = str(jax.make_jaxpr(diffsort.soft_rank)(x))
    assert "block" not in forward.replace("results=('result',)", "")
    gradient = str(jax.make_jaxpr(jax.grad(lambda x: diffsort.soft_rank(x).sum()))(x))
    assert "operands=('dresult', 'block_z', 'strength')" in gradient.replace("\n", " ")


@few_cases
def test_the_program_calls_the_native_module(case):
    text = jax.jit(jax.grad(weighted(case))).lower(point(), 0.7, cotangent()).as_text()
    assert "diffsort_project" in text
    assert "diffsort_vjp" in text


def test_options_stay_outside_the_program():
    """Names of options may be static arguments."""
    rank = jax.jit(diffsort.soft_rank, static_argnames=("axis", "direction", "regularization"))
    x = point()
    for options in ({"axis": 0}, {"direction": "descending"}, {"regularization": "kl"}):
        found = rank(x, **options)
        assert_close(found, diffsort.soft_rank(np.asarray(x), **options))
        assert isinstance(found, jnp.ndarray)
