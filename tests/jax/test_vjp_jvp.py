"""diffsort.vjp and diffsort.jvp on JAX arrays: the numbers of NumPy, and the same errors."""

from __future__ import annotations

import numpy as np
import pytest

import diffsort
from diffsort.errors import BackendMismatchError

from .helpers import assert_close, enable_x64, jax, jnp, regularizations

X = np.array([[2.9, 0.1, 1.2, 1.3], [0.3, 0.1, 0.2, 0.9]])
G = np.array([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]])
# One formula computed in two ways in float64: a few dozen roundings of numbers below 100.
CLOSE = {"rtol": 0, "atol": 100 * 50 * 2.0**-53}


@regularizations
@pytest.mark.parametrize("operator", [diffsort.soft_rank, diffsort.soft_sort])
def test_numbers_are_those_of_numpy(operator, regularization):
    wrt = ("values", "regularization_strength")
    options = {"regularization": regularization, "regularization_strength": 0.7}
    result, pull = diffsort.vjp(operator, jnp.asarray(X), wrt=wrt, **options)
    expected, numpy_pull = diffsort.vjp(operator, X, wrt=wrt, **options)
    assert_close(result, expected, **CLOSE)
    for found, truth in zip(pull(jnp.asarray(G)), numpy_pull(G), strict=True):
        assert_close(found, truth, **CLOSE)
    tangents = {"values": jnp.asarray(G), "regularization_strength": 0.3}
    _, tangent = diffsort.jvp(operator, jnp.asarray(X), tangents, **options)
    tangents["values"] = G
    assert_close(tangent, diffsort.jvp(operator, X, tangents, **options)[1], **CLOSE)


@regularizations
def test_project(regularization):
    wrt = ("values", "w", "regularization_strength")
    strength = np.array([[0.7], [1.1]])

    def answers(array):
        options = {"regularization": regularization, "regularization_strength": array(strength)}
        result, pull = diffsort.vjp(diffsort.project, array(X), wrt=wrt, w=array(X[0]), **options)
        return result, *pull(array(G))

    for found, wanted in zip(answers(jnp.asarray), answers(np.asarray), strict=True):
        assert_close(found, wanted, **CLOSE)


def test_inside_transformations():
    """The pullback is itself a function of JAX."""

    @jax.jit
    def gradient(x, g):
        return diffsort.vjp(diffsort.soft_rank, x, regularization="kl")[1](g)

    truth = diffsort.vjp(diffsort.soft_rank, X, regularization="kl")[1](G)
    assert_close(gradient(X, G), truth, **CLOSE)
    assert_close(jax.vmap(gradient)(jnp.asarray(X), jnp.asarray(G)), truth, **CLOSE)
    second = jax.jacfwd(lambda x: gradient(x, G[0]))(jnp.asarray(X[0]))
    wanted = jax.hessian(lambda x: (G[0] * diffsort.soft_rank(x, regularization="kl")).sum())(X[0])
    assert jnp.abs(second).max() > 0.01
    assert_close(second, wanted, **CLOSE)


@pytest.mark.parametrize("x64", [False, True])
def test_integer_arrays(x64):
    """Their derivatives are those of the floats that they stand for."""
    x = np.array([3, 1, 4, 1])
    strength = {"regularization_strength": 4}
    with enable_x64(x64):
        values, along = jnp.asarray(x), jnp.asarray([1, 2, 3, 4])
        result, pull = diffsort.vjp(diffsort.soft_rank, values, **strength)
        gradient = pull(along)
        _, tangent = diffsort.jvp(diffsort.soft_rank, values, along, **strength)
        nothing = np.zeros(4, jax.dtypes.float0)
        _, no_tangent = diffsort.jvp(diffsort.soft_rank, values, nothing, **strength)
    dtype = jnp.float64 if x64 else jnp.float32
    assert result.dtype == gradient.dtype == tangent.dtype == dtype
    at = x.astype(float)
    truth, numpy_pull = diffsort.vjp(diffsort.soft_rank, at, **strength)
    close = CLOSE if x64 else {"rtol": 0, "atol": 100 * 2.0**-23}
    assert_close(result, truth, **close)
    assert_close(gradient, numpy_pull(np.arange(1.0, 5)), **close)
    wanted = diffsort.jvp(diffsort.soft_rank, at, np.arange(1.0, 5), **strength)[1]
    assert_close(tangent, wanted, **close)
    assert_close(no_tangent, np.zeros(4))


def test_lists_are_cotangents_and_tangents():
    x = jnp.asarray(X[0], jnp.float32)
    gradient = diffsort.vjp(diffsort.soft_rank, x)[1]([1, 2, 3, 4])
    assert_close(gradient, [0, -1, 0, 1], rtol=0, atol=2.0**-22)
    assert diffsort.jvp(diffsort.soft_rank, x, [1.0, 2, 3, 4])[1].dtype == jnp.float32


def test_a_list_beside_an_array_takes_its_dtype():
    z, w = jnp.asarray(X[0]), [0.1, 0.2, 0.7, 2.0**25 + 1]
    result = diffsort.project(z, w, regularization_strength=0)
    expected = diffsort.project(X[0], np.array(w), regularization_strength=0)
    assert_close(result, expected, rtol=0, atol=0)
    assert diffsort.project(z.astype(jnp.float32), w).dtype == jnp.float32


@pytest.mark.parametrize(
    ("direction", "error", "message"),
    [
        (np.ones(3).tolist(), ValueError, r"\(4,\), got \(3,\)"),
        (np.ones(4), BackendMismatchError, "numpy.ndarray"),
        (jnp.ones(4) * 1j, TypeError, "complex"),
        ("abcd", TypeError, "got dtype <U4"),
        (None, TypeError, "got dtype object"),
    ],
    ids=["shape", "framework", "complex", "string", "none"],
)
def test_a_bad_direction_names_itself(direction, error, message):
    x = jnp.asarray(X[0])
    pull = diffsort.vjp(diffsort.soft_rank, x)[1]
    with pytest.raises(error, match=f"soft_rank: cotangent .*{message}"):
        pull(direction)
    with pytest.raises(error, match=f"soft_rank: tangent .*{message}"):
        diffsort.jvp(diffsort.soft_rank, x, direction)
