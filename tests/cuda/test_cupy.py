"""The CuPy backend: what can be said of it without a device.

Where CuPy itself is needed, it is only asked for its types. Everything else runs on a stand-in for
CuPy: NumPy's functions on arrays of a type of their own, on the emulated device. tests/gpu has the
tests with CuPy.
"""

import contextlib
import importlib
import sys
import types

import _diffsort_native as native
import array_api_compat.numpy
import backends
import numpy as np
import pytest
import test_conformance as conformance
from problem import operators, regularizations

import diffsort
from diffsort import errors
from diffsort.backends import _framework_of, _owners, kernels, solver

from .emulation import STREAM, DeviceArray, _memory


class Array(np.ndarray):
    """An array that does not come to the host unless it is told to."""

    __module__ = "cupy"
    device = contextlib.nullcontext()
    device.id = 0

    def get(self):
        return self.view(np.ndarray)

    def __dlpack__(self, *, stream, max_version):
        lent = self.get()
        if lent.size:
            lent = _memory(self.ctypes.data, self.shape, self.dtype)
        return DeviceArray(lent).__dlpack__(stream=stream)

    def __bool__(self):
        raise AssertionError("a wait for the device")

    __float__ = __int__ = __index__ = item = tolist = __bool__


def on_device(function):
    def call(*arguments, **options):
        found = function(*arguments, **options)
        if isinstance(found, tuple | list):
            return [array.view(Array) for array in found]
        return found.view(Array)

    return call


