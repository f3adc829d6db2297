"""Exact answers for rows too long for the min-max formula.

SciPy's isotonic regression proposes the blocks; what makes them true is checked here in the widest
float (the Karush-Kuhn-Tucker conditions): block values decrease, and no prefix of a block has a
larger value than the block. Results and VJPs then come from the blocks directly.
"""

from dataclasses import dataclass

import numpy as np
from oracle import SIGN, WIDE
from scipy.optimize import isotonic_regression

# SciPy decides by float64 sums of up to 1e6 terms: closer than this, it may go either way.
NEAR_TIE = 1e-12


@dataclass
class Answer:
    blocks: int
    value: np.ndarray
    scale: np.ndarray
    vjp: np.ndarray
    magnitude: np.ndarray  # the VJP with the terms that it subtracts added up instead


def solve(op, values, cotangent, strength, direction, regularization):
    sign, ranks = SIGN[op, direction], op == "soft_rank"
    x = sign * np.asarray(values, dtype=WIDE)
    order = np.argsort(-x, kind="stable")
    rho = np.arange(x.size, 0, -1, dtype=WIDE)
    z, w = (x[order], rho) if ranks else (rho, x[order])
    s = (z - z[0]) / strength
    g = np.asarray(cotangent, dtype=WIDE)[order if ranks else slice(None)]
    if regularization == "l2":
        block = Blocks(s - (w - w[0]), np.ones_like(s))
        value, scale = block.mean(w) + (s - block.mean(s)), np.abs(w).max()
        vjp, size = block.mean(g), block.mean(np.abs(g))
        if ranks:
            vjp, size = (g - vjp) / strength, (np.abs(g) + size) / strength
    elif ranks:
        block = Blocks(np.exp(s) / w, w)
        p = np.exp(s) / block.sum(np.exp(s))
        value = scale = p * block.sum(w)
        vjp = value * (g - block.sum(p * g)) / strength
        size = value * (np.abs(g) + block.sum(p * np.abs(g))) / strength
    else:
        weight = np.exp(w - w[0])
        block = Blocks(np.exp(s) / weight, weight)
        value = s - np.log(block.sum(np.exp(s))) + np.log(block.sum(weight)) + w[0]
        scale = max(1, np.abs(w).max())
        vjp, size = (weight / block.sum(weight) * block.sum(array) for array in (g, np.abs(g)))
    back = np.argsort(order)
    scale = scale * np.ones_like(x)
    if ranks:  # results are in input order; an element alone in its block subtracts nothing
        value, scale, vjp, size = value[back], scale[back], sign * vjp, size * (block.size > 1)
    else:
        value = sign * value
    arrays = value, scale, vjp[back], size[back]
    return Answer(block.start.size, *(array.astype(float) for array in arrays))


class Blocks:
    """The blocks of the decreasing fit to y with the given weights, certified."""

    def __init__(self, y, weight):
        guess = isotonic_regression(y.astype(float), weights=weight.astype(float), increasing=False)
        self.start, length = guess.blocks[:-1], np.diff(guess.blocks)
        self.size = np.repeat(length, length)
        value = self.sum(weight * y) / self.sum(weight)
        assert np.all(np.diff(value[self.start]) < 0)
        sizes = np.maximum(self.sum(weight * np.abs(y)), np.finfo(WIDE).tiny)
        prefix = np.cumsum(weight * (y - value) / sizes)
        prefix -= np.repeat(np.r_[0, prefix[self.start[1:] - 1]], length)
        assert np.all(prefix <= NEAR_TIE)

    def sum(self, array):
        """Each element's block sum."""
        return np.repeat(np.add.reduceat(array, self.start), self.size[self.start])

    def mean(self, array):
        return self.sum(array) / self.size
