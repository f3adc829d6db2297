"""How the native module finds and opens the CUDA library, and what passes between the two."""

import _diffsort_native as native
import numpy as np
import pytest

from .emulation import STREAM, DeviceArray, Emulation, copy_of_the_module, library, on_device

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 5))
FEW = [0, 1, 2]  # codes of regularizations


@pytest.fixture
def device(tmp_path):
    return Emulation(library(tmp_path))


def scratch(words):
    return DeviceArray(np.empty(words, np.int32))


# --- opening --------------------------------------------------------------------------------------


def test_a_build_without_the_library(tmp_path):
    module = copy_of_the_module(tmp_path)
    assert module.cuda_library is None
    assert module.cuda_device_count() == 0
    assert "this build of diffsort has no CUDA kernels" in module.cuda_problem()
    assert module.cuda_problem(0) == module.cuda_problem()
    with pytest.raises(RuntimeError, match="has no CUDA kernels"):
        project(module, on_device(X))


def test_a_library_that_fits(tmp_path):
    module = library(tmp_path)
    assert module.cuda_library == str(tmp_path / "libdiffsort_cuda.so")
    assert module.cuda_device_count() == 2
    assert module.cuda_problem() is None
    assert module.cuda_problem(0) is None
    assert "no kernels for the architecture of cuda:1" in module.cuda_problem(1)
    assert "cuda:2 is not among the 2 CUDA devices" in module.cuda_problem(2)


def test_a_machine_without_a_device(tmp_path):
    module = library(tmp_path, "DEVICES=0")
    assert module.cuda_device_count() == 0
    assert module.cuda_problem() is None  # programs for other machines can be made
    assert module.cuda_problem(0) == "no CUDA device can be used: the driver is too old"


def test_a_library_of_another_version(tmp_path):
    module = library(tmp_path, "VERSION=7", "WITHOUT_FUNCTIONS")
    assert module.cuda_device_count() == 0
    assert "has version 7 of its interface, but version 3 is needed" in module.cuda_problem()


def test_a_library_that_lacks_a_function(tmp_path):
    module = library(tmp_path, "WITHOUT_FUNCTIONS")
    assert "has no function diffsort_cuda_" in module.cuda_problem()


def test_a_file_that_is_no_library(tmp_path):
    (tmp_path / "libdiffsort_cuda.so").write_text("nothing")
    module = copy_of_the_module(tmp_path)
    assert "libdiffsort_cuda.so cannot be opened: " in module.cuda_problem()
    assert module.cuda_device_count() == 0


# --- calls ----------------------------------------------------------------------------------------


def project(module, z, w=None, strength=0.7, result=None, block_z=None, block_w=None, **options):
    code = options.get("regularization", 0)
    out = DeviceArray(np.empty(X.shape)) if result is None else result
    module.cuda_project(
        z,
        w,
        strength,
        code,
        1.0,
        options.get("w_sign", 1.0),
        out,
        block_z,
        block_w,
        options.get("allocate", scratch),
        options.get("stream", STREAM),
    )
    return out


@pytest.mark.parametrize("regularization", FEW)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("strength", ["number", "one", "per row"])
def test_everything_arrives(device, regularization, dtype, strength):
    """project, vjp and jvp with every operand, against the same calls on the CPU."""
    x, g, w = X.astype(dtype), np.flip(X, 1).astype(dtype), np.abs(X[:1]).astype(dtype)
    strength = {
        "number": 0.7,
        "one": np.array([[0.7]], np.float32),
        "per row": np.array([[0.3], [0.0], [1.5]]),
    }[strength]
    options = regularization, -1.0, 1.0
    here = dict.fromkeys(("result", "block_z", "block_w"))
    there = dict(here)
    for arrays in (here, there):
        arrays["result"] = np.empty_like(x)
        arrays["block_z"], arrays["block_w"] = np.empty((2, *x.shape), np.int32)
    native.project(x, np.broadcast_to(w, x.shape), strength, -1, *options, *here.values(), 1)
    outputs = map(DeviceArray, there.values())
    device.module.cuda_project(
        on_device(x), on_device(w), on_device(strength), *options, *outputs, scratch, STREAM
    )
    for name in here:
        assert np.array_equal(here[name], there[name], equal_nan=True)
    assert 1 < len(np.unique(here["block_z"])) < x.size

    point = x, np.broadcast_to(w, x.shape).copy(), *here.values(), strength
    on_it = [on_device(array) for array in point]
    found = []
    for run in (native.project_vjp, device.module.cuda_project_vjp):
        z_out, w_out, strength_out = np.empty_like(x), np.empty_like(x), np.empty((3, 1))
        found.append((z_out, w_out, strength_out))
        if run is native.project_vjp:
            run(*point, -1, *options, g, *found[-1], 1)
        else:
            outputs = map(DeviceArray, found[-1])
            run(*on_it, *options, DeviceArray(g), *outputs, scratch, STREAM)
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)

    dstrength = np.array([[1.0], [2.0], [3.0]])
    expected, tangent = np.empty_like(x), np.empty_like(x)
    native.project_jvp(*point, -1, *options, g, x, dstrength, expected, 1)
    device.module.cuda_project_jvp(
        *on_it, *options, *map(DeviceArray, (g, x, dstrength, tangent)), scratch, STREAM
    )
    assert np.array_equal(expected, tangent)
    assert device.calls == ["project", "vjp", "jvp"]


