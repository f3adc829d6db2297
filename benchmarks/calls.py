"""Call cost: one row of ten numbers through every framework, beside the least that each can do.

    python benchmarks/calls.py                       all frameworks that are installed, two minutes
    python benchmarks/calls.py --frameworks torch

Hardly any of it is the solver. The floors are a ufunc, `torch.neg`, an `autograd.Function` written
in Python that clones forward and does nothing backward, and a jitted product. measure.py says how
it measures; the least time of all rounds is given beside the ratio.
"""

import argparse
from functools import partial

import measure
import numpy as np
import report

import diffsort

CALLS = 50  # between two readings of the clock
OPERATORS = {
    f"{fun.__name__} {regularization}": partial(fun, regularization=regularization)
    for fun in (diffsort.soft_rank, diffsort.soft_sort)
    for regularization in ("l2", "kl")
}


def itself(call):
    return call


def numpy_calls():
    """Title, maker of an input, and name -> call, of which the first is the floor."""
    rng = np.random.default_rng(0)

    def values():
        return rng.standard_normal((1, 10), dtype=np.float32)

    yield "NumPy", values, {"np.negative": np.negative, "np.argsort": np.argsort, **OPERATORS}


def torch_calls():
    import torch

    torch.set_num_threads(1)
    cotangent = torch.randn(1, 10)

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g

    def backward(call):
        return lambda x: call(x).backward(cotangent)

    def leaf():
        return torch.randn(1, 10, requires_grad=True)

    floors = {"torch.neg": torch.neg, "torch.sort": torch.sort}
    yield "torch, no gradient", lambda: torch.randn(1, 10), {**floors, **OPERATORS}
    calls = {"identity Function": Identity.apply, **OPERATORS}
    calls = {name: backward(call) for name, call in calls.items()}
    yield "torch, forward and backward", leaf, calls


def jax_calls():
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)

    def values():
        return jnp.asarray(rng.standard_normal((1, 10), dtype=np.float32))

    def gradient(call):
        return jax.jit(jax.grad(lambda x: call(x)[0, 0]))

    def double(x):
        return x * 2

    for title, way in (("eager", itself), ("jitted", jax.jit), ("jitted gradient", gradient)):
        floor = gradient(double) if way is gradient else jax.jit(double)
        calls = {name: way(call) for name, call in OPERATORS.items()}
        yield f"JAX, {title}", values, {"jitted x * 2": floor, **calls}


FRAMEWORKS = {"numpy": numpy_calls, "torch": torch_calls, "jax": jax_calls}


def own_leaf(x):
    """For every contender, so that no gradient is accumulated or shared."""
    return (x.detach().clone().requires_grad_() if getattr(x, "requires_grad", False) else x,)


def compare(title, values, calls, rounds):
    times = measure.timed_rounds(
        calls, lambda: (values(),), CALLS, 0.0, rounds, rounds, prepare=own_leaf
    )
    floor = next(iter(calls))
    return [
        [title, name, report.short(t.min() * 1e6), report.quartiles(t / times[floor])]
        for name, t in times.items()
    ]


def parse():
    parser = argparse.ArgumentParser(description="Cost of one small call.")
    parser.add_argument("--frameworks", nargs="*", default=list(FRAMEWORKS), choices=FRAMEWORKS)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", default="calls.md", help="in benchmarks/results")
    return parser.parse_args()


def main():
    options = parse()
    diffsort.set_num_threads(1)
    rows = []
    for name in options.frameworks:
        try:
            for title, values, calls in FRAMEWORKS[name]():
                rows += compare(title, values, calls, options.rounds)
        except ImportError as error:
            print(f"{name} is skipped: {error}")
    table = report.table(("framework", "call", "µs, least", "ratio to the first"), rows)
    print(table)
    heading = report.heading("Call cost at (1, 10), float32", 1, ("numpy", "torch", "jax"))
    report.write(options.output, f"{heading}\n{table}")


if __name__ == "__main__":
    main()
