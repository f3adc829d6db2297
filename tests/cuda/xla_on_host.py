"""Conformance of JAX through the handlers of the CUDA platform, on the emulated device.

    python xla_on_host.py FOLDER

in which there are the stub of the library and the native module beside it, first on the path, and
the compiled xla_shim.cpp. XLA believes that it calls handlers of its CPU platform.
"""

import ctypes
import re
import sys
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import _diffsort_native as native  # noqa: E402
import numpy as np  # noqa: E402
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


def check_split_rows(backend):
    """Partitioners split the scratch memory as they split the rows."""
    from diffsort.backends.jax import lowering

    jax, diffsort = backend.jax, backend.diffsort
    P = jax.sharding.PartitionSpec
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices).reshape(2, 2), ("a", "b"))
    gradient = jax.jit(jax.grad(lambda x: (diffsort.soft_rank(x) ** 2).sum()))
    x = np.random.default_rng(4).normal(size=(8, 5)).astype("float32")
    expected = gradient(x)
    parts = jax.device_put(x, jax.sharding.NamedSharding(mesh, P(("a", "b"))))
    np.testing.assert_allclose(gradient(parts), expected, rtol=1e-6)
    text = gradient.lower(parts).compile().as_text()
    # Two rows of five elements: z, the result and its blocks; the cotangent, blocks and z's one.
    row_bytes = [4 * (16 + 5 + present) for present in (0b10110, 0b101100)]
    for row in row_bytes:
        assert f"u64[2,{(row + 7) // 8}]" in text, text
    assert "all-gather" not in text

    def along_a(x):
        return jax.shard_map(
            gradient, mesh=mesh, in_specs=P("a"), out_specs=P("a"), axis_names={"a"}
        )(x)

    np.testing.assert_allclose(jax.jit(along_a)(parts), expected, rtol=1e-6)
    # Memory for a row on each of the devices over which XLA splits: four, and two of each two.
    most, lowering.MOST_AT_ONCE = lowering.MOST_AT_ONCE, 0
    for split in (gradient.__wrapped__, along_a):
        program = jax.jit(lambda x, split=split: split(x)).lower(parts).compile()
        np.testing.assert_allclose(program(parts), expected, rtol=1e-6)
        for row in row_bytes:  # of two rows, or of four that GSPMD gathers
            words = (row // 2 + 7) // 8
            assert re.search(rf"u64\[[24],{words}\]", program.as_text()), program.as_text()
    lowering.MOST_AT_ONCE = most

    export = pytest.importorskip("jax.export")
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in NAMES]
    exported = export.export(gradient, disabled_checks=checks)(x)  # for one device
    try:
        found = jax.jit(exported.call)(parts)
    except ValueError as error:
        if "no compatibility guarantees" not in str(error):  # what JAX 0.6 asks for
            raise
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def check_traits(shim):
    """XLA may put every handler into a command buffer."""
    if hasattr(shim, "traits_of"):
        targets = (ctypes.c_void_p * 3).in_dll(shim, "targets")
        assert [shim.traits_of(ctypes.c_void_p(target)) for target in targets] == [1, 1, 1]


def main():
    shim = ctypes.CDLL(str(Path(sys.argv[1]) / "xla_shim.so"))
    native.xla_handlers = capsules(shim)

    import emulation
    from jax.interpreters import mlir

    from diffsort.backends.jax import compat, lowering, primitives

    assert native.cuda_problem() is None
    device = emulation.Emulation(native)
    device.device = -1  # the current one
    device.lends_what_is_asked_for = False
    compat.cuda_ordinals = lambda: [None]
    ctypes.c_void_p.in_dll(shim, "stream").value = device.stream
    for primitive, map_ in primitives._maps.items():
        formula = mlir.lower_fun(
            partial(primitives._by_formula, map_.formula), multiple_results=True
        )
        rule = partial(lowering.on_cuda, primitive, map_, formula)
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

    if hasattr(backend.jax, "shard_map"):
        check_split_rows(backend)
    check_traits(shim)

    device.fail = "the kernel for rows of 3 failed"
    with pytest.raises(Exception, match="diffsort: the kernel for rows of 3 failed"):
        backend.diffsort.soft_rank(backend.asarray([3.0, 1.0, 2.0], "float32")).block_until_ready()

    lowering.native.xla_cuda_workspace = lambda *of: 0
    too_small = "too little for a row; a program has the memory that rows need on the CUDA devices"
    with pytest.raises(Exception, match=too_small):
        backend.diffsort.soft_rank(backend.asarray([[9.0, 8.0]], "float32")).block_until_ready()
    print(len(device.calls))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
