"""Speed on a CUDA device: diffsort beside torch.sort, jnp.sort, cupy.sort, torchsort and a copy.

    python benchmarks/gpu.py                      everything that is installed, about six minutes
    python benchmarks/gpu.py --quick              fewer rounds, about two
    python benchmarks/gpu.py --shapes 4096x1024 --regularizations l2

A round times all contenders once, in random order, and ratios are taken within a round, as on the
CPU (measure.py). A time is that of a CUDA graph of calls on inputs of their own, replayed between
two events: what the device does, without the host. Contenders that cannot be captured, and those of
JAX and CuPy, are called one after the other between two events (or until the last result is ready),
and say so. The floor is the copy of the values by the device.
"""

import argparse
import itertools
import os
import random
import subprocess
import sys
import time
from functools import partial

import measure
import numpy as np
import report
import torch

import diffsort

SHAPES = (
    (1_000_000, 16),
    (65_536, 128),
    (4096, 1024),
    (1024, 4096),
    (128, 100_000),
    (1, 10_000_000),
)
POOL_BYTES = 1 << 28  # inputs in turn, more than any cache holds; at least one
TEXT = """\
Times are medians in µs; ratios are medians within a round, with quartiles; below 1 diffsort is
faster. "f" is forward without gradient, "fb" forward and backward.
"""


def optional(name):
    try:
        return __import__(name)
    except Exception as error:  # a framework that is broken here is one that is not measured
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None


# --- torch ----------------------------------------------------------------------------------------


def contenders(operator, regularization, strength):
    """name -> function of (values that require grad, cotangent)."""

    def forward(library):
        fun = getattr(library, operator)

        def run(x, g):
            with torch.no_grad():
                return fun(x, regularization=regularization, regularization_strength=strength)

        return run

    def both(library):
        fun = getattr(library, operator)

        def run(x, g):
            result = fun(x, regularization=regularization, regularization_strength=strength)
            return torch.autograd.grad(result, x, g)

        return run

    found = {
        "copy": lambda x, g: x.detach().clone(),
        "torch.sort": lambda x, g: torch.sort(x.detach(), dim=-1),
        "f": forward(diffsort),
        "fb": both(diffsort),
    }
    torchsort = optional("torchsort")
    if torchsort is not None:
        found["torchsort fb"] = both(torchsort)
    return found


def captured(run, inputs):
    """A function that runs all of `inputs`: a replayed graph, or the calls themselves."""

    def calls():
        for arguments in inputs:
            run(*arguments)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            calls()
    except RuntimeError:
        torch.cuda.synchronize()
        return calls, ", not captured"
    return graph.replay, ""


def elapsed(run):
    """Seconds on the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def timed_rounds(runs, calls, rounds):
    """name -> array of seconds per call, one entry per round; the first round is not kept."""
    times = {name: [] for name in runs}
    order = random.Random(0)
    for turn in range(-1, rounds):
        for name, run in order.sample(list(runs.items()), len(runs)):
            seconds = elapsed(run)
            if turn >= 0:
                times[name].append(seconds / calls)
    return {name: np.array(found) for name, found in times.items()}


def pool(shape):
    size = 4 * shape[0] * shape[1]
    count = max(1, min(8, POOL_BYTES // (2 * size)))
    make = lambda: torch.randn(shape, device="cuda")  # noqa: E731
    return [(make().requires_grad_(), make()) for _ in range(count)]


def torch_rows(shape, operator, options):
    inputs = pool(shape)
    a = inputs[0][0].detach().cpu().numpy()
    for regularization in options.regularizations:
        for regime in options.regimes:
            strength = measure.strength(operator, regularization, regime, a)
            runs, notes = {}, {}
            for name, run in contenders(operator, regularization, strength).items():
                runs[name], notes[name] = captured(run, inputs)
            t = timed_rounds(runs, len(inputs), options.rounds)
            nan = np.full(options.rounds, np.nan)
            micro = {name: report.short(np.median(times) * 1e6) for name, times in t.items()}
            yield [
                f"{shape}",
                regularization,
                regime,
                *(micro[name] + notes[name] for name in ("copy", "torch.sort", "f", "fb")),
                report.quartiles(t["f"] / t["copy"]),
                report.quartiles(t["f"] / t["torch.sort"]),
                report.quartiles(t["fb"] / t["torch.sort"]),
                report.quartiles(t["fb"] / t.get("torchsort fb", nan)),
            ]
            del runs


TORCH_HEADER = (
    "shape",
    "reg.",
    "regime",
    "copy",
    "torch.sort",
    "f",
    "fb",
    "f / copy",
    "f / torch.sort",
    "fb / torch.sort",
    "fb / torchsort fb",
)


# --- JAX and CuPy ---------------------------------------------------------------------------------


def wall(run, inputs, wait):
    """Seconds per call until the last result is ready."""
    begin = time.perf_counter()
    results = [run(*arguments) for arguments in inputs]
    wait(results)
    return (time.perf_counter() - begin) / len(inputs)


def host_row(shape, regularization, regime, runs, inputs, wait, rounds):
    """Medians in µs of all `runs`, and the ratios of diffsort's to the copy and to the sort."""
    times = {name: [] for name in runs}
    for turn in range(-1, rounds):
        for name, run in runs.items():
            seconds = wall(run, inputs, wait)
            if turn >= 0:
                times[name].append(seconds)
    t = {name: np.array(found) for name, found in times.items()}
    return [
        f"{shape}",
        regularization,
        regime,
        *(report.short(np.median(t[name]) * 1e6) for name in ("copy", "sort", "f", "fb")),
        report.quartiles(t["f"] / t["copy"]),
        report.quartiles(t["f"] / t["sort"]),
        report.quartiles(t["fb"] / t["sort"]),
    ]


