"""Speed and memory on the CPU through JAX, beside jitted jnp.sort and a jitted x * 2.

    python benchmarks/jax_cpu.py               everything, about five minutes
    python benchmarks/jax_cpu.py --quick       the shapes below a million elements, fewer rounds
    python benchmarks/jax_cpu.py --fallback    the fallback solver beside the native one

measure.py says how speed is measured, memory.py how memory is: in a fresh process per figure, with
freed memory going back to the kernel at once, since compiling leaves a lot of it. All functions are
compiled before the clock runs.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
from functools import partial

import jax
import jax.numpy as jnp
import measure
import memory
import numpy as np
import report
import resident
import through_jax
from measure import OPERATORS, REGULARIZATIONS

import diffsort

# For the fallback: growth with n, and the rows that its target is stated for.
FALLBACK_SHAPES = (*((1, 10**k) for k in range(2, 7)), (128, 1_000))


def value_and_grad(operator, x, strength, g):
    """Forward and gradient of a scalar."""
    return jax.value_and_grad(lambda x: (g * operator(x, strength)).sum())(x)


def vjp(operator, x, strength, g):
    """Forward and gradient with a given cotangent."""
    result, pull_back = jax.vjp(lambda x: operator(x, strength), x)
    (gradient,) = pull_back(g)
    return result, gradient


def jitted(mode, operator, regularization):
    """The function that `mode` makes of an operator."""
    fun = getattr(diffsort, operator)

    def project(x, strength):
        return fun(x, regularization=regularization, regularization_strength=strength)

    return jax.jit(partial(mode, project))


@contextlib.contextmanager
def solved_by(solver):
    """What is traced inside keeps this solver; "auto" is the native one here."""
    if solver == "fallback":
        diffsort.set_solver(solver)
    yield
    if solver == "fallback":
        diffsort.set_solver("auto")


# --- one small call -------------------------------------------------------------------------------


def call_overhead(options):
    """Calls at (1, 10) float32, strength 1, as ratios to the least that a jitted call costs."""
    floor = "x * 2, jitted"
    functions = {
        floor: jax.jit(lambda x: x * 2),
        "jnp.sort, jitted": jax.jit(jnp.sort),
        "x * 2, eager": lambda x: x * 2,
        "jnp.sort, eager": jnp.sort,
    }
    for operator, regularization in itertools.product(OPERATORS, REGULARIZATIONS):
        fun = partial(getattr(diffsort, operator), regularization=regularization)
        functions[f"{operator} {regularization}, jitted"] = jax.jit(fun)
        functions[f"{operator} {regularization}, eager"] = fun
    timers = {
        name: ("float32", through_jax.single(function)) for name, function in functions.items()
    }
    times = measure.rounds(timers, (1, 10), 500, seconds=0, least=10 if options.quick else 40)
    rows = [
        [name, report.short(np.median(t) * 1e6), report.quartiles(t / times[floor])]
        for name, t in times.items()
    ]
    return report.table(("call at (1, 10)", "µs", f"ratio to {floor}"), rows)


# --- forward and gradient -------------------------------------------------------------------------


def time_cases(shape, operator, modes, solvers, options):
    """name -> seconds per call by round; names are "jnp.sort" and (regularization, regime, solver,
    mode). All regimes run the same compiled function: the strength is an operand."""
    timers = {"jnp.sort": through_jax.hard(jnp.sort)}
    example = measure.Inputs(np.random.default_rng(0), 1, shape, "float32")
    for mode, solver, regularization in itertools.product(modes, solvers, options.regularizations):
        fun = jitted(mode, operator, regularization)
        for regime in options.regimes:
            timed = through_jax.timer_of(fun, operator, regularization, regime)
            timers[regularization, regime, solver, mode] = timed
            with solved_by(solver):
                timed(example)  # compiles
    print(f"{operator} {shape}", flush=True)
    return measure.rounds(
        {name: ("float32", timed) for name, timed in timers.items()},
        shape,
        measure.calls_per_round(shape[0] * shape[1]),
        seconds=1.5 if options.quick else 5.0,
    )


def case_rows(shape, operator, modes, solvers, options):
    """One row per regularization and regime: times, ratios of solvers, ratios to jnp.sort."""
    t = time_cases(shape, operator, modes, solvers, options)

    def nanoseconds(times):
        return report.short(np.median(times) / (shape[0] * shape[1]) * 1e9)

    for case in itertools.product(options.regularizations, options.regimes):
        times = [t[(*case, solver, mode)] for solver in solvers for mode in modes]
        row = [str(shape), *case, *map(nanoseconds, [t["jnp.sort"], *times])]
        if "fallback" in solvers:
            native, fallback = np.split(np.array(times), 2)
            row += [report.quartiles(ratio) for ratio in fallback / native]
        yield row + [report.quartiles(each / t["jnp.sort"]) for each in times]


def operator_tables(modes, solvers, options):
    columns = [
        mode.__name__ if solver == "auto" else f"{solver} {mode.__name__}"
        for solver in solvers
        for mode in modes
    ]
    header = ["shape", "reg.", "regime", "jnp.sort", *columns]
    if "fallback" in solvers:
        header += [f"fallback / native {mode.__name__}" for mode in modes]
    header += [f"{column} / jnp.sort" for column in columns]
    for operator in options.operators:
        rows = []
        for shape in options.shapes:
            rows += case_rows(shape, operator, modes, solvers, options)
        yield f"### {operator}\n\n" + report.table(header, rows)


# --- memory ---------------------------------------------------------------------------------------


def memory_growth(shape, operator, regularization, regime, solver):
    """Bytes per element that forward and gradient add, in this process; the input is not counted.

    The cotangent is made inside, and result and gradient are kept.
    """

    def with_ones(project, x, strength):
        result, pull_back = jax.vjp(lambda x: project(x, strength), x)
        return result, pull_back(jnp.ones_like(result))

    a = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    strength = jnp.float32(measure.strength(operator, regularization, regime, a))
    x = jax.block_until_ready(jnp.asarray(a))
    fun = jitted(with_ones, operator, regularization)
    with solved_by(solver):
        jax.block_until_ready(fun(jnp.ones((1, 64)), strength))  # pays for what is lazy
        run = fun.lower(x, strength).compile()
    growth = resident.Growth()
    kept = jax.block_until_ready(run(x, strength))
    found = growth.at_peak() / a.size
    del kept  # until here everything is alive
    return found


def memory_table(solvers, options):
    os.environ.update(memory.RETURNING)  # read by the allocator of a process when it starts
    rows = []
    for operator, regularization, regime in itertools.product(
        options.operators, options.regularizations, "MH"
    ):
        figures = []
        for solver in solvers:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                case = memory.SHAPE, operator, regularization, regime, solver
                figures.append(f"{pool.apply(memory_growth, case):.1f}")
        rows.append([operator, regularization, regime, *figures])
        print(" | ".join(rows[-1]), flush=True)
    header = ["diffsort" if solver == "auto" else f"diffsort, {solver}" for solver in solvers]
    return report.table(("operator", "reg.", "regime", *header), rows)


# --- the report -----------------------------------------------------------------------------------

COLUMNS = """\
"value_and_grad" is the value and the gradient of a scalar, "vjp" the result and the gradient for a
given cotangent, each in one jitted function; jnp.sort is jitted, and forward only.
"""

MEMORY = f"""\
Bytes per element at {memory.SHAPE} float32 of result, cotangent, gradient and all that is live with
them at the peak, without the input.
"""


def parse():
    parser = argparse.ArgumentParser(description="Speed and memory on the CPU, through JAX.")
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds")
    parser.add_argument("--fallback", action="store_true", help="beside the native solver")
    parser.add_argument("--threads", type=int, default=1, help="for diffsort; XLA takes its own")
    parser.add_argument("--shapes", nargs="*", type=measure.shape, help="such as 1x1000 128x100")
    parser.add_argument("--operators", nargs="*", default=OPERATORS)
    parser.add_argument("--regularizations", nargs="*", default=REGULARIZATIONS)
    parser.add_argument("--regimes", nargs="*", default=("S", "M", "H"))
    parser.add_argument("--output", help="in benchmarks/results")
    options = parser.parse_args()
    options.output = options.output or ("jax-fallback.md" if options.fallback else "jax.md")
    options.shapes = options.shapes or [
        shape
        for shape in (FALLBACK_SHAPES if options.fallback else measure.SHAPES)
        if not options.quick or shape[0] * shape[1] < 1_000_000
    ]
    return options


def main():
    options = parse()
    diffsort.set_num_threads(options.threads)
    modes, solvers = (value_and_grad, vjp), ("auto",)
    if options.fallback:
        modes, solvers = (vjp,), ("auto", "fallback")
    packages = ("numpy", "jax", "jaxlib")
    parts = [report.heading("Speed and memory on the CPU, JAX", options.threads, packages)]
    if not options.fallback:
        parts.append("## Call overhead\n\n" + call_overhead(options))
        print(parts[-1], flush=True)
    parts.append("## Forward and gradient\n\n" + measure.REGIMES + measure.TIMES + COLUMNS)
    for table in operator_tables(modes, solvers, options):
        parts.append(table)
        print(table, flush=True)
    parts.append(f"## Memory\n\n{MEMORY}\n" + memory_table(solvers, options))
    print(parts[-1], flush=True)
    report.write(options.output, "\n".join(parts))


if __name__ == "__main__":
    main()
