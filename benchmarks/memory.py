"""Memory that one forward and backward pass adds, in bytes per element.

    python benchmarks/memory.py          the whole table; cpu.py takes a part of it into its own

Every figure comes from a fresh process (one_pass.py), so that no earlier pass leaves memory behind.
There: import, create the input, run the operator on a tiny input (which pays for lazy imports and
threads), collect garbage, reset the kernel's peak counter (writing 5 to /proc/self/clear_refs), and
read the resident size: the baseline. Then one forward and backward pass with everything kept alive:
the result, what autograd or diffsort.vjp saved, the cotangent (created inside), the gradient. The
figure is the peak resident size (VmHWM) less the baseline, over the number of elements: it counts
all of these and the scratch of the solver. The input itself (4 bytes) is not in it. Linux only.

glibc keeps some freed memory for later, so what a user sees depends on the order of allocations.
Hence two figures: with the allocator as it is (the one to quote), and "live": with freed arrays
going back to the kernel at once (MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set), which is
the peak of live memory.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import report
from measure import OPERATORS, REGULARIZATIONS

ONE_PASS = Path(__file__).with_name("one_pass.py")
SHAPE = (1, 4_000_000)
BATCH = (1_000, 4_000)
INPUTS = {
    "normal": "N(0, 1)",
    "Cauchy": "Cauchy",
    "outlier": "N(0, 1), one 1e30 in each row",
    "ReLU": "max(0, N(0, 1))",
}
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

LENGTHS = (10_000, 100_000, 1_000_000, 4_000_000)
# Before a figure of growth: touches the code of long rows, and is too long for scratch to be kept.
WARM = 300_000

TEXT = """\
Bytes per float32 element that forward and backward add at their peak, one thread, in a fresh
process: result, saved arrays, cotangent, gradient and scratch, without the input. "live": with
freed memory returned at once. Inputs are N(0, 1) ("normal"), Cauchy, where few large values crowd
the others together, N(0, 1) with one value of 1e30 in each row ("outlier"), or N(0, 1) with zeros
instead of negative numbers ("ReLU"). Through NumPy
`diffsort.vjp` copies what the derivative reads of the result (soft_rank kl) or the input (soft_sort
kl), since the caller may overwrite them: 4 bytes per element that torch, which notices, saves.
"""


class Case(NamedTuple):
    shape: tuple[int, int]
    operator: str
    regularization: str
    regime: str
    through: str = "torch"  # diffsort through torch or NumPy, or another library through torch
    inputs: str = "normal"


class Figure(NamedTuple):
    case: Case
    bytes: float
    live: float | None  # None where it was not measured


def measure_child(case, environment, threads=1, warm=()):
    """Bytes per element in one fresh process."""
    shape = "x".join(map(str, case.shape))
    words = (case.through, *case[1:4], case.inputs, shape, "--threads", threads, "--warm", *warm)
    result = subprocess.run(
        [sys.executable, ONE_PASS, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{case}: {result.stderr}")
    return float(result.stdout)


def figure(case):
    """With the live memory of normal inputs."""
    live = measure_child(case, RETURNING) if case.inputs == "normal" else None
    return Figure(case, measure_child(case, {}), live)


def others():
    return ["torchsort"] if report.version("torchsort") else []


def figures(quick):
    """A part of the table: every operator in one long row, and torchsort beside those of l2."""
    found = []
    for operator, regularization in itertools.product(OPERATORS, REGULARIZATIONS):
        case = Case(SHAPE, operator, regularization, "M")
        cases = [case._replace(through=through) for through in ("torch", "NumPy")]
        for kind in () if quick else ("Cauchy", "outlier", "ReLU"):
            cases += [case._replace(inputs=kind), case._replace(inputs=kind, through="NumPy")]
        if regularization == "l2":
            rivals = [case._replace(through=name) for name in others()]
            for each in [case, *rivals] * (not quick):
                rivals += [each._replace(regime="H"), each._replace(shape=BATCH)]
            cases += rivals
        found += map(figure, cases)
    return sorted(found, key=lambda f: (f.case.through == "torchsort", f.case.shape != SHAPE))


def growth():
    """(operator, regularization) -> {length of one row: bytes per element}, in regime M through
    torch, with freed memory returned at once."""
    return {
        names: {
            n: measure_child(Case((1, n), *names, "M"), RETURNING, warm=[WARM]) for n in LENGTHS
        }
        for names in itertools.product(OPERATORS, REGULARIZATIONS)
    }


def table(found):
    header = ("shape", "through", "operator", "reg.", "regime", "input", "bytes", "live")
    rows = [
        [
            str(case.shape),
            case.through,
            *case[1:4],
            case.inputs,
            f"{figure:.1f}",
            "–" if live is None else f"{live:.1f}",
        ]
        for case, figure, live in found
    ]
    return report.table(header, rows)


# --- the whole ------------------------------------------------------------------------------------


def columns():
    """What the whole table has beside each other, and the name of it."""
    found = [(through, kind) for through in ("torch", "NumPy") for kind in INPUTS]
    return found + [(name, "normal") for name in others()]


def whole(shape, is_live, options):
    """Every operator and regime, inputs and libraries beside each other."""
    kinds = [c for c in columns() if c[1] == "normal" or (shape == SHAPE and not is_live)]
    rows = []
    for each in itertools.product(OPERATORS, REGULARIZATIONS, "SMH"):
        found = [
            statistics.median(
                measure_child(
                    Case(shape, *each, *kind), RETURNING if is_live else {}, options.threads
                )
                for _ in range(options.repeats)
            )
            for kind in kinds
        ]
        rows.append([*each, *(f"{figure:.1f}" for figure in found)])
        print(shape, *rows[-1], flush=True)
    return report.table(("operator", "reg.", "regime", *map(", ".join, kinds)), rows)


def main():
    parser = argparse.ArgumentParser(description="Memory growth over forward and backward.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", default=report.name("memory"), help="in benchmarks/results")
    options = parser.parse_args()
    parts = [report.heading("Memory growth over forward and backward", options.threads), TEXT]
    for shape, is_live in ((SHAPE, False), (SHAPE, True), (BATCH, False)):
        parts.append(f"## {shape}{', live' if is_live else ''}\n")
        parts.append(whole(shape, is_live, options))
        report.write(options.output, "\n".join(parts), quiet=True)
    print(f"wrote benchmarks/results/{options.output}")


if __name__ == "__main__":
    main()
