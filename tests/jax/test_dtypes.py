"""float32, the half types, weak types, integers; x64 on and off."""

from __future__ import annotations

import numpy as np
import pytest
from backends import rounded
from points import SINGLE, expected, expected_jvp, expected_vjp
from problem import OPERATORS, Problem, names

import diffsort

from .helpers import (
    array,
    assert_close,
    cotangent,
    enable_x64,
    few_cases,
    jax,
    jnp,
    per_row,
    point,
    tangent,
    weighted,
    without_x64,
)

HALVES = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # relative error of one rounding
# Results are rounded once; gradients are, too, of sums over five terms of size up to 10 that have
# been rounded themselves by the cotangent's product with the result.
narrow = pytest.mark.parametrize("dtype", ["float32", *HALVES])


def _tolerance(dtype):
    return SINGLE if dtype == "float32" else 16 * HALVES[dtype]


@narrow
@few_cases
def test_results_and_derivatives_have_the_dtype_of_the_values(case, dtype):
    with without_x64():
        x, g, v = (make(dtype) for make in (point, cotangent, tangent))
        strength = array([[0.5], [1.125], [2.25]], dtype)
        y, pull = jax.vjp(jax.jit(case), x, strength)
        dx, ds = pull(g)
        _, t = jax.jvp(case, (x, strength), (v, jnp.ones_like(strength)))
    assert y.dtype == dx.dtype == ds.dtype == t.dtype == dtype
    at = [rounded(values, dtype) for values in (point(), [[0.5], [1.125], [2.25]])]
    close = {"rtol": _tolerance(dtype), "atol": _tolerance(dtype)}
    assert_close(y, expected(case, *at), **close)
    wanted = expected_vjp(case, *at, rounded(cotangent(), dtype))
    assert_close(dx, wanted[0], **close)
    assert_close(ds, wanted[1], **close)
    assert_close(t, expected_jvp(case, *at, rounded(tangent(), dtype), 1.0), **close)


@pytest.mark.parametrize("dtype", HALVES)
@few_cases
def test_halves_compute_in_float32(case, dtype):
    """The result is that of float32, rounded once."""
    with without_x64():
        x = point(dtype)
        wanted = case(x.astype(jnp.float32), 1.125).astype(dtype)
        assert (jax.jit(case)(x, 1.125) == wanted).all()


def test_many_halves():
    """Ranks beyond 2048 in float16, rounded as float16 must: sums are not made in it."""
    x = jnp.asarray(np.random.default_rng(1).permutation(3000), jnp.float16)
    ranks = diffsort.soft_rank(x, regularization_strength=1e-3)
    exact = diffsort.soft_rank(np.asarray(x, np.float64), regularization_strength=1e-3)
    assert ranks.dtype == jnp.float16
    np.testing.assert_array_equal(np.asarray(ranks), exact.astype(np.float16))


@few_cases
def test_second_order_in_float32(case):
    with without_x64():
        x, strength, g = (make("float32") for make in (point, per_row, cotangent))
        hessian = jax.vmap(jax.hessian(weighted(case), argnums=(0, 1)))(x, strength[:, 0], g)
    at = np.asarray(x, float), np.asarray(strength, float)
    for i, (row, (s,)) in enumerate(zip(*at, strict=True)):
        wanted = np.einsum("k,kij->ij", np.asarray(g, float)[i], case.hessian(row, s))
        # Terms of size up to 100, where an oracle in float64 has the same inputs.
        close = {"rtol": 100 * SINGLE, "atol": 100 * SINGLE}
        assert hessian[0][0].dtype == jnp.float32
        assert_close(hessian[0][0][i], wanted[:-1, :-1], **close)
        assert_close(hessian[0][1][i], wanted[:-1, -1], **close)
        assert_close(hessian[1][1][i], wanted[-1, -1], **close)


@pytest.mark.parametrize("x64", [False, True])
@few_cases
def test_float32_beside_x64(case, x64):
    """A float32 array stays one with x64; numbers of Python bring no float64 along."""
    with enable_x64(x64):
        x, g = point("float32"), cotangent("float32")
        dx = jax.grad(weighted(case))(x, 0.7, g)
        assert case(x, 0.7).dtype == dx.dtype == jnp.float32
        close = {"rtol": SINGLE, "atol": SINGLE}
        values = np.asarray(x, np.float64)
        assert_close(case(x, 0.7), expected(case, values, 0.7), **close)
        assert_close(dx, expected_vjp(case, values, 0.7, np.asarray(g, np.float64))[0], **close)


@few_cases
def test_a_strength_of_another_dtype(case):
    """It does not change the result's dtype, is used as it is, and has a gradient of its own."""
    close = {"rtol": SINGLE, "atol": SINGLE}
    for dtype in ("float32", "bfloat16"):
        strength = array([[0.5], [1.125], [2.25]], dtype)
        dx, ds = jax.grad(weighted(case), argnums=(0, 1))(point(), strength, cotangent())
        assert dx.dtype == jnp.float64
        assert ds.dtype == dtype
        wanted = expected_vjp(case, point(), np.asarray(strength, float), cotangent())
        assert_close(dx, wanted[0])
        coarse = 2 * HALVES["bfloat16"] if dtype == "bfloat16" else SINGLE
        assert_close(ds, wanted[1], rtol=coarse, atol=coarse)
    dx, ds = jax.grad(weighted(case), argnums=(0, 1))(
        point("float32"), per_row("float64"), cotangent("float32")
    )
    assert dx.dtype == jnp.float32
    assert ds.dtype == jnp.float64
    wanted = expected_vjp(case, np.asarray(point("float32"), float), per_row(), cotangent())
    assert_close(dx, wanted[0], **close)
    assert_close(ds, wanted[1], **close)
    _, t = jax.jvp(lambda s: case(point("float32"), s), (per_row(),), (jnp.ones((3, 1)),))
    assert t.dtype == jnp.float32
    values = np.asarray(point("float32"), float)
    assert_close(t, expected_jvp(case, values, per_row(), 0 * values, 1.0), **close)


