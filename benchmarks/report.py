"""What the benchmarks write around their tables: machine, versions, command; quartiles."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"

# Over the last minute, when the benchmark starts: what else the machine was doing.
LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None

DISTRIBUTIONS = {"diffsort": "diffsort-permutahedron"}


def version(package):
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        return None


def name(stem):
    """The file of a result; one without torchsort does not replace the comparison with it."""
    return f"{stem}.md" if version("torchsort") else f"{stem}-alone.md"


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def heading(title, threads, packages=("numpy", "torch", "torchsort")):
    versions = ", ".join(
        f"{package} {version(package) or 'not installed'}" for package in ("diffsort", *packages)
    )
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    lines = [
        f"# {title}",
        "",
        f"- command: `{command}`",
        f"- machine: {processor()}, {os.cpu_count()} cores visible, {platform.system()}",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- threads: {threads}",
    ]
    if LOAD is not None:
        lines.append(f"- load before the start: {LOAD:.1f}")
    disabled = os.environ.get("NPY_DISABLE_CPU_FEATURES")
    if disabled:
        lines.append(f"- NPY_DISABLE_CPU_FEATURES={disabled}")
    return "\n".join(lines) + "\n"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def quartiles(values):
    """``median (lower quartile–upper quartile)``."""
    low, mid, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{short(mid)} ({short(low)}–{short(high)})"


def short(x):
    if not np.isfinite(x):
        return "–"
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


def write(name, text, quiet=False):
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    path.write_text(text, encoding="utf-8")
    if not quiet:
        print(f"\nwrote {os.path.relpath(path)}")
