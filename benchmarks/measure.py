"""What the speed benchmarks share: shapes, regimes, and rounds in which all contenders take turns.

Times on a shared machine drift, so only ratios within a round are quoted: a round times every
contender once, in random order (after some neighbours a small call takes a fifth longer); the
tables hold the median over the rounds and the quartiles. A branch predictor learns a repeated input
and flatters the comparison sorts, so no contender ever sees an input twice, and contenders share
the inputs of a round only where these are far too long to be learned.
"""

import math
import os
import random
import time
from typing import NamedTuple

import numpy as np

SHAPES = (
    (1, 100),
    (1, 1_000),
    (1, 10_000),
    (1, 100_000),
    (1, 1_000_000),
    (1, 10_000_000),
    (128, 100),
    (128, 1_000),
    (4096, 32),
    (1024, 1024),
    (100_000, 16),
    (64, 10_000),
)

# The work depends on how much the isotonic step pools, so three regimes are kept apart. S: one
# block (the operator is affine there), M: pooling in between, H: nearly hard.
REGIMES = """\
Inputs are N(0, 1), in float32 where no other type is named. Regimes, with range = the largest less
the smallest value of a row: soft_rank l2: range/strength = n/4 (S), n (M), 50 n (H); soft_rank kl:
range/strength = ln(2)/2 (S), 8 (M), 50 n (H); soft_sort: n/(strength · range) = 1/8 (S), 1 (M),
50 (H).
"""
TIMES = """\
Times are medians in ns per element; ratios are medians within a round, with quartiles; below 1
diffsort is faster.
"""

OPERATORS, REGULARIZATIONS = ("soft_rank", "soft_sort"), ("l2", "kl")


class Case(NamedTuple):
    """One contender. `passes` is "f" (forward, no gradient) or "fb" (forward and backward)."""

    operator: str
    regularization: str
    regime: str
    passes: str
    dtype: str = "float32"
    threads: int = 1
    library: str = "diffsort"


def strength(operator, regularization, regime, a):
    """The strength of a regime for one NumPy array, from the ranges of its rows."""
    return float(strengths(operator, regularization, regime, np.ptp(a, axis=-1), a.shape[-1]))


def strengths(operator, regularization, regime, ranges, n):
    """The strengths of a regime for arrays with such ranges of their rows, the last axis."""
    spread = {"S": np.max, "M": np.median, "H": np.min}[regime](ranges, axis=-1)
    if operator == "soft_sort":
        return {"S": 8, "M": 1, "H": 1 / 50}[regime] * n / spread
    if regularization == "kl":
        return spread / {"S": math.log(2) / 2, "M": 8, "H": 50 * n}[regime]
    return spread / {"S": n / 4, "M": n, "H": 50 * n}[regime]


def shape(text):
    """(128, 1000) of 128x1000, for argparse."""
    return tuple(int(length) for length in text.split("x"))


def calls_per_round(size):
    """At least a few thousand elements between two readings of the clock."""
    return max(1, min(64, 50_000 // size))


def cores():
    """How many threads "all" are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Inputs:
    """Fresh arrays for as many calls, by default drawn from N(0, 1), and one cotangent for all."""

    def __init__(self, rng, calls, shape, dtype, draw=None):
        draw = draw or (lambda rng, shape: rng.standard_normal(shape, dtype))
        self.values = np.asarray(draw(rng, (calls, *shape)), dtype)
        self.cotangent = rng.standard_normal(shape, dtype)
        self._ranges = None

    def strengths(self, operator, regularization, regime):
        """One per call."""
        if self._ranges is None:
            self._ranges = np.ptp(self.values, axis=-1)
        n = self.values.shape[-1]
        return strengths(operator, regularization, regime, self._ranges, n)


LONG = 1_000_000  # elements; a predictor remembers some thousands of branches
MOST_ROUNDS = 100


def rounds(contenders, shape, calls, seconds, least=3, draw=None):
    """name -> array of seconds per call, one entry per round: for so long, and `least` at least.

    A contender is a pair of a dtype and a function of `Inputs` that returns the seconds it took.
    draw(rng, shape) makes the inputs.
    """
    times = {name: [] for name in contenders}
    rng, order = np.random.default_rng(0), random.Random(0)
    share = calls * math.prod(shape) >= LONG
    start = time.perf_counter()
    turn = -1  # the first round warms up and is not kept
    while turn < least or (turn < MOST_ROUNDS and time.perf_counter() - start < seconds):
        drawn = {}
        for name, (dtype, timer) in order.sample(list(contenders.items()), len(contenders)):
            if dtype not in drawn or not share:
                drawn[dtype] = Inputs(rng, calls, shape, dtype, draw)
            elapsed = timer(drawn[dtype])
            if turn >= 0:
                times[name].append(elapsed / calls)
        turn += 1
    return {name: np.array(t) for name, t in times.items()}


def looped(run, prepare):
    """A timer of `rounds`: run(*arguments) once for each that `prepare` makes of the inputs."""

    def timer(inputs):
        prepared = list(prepare(inputs))
        begin = time.perf_counter()
        for arguments in prepared:
            run(*arguments)
        return time.perf_counter() - begin

    return timer
