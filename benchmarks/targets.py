"""The goals for the CPU, and what was reached: one line each, met or not.

`must` is what a release has to reach and `stretch` what it aims at. Ratios are medians over the
rounds; where a goal holds for many shapes, the worst is the one that counts, and it is named.
"""

import itertools
from functools import partial
from typing import NamedTuple

import calls
import hard_sorts
import numpy as np
import report
from measure import OPERATORS, REGULARIZATIONS, Case

# l2 soft_rank, forward and backward, the solver alone, as ratios to torch.sort: S, M, H.
MUST = {"S": 0.02, "M": 0.25, "H": 0.25}
MUST_FROM = {"S": 1000, "M": 100, "H": 100}  # length of a row
STRETCH = {
    (1, 1_000): (0.02, 0.12, 0.10),
    (1, 10_000): (0.005, 0.08, 0.08),
    (1, 1_000_000): (0.004, 0.10, 0.09),
    (1, 10_000_000): (0.008, 0.15, 0.12),
    (128, 100): (0.02, 0.15, 0.15),
    (128, 1_000): (0.01, 0.10, 0.09),
    (4096, 32): (0.03, 0.15, 0.15),
    (1024, 1024): (0.01, 0.10, 0.10),
    (100_000, 16): (0.06, 0.15, 0.15),
}
# How many times faster than torchsort, both forward and backward through torch.
FASTER = {(128, 1_000): 10, (1024, 1024): 10, (1, 1_000_000): 7, (4096, 32): 5}
FASTER_THAN_SORTS = 1.0
IDENTITY, KL, SORT, FLOAT64, THREADS, BYTES = 1.3, 2.0, 0.25, 1.6, 1.7, 28
CALL = {"torch, no grad: soft_rank l2": 10, "NumPy: soft_rank l2": 5}  # µs


class Found:
    """What was measured, by shape and contender; empty where it was not."""

    def __init__(self, threads):
        self.threads = threads
        self.kernels, self.torch, self.numpy, self.jax = {}, {}, {}, {}
        self.families = {}
        self.calls, self.memory, self.growth = {}, [], {}


class Line(NamedTuple):
    what: str
    where: str
    reached: float
    must: float | None
    stretch: float | None = None
    at_least: bool = False  # the goal is a lower bound
    why: str = ""  # in reasons.py, if it is not met

    def cells(self):
        judged = zip(self.goals(), map(VERDICT.get, self.met()), strict=True)
        return [self.what, self.where, self.reached_in_words(), *itertools.chain(*judged)]

    def reached_in_words(self):
        """With more digits where it is the goal but for those."""
        text = report.short(self.reached)
        is_goal = any(g is not None and text == f"{g:g}" for g in (self.must, self.stretch))
        return f"{self.reached:.4f}" if is_goal and self.reached != float(text) else text

    def goals(self):
        """must and stretch, in words."""
        sign = "≥" if self.at_least else "≤"
        return ["–" if g is None else f"{sign} {g:g}" for g in (self.must, self.stretch)]

    def met(self):
        """The same, judged; None where there is no goal."""
        return [None if g is None else self._meets(g) for g in (self.must, self.stretch)]

    def _meets(self, goal):
        return bool(self.reached >= goal if self.at_least else self.reached <= goal)


# The reason of rows that are sorted, and which they are.
KINDS_OF_ROWS = {
    "long rows": "one long row",
    "rows of a thousand": "from 193 elements on",
    "short rows": "up to 192 elements",
}
VERDICT = {None: "–", True: "yes", False: "**no**"}


def of_sorting(shape, regime):
    """The reason of a row that is sorted, or that is one block."""
    rows, n = shape
    if n <= 192:
        return "short rows"
    if regime == "S":
        return "one block"
    return "long rows" if rows == 1 and n > 65536 else "rows of a thousand"


def median_ratio(times, case, base):
    """None where one of the two was not measured."""
    return np.median(times[case] / times[base]) if case in times and base in times else None


