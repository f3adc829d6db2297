"""The rows of a call on XLA's own threads: the same bits, whatever runs beside them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import diffsort

from .helpers import enable_x64, jax, jnp, regularizations, same_bits, weighted


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    diffsort.set_num_threads(None)


@regularizations
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])
@pytest.mark.parametrize("shape", [(1, 100_000), (64, 1000), (5000, 8)])
def test_number_of_threads_does_not_change_a_bit(op, regularization, shape):
    rng = np.random.default_rng(18)
    values, g = (jnp.asarray(array) for array in rng.normal(size=(2, *shape)))
    w = (jnp.asarray(rng.random(shape[-1:])),) if op == "project" else ()

    def operator(x, strength):
        options = {"regularization": regularization, "regularization_strength": strength}
        return getattr(diffsort, op)(x, *w, **options)

    @jax.jit
    def solve(x, strength, g):
        gradients = jax.grad(weighted(operator), argnums=(0, 1))(x, strength, g)
        return operator(x, strength), gradients, jax.jvp(lambda x: operator(x, 0.1), (x,), (g,))

    strength = jnp.asarray(rng.uniform(0.05, 0.2, size=(shape[0], 1)))
    wanted = solve(values, strength, g)
    eager = operator(np.asarray(values), np.asarray(strength)) if not w else None
    if eager is not None:
        assert same_bits(wanted[0], eager)  # and the bits are those of NumPy
    for threads in (1, 2, 7):
        diffsort.set_num_threads(threads)
        assert same_bits(solve(values, strength, g), wanted)


def _problem(seed):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(2, 1 + seed % 5, 10 ** (1 + seed % 4)))
    options = {"regularization": ["l2", "kl"][seed // 2 % 2]}
    return [diffsort.soft_rank, diffsort.soft_sort][seed % 2], x, g, options


def _solve(seed):
    """Result and gradient of a problem; its size varies, so that calls overlap in all ways."""
    operator, x, g, options = _problem(seed)
    with enable_x64(True):  # a setting of each thread
        result, pull = jax.vjp(lambda x: operator(x, **options), jnp.asarray(x))
        return [np.asarray(array).tobytes() for array in (result, *pull(jnp.asarray(g)))]


def test_calls_from_several_threads():
    seeds = list(range(20)) * 3
    serial = [_solve(seed) for seed in seeds]
    assert len({answer[0] for answer in serial}) == 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_solve, seeds)) == serial


def test_small_calls_beside_a_big_one():
    """Executions are dispatched without waiting; those that share the pool all come to an end."""
    rng = np.random.default_rng(3)
    big = jnp.asarray(rng.normal(size=(200, 20_000)))
    small = jnp.asarray(rng.normal(size=(300, 4, 50)))
    rank = jax.jit(lambda x: jax.jit(diffsort.soft_rank)(x) + 0)
    wanted = [np.asarray(rank(x)).tobytes() for x in small]
    alone = np.asarray(rank(big))
    dispatched = [rank(big), *(rank(x) for x in small), rank(big)]
    results = []
    waiting = threading.Thread(
        target=lambda: results.extend(jax.block_until_ready(dispatched)), daemon=True
    )
    waiting.start()
    waiting.join(timeout=120)
    assert not waiting.is_alive(), "the executions wait for each other"
    assert [np.asarray(y).tobytes() for y in results[1:-1]] == wanted
    for y in (results[0], results[-1]):
        np.testing.assert_array_equal(y, alone)


def test_many_calls_in_one_program():
    """XLA may run independent calls at once, each of which asks for the pool."""
    rng = np.random.default_rng(3)
    xs = [jnp.asarray(rng.normal(size=(64, 500))) for _ in range(12)]

    @jax.jit
    def f(xs):
        return [diffsort.soft_rank(x, regularization="kl") for x in xs]

    for y, x in zip(f(xs), xs, strict=True):
        assert same_bits(y, diffsort.soft_rank(np.asarray(x), regularization="kl"))
