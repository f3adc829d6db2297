"""Long rows that are not normal: what crowds the buckets by which they are sorted, or ties."""

from functools import partial

import numpy as np

SHAPES = ((1, 100_000), (1, 1_000_000))


def _relu(rng, shape):
    return np.maximum(rng.standard_normal(shape), 0)


def _mostly_zero(rng, shape):
    return np.where(rng.random(shape) < 0.9, 0, rng.standard_normal(shape))


def _integers(count, rng, shape):
    return rng.integers(0, count, shape)


def _relu_of_cauchy(rng, shape):
    return np.maximum(rng.standard_cauchy(shape), 0)


def _crowded(rng, shape):
    """90 % within a thousandth, the others over fifty powers of ten."""
    near, far = 1 + 1e-3 * rng.random(shape), np.exp(rng.uniform(-60, 60, shape))
    return np.where(rng.random(shape) < 0.9, near, far)


FAMILIES = {
    "max(0, N(0, 1))": _relu,
    "90 % zeros, else N(0, 1)": _mostly_zero,
    "3 integers": partial(_integers, 3),
    "10 integers": partial(_integers, 10),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "max(0, Cauchy)": _relu_of_cauchy,
    "crowded": _crowded,
}

TEXT = """\
One row of float32 of other distributions, forward and backward of the solver alone, one thread.
"crowded" are numbers of which 90 % lie within a thousandth and the others reach over fifty powers
of ten.
"""
