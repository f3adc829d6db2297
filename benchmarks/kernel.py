"""The solver without Python: a small C++ library, built from this checkout, called through ctypes.

The clock is read inside it, around many calls on inputs of their own. Outputs are allocated
beforehand, as they are for torch.sort(out=...), which it is compared with.
"""

import ctypes
import functools
import itertools

import measure
import native_build
import numpy as np
from measure import OPERATORS, REGULARIZATIONS, Case

import diffsort


class Batch(ctypes.Structure):
    """As in native/kernels.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("op", "is_kl", "with_backward", "threads")),
        *((name, ctypes.c_int64) for name in ("calls", "rows", "n")),
        *((name, ctypes.c_void_p) for name in ("strengths", "values", "cotangent")),
        *((name, ctypes.c_void_p) for name in ("result", "gradient", "block_z", "block_w")),
    )


@functools.cache
def _library():
    folder = native_build.build()
    (path,) = (p for p in folder.glob("*diffsort_kernels.*") if p.suffix in (".so", ".dylib"))
    library = ctypes.CDLL(str(path))
    for dtype in ("float32", "float64"):
        getattr(library, f"diffsort_seconds_{dtype}").restype = ctypes.c_double
    return library


def timer(case):
    """A timer of `measure.rounds`."""

    def run(inputs):
        return _run(case, inputs)[0]

    return run


def _run(case, inputs):
    """Seconds, and the result and gradient of the last call."""
    calls, *shape = inputs.values.shape
    strengths = np.ascontiguousarray(
        inputs.strengths(case.operator, case.regularization, case.regime), np.float64
    )
    outputs = [np.empty(shape, case.dtype) for _ in range(2)]
    outputs += [np.empty(shape, np.int32) for _ in range(2)]
    for output in outputs:
        output.fill(0)  # so that the memory is there
    arrays = (strengths, inputs.values, inputs.cotangent, *outputs)
    batch = Batch(
        case.operator == "soft_sort",
        case.regularization == "kl",
        case.passes == "fb",
        case.threads,
        calls,
        *shape,
        *(array.ctypes.data for array in arrays),
    )
    elapsed = getattr(_library(), f"diffsort_seconds_{case.dtype}")(ctypes.byref(batch))
    return elapsed, *outputs[:2]


def check():
    """Stops if the library does not return what the installed package does."""
    rng = np.random.default_rng(0)
    cases = itertools.product(OPERATORS, REGULARIZATIONS, "M", ("fb",), ("float32", "float64"))
    for case in itertools.starmap(Case, cases):
        inputs = measure.Inputs(rng, 2, (3, 50), case.dtype)
        strength = inputs.strengths(case.operator, case.regularization, case.regime)[-1]
        result, pull_back = diffsort.vjp(
            getattr(diffsort, case.operator),
            inputs.values[-1],
            regularization=case.regularization,
            regularization_strength=float(strength),
        )
        expected = result, pull_back(inputs.cotangent)
        if not np.allclose(_run(case, inputs)[1:], expected, rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{case}: the installed diffsort returns something else.")
