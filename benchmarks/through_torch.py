"""Contenders as users of PyTorch call them: diffsort, torchsort, fast-soft-sort."""

import hard_sorts
import measure
import packages
import torch

import diffsort

LIBRARIES = {
    "diffsort": diffsort,
    "torchsort": packages.load("torchsort"),
    "fast-soft-sort": packages.load("fast-soft-sort"),
}


ROW_BY_ROW = "fast-soft-sort"  # with a loop in Python over rows, and in backward over elements
ROW_BY_ROW_LIMIT = 20_000  # elements


def available():
    return [name for name, module in LIBRARIES.items() if module is not None]


def joins(case):
    """fast-soft-sort is compared in l2 alone: its kl form of soft_sort goes by another name."""
    return case.library != ROW_BY_ROW or case.regularization == "l2"


def is_affordable(case, size):
    return case.library != ROW_BY_ROW or size <= ROW_BY_ROW_LIMIT


def timer(case, strength=None):
    """A timer of `measure.rounds`; the strength is that of the case's regime unless given."""
    function = getattr(LIBRARIES[case.library], case.operator)
    with_backward = case.passes == "fb"

    def prepare(inputs):
        """A leaf for every call, so that no gradient is accumulated."""
        calls = len(inputs.values)
        strengths = [strength] * calls
        if strength is None:
            strengths = inputs.strengths(case.operator, case.regularization, case.regime).tolist()
        g = torch.from_numpy(inputs.cotangent)
        for values, each in zip(inputs.values, strengths, strict=True):
            yield torch.from_numpy(values).clone().requires_grad_(with_backward), each, g

    def forward(x, strength, g):
        with torch.no_grad():
            function(x, regularization=case.regularization, regularization_strength=strength)

    def both(x, strength, g):
        function(x, regularization=case.regularization, regularization_strength=strength).backward(
            g
        )

    run = measure.looped(both if with_backward else forward, prepare)

    def in_threads(inputs):
        with hard_sorts.torch_threads(case.threads):  # diffsort takes as many as torch
            return run(inputs)

    return in_threads