def test_results_are_not_weakly_typed():
    x = jnp.full(3, 1.5)  # weakly typed, as a number of Python is
    strength = jnp.asarray(0.5)
    for y in (
        diffsort.soft_rank(x),
        jax.jit(diffsort.soft_rank)(x),
        jax.jit(lambda s: diffsort.soft_rank(x, regularization_strength=s))(0.5),
        jax.grad(lambda x, s: diffsort.soft_rank(x, regularization_strength=s).sum())(x, strength),
    ):
        assert y.dtype == jnp.float64
    y = jax.jit(diffsort.soft_rank)(jnp.full(3, 1.5))
    assert not y.weak_type
    half = jnp.ones(3, jnp.bfloat16) * 0.5
    assert (diffsort.soft_rank(half) + jnp.float32(1)).dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "bool"])
@pytest.mark.parametrize("x64", [False, True])
def test_integers_and_bools_promote(dtype, x64):
    values = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]).astype(dtype)
    with enable_x64(x64):
        for function in (diffsort.soft_rank, jax.jit(diffsort.soft_rank)):
            ranks = function(jnp.asarray(values))
            assert ranks.dtype == (jnp.float64 if x64 else jnp.float32)
            wanted = diffsort.soft_rank(values.astype(np.float64))
            assert_close(ranks, wanted, rtol=SINGLE, atol=SINGLE)
        strength = diffsort.soft_rank(jnp.asarray(values), regularization_strength=jnp.asarray(2))
        wanted = diffsort.soft_rank(values.astype(np.float64), regularization_strength=2)
        assert_close(strength, wanted, rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("others", ["float64", "float32", "bfloat16", "float16", "int32"])
def test_mixed_dtypes_in_project_promote_as_jax_does(others):
    z, w = point("float32"), jnp.abs(point())[0].astype(others)
    y = diffsort.project(z, w)
    assert y.dtype == (jnp.float64 if others == "float64" else jnp.float32)
    inputs = np.asarray(z, np.float64), np.asarray(w, np.float64)
    assert_close(y, diffsort.project(*inputs), rtol=SINGLE, atol=SINGLE)
    dz, dw = jax.grad(lambda *at: diffsort.project(*at).sum(), argnums=(0, 1), allow_int=True)(z, w)
    assert dz.dtype == jnp.float32
    assert dw.dtype == (jax.dtypes.float0 if others == "int32" else others)


@pytest.mark.parametrize("x64", [False, True])
def test_weak_types_give_way_in_project(x64):
    """The result's dtype is that of z * w, unless both are integers."""
    with enable_x64(x64):
        names = ["float32", "float16", "bfloat16", "int32", *(["float64"] if x64 else [])]
        arrays = [jnp.ones(3, dtype) for dtype in names] + [jnp.full(3, 1.0), jnp.full(3, 1)]
        default = jnp.full(3, 1.0).dtype
        for z in arrays:
            for w in arrays:
                wanted = (z * w).dtype
                if jnp.issubdtype(wanted, jnp.integer):
                    wanted = default
                for function in (diffsort.project, jax.jit(diffsort.project)):
                    assert function(z, w).dtype == wanted


@pytest.mark.parametrize(("op", "options"), OPERATORS, ids=names)
def test_denormals_are_kept(op, options):
    """XLA's threads flush denormals to zero; the handlers compute without that."""
    rng = np.random.default_rng(4)
    tiny = np.ldexp(rng.integers(1, 2**20, size=(2, 6)), -1074)  # all of them denormal
    inputs = {"values": tiny, "regularization_strength": 0.0}
    if op == "project":
        inputs["w"] = tiny[:, ::-1].copy()
    problem = Problem(op, inputs, wrt=["values"], **options)
    x = jnp.asarray(tiny)
    rest = {name: inputs[name] for name in ("regularization_strength",)}
    arguments = (x, jnp.asarray(inputs["w"])) if op == "project" else (x,)
    for function in (
        getattr(diffsort, op),
        jax.jit(getattr(diffsort, op), static_argnames=[*options, *rest]),
    ):
        y = np.asarray(function(*arguments, **rest, **options))
        np.testing.assert_allclose(y, problem.truth.value(), rtol=1e-10, atol=2.0**-1073)
    # Their differences count, on every thread.
    z = jnp.asarray(np.ldexp([3.0, 1.0, 2.0, 7.0], -1074))
    ranks = diffsort.soft_rank(jnp.tile(z, (50_000, 1)), regularization_strength=0)
    np.testing.assert_array_equal(ranks, np.tile([3.0, 1.0, 2.0, 4.0], (50_000, 1)))
