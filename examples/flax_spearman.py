"""Train a Flax model on a Spearman loss: one call of diffsort where mean squared error would stand.

    pip install ".[test]" && python examples/flax_spearman.py

A small network scores the patients of the diabetes data, once trained on squared error and once on
one minus the soft Spearman correlation. Nothing else differs: model, optimiser, number of steps,
and the weights that are kept, those with the best Spearman correlation on a validation set.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.scipy.stats import rankdata
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import diffsort

STEPS = 150
SPLITS = 10
OPTIMIZER = optax.adam(0.01)


class Scorer(nnx.Module):
    def __init__(self, features, rngs):
        self.hidden = nnx.Linear(features, 16, rngs=rngs)
        self.score = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, X):
        return self.score(nnx.tanh(self.hidden(X)))[:, 0]


def spearman_loss(scores, y):
    # In units of the scores' standard deviation; examples/spearman_regression.py says why so small.
    ranks = diffsort.soft_rank(scores / scores.std(), regularization_strength=0.003)
    return 1 - jnp.corrcoef(ranks, rankdata(y))[0, 1]


def squared_error(scores, y):
    return jnp.mean((scores - y) ** 2)


@partial(jax.jit, static_argnames=("loss", "graph"))
def step(loss, graph, weights, state, X, y):
    """One step of the optimiser; graph and weights are the two parts of the model."""
    gradient = jax.grad(lambda weights: loss(nnx.merge(graph, weights)(X), y))(weights)
    updates, state = OPTIMIZER.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state


def spearman(model, X, y):
    return spearmanr(model(X), y).statistic


def train(loss, model, data, validation):
    graph, weights = nnx.split(model)
    state = OPTIMIZER.init(weights)
    models = []
    for _ in range(STEPS):
        weights, state = step(loss, graph, weights, state, *data)
        models.append(nnx.merge(graph, weights))
    return max(models[::5], key=lambda model: spearman(model, *validation))


def split(seed):
    """Standardised data to train on, to validate with and to test with, as (X, y) each."""
    parts = load_diabetes(return_X_y=True)
    X, X_rest, y, y_rest = train_test_split(*parts, test_size=0.5, random_state=seed)
    X_valid, X_test, y_valid, y_test = train_test_split(
        X_rest, y_rest, test_size=0.5, random_state=seed
    )
    features, target = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
    return [
        (np.float32(features.transform(X)), np.float32(target.transform(y[:, None])[:, 0]))
        for X, y in ((X, y), (X_valid, y_valid), (X_test, y_test))
    ]


def main():
    found = {spearman_loss: [], squared_error: []}
    for seed in range(SPLITS):
        data, validation, test = split(seed)
        for loss, correlations in found.items():
            model = Scorer(data[0].shape[1], nnx.Rngs(seed))
            model = train(loss, model, data, validation)
            correlations.append([spearman(model, *part) for part in (data, test)])

    print(f"Spearman correlation, mean of {SPLITS} random splits    fitted   held out")
    for loss, correlations in found.items():
        fitted, held_out = np.mean(correlations, axis=0)
        print(f"  trained on {loss.__name__:37}{fitted:.4f}     {held_out:.4f}")
    gains = np.subtract(*found.values())[:, 1]
    print(f"held out, the Spearman loss is ahead by {gains.mean():+.4f} on average,", end=" ")
    print(f"from {gains.min():+.4f} to {gains.max():+.4f}, in {sum(gains > 0)} of {SPLITS} splits")


if __name__ == "__main__":
    main()