def test_absent_operands_and_outputs_are_absent(device):
    block = np.empty(X.shape, np.int32)
    device.module.cuda_project(
        None, DeviceArray(X), 0.7, 2, 1.0, 1.0, None, DeviceArray(block), None, scratch, STREAM
    )
    expected = np.empty_like(block)
    native.project(None, X, 0.7, -1, 2, 1.0, 1.0, None, expected, None, 1)
    assert np.array_equal(block, expected)


def test_batch_axes_are_rows(device):
    x = RNG.normal(size=(2, 3, 5))
    out = project(device.module, DeviceArray(x), result=DeviceArray(np.empty_like(x)))
    expected = np.empty_like(x)
    native.project(x, None, 0.7, -1, 0, 1.0, 1.0, expected, None, None, 1)
    assert np.array_equal(out.array, expected)


def test_derivatives_have_the_rows_of_their_outputs(device):
    """Blocks of one row for all, the batch axis of which is not there."""
    block, outputs = np.zeros(5, np.int32), [np.empty((2, 1, 5)) for _ in range(3)]
    g = RNG.normal(size=(2, 1, 5))
    point = [None, None, None, *map(DeviceArray, (block, block)), 0.7, 0, 1.0, 1.0]
    rest = None, scratch, STREAM
    device.module.cuda_project_vjp(*point, *map(DeviceArray, (g, *outputs[:2])), *rest)
    device.module.cuda_project_jvp(
        *point, DeviceArray(g), None, None, DeviceArray(outputs[2]), *rest[1:]
    )
    mean = g.mean(-1, keepdims=True)
    for found, expected in zip(
        outputs, ((g - mean) / 0.7, np.broadcast_to(mean, g.shape), (g - mean) / 0.7), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "shape", [(0, 5), (3, 0), (0,), (2, 0, 5)], ids=lambda shape: "x".join(map(str, shape))
)
def test_nothing_is_asked_about_empty_arrays(device, shape):
    x = np.empty(shape)
    project(device.module, DeviceArray(x), result=DeviceArray(x.copy()))
    assert device.calls == []


def strided(array, strides):
    return np.lib.stride_tricks.as_strided(array, X.shape, strides)


@pytest.mark.parametrize(
    "rows",
    [
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1],
        X[:, ::-1],
        strided(X.copy(), (40, 0)),
    ],
    ids=["fortran", "rows apart", "elements apart", "rows reversed", "reversed", "one element"],
)
def test_rows_that_are_not_dense_are_refused(device, rows):
    with pytest.raises(BufferError, match="z must have dense rows"):
        project(device.module, DeviceArray(rows))


def test_outputs_are_not_one_row_for_all(device):
    with pytest.raises(BufferError, match="result must have dense rows"):
        project(device.module, DeviceArray(X), result=DeviceArray(strided(X[0].copy(), (0, 8))))


def test_arrays_on_two_devices_are_refused(device):
    with pytest.raises(ValueError, match="w is on cuda:1, but z is on cuda:0"):
        project(device.module, DeviceArray(X), DeviceArray(X, device=1))
    with pytest.raises(ValueError, match="strength is on cuda:1"):
        project(device.module, DeviceArray(X), strength=DeviceArray(np.ones((3, 1)), device=1))


def test_arrays_of_the_host_are_refused(device):
    with pytest.raises(TypeError, match="z must be on a CUDA device"):
        project(device.module, DeviceArray(X, kind=1))
    with pytest.raises((TypeError, AssertionError, ValueError, RuntimeError)):
        project(device.module, X)


def test_arrays_of_a_device_are_refused_on_the_host():
    class Exporter(DeviceArray):
        def __dlpack__(self):
            return super().__dlpack__(stream=-1)

    with pytest.raises(TypeError, match="z must be on the CPU"):
        native.project(Exporter(X), None, 1.0, -1, 0, 1.0, 1.0, np.empty(X.shape), None, None, 1)


def test_managed_memory_is_memory_of_a_device(device):
    out = project(device.module, DeviceArray(X, kind=13))
    assert np.isfinite(out.array).all()


def test_errors_carry_the_message(device):
    device.fail = "the kernel for rows of 5 failed: out of memory"
    with pytest.raises(RuntimeError, match="the kernel for rows of 5 failed: out of memory"):
        project(device.module, DeviceArray(X))
    device.fail = None
    project(device.module, DeviceArray(X))  # nothing sticks


def test_errors_of_the_allocator_come_through(device):
    def allocate(words):
        assert words == 16 + 3 * (5 + 7 + 0b10100)  # as emulation.scratch_bytes has it
        raise MemoryError("the device is full")

    with pytest.raises(MemoryError, match="the device is full"):
        project(device.module, DeviceArray(X), allocate=allocate)
    for wrong in (np.empty(5, np.int32), np.empty(96, np.float32), np.empty((96, 1), np.int32)):
        with pytest.raises(ValueError, match="allocate must return int32 elements"):
            project(device.module, DeviceArray(X), allocate=lambda _, a=wrong: DeviceArray(a))
    assert device.calls == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"z": None}, ValueError, "z and w must not both be None"),
        ({"z": DeviceArray(X.astype(np.int32))}, TypeError, "z must hold float32 or float64"),
        ({"result": DeviceArray(X.astype(np.float32))}, TypeError, "result has an unexpected dt"),
        ({"regularization": 3}, ValueError, "unknown regularization code"),
        ({"result": DeviceArray(np.empty((3, 4)))}, TypeError, "z does not broadcast"),
        ({"strength": DeviceArray(np.ones((3, 5)))}, TypeError, "strength does not broadcast"),
    ],
)
def test_what_does_not_fit_together(device, arguments, error, message):
    with pytest.raises(error, match=message):
        project(device.module, **{"z": DeviceArray(X), **arguments})
    assert device.calls == []
