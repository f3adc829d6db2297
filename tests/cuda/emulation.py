"""A CUDA device that is none: memory of the host, and kernels that are the CPU's solver.

`library` compiles stub.c beside a copy of the native module, which finds it there like the real
library. `Emulation` gives that library functions which compute, after checks of everything that the
interface asks of a caller. So arguments travel from Python through the module and the C interface
and back, with nothing left out but the kernels.
"""

import ctypes
import importlib.util
import itertools
import shutil
import subprocess
from pathlib import Path

import _diffsort_native as native
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
STREAM, MISUSE, SMALL_WORKSPACE = 0xCAFE, -1, -2


def library(folder, *definitions):
    """A native module that finds a stub of the CUDA library beside itself."""
    options = "-std=c99", "-pedantic", f"-I{ROOT / 'native' / 'include'}"
    defined = (f"-D{definition}" for definition in definitions)
    shared_object(HERE / "stub.c", folder / "libdiffsort_cuda.so", *options, *defined)
    return copy_of_the_module(folder)


def shared_object(source, target, *options):
    name = "cc" if source.suffix == ".c" else "c++"
    compiler = shutil.which(name) or pytest.skip(f"no compiler {name}")
    always = "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"
    subprocess.run([compiler, *always, *options, source, "-o", target], check=True)


def copy_of_the_module(folder):
    path = shutil.copy(native.__file__, folder)
    spec = importlib.util.spec_from_file_location("_diffsort_native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- arrays ---------------------------------------------------------------------------------------


class _Tensor(ctypes.Structure):  # of DLPack
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
    ]


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class DeviceArray:
    """A NumPy array that DLPack exports as one on a CUDA device."""

    def __init__(self, array, device=0, kind=2):
        self.array, self.device, self.kind = array, device, kind

    def __dlpack__(self, *, stream=None):
        assert stream == -1, "the module must not make streams wait"
        capsule = self.array.__dlpack__()
        tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
        tensor.device_type, tensor.device_id = self.kind, self.device
        return capsule


def on_device(values, device=0):
    return values if values is None or isinstance(values, float) else DeviceArray(values, device)


# --- the C interface ------------------------------------------------------------------------------


class _Rows(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("stride", ctypes.c_int64)]

    def read(self, problem, dtype):
        """The rows, each a copy where one serves all; None if they are absent."""
        if not self.data:
            return None
        assert self.stride in (problem.n, 0)
        rows = problem.rows if self.stride else 1
        return np.broadcast_to(_memory(self.data, (rows, problem.n), dtype), problem.shape).copy()


class _PerRow(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("value", ctypes.c_double),
    ]

    def read(self, problem):
        if not self.data:
            return self.value
        assert self.stride in (0, 1)
        rows = problem.rows if self.stride else 1
        dtype = np.float64 if self.type else np.float32
        return np.broadcast_to(_memory(self.data, (rows, 1), dtype), (problem.rows, 1)).copy()


class _Problem(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("regularization", ctypes.c_int32),
        ("z_sign", ctypes.c_double),
        ("w_sign", ctypes.c_double),
        ("strength", _PerRow),
    ]

    @property
    def shape(self):
        return self.rows, self.n

    @property
    def dtype(self):
        return np.float64 if self.type else np.float32

    @property
    def options(self):
        return -1, self.regularization, self.z_sign, self.w_sign


class _Projection(ctypes.Structure):
    _fields_ = [
        ("z", _Rows),
        ("w", _Rows),
        ("result", ctypes.c_void_p),
        ("block_z", ctypes.c_void_p),
        ("block_w", ctypes.c_void_p),
    ]


class _Linearization(ctypes.Structure):
    _fields_ = [(name, _Rows) for name in ("z", "w", "result", "block_z", "block_w")]

    def read(self, problem):
        types = problem.dtype, problem.dtype, problem.dtype, np.int32, np.int32
        arrays = [
            getattr(self, name).read(problem, dtype)
            for (name, _), dtype in zip(self._fields_, types, strict=True)
        ]
        return *arrays, problem.strength.read(problem)


class _Cotangents(ctypes.Structure):
    _fields_ = [
        ("g", _Rows),
        ("z", ctypes.c_void_p),
        ("w", ctypes.c_void_p),
        ("strength", ctypes.c_void_p),
    ]


