"""Instructions of one small call, (1, 10) float32, and in whose code: calls.py without its noise.

    python benchmarks/call_instructions.py        about a quarter of an hour on two cores

Every figure is the difference of two processes under `valgrind --tool=callgrind`, one of which
makes more calls, over the number of calls: what is done once, imports and compilation among it, is
in neither. Callgrind says to which library an instruction belongs. Instructions are not time: a
cache that was lost to others' code, a lock and a system call are not in them.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import report

FOLDER = Path(__file__).resolve().parent
SETUP = {
    "numpy": "xs = [(x,) for x in arrays]",
    "torch": """
import torch
from identity import Identity
torch.set_num_threads(1)
g = torch.ones(1, 10)
def quietly(function):
    @torch.no_grad()
    def call(x):
        function(x)
    return call
def both(function):
    return lambda x: function(x).backward(g)
xs = [(torch.from_numpy(x).requires_grad_({with_backward}),) for x in arrays]
""",
    "jax": """
import jax
xs = [(jax.numpy.asarray(x),) for x in arrays]
def jitted(function):
    function = jax.jit(function)
    return lambda x: function(x).block_until_ready()
""",
}
# (framework, what, what is called, with backward)
CASES = (
    ("numpy", "np.argsort", "numpy.argsort", False),
    ("numpy", "soft_rank", "diffsort.soft_rank", False),
    ("torch", "torch.sort, no grad", "quietly(torch.sort)", False),
    ("torch", "soft_rank, no grad", "quietly(diffsort.soft_rank)", False),
    ("torch", "identity with backward", "both(Identity.apply)", True),
    ("torch", "soft_rank with backward", "both(diffsort.soft_rank)", True),
    ("jax", "x * 2, jitted", "jitted(lambda x: x * 2)", False),
    ("jax", "soft_rank, jitted", "jitted(diffsort.soft_rank)", False),
)
PROGRAM = """
import sys, numpy, diffsort
arrays = [numpy.random.default_rng(i).standard_normal((1, 10), numpy.float32) for i in range(100)]
{setup}
call = {call}
for _ in range({turns}):
    for x in xs:
        call(*x)
"""
FEW, MANY = 3, 43  # turns of a hundred calls; what JAX does once varies by millions
TEXT = """\
Thousands of instructions of a call at (1, 10), float32, l2, and in whose code. Two runs of one
program differ by up to three thousand per call, which negative figures show.
"""
# What could differ between two processes: hashes, threads that wait for work.
QUIET = {"PYTHONHASHSEED": "0", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
QUIET |= {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# The library of an object file, by a part of its path; the first that fits.
LIBRARIES = (
    ("diffsort", "_diffsort_native"),
    ("torch", "/torch/"),
    ("jaxlib", "/jaxlib/"),
    ("NumPy", "/numpy"),
    ("other", "/site-packages/"),
    ("Python", "python"),
)


def by_library(path):
    """Instructions of a callgrind file, by library."""
    names, totals, library, is_call = {}, collections.Counter(), "other", False
    for line in Path(path).read_text().splitlines():
        found = re.match(r"ob=\((\d+)\)(?: (.*))?", line)
        if found:
            names[found[1]] = found[2] or names.get(found[1], "")
            of = (name for name, part in LIBRARIES if part in names[found[1]])
            library = next(of, "other")
        elif re.match(r"cob=\((\d+)\) ", line):
            number, name = re.match(r"cob=\((\d+)\) (.*)", line).groups()
            names[number] = name
        elif line.startswith("calls="):
            is_call = True  # the next line is what the callee takes
        elif re.match(r"[+\-*\d]", line):
            if not is_call:
                totals[library] += int(line.split()[1])
            is_call = False
    return totals


def counted(case, turns):
    framework, _, call, with_backward = case
    setup = SETUP[framework].replace("{with_backward}", str(with_backward))
    program = PROGRAM.format(setup=setup, call=call, turns=turns)
    with tempfile.NamedTemporaryFile() as dump:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={dump.name}"]
        done = subprocess.run(
            [*command, sys.executable, "-c", program],
            env={**os.environ, **QUIET},
            cwd=FOLDER,  # where identity.py is found
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{case}: {done.stderr}")
        return by_library(dump.name)


def per_call(case):
    """Thousands of instructions by library."""
    few, many = counted(case, FEW), counted(case, MANY)
    calls = 100 * (MANY - FEW)
    print(*case[:2], flush=True)
    return {name: (many[name] - few[name]) / calls / 1e3 for name in many}


def main():
    parser = argparse.ArgumentParser(description="Instructions of one small call.")
    parser.add_argument("--output", default="calls.md", help="file in benchmarks/results")
    options = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(per_call, CASES))
    libraries = [name for name, _ in LIBRARIES if name != "other"] + ["other"]
    rows = [
        [*case[:2], f"{sum(each.values()):.1f}"]
        + [f"{each[name]:.1f}" if abs(each.get(name, 0.0)) >= 0.05 else "–" for name in libraries]
        for case, each in zip(CASES, found, strict=True)
    ]
    text = report.heading("Instructions of one small call", 1, ("numpy", "torch", "jax", "jaxlib"))
    text += "\n" + TEXT + "\n"
    text += report.table(("through", "call", "all", *libraries), rows)
    print(text)
    report.write(options.output, text)


if __name__ == "__main__":
    main()
