"""Maximise Spearman's rank correlation with a linear model, in NumPy, PyTorch and JAX.

    pip install ".[test]" && python examples/spearman_regression.py

Least squares predicts the target's values; here only the order counts. The Spearman correlation of
scores and target is the Pearson correlation of their ranks. Ranks are piecewise constant, so their
gradient is zero; with soft ranks of the scores the correlation gets a useful one.

The same gradient ascent is run three times: in NumPy, where `diffsort.vjp` gives the gradient of
the ranks and the rest of the chain rule is written by hand, and in PyTorch and JAX, which do all of
it. Another framework joins as one more function `(weights, X, goal) -> (value, gradient)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

import diffsort

# JAX computes in float32 unless told otherwise; the frameworks are compared in float64.
jax.config.update("jax_enable_x64", True)

# Scores are standardised, so the strength is in units of their standard deviation. For a few
# hundred normal scores the ranks collapse to one block near 0.02: from there on a soft rank is an
# affine function of the scores, and the objective is Pearson's correlation, not Spearman's. Stay
# well below; far below, more and more gradients are exactly zero, as those of hard ranks are.
STRENGTH = 0.003
STEPS = 100
STEP_SIZE = 0.2


def hard_ranks(x):
    """Ranks 1..n with mean ranks at ties: the limit of soft ranks at strength 0."""
    return diffsort.soft_rank(x, regularization_strength=0.0)


def spearman(a, b):
    return np.corrcoef(hard_ranks(a), hard_ranks(b))[0, 1]


def with_numpy(weights, X, goal):
    """Soft Spearman correlation of X @ weights with the goal, and its gradient, step by step."""
    scores = X @ weights
    spread = scores.std()
    z = (scores - scores.mean()) / spread
    ranks, pull_back = diffsort.vjp(diffsort.soft_rank, z, regularization_strength=STRENGTH)
    centred = ranks - ranks.mean()
    length = np.linalg.norm(centred)
    value = goal @ centred / length

    # The chain rule, from the last line to the first.
    g = (goal - value * centred / length) / length  # value <- ranks (goal has mean 0)
    g = pull_back(g)  # ranks <- z
    g = (g - g.mean() - z * np.mean(g * z)) / spread  # z <- scores
    return value, X.T @ g  # scores <- weights


def with_torch(weights, X, goal):
    """The same value and gradient; autograd does the chain rule."""
    weights = torch.tensor(weights, requires_grad=True)
    scores = torch.from_numpy(X) @ weights
    z = (scores - scores.mean()) / scores.std(correction=0)
    ranks = diffsort.soft_rank(z, regularization_strength=STRENGTH)
    centred = ranks - ranks.mean()
    value = torch.from_numpy(goal) @ centred / torch.linalg.vector_norm(centred)
    value.backward()
    return value.item(), weights.grad.numpy()


@jax.jit
@jax.value_and_grad
def with_jax(weights, X, goal):
    """The same value and gradient; JAX derives and compiles the gradient."""
    scores = X @ weights
    z = (scores - scores.mean()) / scores.std()
    ranks = diffsort.soft_rank(z, regularization_strength=STRENGTH)
    centred = ranks - ranks.mean()
    return goal @ centred / jnp.linalg.norm(centred)


FRAMEWORKS = {"NumPy": with_numpy, "PyTorch": with_torch, "JAX": with_jax}


def maximise(value_and_gradient, X, y):
    """Gradient ascent; returns the weights and the values before and after every step."""
    goal = hard_ranks(y)
    goal = (goal - goal.mean()) / np.linalg.norm(goal - goal.mean())
    weights = X.T @ goal  # each feature's own agreement with the goal: a start without a seed
    path = [weights]
    values = []
    for _ in range(STEPS):
        value, gradient = value_and_gradient(weights, X, goal)
        weights = weights + STEP_SIZE * np.linalg.norm(weights) * np.asarray(gradient)
        path.append(weights)
        values.append(value)
    return np.array(path), np.array(values)


def split(seed):
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=seed)
    # Whiten the features: the same linear models, but plain gradient ascent converges.
    mean = X.mean(axis=0)
    _, size, axes = np.linalg.svd(X - mean, full_matrices=False)
    whiten = axes.T / size * np.sqrt(len(X))
    return (X - mean) @ whiten, (X_test - mean) @ whiten, y, y_test


def main():
    X, X_test, y, y_test = split(seed=0)
    print(f"diabetes data: {len(y)} patients to fit, {len(y_test)} held out, {X.shape[1]} features")

    paths, values = zip(*(maximise(each, X, y) for each in FRAMEWORKS.values()), strict=True)
    print("\nsoft Spearman correlation by step")
    print("step", *(f"{name:>15}" for name in FRAMEWORKS), "   weights differ by")
    for step in (0, 1, 10, 50, STEPS - 1):
        apart = np.ptp([path[step] for path in paths], axis=0).max()
        print(f"{step:4d}", *(f"{each[step]:15.12f}" for each in values), f"{apart:20.1e}")
    apart = max(np.ptp(paths, axis=0).max(), np.ptp(values, axis=0).max())
    print(f"max difference over {STEPS} steps: {apart:.1e}")
    assert apart < 1e-9, "the frameworks disagree by more than rounding"

    weights = paths[0][-1]
    squares = LinearRegression().fit(X, y)
    print("\nSpearman correlation            fitted   held out")
    print(f"  soft ranks, this example     {spearman(X @ weights, y):.4f}     ", end="")
    print(f"{spearman(X_test @ weights, y_test):.4f}")
    print(f"  least squares                {spearman(squares.predict(X), y):.4f}     ", end="")
    print(f"{spearman(squares.predict(X_test), y_test):.4f}")

    # One split says little: repeat on twenty others.
    gains = []
    for seed in range(1, 21):
        X, X_test, y, y_test = split(seed)
        weights = maximise(with_numpy, X, y)[0][-1]
        squares = LinearRegression().fit(X, y)
        gains.append(spearman(X_test @ weights, y_test) - spearman(squares.predict(X_test), y_test))
    print(f"\nHeld out, soft ranks less least squares, over {len(gains)} other splits:")
    print(f"  mean {np.mean(gains):+.4f}, from {min(gains):+.4f} to {max(gains):+.4f};", end=" ")
    print(f"soft ranks ahead in {sum(g > 0 for g in gains)} of {len(gains)}")


if __name__ == "__main__":
    main()
