"""Models of Flax: the operators inside linen modules and nnx modules, with learnable strengths."""

from __future__ import annotations

import numpy as np
import pytest
from points import expected_vjp

import diffsort

from .helpers import FEW, Case, assert_close, cotangent, few_cases, jax, jnp, per_row, point

flax = pytest.importorskip("flax", minversion="0.10")
nn = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:flax")


class Ranker(nn.Module):
    """Scores by a linear layer, ranks with a strength that is learnt in log space."""

    regularization: str

    @nn.compact
    def __call__(self, x):
        scores = nn.Dense(1)(x)[:, 0]
        strength = jnp.exp(self.param("log_strength", nn.initializers.constant(-0.7), ()))
        return diffsort.soft_rank(
            scores, regularization=self.regularization, regularization_strength=strength
        )


def _data():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(np.argsort(np.argsort(x @ [1.0, -2.0, 0.5, 0.0])) + 1.0)


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_linen_training_lowers_the_loss_and_moves_the_strength(regularization):
    x, target = _data()
    model = Ranker(regularization)
    start = model.init(jax.random.key(0), x)

    def loss(parameters):
        return ((model.apply(parameters, x) - target) ** 2).mean()

    @jax.jit
    def step(parameters, _):
        value, gradient = jax.value_and_grad(loss)(parameters)
        # Steps of one length: plain descent would follow the size of the gradient.
        size = jnp.sqrt(sum((g**2).sum() for g in jax.tree_util.tree_leaves(gradient)))
        move = lambda p, g: p - (0.03 * g / (size + 1e-6)).astype(p.dtype)  # noqa: E731
        return jax.tree_util.tree_map(move, parameters, gradient), value

    end, losses = jax.lax.scan(step, start, None, length=100)
    assert losses[-1] < 0.5 * losses[0]
    moved = end["params"]["log_strength"] - start["params"]["log_strength"]
    assert abs(moved) > 1e-4


def test_linen_gradient_is_the_chain_rule():
    x, _ = _data()
    model = Ranker("kl")
    parameters = model.init(jax.random.key(0), x)
    g = jnp.asarray(np.random.default_rng(1).normal(size=40))
    gradient = jax.grad(lambda p: (g * model.apply(p, x)).sum())(parameters)["params"]
    dense = parameters["params"]["Dense_0"]
    scores = np.asarray(x) @ np.asarray(dense["kernel"])[:, 0] + np.asarray(dense["bias"])
    strength = float(np.exp(parameters["params"]["log_strength"]))
    rank_kl = Case("soft_rank", "ascending", "kl")
    dx, ds = expected_vjp(rank_kl, scores[None], strength, g[None])
    # float32: 40 terms of size up to 40, each rounded a few times.
    close = {"rtol": 40 * 2.0**-20, "atol": 40 * 2.0**-20}
    assert_close(gradient["Dense_0"]["kernel"][:, 0], dx[0] @ np.asarray(x), **close)
    assert_close(gradient["log_strength"], strength * ds[0, 0], **close)


class NnxSorter(nnx.Module):
    def __init__(self, case):
        self.case = case
        self.values, self.strength = nnx.Param(point()), nnx.Param(per_row())

    def __call__(self):
        return self.case(self.values[...], self.strength[...])


@few_cases
def test_nnx_gradients(case):
    model = NnxSorter(case)
    gradient = nnx.grad(lambda model: (cotangent() * model()).sum())(model)
    wanted = expected_vjp(case, point(), per_row(), cotangent())
    strength, values = jax.tree_util.tree_leaves(gradient)  # in the order of their names
    assert_close(values, wanted[0])
    assert_close(strength, wanted[1])


@pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])
def test_nnx_parameters_are_arrays(op):
    """They are passed as they are, as values, w and strength, and are no arrays by type."""
    function = getattr(diffsort, op)
    rest = {"w": nnx.Param(jnp.arange(1.0, 6))} if op == "project" else {}
    plain = {"w": jnp.arange(1.0, 6)} if op == "project" else {}
    found = function(nnx.Param(point()), regularization_strength=nnx.Param(per_row()), **rest)
    assert_close(found, function(point(), regularization_strength=per_row(), **plain))
    found = jax.jit(lambda s: function(point(), regularization_strength=s, **plain))(
        nnx.Param(jnp.asarray(0.7))
    )
    assert_close(found, function(point(), regularization_strength=0.7, **plain))


def test_a_bad_strength_in_a_parameter_is_an_error():
    with pytest.raises(ValueError, match=r"soft_rank: regularization_strength must be ≥ 0 .*-1\.0"):
        diffsort.soft_rank(point(), regularization_strength=nnx.Param(jnp.asarray(-1.0)))


def test_nnx_jit_of_a_training_step():
    model = NnxSorter(FEW[1])
    target = diffsort.soft_rank(point(), regularization_strength=0.1)

    @nnx.jit
    def step(model):
        value, gradient = nnx.value_and_grad(lambda m: ((m() - target) ** 2).sum())(model)
        state = nnx.state(model)
        nnx.update(model, jax.tree_util.tree_map(lambda p, g: p - 0.02 * g, state, gradient))
        return value

    losses = [float(step(model)) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert (model.strength[...] != per_row()).all()
