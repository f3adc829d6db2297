"""jax.export: programs with the native module's custom calls, taken out of JAX and back."""

from __future__ import annotations

import backends
import numpy as np
import pytest
from points import expected, expected_vjp

import diffsort

from .helpers import (
    FEW,
    assert_close,
    cotangent,
    few_cases,
    jax,
    jnp,
    kl_cases,
    point,
    run,
    weighted,
)

export = pytest.importorskip("jax.export")

TARGETS = ["diffsort_project", "diffsort_jvp", "diffsort_vjp"]
# JAX exports no custom call that it does not know to be stable from one version to the next.
CHECKS = [export.DisabledSafetyCheck.custom_call(name) for name in TARGETS]

CALL = """
import jax, numpy
from jax import export
import diffsort.backends.jax  # registers what the program calls

jax.config.update("jax_enable_x64", True)
gradient = export.deserialize(bytearray(open("gradient.jax", "rb").read()))
at = numpy.load("arguments.npz")
value, (dx, ds) = gradient.call(at["x"], 0.4, at["g"])
numpy.savez("found.npz", value=value, dx=dx, ds=ds)
"""


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
    dx, ds = jax.grad(weighted(again.call), argnums=(0, 1))(point(), 0.4, cotangent())
    wanted = expected_vjp(case, point(), 0.4, cotangent())
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1].sum())


@kl_cases
def test_a_gradient_in_another_process(case, tmp_path):
    """The program calls the native module there, without a trace of the operator."""
    pytest.importorskip("flatbuffers", reason="JAX serializes by way of flatbuffers")
    gradient = jax.jit(jax.value_and_grad(weighted(case), argnums=(0, 1)))
    exported = export.export(gradient, disabled_checks=CHECKS)(point(), 0.7, cotangent())
    (tmp_path / "gradient.jax").write_bytes(exported.serialize())
    np.savez(tmp_path / "arguments.npz", x=point(), g=cotangent())
    run(CALL, tmp_path)
    found = np.load(tmp_path / "found.npz")
    assert_close(jnp.asarray(found["value"]), (cotangent() * expected(case, point(), 0.4)).sum())
    wanted = expected_vjp(case, point(), 0.4, cotangent())
    assert_close(jnp.asarray(found["dx"]), wanted[0])
    assert_close(jnp.asarray(found["ds"]), wanted[1].sum())


def test_a_program_with_the_fallback_needs_nothing_of_this_package(tmp_path):
    """It holds operations of XLA alone, so JAX exports it without being told that it may."""
    pytest.importorskip("flatbuffers", reason="JAX serializes by way of flatbuffers")
    case = FEW[0]
    with backends.fallback():  # a function of its own, which JAX has not traced natively before
        exported = export.export(jax.jit(lambda x, strength: case(x, strength)))(point(), 0.7)
    again = export.deserialize(exported.serialize())
    assert_close(again.call(point(), 0.4), expected(case, point(), 0.4))


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


def test_export_of_the_fallback_with_a_symbolic_length():
    (length,) = export.symbolic_shape("n")
    argument = jax.ShapeDtypeStruct((3, length), np.float32)
    with (
        backends.fallback(),
        pytest.raises(
            ValueError, match="soft_rank: values has the symbolic length n along axis -1"
        ),
    ):
        export.export(jax.jit(lambda x: diffsort.soft_rank(x)))(argument)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 4, 38), reason="JAX before 0.4.38 refines no custom calls"
)
def test_export_of_a_tangent_along_the_strength_with_a_symbolic_length():
    def tangent(x, strength):
        def ranks(s):
            return diffsort.soft_rank(x, regularization_strength=s)

        return jax.jvp(ranks, (strength,), (strength,))

    (length,) = export.symbolic_shape("n")
    argument = jax.ShapeDtypeStruct((3, length), np.float32)
    exported = export.export(jax.jit(tangent), disabled_checks=CHECKS)(argument, 0.7)
    x = jnp.asarray(np.random.default_rng(8).normal(size=(3, 6)), "float32")
    for found, wanted in zip(exported.call(x, 0.7), tangent(x, 0.7), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
