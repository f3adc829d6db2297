"""What one small call costs, (1, 10) float32 at strength 1, beside the least a framework asks for.

The floor of a backward pass through torch is its engine: an identity written as a Python
`torch.autograd.Function`.
"""

import functools

import hard_sorts
import jax
import measure
import numpy as np
import report
import through_jax
import torch
from identity import Identity

import diffsort

SHAPE = (1, 10)
CALLS = 200


def tensors(inputs, requires_grad):
    g = torch.from_numpy(inputs.cotangent)
    return [(torch.from_numpy(a).clone().requires_grad_(requires_grad), g) for a in inputs.values]


def no_grad(function):
    def run(x, g):
        with torch.no_grad():
            function(x)

    return measure.looped(run, lambda inputs: tensors(inputs, False))


def both(function):
    return measure.looped(
        lambda x, g: function(x).backward(g), lambda inputs: tensors(inputs, True)
    )


def of_numpy(function):
    return measure.looped(function, lambda inputs: zip(inputs.values))


IDENTITY, SORT, ARGSORT = "torch, identity with backward", "torch.sort, no grad", "np.argsort"
JITTED = "JAX, x * 2, jitted"


def contenders():
    """name -> (timer, name of its baseline)."""
    found = {
        IDENTITY: both(Identity.apply),
        SORT: no_grad(torch.sort),
        ARGSORT: of_numpy(np.argsort),
    }
    found[JITTED] = through_jax.single(jax.jit(lambda x: x * 2))
    baselines = dict.fromkeys(found)
    for operator in measure.OPERATORS:
        for regularization in measure.REGULARIZATIONS:
            function = functools.partial(getattr(diffsort, operator), regularization=regularization)

            name = f"{operator} {regularization}"
            for label, timer, baseline in (
                ("torch, no grad", no_grad(function), SORT),
                ("torch, with backward", both(function), IDENTITY),
                ("NumPy", of_numpy(function), ARGSORT),
                ("JAX, jitted", through_jax.single(jax.jit(function)), JITTED),
            ):
                found[f"{label}: {name}"], baselines[f"{label}: {name}"] = timer, baseline
    return found, baselines


def measured(quick):
    timers, baselines = contenders()
    with hard_sorts.torch_threads(1):
        times = measure.rounds(
            {name: ("float32", timer) for name, timer in timers.items()},
            SHAPE,
            CALLS,
            seconds=0,
            least=10 if quick else 30,
        )
    return times, baselines


def table(times, baselines):
    rows = [
        [
            name,
            report.short(np.median(t) * 1e6),
            baselines[name] or "–",
            report.quartiles(t / times[baselines[name]]) if baselines[name] else "–",
        ]
        for name, t in times.items()
    ]
    return report.table(("call at (1, 10)", "µs", "baseline", "ratio"), rows)
