"""Conformance of JAX through the handlers of the CUDA platform, on the emulated device.

    python xla_on_host.py FOLDER

in which there are the stub of the library and the native module beside it, first on the path, and
the compiled xla_shim.cpp. XLA believes that it calls handlers of its CPU platform.
"""

import ctypes
import sys
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import _diffsort_native as native  # noqa: E402
import pytest  # noqa: E402

NAMES = "diffsort_project", "diffsort_jvp", "diffsort_vjp"
CAPSULE = b"xla._CUSTOM_CALL_TARGET"


def capsules(shim):
    """The shim's handlers, which are set up to call those of the module."""
    get, new = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    targets = (ctypes.c_void_p * 3).in_dll(shim, "targets")
    for i, name in enumerate(NAMES):
        targets[i] = get(native.xla_cuda_handlers[name], CAPSULE)
    return {
        name: new(ctypes.cast(getattr(shim, name), ctypes.c_void_p), CAPSULE, None)
        for name in NAMES
    }


def main():
    shim = ctypes.CDLL(str(Path(sys.argv[1]) / "xla_shim.so"))
    native.xla_handlers = capsules(shim)

    import emulation
    from jax.interpreters import mlir

    from diffsort.backends.jax import primitives

    assert native.cuda_problem() is None
    device = emulation.Emulation(native)
    device.device = -1  # the current one
    ctypes.c_void_p.in_dll(shim, "stream").value = device.stream
    for primitive, map_ in primitives._maps.items():
        formula = mlir.lower_fun(
            partial(primitives._by_formula, map_.formula), multiple_results=True
        )
        rule = partial(primitives._lower_cuda, primitive, formula)
        mlir.register_lowering(primitive, rule, platform="cpu")

    import backends
    import test_conformance as conformance
    from problem import OPERATORS

    backend = backends.JAX()
    for op, options in OPERATORS:
        for dtype in ("float64", "float32"):
            example = conformance.example(op, dtype, options)
            example.check_values(backend)
            example.check(backend)
        conformance.example(op, "float64", options, axis=0).check(backend)
    assert {*device.calls} == {"project", "jvp", "vjp"}
    assert ctypes.c_size_t.in_dll(shim, "live").value == 0

    device.fail = "the kernel for rows of 3 failed"
    with pytest.raises(Exception, match="diffsort: the kernel for rows of 3 failed"):
        backend.diffsort.soft_rank(backend.asarray([3.0, 1.0, 2.0], "float32")).block_until_ready()
    print(len(device.calls))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