class _Tangents(ctypes.Structure):
    _fields_ = [
        ("z", _Rows),
        ("w", _Rows),
        ("strength", _PerRow),
        ("has_strength", ctypes.c_int32),
        ("out", ctypes.c_void_p),
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        ("device", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("message", ctypes.c_void_p),
        ("message_bytes", ctypes.c_size_t),
    ]

    def fail(self, text):
        message = text.encode()[: self.message_bytes - 1] + b"\0"
        ctypes.memmove(self.message, message, len(message))
        return MISUSE


def _memory(address, shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def _output(address, shape, dtype):
    return _memory(address, shape, dtype) if address else None


def _project(problem, arrays, _):
    z, w = (rows.read(problem, problem.dtype) for rows in (arrays.z, arrays.w))
    result = _output(arrays.result, problem.shape, problem.dtype)
    blocks = [_output(at, problem.shape, np.int32) for at in (arrays.block_z, arrays.block_w)]
    native.project(z, w, problem.strength.read(problem), *problem.options, result, *blocks, 1)


def _vjp(problem, at, cotangents):
    native.project_vjp(
        *at.read(problem),
        *problem.options,
        cotangents.g.read(problem, problem.dtype),
        _output(cotangents.z, problem.shape, problem.dtype),
        _output(cotangents.w, problem.shape, problem.dtype),
        _output(cotangents.strength, (problem.rows, 1), np.float64),
        1,
    )


def _jvp(problem, at, tangents):
    native.project_jvp(
        *at.read(problem),
        *problem.options,
        tangents.z.read(problem, problem.dtype),
        tangents.w.read(problem, problem.dtype),
        tangents.strength.read(problem) if tangents.has_strength else None,
        _output(tangents.out, problem.shape, problem.dtype),
        1,
    )


_TYPES = {
    "project": (_Projection, _Projection, _project),
    "vjp": (_Linearization, _Cotangents, _vjp),
    "jvp": (_Linearization, _Tangents, _jvp),
}


def scratch_bytes(problem, rows, *structures):
    """What a call asks for: it depends on everything that it may depend on, and a part of it not on
    the number of rows, so that what is enough for many rows is not for each of them."""
    present = 0
    for structure in filter(None, structures):
        for name, _ in structure._fields_:
            array = getattr(structure, name)
            present = 2 * present + bool(getattr(array, "data", array))
    of_row = problem.n + 7 * problem.type + 3 * problem.regularization + present
    return 4 * (16 + rows * of_row)


class Emulation:
    """Hooks of a stub that compute. `fail` is an error that the next calls report."""

    def __init__(self, module):
        self.module, self.fail, self.calls = module, None, []
        self.lends_what_is_asked_for = True  # and no less or more
        self.device, self.stream = 0, STREAM  # that calls are to name
        self.stub = ctypes.CDLL(module.cuda_library)
        type_ = ctypes.CFUNCTYPE(ctypes.c_int, *itertools.repeat(ctypes.c_void_p, 5))
        self.hooks = {name: type_(self._hook(name)) for name in _TYPES}
        for name, hook in self.hooks.items():
            ctypes.c_void_p.in_dll(self.stub, f"{name}_hook").value = ctypes.cast(
                hook, ctypes.c_void_p
            ).value

    def _hook(self, name):
        first, second, compute = _TYPES[name]

        def hook(problem, at, directions, call, bytes_):
            call = _Call.from_address(call)
            try:
                problem = _Problem.from_address(problem)
                at = first.from_address(at)
                directions = second.from_address(directions) if directions else None
                asked = scratch_bytes(problem, problem.rows, at, directions)
                if bytes_:
                    ctypes.c_size_t.from_address(bytes_).value = asked
                    return 0
                assert call.device == self.device
                assert call.stream == self.stream
                if self.lends_what_is_asked_for:
                    assert call.workspace_bytes == asked
                elif call.workspace_bytes < scratch_bytes(problem, 1, at, directions):
                    call.fail("too little for a row")
                    return SMALL_WORKSPACE
                assert call.workspace % 4 == 0
                # It is there, and is ours.
                ctypes.memset(call.workspace, 0xFF, call.workspace_bytes)
                if self.fail:
                    return call.fail(self.fail)
                self.calls.append(name)
                compute(problem, at, directions)
            except Exception as error:  # would be lost in the C code
                return call.fail(f"{type(error).__name__}: {error}")
            return 0

        return hook
