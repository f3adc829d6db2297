"""Memory that one forward and backward pass adds, in bytes per element.

    python benchmarks/memory.py          the whole table; cpu.py takes a part of it into its own

Every figure comes from a fresh process, so that no earlier pass leaves memory behind. There:
import, create the input, run the operator on a tiny input (which pays for lazy imports and
threads), collect garbage, reset the kernel's peak counter (writing 5 to /proc/self/clear_refs), and
read the resident size: the baseline. Then one forward and backward pass with everything kept alive:
the result, what autograd saved, the cotangent (created inside), the gradient. The figure is the
peak resident size (VmHWM) less the baseline, over the number of elements: it counts all of these
and the scratch of the solver. The input itself (4 bytes) is not in it. Linux only.

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
from typing import NamedTuple

import report
from measure import OPERATORS, REGULARIZATIONS

SHAPE = (1, 4_000_000)
BATCH = (1_000, 4_000)
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

TEXT = """\
Bytes per float32 element that forward and backward through torch add at their peak, one thread, in
a fresh process: result, saved arrays, cotangent, gradient and scratch, without the input. "live":
with freed memory returned at once.
"""

CHILD = """
import gc, importlib, re, sys
from pathlib import Path

folder, library, operator, regularization, regime, threads, rows, n = sys.argv[1:]
rows, n = int(rows), int(n)
sys.path.insert(0, folder)
import torch
import measure
torch.set_num_threads(int(threads))
if library == "diffsort":
    import diffsort
    diffsort.set_num_threads(int(threads))
fun = getattr(importlib.import_module(library), operator)

def step(x, strength):
    y = fun(x, regularization=regularization, regularization_strength=strength)
    g = torch.ones_like(y)
    y.backward(g)
    return y, g

def status(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.manual_seed(0)
x = torch.randn(rows, n)
ranges = (x.amax(-1) - x.amin(-1)).numpy()
strength = float(measure.strengths(operator, regularization, regime, ranges, n))
x.requires_grad_()
for _ in range(3):
    step(torch.randn(1, 64).requires_grad_(), 0.1)
gc.collect()
Path("/proc/self/clear_refs").write_text("5")
baseline = status("VmRSS")
kept = step(x, strength)
print((status("VmHWM") - baseline) / (rows * n))
"""


class Figure(NamedTuple):
    shape: tuple[int, int]
    operator: str
    regularization: str
    regime: str
    library: str
    bytes: float
    live: float


def measure_child(environment, *arguments):
    """Bytes per element in one fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", CHILD, os.path.dirname(os.path.abspath(__file__)), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{arguments}: {result.stderr}")
    return float(result.stdout)


def figure(shape, operator, regularization, regime, library, threads=1, repeats=1):
    case = (library, operator, regularization, regime, threads, *shape)
    found = [
        statistics.median(measure_child(environment, *map(str, case)) for _ in range(repeats))
        for environment in ({}, RETURNING)
    ]
    return Figure(shape, operator, regularization, regime, library, *found)


def figures(quick):
    """A part of the table: every operator in one long row, l2 in a batch, torchsort beside both."""
    libraries = ["diffsort", "torchsort"] if report.version("torchsort") else ["diffsort"]
    cases = [(SHAPE, o, r, "M") for o, r in itertools.product(OPERATORS, REGULARIZATIONS)]
    cases += [(SHAPE, o, "l2", "H") for o in OPERATORS] * (not quick)
    cases += [(BATCH, o, "l2", "M") for o in OPERATORS] * (not quick)
    return [
        figure(*case, library)
        for library in libraries
        for case in cases
        if library == "diffsort" or case[2] == "l2"
    ]


def table(found):
    rows = [[str(f.shape), *f[1:5], f"{f.bytes:.1f}", f"{f.live:.1f}"] for f in found]
    header = ("shape", "operator", "reg.", "regime", "library", "bytes per element", "live")
    return report.table(header, rows)


def main():
    parser = argparse.ArgumentParser(description="Memory growth over forward and backward.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default=report.name("memory"), help="in benchmarks/results")
    options = parser.parse_args()
    libraries = ["diffsort", "torchsort"] if report.version("torchsort") else ["diffsort"]
    found = []
    for case in itertools.product((SHAPE, BATCH), OPERATORS, REGULARIZATIONS, "MH", libraries):
        found.append(figure(*case, options.threads, options.repeats))
        print(*found[-1], flush=True)
    heading = report.heading("Memory growth over forward and backward", options.threads)
    report.write(options.output, f"{heading}\n{TEXT}\n{table(found)}")


if __name__ == "__main__":
    main()
