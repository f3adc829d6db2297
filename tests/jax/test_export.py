"""jax.export: programs with the native module's custom calls, taken out of JAX and back."""

from __future__ import annotations

import pytest
from points import expected, expected_vjp

from .helpers import assert_close, cotangent, few_cases, jax, point, weighted

export = pytest.importorskip("jax.export")

TARGETS = ["diffsort_project", "diffsort_jvp", "diffsort_vjp"]
# JAX exports no custom call that it does not know to be stable from one version to the next.
CHECKS = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]


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


@pytest.mark.skipif(
    jax.__version_info__ < (0, 4, 38), reason="JAX before 0.4.38 refines no custom calls"
)
@few_cases
def test_export_with_a_symbolic_batch(case):
    (batch,) = export.symbolic_shape("b")
    exported = export.export(jax.jit(lambda x: case(x, 0.7)), disabled_checks=CHECKS)(
        jax.ShapeDtypeStruct((batch, 5), point().dtype)
    )
    for rows in (1, 2, 3):
        assert_close(exported.call(point()[:rows]), expected(case, point()[:rows], 0.7))
