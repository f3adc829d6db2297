"""Speed and memory on the CPU, beside every framework's own sort and the other packages.

    python benchmarks/cpu.py            every table and figure, about twenty minutes
    python benchmarks/cpu.py --quick    short shapes and few rounds, about three minutes
    python benchmarks/cpu.py --full     every combination, on long rows too: about an hour

Two levels: the solver alone (kernel.py), and what users call (through_torch.py, through_jax.py,
NumPy). measure.py says how time is measured, memory.py how memory is. The results, beside the
targets of targets.py, go to benchmarks/results.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import NamedTuple

import avx2_sort
import calls
import families
import figures
import hard_sorts
import kernel
import measure
import memory
import numpy as np
import packages
import reasons
import report
import sweeps
import tables
import targets
import through_jax
import through_torch
from measure import OPERATORS, REGULARIZATIONS, Case

import diffsort

LONG = 5_000_000  # elements; from here on torchsort joins in two regimes only, unless --full
OTHER_SHAPES = ((1, 100), (32, 100), (128, 1_000))
OTHERS_CASE = Case("soft_rank", "l2", "M", "f")
LONGEST_CALL = 3.0  # seconds; packages that take longer are left out of a shape


class Effort(NamedTuple):
    """How long to measure one shape, and at least how many rounds."""

    seconds: float
    least: int
    full: bool = False


EFFORTS = {"quick": Effort(0.8, 2), "standard": Effort(4.0, 3), "full": Effort(12.0, 7, True)}


def progress(*words):
    print(f"{time.strftime('%H:%M:%S')} ", *words, flush=True)


# --- the solver alone -----------------------------------------------------------------------------


def kernel_cases(threads):
    one = [Case(*c) for c in itertools.product(OPERATORS, REGULARIZATIONS, "SMH", ("f", "fb"))]
    wide = [c._replace(dtype="float64") for c in one if c.passes == "fb"]
    every = [c._replace(threads=threads) for c in one if c.passes == "fb" and threads > 1]
    return one + wide + every


def kernels(shape, threads, effort):
    """Times of the solver and of the sorts, of the same rounds."""
    cases = kernel_cases(threads)
    with hard_sorts.contenders(("float32", "float64"), {1, threads}) as sorts:
        timers = {case: (case.dtype, kernel.timer(case)) for case in cases}
        in_a_row = max(1, min(1000, 100_000 // (shape[0] * shape[1])))
        return measure.rounds(timers | sorts, shape, in_a_row, effort.seconds, effort.least)


def kernels_of_family(shape, effort):
    """family -> times of the solver and of torch.sort."""
    cases = [Case(*c, "fb") for c in itertools.product(OPERATORS, REGULARIZATIONS, "MH")]
    found = {}
    for name, draw in families.FAMILIES.items():
        sort = hard_sorts.torch_sort(1)
        timers = {case: ("float32", kernel.timer(case)) for case in cases}
        timers["torch.sort", "float32", 1] = "float32", sort
        seconds = effort.seconds / 2
        found[name] = measure.rounds(timers, shape, 1, seconds, effort.least, draw=draw)
    return found


# --- what users call ------------------------------------------------------------------------------


def torch_cases(shape, threads, full):
    one = [Case(*c) for c in itertools.product(OPERATORS, REGULARIZATIONS, "SMH", ("f", "fb"))]
    rivals = [
        case._replace(library=library)
        for library in through_torch.available()[1:]
        for case in one
        if case.passes == "fb" or full
    ]
    wide = [c._replace(dtype="float64") for c in one if c.passes == "fb"]
    every = [c._replace(threads=threads) for c in one if c.passes == "fb" and threads > 1]
    size = shape[0] * shape[1]
    if size >= LONG and not full:
        rivals = [c for c in rivals if c[:2] == ("soft_rank", "l2") and c.regime in "SM"]
    cases = one + rivals + wide + every
    return [c for c in cases if through_torch.joins(c) and through_torch.is_affordable(c, size)]


def through_pytorch(shape, threads, effort):
    """Times of torch_cases and of torch.sort in their types and numbers of threads."""
    cases = torch_cases(shape, threads, effort.full)
    timers = {
        ("torch.sort", c.dtype, c.threads): (c.dtype, hard_sorts.torch_sort(c.threads, False))
        for c in cases
    }
    timers |= {case: (case.dtype, through_torch.timer(case)) for case in cases}
    in_a_row = measure.calls_per_round(shape[0] * shape[1])
    return measure.rounds(timers, shape, in_a_row, effort.seconds, effort.least)


def framework_cases(dtype="float32"):
    """For the tables of NumPy and JAX."""
    every = itertools.product(OPERATORS, REGULARIZATIONS, "SMH", ("f", "fb"), (dtype,))
    return itertools.starmap(Case, every)


def through_numpy(shape, effort):
    def timer(case):
        def prepare(inputs):
            return zip(
                inputs.values,
                inputs.strengths(case.operator, case.regularization, case.regime).tolist(),
                itertools.repeat(inputs.cotangent),
            )

        function, options = (
            getattr(diffsort, case.operator),
            {"regularization": case.regularization},
        )

        def forward(a, strength, g):
            function(a, regularization_strength=strength, **options)

        def both(a, strength, g):
            _, pull_back = diffsort.vjp(function, a, regularization_strength=strength, **options)
            pull_back(g)

        return measure.looped(both if case.passes == "fb" else forward, prepare)

    timers = {}
    for dtype in ("float32", "float64"):
        for name, function in (("np.sort", np.sort), ("np.argsort", np.argsort)):
            timers[name, dtype, 1] = dtype, hard_sorts.numpy_function(function)
        timers |= {case: (dtype, timer(case)) for case in framework_cases(dtype)}
    return plain_rounds(timers, shape, effort)


def through_xla(shape, effort):
    """In float32, JAX's default: float64 is a mode of the process."""
    timers = {(name, "float32", 1): timer for name, timer in through_jax.sorts().items()}
    timers |= {case: through_jax.timer(case) for case in framework_cases()}
    timers = {name: ("float32", timer) for name, timer in timers.items()}
    return plain_rounds(timers, shape, effort)