def worst(found, ratio, goal, is_meant=lambda shape: True, pick=max):
    """(shape, which it is in words, ratio) of the solver alone, or None if nothing was measured.

    `is_meant` says which shapes count, and `pick` which ratio is the worst. The others that miss
    the goal are named as well."""
    ratios = [
        (ratio(times), shape)
        for shape, times in found.kernels.items()
        if is_meant(shape) and ratio(times) is not None
    ]
    if not ratios:
        return None
    reached, shape = pick(ratios)
    missed = [s for r, s in ratios if goal is not None and s != shape and pick(r, goal) != goal]
    others = "; missed at " + ", ".join(map(str, missed)) if missed else ""
    return shape, f"worst of {len(ratios)}: {shape}{others}", reached


def ranks(found):
    """Every shape and regime, beside torch.sort in the same rounds."""
    for shape, times in found.kernels.items():
        for i, regime in enumerate("SMH"):
            case = Case("soft_rank", "l2", regime, "fb")
            reached = median_ratio(times, case, ("torch.sort", "float32", 1))
            must = MUST[regime] if shape[1] >= MUST_FROM[regime] else None
            stretch = STRETCH[shape][i] if shape in STRETCH else None
            if reached is not None:
                what = f"soft_rank l2 {regime} / torch.sort"
                why = of_sorting(shape, regime)
                yield Line(what, str(shape), reached, must, stretch, why=why)


def over_shapes(found):
    """Goals that hold for all shapes: forward and backward of the solver alone."""
    for operator, regime in itertools.product(OPERATORS, "SMH"):
        l2 = Case(operator, "l2", regime, "fb")
        kl, wide = l2._replace(regularization="kl"), l2._replace(dtype="float64")
        name = f"{operator} l2 {regime}"
        goals = [(f"{operator} kl {regime} / {name}", kl, l2, KL, "kl", every_shape)]
        goals.append((f"{name}: float64 / float32", wide, l2, FLOAT64, "float64", every_shape))
        if operator == "soft_sort":
            sort = ("torch.sort", "float32", 1)
            for why, rows in KINDS_OF_ROWS.items():
                goals.append(
                    (f"{name} / torch.sort, {rows}", l2, sort, SORT, why, partial(is_of, why))
                )
        for what, case, base, goal, why, is_meant in goals:
            ratio = partial(median_ratio, case=case, base=base)
            reached = worst(found, ratio, goal, is_meant)
            if reached is not None:
                yield Line(what, *reached[1:], goal, why=why)


def every_shape(_):
    return True


def is_of(why, shape):
    return of_sorting(shape, "M") == why


def is_batch_shape(shape):
    return shape[0] > 1


def is_huge_row(shape):
    return shape[0] == 1 and shape[1] >= 1_000_000


def threads(found):
    """How many times faster with all threads; for batches a must."""
    for regime, is_batch in itertools.product("SMH", (True, False)):
        one = Case("soft_rank", "l2", regime, "fb")
        every = one._replace(threads=found.threads)
        goal = THREADS if is_batch else None
        ratio = partial(median_ratio, case=one, base=every)
        reached = worst(found, ratio, goal, is_batch_shape if is_batch else is_huge_row, min)
        if reached is not None and found.threads > 1:
            what = "batches" if is_batch else "one row of a million or more"
            what += f", soft_rank l2 {regime}: 1 / {found.threads} threads"
            yield Line(what, *reached[1:], goal, at_least=True, why="threads")


def every_sort(found):
    """Faster than what each framework sorts with, for every shape and regime, in float32, with all
    threads too (torch), and in float64 (but JAX). np.sort moves values only: what returns indices
    is np.argsort, beside the forward pass."""
    levels = (
        ("solver alone", found.kernels, "torch.sort", "fb", "hard sorts"),
        ("through torch", found.torch, "torch.sort", "fb", "hard sorts"),
        ("through JAX", found.jax, "jnp.sort", "fb", "hard sorts"),
        ("through NumPy", found.numpy, "np.argsort", "f", "np.sort"),
        ("through NumPy", found.numpy, "np.sort", "fb", "np.sort"),
    )
    kinds = [("float32", 1), ("float64", 1)] + [("float32", found.threads)] * (found.threads > 1)
    for level, *operation, kind in itertools.product(levels, OPERATORS, REGULARIZATIONS, kinds):
        name, shapes, sort, passes, why = level
        ratios = []
        for (shape, times), regime in itertools.product(shapes.items(), "SMH"):
            case = Case(*operation, regime, passes, *kind)
            reached = median_ratio(times, case, (sort, *kind))
            if reached is not None:
                ratios.append((reached, shape, regime))
        if ratios:
            dtype, threads = kind
            what = f"{name}, {passes}: {' '.join(operation)} {dtype} / {sort}"
            what += f", {threads} threads" * (threads > 1)
            yield Line(what, where_above(ratios), max(ratios)[0], FASTER_THAN_SORTS, why=why)