def host_header(sort):
    return (
        *("shape", "reg.", "regime", "copy", sort, "f", "fb"),
        *("f / copy", f"f / {sort}", f"fb / {sort}"),
    )


def jax_rows(jax, shape, operator, options):
    rng = np.random.default_rng(0)
    host = rng.standard_normal((2, *shape), dtype=np.float32)
    x, g = (jax.device_put(each, jax.devices("cuda")[0]) for each in host)
    inputs = [(x, g)] * 4
    for regularization in options.regularizations:
        for regime in options.regimes:
            strength = measure.strength(operator, regularization, regime, host[0])

            def f(x, g, regularization=regularization, strength=strength):
                return getattr(diffsort, operator)(
                    x, regularization=regularization, regularization_strength=strength
                )

            def fb(x, g, f=f):
                result, pull_back = jax.vjp(lambda x: f(x, g), x)
                return result, pull_back(g)

            runs = {
                "copy": jax.jit(lambda x, g: jax.numpy.copy(x)),
                "sort": jax.jit(lambda x, g: jax.numpy.sort(x)),
                "f": jax.jit(f),
                "fb": jax.jit(fb),
            }
            yield host_row(
                shape, regularization, regime, runs, inputs, jax.block_until_ready, options.rounds
            )


def cupy_rows(cupy, shape, operator, options):
    rng = cupy.random.default_rng(0)
    x, g = (rng.standard_normal(shape, dtype=cupy.float32) for _ in range(2))
    inputs = [(x, g)] * 4
    wait = lambda results: cupy.cuda.Device().synchronize()  # noqa: E731
    fun = getattr(diffsort, operator)
    for regularization in options.regularizations:
        for regime in options.regimes:
            strength = measure.strength(operator, regularization, regime, cupy.asnumpy(x))
            arguments = {
                "regularization": regularization,
                "regularization_strength": strength,
            }

            def f(x, g, arguments=arguments):
                return fun(x, **arguments)

            def fb(x, g, arguments=arguments):
                result, pull_back = diffsort.vjp(fun, x, **arguments)
                return result, pull_back(g)

            runs = {
                "copy": lambda x, g: x.copy(),
                "sort": lambda x, g: cupy.sort(x, axis=-1),
                "f": f,
                "fb": fb,
            }
            yield host_row(shape, regularization, regime, runs, inputs, wait, options.rounds)


# --- the report -----------------------------------------------------------------------------------


class Report:
    """Text and tables in benchmarks/results, written anew with every row: where the benchmark is
    stopped, what it has measured is there."""

    def __init__(self, name, text):
        self.name, self.parts = name, [text]

    def add(self, title, header, rows):
        """A table; `rows` measures them one by one."""
        self.parts.append("")
        found = []
        for row in rows:
            found.append(row)
            self.parts[-1] = f"## {title}\n\n" + report.table(header, found)
            report.write(self.name, "\n".join(self.parts), quiet=True)
        print(self.parts[-1], flush=True)


def environment():
    properties = torch.cuda.get_device_properties(0)
    commit = os.environ.get("DIFFSORT_COMMIT")
    if not commit:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
        commit = asked.stdout.strip() or "unknown"
    return (
        f"- device: {properties.name}, {properties.multi_processor_count} multiprocessors, "
        f"CUDA {torch.version.cuda}\n- commit: {commit}\n"
    )


def parse():
    parser = argparse.ArgumentParser(description="Speed on a CUDA device.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--shapes", nargs="*", type=measure.shape, default=SHAPES)
    parser.add_argument("--operators", nargs="*", default=["soft_rank", "soft_sort"])
    parser.add_argument("--regularizations", nargs="*", default=["l2", "kl"])
    parser.add_argument("--regimes", nargs="*", default=["S", "M", "H"])
    parser.add_argument("--output", default="gpu.md", help="in benchmarks/results, if no path")
    options = parser.parse_args()
    options.rounds = 5 if options.quick else 20
    return options


def main():
    options = parse()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device and a PyTorch that has CUDA")
    diffsort.set_solver("native")
    torch.manual_seed(0)
    packages = ("numpy", "torch", "torchsort", "jax", "cupy-cuda13x")
    heading = report.heading("Speed on a CUDA device", "not used", packages) + environment()
    written = Report(options.output, heading + "\n" + measure.REGIMES + TEXT)

    def rows(rows_of):
        return itertools.chain.from_iterable(map(rows_of, options.shapes))

    for operator in options.operators:
        rows_of = partial(torch_rows, operator=operator, options=options)
        written.add(f"{operator}, PyTorch", TORCH_HEADER, rows(rows_of))
    others = {"jax": (jax_rows, "jnp.sort"), "cupy": (cupy_rows, "cupy.sort")}
    for name, (rows_of_library, sort) in others.items():
        module = optional(name)
        if module is None:
            continue
        for operator in options.operators:
            rows_of = partial(rows_of_library, module, operator=operator, options=options)
            written.add(f"{operator}, {name}, with the host", host_header(sort), rows(rows_of))
    print(f"wrote benchmarks/results/{options.output}")


if __name__ == "__main__":
    main()