def other_packages():
    """Those that take hundreds of times as long as a sort, at the shapes that they are not too slow
    for. shape -> times by contender or, where there are none, the reason."""
    found, seconds = {}, {}  # seconds: per element, at the shape before
    for shape in OTHER_SHAPES:
        progress("other packages", shape)
        size = shape[0] * shape[1]
        timers = {"jnp.sort": through_jax.sorts()["jnp.sort"]}
        timers[OTHERS_CASE] = through_jax.timer(OTHERS_CASE)
        timers |= through_jax.others()
        problems = {
            name: too_slow(seconds.get(name, 0.0) * size) or through_jax.problem(timer, shape)
            for name, timer in timers.items()
        }
        works = {
            name: ("float32", timer) for name, timer in timers.items() if problems[name] is None
        }
        times = measure.rounds(works, shape, calls=1, seconds=2.0)
        seconds |= {name: np.median(t) / size for name, t in times.items()}
        found[shape] = {name: times.get(name, problems[name]) for name in timers}
    return found


def too_slow(seconds):
    """Why a package is left out, where one call takes that long by what an element took before, at
    a shorter shape. That is no more than it takes: the cost of an element does not fall with n."""
    return f"left out: a call takes {seconds:.0f} s or more" if seconds > LONGEST_CALL else None


def plain_rounds(timers, shape, effort):
    """On one thread, which NumPy and JAX have no setting for."""
    in_a_row = measure.calls_per_round(shape[0] * shape[1])
    diffsort.set_num_threads(1)
    found = measure.rounds(timers, shape, in_a_row, effort.seconds, effort.least)
    diffsort.set_num_threads(None)  # for torch: as torch has it
    return found


# --- the report -----------------------------------------------------------------------------------


def measured(what, function, shapes, *arguments):
    found = {}
    for shape in shapes:
        progress(what, shape)
        found[shape] = function(shape, *arguments)
    return found


def parse():
    parser = argparse.ArgumentParser(description="Speed and memory on the CPU.")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_const", const="quick", dest="effort")
    effort.add_argument("--full", action="store_const", const="full", dest="effort")
    parser.add_argument("--shapes", nargs="*", type=measure.shape, help="such as 1x1000 128x100")
    parser.add_argument("--kernels", action="store_true", help="only the solver alone")
    parser.add_argument("--output", help="in benchmarks/results")
    options = parser.parse_args()
    options.quick = options.effort == "quick"
    is_part = options.quick or options.kernels or options.shapes
    options.output = options.output or ("cpu-part.md" if is_part else report.name("cpu"))
    options.effort = EFFORTS[options.effort or "standard"]
    options.shapes = options.shapes or [
        s for s in measure.SHAPES if not options.quick or s[0] * s[1] < 1_000_000
    ]
    return options