def other_inputs(found):
    """The same for rows of other distributions."""
    for operator, regularization in itertools.product(OPERATORS, REGULARIZATIONS):
        ratios = []
        for (shape, of_shape), regime in itertools.product(found.families.items(), "MH"):
            case = Case(operator, regularization, regime, "fb")
            for name, times in of_shape.items():
                reached = median_ratio(times, case, ("torch.sort", "float32", 1))
                ratios.append((reached, f"{shape}, {name}", regime))
        if ratios:
            what = f"solver alone, fb, other inputs: {operator} {regularization} / torch.sort"
            yield Line(what, where_above(ratios), max(ratios)[0], FASTER_THAN_SORTS, why="crowded")


def where_above(ratios):
    """The worst, and which of the others are above 1."""
    _, shape, regime = max(ratios)
    above = {}
    for ratio, each, letter in ratios:
        if ratio > FASTER_THAN_SORTS:
            above[each] = above.get(each, "") + letter
    others = "; above 1: " + ", ".join(f"{s} {r}" for s, r in above.items()) if above else ""
    return f"worst of {len(ratios)}: {shape} {regime}{others}"


def strong_numpy(found):
    """The forward pass beside np.sort's AVX2 path, which sorts values only: a stretch."""
    for regime in "SMH":
        case = Case("soft_rank", "l2", regime, "f")

        def ratio(times, case=case):
            both = case in times and ("np.sort", "float32", 1) in times
            return np.median(times[case] / hard_sorts.strong_numpy(times)) if both else None

        reached = worst(found, ratio, 1.0)
        if reached is not None:
            what = f"forward, soft_rank l2 {regime} / {hard_sorts.AVX2}"
            yield Line(what, *reached[1:], None, 1.0, why="np.sort")


def torchsort(found):
    for shape, goal in FASTER.items():
        times = found.torch.get(shape, {})
        for regime in "SMH":
            ours = Case("soft_rank", "l2", regime, "fb")
            reached = median_ratio(times, ours._replace(library="torchsort"), ours)
            if reached is not None:
                what = f"through torch, soft_rank l2 {regime}: torchsort / diffsort"
                yield Line(what, str(shape), reached, goal, at_least=True, why="torchsort")


def small_calls(found):
    case = "torch, with backward: soft_rank l2"
    reached = median_ratio(found.calls, case, calls.IDENTITY)
    if reached is not None:
        what = "soft_rank l2 / identity autograd.Function"
        yield Line(what, str(calls.SHAPE), reached, IDENTITY, why="small calls")
    for name, goal in CALL.items():
        if name in found.calls:
            reached = np.median(found.calls[name]) * 1e6
            what = f"µs a call, {name}"
            yield Line(what, str(calls.SHAPE), reached, None, goal, why="small calls")


def memory_growth(found):
    for case, reached, _ in found.memory:
        if case.through in ("torch", "NumPy"):
            what = f"bytes per element, {case.through}: {case.operator} {case.regularization}"
            what += f" {case.regime}, {case.inputs}"
            yield Line(what, str(case.shape), reached, BYTES, why="memory")
    for (operator, regularization), reached in found.growth.items():
        n = max(reached, key=reached.get)
        what = f"bytes per element, first call through torch: {operator} {regularization} M"
        yield Line(what, f"worst of {len(reached)}: (1, {n})", reached[n], BYTES, why="memory")


GROUPS = (
    ranks,
    over_shapes,
    threads,
    every_sort,
    other_inputs,
    strong_numpy,
    torchsort,
    small_calls,
    memory_growth,
)


def lines(found):
    return [line for group in GROUPS for line in group(found)]


def summary(all_lines):
    def count(which):
        judged = [met for met in (line.met()[which] for line in all_lines) if met is not None]
        return f"{sum(judged)} of {len(judged)}"

    return f"Met: {count(0)} musts, {count(1)} stretch goals.\n"


HEADER = ("goal", "shape", "reached", "must", "met", "stretch", "met")


def table(all_lines):
    return report.table(HEADER, [line.cells() for line in all_lines])