@pytest.fixture
def cupy(device, monkeypatch):
    """The stand-in, in the place of CuPy."""
    module = types.ModuleType("cupy")
    functions = np.asarray, np.ascontiguousarray, np.broadcast_arrays, np.broadcast_to
    for function in (*functions, np.empty, np.moveaxis, np.reshape, np.sum, np.zeros):
        setattr(module, function.__name__, on_device(function))
    module.ndarray = Array
    stream = types.SimpleNamespace(ptr=STREAM)
    module.cuda = types.SimpleNamespace(
        get_current_stream=lambda: stream, runtime=types.SimpleNamespace(is_hip=False)
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", array_api_compat.numpy)
    monkeypatch.setattr(array_api_compat, "cupy", array_api_compat.numpy, raising=False)
    monkeypatch.delitem(sys.modules, "diffsort.backends.cupy", raising=False)
    monkeypatch.setattr(kernels, "native", device.module)
    monkeypatch.setattr(kernels, "_problems", {})
    monkeypatch.setattr(solver, "_warned", set())
    importlib.import_module("diffsort.backends.cupy")
    device.calls.clear()
    yield module
    _owners.pop(Array, None)
    del sys.modules["diffsort.backends.cupy"]
    del diffsort.backends.cupy


class CuPy(backends.NumPy):
    any_type = False  # the fallback's namespace is NumPy's here, with arrays of its own

    def __init__(self, cupy):
        super().__init__()
        self.cupy = cupy

    def asarray(self, array, dtype):
        return self.cupy.asarray(np.asarray(array).astype(dtype))

    def to_numpy(self, array, dtype):
        assert type(array) is Array or self.any_type
        assert array.dtype == dtype
        return array.view(np.ndarray).astype(np.float64)


@pytest.fixture
def backend(cupy):
    return CuPy(cupy)


@operators
@pytest.mark.parametrize("axis", [-1, 0])
def test_conformance(backend, device, op, options, axis):
    for dtype in ("float64", "float32", "float16"):
        example = conformance.example(op, dtype, options, axis=axis)
        example.check_values(backend)
        example.check(backend)
    assert {"project", "vjp", "jvp"} <= set(device.calls)


@operators
def test_conformance_with_a_number_as_strength(backend, op, options):
    conformance.example(op, "float64", options, strength="number").check(backend)


@conformance.broadcasts
@regularizations
def test_conformance_of_broadcasts(backend, regularization, shapes):
    conformance.broadcast(regularization, shapes).check(backend)


@operators
def test_conformance_of_the_fallback(backend, device, op, options):
    backend.any_type = True
    with backends.fallback():
        conformance.example(op, "float64", options).check(backend)
    assert device.calls == []


def test_a_device_without_kernels_warns_with_the_reason(cupy, device, monkeypatch):
    monkeypatch.setattr(kernels, "native", native)  # which has no library, or no device
    monkeypatch.setattr(kernels, "_problems", {0: "for a reason"})
    x = cupy.asarray([3.0, 1.0, 2.0])
    with pytest.warns(errors.FallbackWarning, match=r"float64 on cuda:0, .* \(for a reason\)"):
        assert diffsort.soft_rank(x).get().tolist() == [3.0, 1.0, 2.0]
    monkeypatch.setattr(solver, "requested", "native")
    with pytest.raises(errors.MissingKernelError, match=r"soft_rank: values .*for a reason"):
        diffsort.soft_rank(x)
    assert device.calls == []


@pytest.mark.parametrize("choice", ["native", "fallback"])
def test_rows_with_an_invalid_strength_are_nan(cupy, monkeypatch, choice):
    """Their numbers are on the device."""
    monkeypatch.setattr(solver, "requested", choice)
    strength = cupy.asarray([[0.5], [-1.0], [np.nan], [np.inf]])
    x = cupy.asarray(np.arange(12.0).reshape(4, 3))
    found = diffsort.soft_rank(x, regularization_strength=strength).get()
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()
    with pytest.raises(ValueError, match="≥ 0 and finite, got -1"):
        diffsort.soft_rank(x, regularization_strength=-1)


def test_data_of_python_and_numpy_on_request(cupy):
    assert type(diffsort.soft_rank([3, 1, 2], backend="cupy")) is Array
    assert type(diffsort.soft_rank(np.ones(3), backend="cupy")) is Array
    z = cupy.asarray([3.0, 1.0, 2.0], np.float32)
    assert diffsort.project(z, [1, 0, 0]).dtype == np.float32


class Device(contextlib.nullcontext):
    """The one with this number, which notes when it is made current."""

    def __init__(self, number):
        super().__init__()
        self.id, self.entered = number, 0

    def __enter__(self):
        self.entered += 1


def test_data_of_python_come_to_the_device_of_the_array(cupy):
    z = cupy.asarray([3.0, 1.0, 2.0])
    z.device = device = Device(0)
    entered = []
    asarray = cupy.asarray
    cupy.asarray = lambda array: (entered.append(device.entered), asarray(array))[1]
    diffsort.project(z, [1, 0, 0])
    assert entered == [1]


def test_arrays_of_two_devices_are_refused(cupy, device):
    x, other, strength = (cupy.asarray([[value]]) for value in (3.0, 1.0, 0.5))
    other.device = strength.device = Device(1)
    between = r"project: z and w must be on one device, got cuda:0 and cuda:1\. Move one"
    with pytest.raises(ValueError, match=between):
        diffsort.project(x, other)
    on_other = r"must be on the device of values, cuda:0, got cuda:1\. Move it there"
    for call in (
        lambda: diffsort.soft_rank(x, regularization_strength=strength),
        lambda: diffsort.vjp(diffsort.soft_rank, x, regularization_strength=strength),
        lambda: diffsort.jvp(diffsort.soft_rank, x, x, regularization_strength=strength),
    ):
        with pytest.raises(ValueError, match=on_other):
            call()
    assert device.calls == []


def test_other_arrays_are_refused(cupy):
    x = cupy.asarray([3.0, 1.0])
    with pytest.raises(errors.BackendMismatchError, match=r"project: w is a numpy\.ndarray"):
        diffsort.project(x, np.ones(2))
    with pytest.raises(errors.BackendMismatchError, match="regularization_strength"):
        diffsort.soft_rank(x, regularization_strength=np.ones(1))
    with pytest.raises(errors.BackendMismatchError, match="sequence of cupy"):
        diffsort.soft_rank([x, x])
    with pytest.raises(errors.BackendMismatchError, match='backend is "numpy"'):
        diffsort.soft_rank(x, backend="numpy")
    with pytest.raises(TypeError, match="complex128"):
        diffsort.soft_rank(cupy.asarray([1j]))
    _, pull_back = diffsort.vjp(diffsort.soft_rank, x)
    with pytest.raises(errors.BackendMismatchError, match="cotangent"):
        pull_back(np.ones(2))


def test_the_type_of_cupy_is_known():
    """Of CuPy itself, which imports without a device."""
    module = pytest.importorskip("cupy", minversion="13.6")
    assert _framework_of(module.ndarray) == "cupy"
    backend = importlib.import_module("diffsort.backends.cupy")
    assert backend.NAME == "cupy"
    for name in ("asarray", "project", "vjp", "jvp"):
        assert callable(getattr(backend, name))
