"""Memory that one forward and backward pass adds, in bytes per element.

    python benchmarks/memory.py

Every figure comes from a fresh process, so that no earlier pass leaves memory behind. There:
import, create the input, run the operator on a tiny input (which pays for lazy imports and
threads), collect garbage, reset the kernel's peak counter (writing 5 to /proc/self/clear_refs), and
read the resident size: the baseline. Then one forward and backward pass with everything kept alive:
the result, what autograd saved, the cotangent (created inside), the gradient. The figure is the
peak resident size (VmHWM) less the baseline, over the number of elements: it counts all of these
and the scratch of the solver. The input itself (4 bytes) is not in it. Linux only.

glibc keeps some freed memory for later, so what a user sees depends on the order of allocations.
Two columns per library: with the allocator as it is (the figure to quote), and with freed arrays
going back to the kernel at once (MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set), which is
the peak of live memory.
"""

import argparse
import os
import statistics
import subprocess
import sys

import report

SHAPE = (1, 4_000_000)

CHILD = """
import gc, importlib, re, sys
from pathlib import Path

library, operator, regularization, regime, threads, rows, n = sys.argv[1:]
rows, n = int(rows), int(n)
import torch
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
x = torch.randn(rows, n).requires_grad_()
spread = float(x.detach().amax() - x.detach().amin())
# The regimes M and H of benchmarks/cpu.py.
if operator == "soft_sort":
    strength = {"M": 1, "H": 1 / 50}[regime] * n / spread
elif regularization == "kl":
    strength = spread / {"M": 8, "H": 50 * n}[regime]
else:
    strength = spread / {"M": n, "H": 50 * n}[regime]
for _ in range(3):
    step(torch.randn(1, 64).requires_grad_(), 0.1)
gc.collect()
Path("/proc/self/clear_refs").write_text("5")
baseline = status("VmRSS")
kept = step(x, strength)
print((status("VmHWM") - baseline) / (rows * n))
"""


RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measure(environment, *arguments):
    """Bytes per element in one fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{arguments}: {result.stderr}")
    return float(result.stdout)


def main():
    parser = argparse.ArgumentParser(description="Memory growth over forward and backward.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", default=report.name("memory"), help="in benchmarks/results")
    options = parser.parse_args()
    libraries = ["diffsort"] + (["torchsort"] if report.version("torchsort") else [])
    rows = []
    for operator in ("soft_rank", "soft_sort"):
        for regularization in ("l2", "kl"):
            for regime in "MH":
                case = (operator, regularization, regime, options.threads, *SHAPE)
                figures = [
                    statistics.median(
                        measure(environment, library, *case) for _ in range(options.repeats)
                    )
                    for environment in ({}, RETURNING)
                    for library in libraries
                ]
                rows.append([operator, regularization, regime, *(f"{f:.1f}" for f in figures)])
                print(" | ".join(rows[-1]), flush=True)
    text = report.heading("Memory growth over forward and backward", options.threads)
    text += (
        f"\nBytes per element at {SHAPE} float32, through torch, median of {options.repeats} fresh"
        " processes: result, saved arrays,\ncotangent, gradient and scratch at their peak, without"
        ' the input. "live": with freed memory returned at once. Method: benchmarks/memory.py.'
        " Regimes as in cpu.md.\n\n"
    )
    live = [f"{library}, live" for library in libraries]
    text += report.table(("operator", "reg.", "regime", *libraries, *live), rows)
    report.write(options.output, text)


if __name__ == "__main__":
    main()
