"""Instructions of the solver per element, on fixed inputs: what CI can compare where times drift.

    python benchmarks/instructions.py             compares with what is stored; fails above 10 %
    python benchmarks/instructions.py --record    stores what is counted now

Counted by `valgrind --tool=callgrind` (Debian: valgrind), one thread, forward and backward, in a
build of this checkout. Counts depend on the compiler and on which instructions there are, so
instructions.json has a set of them per architecture and compiler, and a machine of another kind
compares nothing and says so. Memory and branches are not in the figure: times are for cpu.py. Nor
is AVX-512, which valgrind cannot run: what it counts are the ways of AVX2.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import native_build

STORED = Path(__file__).resolve().parent / "instructions.json"
TOLERANCE = 0.10
# About the range of n values of native/instructions.cpp: regimes need no more precision.
RANGE = 5.5


class Count(NamedTuple):
    operator: str
    regularization: str
    regime: str
    dtype: str
    rows: int
    n: int
    inputs: str = "normal"

    @property
    def strength(self):
        """As measure.strengths, which needs the inputs."""
        if self.operator == "soft_sort":
            return {"S": 8, "M": 1, "H": 1 / 50}[self.regime] * self.n / RANGE
        if self.regularization == "kl":
            return RANGE / {"S": 0.35, "M": 8, "H": 50 * self.n}[self.regime]
        return RANGE / {"S": self.n / 4, "M": self.n, "H": 50 * self.n}[self.regime]

    def __str__(self):
        return (
            f"{self.operator} {self.regularization} {self.regime} {self.dtype}"
            f" ({self.rows}, {self.n})" + f" {self.inputs}" * (self.inputs != "normal")
        )


COUNTS = (
    *(Count("soft_rank", "l2", regime, "float32", 1, 1000) for regime in "SMH"),
    *(Count("soft_rank", "l2", regime, "float32", 1024, 32) for regime in "SMH"),
    *(Count("soft_rank", "l2", regime, "float32", 1, 100_000) for regime in "SMH"),
    *(Count("soft_rank", "l2", regime, "float64", 1, 1000) for regime in "MH"),
    *(Count("soft_rank", "kl", regime, "float32", 1, 1000) for regime in "SMH"),
    Count("soft_rank", "kl", "M", "float32", 1024, 32),
    *(Count("soft_sort", "l2", regime, "float32", 1, 1000) for regime in "SMH"),
    Count("soft_sort", "l2", "M", "float32", 1024, 32),
    *(Count("soft_sort", "kl", regime, "float32", 1, 1000) for regime in "SMH"),
    *(Count("soft_sort", "kl", regime, "float32", 1024, 32) for regime in "MH"),
    Count("soft_sort", "l2", "M", "float64", 1, 1000),
    Count("soft_sort", "kl", "M", "float64", 1, 1000),
    *(Count("soft_rank", "l2", regime, "float32", 128, 100) for regime in "MH"),
    Count("soft_rank", "kl", "M", "float32", 128, 100),
    Count("soft_sort", "l2", "M", "float32", 128, 100),
    Count("soft_sort", "kl", "M", "float32", 128, 100),
    # Longer than what is sorted at once, is counted into cells or gets a table of sums.
    *(Count("soft_rank", "l2", regime, "float32", 1, 300_000) for regime in "SMH"),
    Count("soft_rank", "kl", "M", "float32", 1, 300_000),
    Count("soft_sort", "l2", "M", "float32", 1, 300_000),
    Count("soft_sort", "kl", "M", "float32", 1, 300_000),
    Count("soft_rank", "l2", "H", "float64", 1, 300_000),
    *(Count(op, "l2", "H", "float32", 1, 300_000, "ReLU") for op in ("soft_rank", "soft_sort")),
)


def machine():
    """What counts depend on: architecture with its vector instructions, compiler, C library."""
    cache = (native_build.FOLDER / "CMakeCache.txt").read_text()
    compiler = re.search(r"CMAKE_CXX_COMPILER:\w+=(.*)", cache)[1]
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    kind = "clang" if "clang" in version else "gcc"
    major = re.search(r"(\d+)\.\d+\.\d+", version)[1]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    avx2 = " avx2" if " avx2 " in flags else ""
    return f"{platform.machine()}{avx2}, {kind} {major}, {' '.join(platform.libc_ver())}"


def per_element(program, count):
    """Instructions between entering and leaving `counted`, over the number of elements."""
    with tempfile.NamedTemporaryFile() as dump:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={dump.name}"]
        command += ["--toggle-collect=counted_float32", "--toggle-collect=counted_float64"]
        command += [program, *count[:2], *map(str, (*count[3:6], count.strength)), count.inputs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not collected or int(collected[1]) == 0:
        raise SystemExit(f"{count}: {done.stderr}")
    return int(collected[1]) / (count.rows * count.n)


def counted():
    program = native_build.build() / "diffsort_instructions"
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda count: per_element(program, count), COUNTS)
        return {str(count): round(value, 2) for count, value in zip(COUNTS, found, strict=True)}


def compare(stored, found):
    """Names of what got worse; prints all."""
    worse = []
    for name, value in found.items():
        before = stored.get(name)
        change = "new" if before is None else f"{(value / before - 1) * 100:+.0f} %"
        print(f"{name:42} {value:9.2f} {change}")
        if before is not None and value > before * (1 + TOLERANCE):
            worse.append(name)
    return worse


def main():
    parser = argparse.ArgumentParser(description="Instructions per element.")
    parser.add_argument("--record", action="store_true", help="store what is counted now")
    options = parser.parse_args()
    found = counted()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    print(machine())
    worse = compare(stored.get(machine(), {}), found)
    if options.record:
        stored[machine()] = found
        STORED.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
        print(f"stored in {STORED.name}")
    elif machine() not in stored:
        print(f"nothing is stored for this machine, only for: {'; '.join(stored)}. Not compared.")
    elif worse:
        sys.exit(
            f"more than {TOLERANCE:.0%} more instructions per element: {'; '.join(worse)}.\n"
            "If that is meant: python benchmarks/instructions.py --record, and say why."
        )


if __name__ == "__main__":
    main()
