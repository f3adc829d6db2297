"""Without numbers: eval_shape, make_jaxpr, lowering, export."""

from __future__ import annotations

import numpy as np
import pytest
from points import expected, expected_vjp

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

try:
    from jax import export
except ImportError:
    from jax.experimental import export

TARGETS = ["diffsort_project", "diffsort_jvp", "diffsort_vjp"]
# JAX exports no custom call that it does not know to be stable from one version to the next.
CHECKS = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]


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
    assert "operands=('cotangent', 'block_z', 'strength')" in gradient.replace("\n", " ")


@few_cases
def test_the_program_calls_the_native_module(case):
    text = jax.jit(jax.grad(weighted(case))).lower(point(), 0.7, cotangent()).as_text()
    assert "diffsort_project" in text
    assert "diffsort_vjp" in text


@few_cases
def test_export(case):
    exported = export.export(jax.jit(case), disabled_checks=CHECKS)(point(), 0.7)
    assert_close(exported.call(point(), 0.4), expected(case, point(), 0.4))
    # A program that was exported has the derivatives that were exported with it.
    gradient = jax.jit(jax.grad(weighted(case), argnums=(0, 1)))
    exported = export.export(gradient, disabled_checks=CHECKS)(point(), 0.7, cotangent())
    dx, ds = exported.call(point(), 0.4, cotangent())
    wanted = expected_vjp(case, point(), 0.4, cotangent())
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1].sum())


@few_cases
def test_serialized_and_back(case):
    """Such a program runs where the backend for JAX has been imported, as it is here."""
    pytest.importorskip("flatbuffers", reason="JAX serializes by way of flatbuffers")
    exported = export.export(jax.jit(case), disabled_checks=CHECKS)(point(), 0.7)
    again = export.deserialize(exported.serialize(vjp_order=1))
    assert_close(again.call(point(), 0.4), expected(case, point(), 0.4))
    dx = jax.grad(weighted(again.call))(point(), 0.4, cotangent())
    assert_close(dx, expected_vjp(case, point(), 0.4, cotangent())[0])


@few_cases
def test_export_needs_the_targets_named(case):
    with pytest.raises(ValueError, match="diffsort_project"):
        export.export(jax.jit(case))(point(), 0.7)


@few_cases
def test_export_with_a_symbolic_batch(case):
    (batch,) = export.symbolic_shape("b")
    exported = export.export(jax.jit(lambda x: case(x, 0.7)), disabled_checks=CHECKS)(
        jax.ShapeDtypeStruct((batch, 5), point().dtype)
    )
    for rows in (1, 2, 3):
        assert_close(exported.call(point()[:rows]), expected(case, point()[:rows], 0.7))


def test_options_stay_outside_the_program():
    """Names of options may be static arguments."""
    rank = jax.jit(diffsort.soft_rank, static_argnames=("axis", "direction", "regularization"))
    x = point()
    for options in ({"axis": 0}, {"direction": "descending"}, {"regularization": "kl"}):
        found = rank(x, **options)
        assert_close(found, diffsort.soft_rank(np.asarray(x), **options))
        assert isinstance(found, jnp.ndarray)
