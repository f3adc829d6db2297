"""What this build can do here, which solver it uses, and how many threads it may use."""

from __future__ import annotations

import importlib.util
import operator
import platform
import sys
from typing import Any, Literal, SupportsIndex, overload

import _diffsort_native as native

from diffsort.backends import capabilities
from diffsort.backends import solver as _solver
from diffsort.backends import threads as _threads


def set_num_threads(threads: SupportsIndex | None) -> None:
    """Use at most `threads` threads in each call, for every backend; None restores the default.

    The default is the framework's own setting where it has one (`torch.get_num_threads()`), then
    the environment variable OMP_NUM_THREADS, then the number of cores this process may run on, the
    last two as they are when diffsort is imported. JAX calls run on XLA's own threads, by
    default on all of them. Results do not depend on the number of threads, bit for bit.

    Parameters
    ----------
    threads : int or None
        At least 1, or None for the default. Holds for the whole process.

    Raises
    ------
    TypeError
        If `threads` is neither an integer nor None.
    ValueError
        If `threads` is less than 1.
    """
    if threads is None:
        _use_threads(0)
        return
    try:
        count = operator.index(threads)
    except TypeError:
        raise TypeError(
            f"set_num_threads: threads must be an integer or None, got {threads!r}."
        ) from None
    if count < 1:
        raise ValueError(
            f"set_num_threads: threads must be at least 1, got {count}. Pass None for the default."
        )
    _use_threads(min(count, _threads.MOST))


def _use_threads(count: int) -> None:
    _threads.requested = count
    native.set_xla_threads(count)


def get_num_threads() -> int:
    """The number of threads that a NumPy call may use; see `set_num_threads`.

    Returns
    -------
    int
        What was set, or the default for NumPy.
    """
    return _threads.requested or _threads.default


def set_solver(solver: Literal["auto", "native", "fallback"]) -> None:
    """Choose the solver that finds the blocks of a projection, for every backend.

    The fallback needs no kernel: it is written in operations of the array library, runs wherever
    that does, and gives the results of the native solver up to rounding, more slowly.

    Parameters
    ----------
    solver : {"auto", "native", "fallback"}
        "auto", the default, takes the native solver where this build has a kernel for the device
        of an array, elsewhere the fallback, with one `errors.FallbackWarning` per framework and
        device. "native" makes a missing kernel an error. "fallback" takes the fallback everywhere,
        without a warning. Holds for the whole process; a function that is compiled or traced keeps
        what was chosen when that happened.

    Raises
    ------
    ValueError
        If `solver` is something else.
    """
    if solver not in _solver.CHOICES:
        allowed = ", ".join(f'"{choice}"' for choice in _solver.CHOICES)
        raise ValueError(f"set_solver: solver must be one of {allowed}, got {solver!r}.")
    _solver.requested = solver


def get_solver() -> str:
    """The choice of the solver; see `set_solver`.

    Returns
    -------
    str
        "auto", "native" or "fallback".
    """
    return _solver.requested


@overload
def show_config(mode: Literal["print"] = "print") -> None: ...
@overload
def show_config(mode: Literal["dict"]) -> dict[str, Any]: ...


def show_config(mode: Literal["print", "dict"] = "print") -> dict[str, Any] | None:
    """Say what this build can do on this machine.

    Parameters
    ----------
    mode : {"print", "dict"}
        "print" writes a table to standard output; "dict" returns the same facts.

    Returns
    -------
    dict or None
        With the keys version, python, platform, native, solver, threads and backends; None for
        "print".

    Raises
    ------
    ValueError
        If `mode` is something else.
    """
    if mode == "dict":
        return _collect()
    if mode != "print":
        raise ValueError(f'show_config: mode must be "print" or "dict", got {mode!r}.')
    _print(_collect())
    return None


def _collect() -> dict[str, Any]:
    packages = {**capabilities.PACKAGES, **capabilities.STANDARD}
    return {
        "version": native.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "native": {
            "module": native.__file__,
            "simd": native.simd,
            "cuda": native.cuda,
            "cuda_devices": native.cuda_device_count(),
            "cuda_problem": native.cuda_problem(0),
        },
        "solver": get_solver(),
        "threads": get_num_threads(),
        "backends": {name: _backend(name, package) for name, package in packages.items()},
    }


def _backend(name: str, package: str) -> dict[str, Any]:
    """Version and abilities of a backend; never raises, and imports nothing that is not loaded."""
    table = [row for row in capabilities.TABLE if row.backend == name]
    rows = [capabilities.chosen(row, get_solver())._asdict() for row in table]
    module = sys.modules.get(package)
    if module is None:
        try:
            found = importlib.util.find_spec(package) is not None
        except (ImportError, ValueError) as error:
            return {"version": None, "problem": str(error), "capabilities": rows}
        if not found:
            return {"version": None, "problem": "not installed", "capabilities": rows}
        return {"version": _installed_version(package), "problem": None, "capabilities": rows}
    version = getattr(module, "__version__", None)
    return {"version": str(version), "problem": None, "capabilities": rows}


def _installed_version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _print(config: dict[str, Any]) -> None:
    print(f"diffsort {config['version']}  (Python {config['python']}, {config['platform']})")
    build = config["native"]
    print(f"  native solver   CPU ({build['simd']}); CUDA: {build['cuda']}")
    kernels = build["cuda_problem"] or f"{build['cuda_devices']} device(s)"
    print(f"  CUDA kernels    {kernels}")
    print(f"  solver          {config['solver']}")
    print(f"  threads         {config['threads']}")
    for name, backend in config["backends"].items():
        state = backend["problem"] or backend["version"]
        print(f"  {name:<16}{state}")
        for row in backend["capabilities"] if backend["problem"] is None else ():
            print(f"    {row['device']:<8}{row['dtype']:<18}{row['path']}")
