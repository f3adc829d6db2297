"""JAX on a CUDA device: conformance, transformations, and what XLA is given."""

import numpy as np
import pytest
import test_conformance as conformance
from problem import operators, regularizations

import diffsort

from .helpers import JAX


@pytest.fixture(scope="module")
def backend():
    return JAX()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@operators
def test_conformance(backend, op, options, dtype):
    example = conformance.example(op, dtype, options)
    example.check_values(backend)
    example.check(backend)


@pytest.mark.parametrize("axis", [0, 1])
@operators
def test_conformance_along_axis(backend, op, options, axis):
    conformance.example(op, "float64", options, axis=axis).check(backend)


@conformance.broadcasts
@regularizations
def test_conformance_of_broadcasts(backend, regularization, shapes):
    conformance.broadcast(regularization, shapes).check(backend)


@pytest.mark.parametrize("x64", ["float32", "float64"])
def test_transformations_agree_with_the_cpu(backend, x64):
    """jit of value and gradient, vmap, jvp, hessian, and a strength with its gradient."""
    jax, jnp = backend.jax, backend.jax.numpy
    x = np.random.default_rng(5).normal(size=(3, 7)).astype(x64)

    def loss(x, strength):
        ranks = diffsort.soft_rank(x, regularization="kl", regularization_strength=strength)
        return jnp.sum(jnp.sin(ranks))

    functions = [
        jax.jit(jax.value_and_grad(loss, (0, 1))),
        jax.vmap(jax.grad(loss), (0, None)),
        lambda x, s: jax.jvp(loss, (x, s), (jnp.cos(x), s)),
        jax.hessian(loss),
    ]
    with backend.x64(x64):
        for function in functions:
            found = []
            for device in (backend.device, jax.devices("cpu")[0]):
                with jax.default_device(device):
                    arguments = jax.device_put((x, np.asarray(0.7, x64)), device)
                    found.append(jax.tree_util.tree_leaves(function(*arguments)))
            for one, other in zip(*found, strict=True):
                assert one.devices() == {backend.device}
                # Sums of some tens of terms of order 1 to 10, twice over.
                close = 1e-4 if x64 == "float32" else 1e-11
                np.testing.assert_allclose(one, other, rtol=close, atol=close)


def test_the_kernels_are_called_and_the_host_is_not(backend):
    x = backend.asarray(np.arange(12.0).reshape(3, 4), "float32")
    program = backend.jax.jit(backend.jax.grad(lambda x: diffsort.soft_sort(x)[..., 0].sum()))
    text = program.lower(x).compile().as_text()
    assert "diffsort_project" in text
    assert "diffsort_vjp" in text
    assert "callback" not in text


def test_a_hundred_runs_are_equal(backend):
    x = backend.asarray(np.random.default_rng(6).normal(size=(64, 999)), "float32")
    run = backend.jax.jit(backend.jax.value_and_grad(lambda x: (diffsort.soft_rank(x) ** 3).sum()))
    first = [np.asarray(a).tobytes() for a in run(x)]
    for _ in range(100):
        assert [np.asarray(a).tobytes() for a in run(x)] == first


@pytest.mark.parametrize("n", [20, 300, 20_000])
def test_command_buffers_are_replayed_with_other_numbers(backend, n):
    """XLA may capture every call with its scratch memory, and replay it on arrays elsewhere. (JAX
    does not tell whether it has.)"""
    jax = backend.jax
    gradient = jax.jit(jax.value_and_grad(lambda x: (diffsort.soft_rank(x) ** 3).mean()))
    random = np.random.default_rng(n)
    inputs = [random.normal(size=(3, n)).astype(np.float32) * 10.0**k for k in range(6)]
    arrays = [backend.asarray(x, "float32") for x in inputs]  # all alive: at different addresses
    captured = gradient.lower(arrays[0]).compile({"xla_gpu_graph_min_graph_size": 1})
    found = [captured(x) for x in arrays]
    for x, results in zip(inputs, found, strict=True):
        with jax.default_device(jax.devices("cpu")[0]):
            expected = gradient(jax.device_put(x, jax.devices("cpu")[0]))
        for one, other in zip(results, expected, strict=True):
            scale = float(np.abs(other).max())
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * scale)