KERNELS = """\
The solver alone, called from C++ into arrays that are there, beside torch.sort(out=...), np.sort
and np.argsort, one thread, float32. "f" is forward without what a gradient needs, "fb" forward and
backward; the sorts are forward only.
"""


THROUGH_TORCH = """\
Through torch, one thread, float32, outputs allocated by the call. "fb" is forward and backward of
both libraries, and the ratio says how many times as long the other one takes.
"""


def solver_alone(found, options):
    found.kernels = measured("solver", kernels, options.shapes, found.threads, options.effort)
    yield "## The solver alone\n\n" + KERNELS
    yield from tables.kernels(found.kernels)
    yield "### Types and threads\n\n" + tables.types_and_threads(found.kernels, found.threads)
    yield "### The sorts, ns\n\n" + tables.sorts(found.kernels)
    if not options.quick:
        shapes = [shape for shape in families.SHAPES if shape in options.shapes]
        found.families = measured("other inputs", kernels_of_family, shapes, options.effort)
        yield "### Other inputs\n\n" + families.TEXT + "\n" + tables.families(found.families)


def frameworks(found, options):
    effort = options.effort
    found.calls, baselines = calls.measured(options.quick)
    yield "## One small call\n\n" + calls.table(found.calls, baselines)
    found.torch = measured("torch", through_pytorch, options.shapes, found.threads, effort)
    yield "## Through PyTorch\n\n" + THROUGH_TORCH
    yield from tables.through_torch(found.torch, through_torch.available()[1:])
    yield "### Types and threads\n\n" + tables.types_and_threads(found.torch, found.threads)
    found.numpy = measured("numpy", through_numpy, options.shapes, effort)
    yield "## Through NumPy\n\n" + tables.by_name(found.numpy, "np.sort")
    found.jax = measured("jax", through_xla, options.shapes, effort)
    yield "## Through JAX, jitted\n\n" + tables.by_name(found.jax, "jnp.sort")
    yield "## Other packages, jitted, forward\n\n" + tables.by_name(other_packages(), "jnp.sort")


def runtime_figures(found, options):
    stem = Path(options.output).stem
    yield "## Figures\n"
    yield figures.ratios(found.kernels, f"{stem}-ratios.png")
    yield figures.growth(found.kernels, f"{stem}-growth.png")
    for name, panels in sweeps.FIGURES.items():
        swept = [(sweep, sweeps.measured(sweep, options.quick, progress)) for sweep in panels]
        yield figures.sweeps(swept, sweeps.CAPTIONS[name], f"{stem}-{name}.png")
        yield from (sweeps.table(*each) for each in swept)


def memory_growth(found, options):
    if sys.platform != "linux":
        yield "## Memory\n\nNot measured: /proc of Linux is read for it.\n"
        return
    progress("memory")
    found.memory = memory.figures(options.quick)
    yield "## Memory\n\n" + memory.TEXT + "\n" + memory.table(found.memory)
    if not options.quick:
        progress("memory, growth")
        found.growth = memory.growth()
        yield figures.memory(found.growth, f"{Path(options.output).stem}-memory.png")


PACKAGES = ("numpy", "torch", "torchsort", "jax", "jaxlib")


def page(found, parts):
    judged = targets.lines(found)
    return "\n".join(
        (
            report.heading(
                "Speed and memory on the CPU", f"1, and {found.threads} where said", PACKAGES
            ),
            packages.summary(),
            measure.REGIMES + measure.TIMES + hard_sorts.avx512_note() + "\n",
            "## Goals\n\n" + targets.summary(judged),
            targets.table(judged),
            reasons.page(judged, avx2_sort.has_avx512()),
            *parts,
        )
    )


def main():
    options = parse()
    kernel.check()
    found, parts = targets.Found(measure.cores()), []
    sections = [solver_alone, frameworks, runtime_figures, memory_growth]
    with hard_sorts.torch_threads(1):
        for section in sections[:1] if options.kernels else sections:
            for part in section(found, options):
                parts.append(part)
                report.write(options.output, page(found, parts), quiet=True)
    print(targets.table(targets.lines(found)))
    print(f"wrote benchmarks/results/{options.output}")


if __name__ == "__main__":
    main()
