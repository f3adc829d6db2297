"""Streams, graphs, devices, determinism and errors on the device."""

import ctypes
import subprocess
import sys

import _diffsort_native as native
import devices
import numpy as np
import pytest

import diffsort

from .helpers import PROBLEM

torch = devices.torch()
assert PROBLEM is None

SHAPES = [(300, 20), (40, 700), (8, 5000), (2, 60_000)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
options = pytest.mark.parametrize("regularization", ["l2", "kl"])


def make(shape, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cuda")


def step(x, regularization="l2"):
    """Result and gradient."""
    leaf = x.detach().requires_grad_()
    result = diffsort.soft_rank(leaf, regularization=regularization, regularization_strength=0.1)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result) * x)
    return result.detach(), gradient


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@shapes
@options
def test_a_hundred_runs_are_equal(shape, regularization):
    x = make(shape)
    expected = step(x, regularization)
    for _ in range(100):
        assert_equal(step(x, regularization), expected)


@shapes
def test_a_side_stream_is_the_stream_that_is_used(shape):
    """The input is written on the stream behind a long wait: another stream would read zeros."""
    expected = step(make(shape))
    source, x = make(shape), torch.zeros(shape, device="cuda")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.copy_(source)
        found = step(x)
    stream.synchronize()
    assert_equal(found, expected)


@shapes
@options
def test_nothing_waits_for_the_device(shape, regularization):
    x, strength = make(shape), torch.full((shape[0], 1), 0.1, device="cuda")
    step(x)  # what is set up once
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(x, regularization)
        diffsort.soft_sort(x, regularization=regularization, regularization_strength=strength)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@shapes
@options
def test_capture_and_replay(shape, regularization):
    x = make(shape)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(x, regularization)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(x, regularization)
    for seed in (1, 2):
        x.copy_(make(shape, seed))
        graph.replay()
        assert_equal(found, step(make(shape, seed), regularization))


FIRST_USE_IN_A_CAPTURE = """
import torch
import diffsort

x = torch.randn({shape}, device="cuda")
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    found = diffsort.soft_rank(x, regularization_strength=0.1)
x.copy_(torch.randn({shape}))
graph.replay()
assert torch.equal(found, diffsort.soft_rank(x, regularization_strength=0.1))
print("same")
"""


@shapes
def test_the_first_use_is_captured(shape):
    """In a fresh process: the library is opened, and its kernels are loaded, within the capture."""
    script = FIRST_USE_IN_A_CAPTURE.format(shape=shape)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.stdout == "same\n", run.stderr[-3000:]


def test_another_device_than_the_current_one():
    devices.torch(2)
    with torch.cuda.device(0):
        x = make(SHAPES[1])
        found = step(x.to("cuda:1"))
        assert torch.cuda.current_device() == 0
    assert_equal([array.to("cuda:0") for array in found], step(x))
    with pytest.raises(ValueError, match="z and w must be on one device"):
        diffsort.project(x, x.to("cuda:1"))


@pytest.mark.parametrize("room", [0.2, 1.5], ids=["for nothing", "for the result alone"])
def test_running_out_of_memory_leaves_no_error_behind(room):
    """In the allocation of the result, and in that of scratch memory, which the module asks for."""
    x = make((1, 20_000_000))
    expected = step(make(SHAPES[1]))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    limit = torch.cuda.memory_reserved() + room * x.nbytes
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        with torch.no_grad(), pytest.raises(torch.cuda.OutOfMemoryError):
            diffsort.soft_rank(x, regularization_strength=0.1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.synchronize()
    assert_equal(step(make(SHAPES[1])), expected)


class OnNoDevice:
    """A tensor that says it is on a device that is not there."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, *, stream=None):
        capsule = self.tensor.__dlpack__(stream=stream)
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        # The tensor begins with the pointer to its data; type and number of its device follow.
        where = ctypes.c_int32.from_address(get(capsule, b"dltensor") + 12)
        where.value = 99
        return capsule


def test_an_error_of_the_library_is_told_and_leaves_none_behind():
    x = make((2, 3))
    expected = step(x)
    there = OnNoDevice(x)
    failed = "^project: cudaDeviceGetAttribute failed on 2 rows of 3: invalid device ordinal"
    with pytest.raises(RuntimeError, match=failed):
        native.cuda_project(there, None, 0.1, 0, 1.0, 1.0, there, None, None, bytes, 0)
    torch.cuda.synchronize()
    assert_equal(step(x), expected)


def test_the_workspace_is_at_most_16_bytes_per_element():
    x = make((1, 4_000_000))
    with torch.no_grad():
        diffsort.soft_rank(x, regularization_strength=0.1)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = diffsort.soft_rank(x, regularization_strength=0.1)
        peak = torch.cuda.max_memory_allocated() - before - result.nbytes
    assert peak <= 16.5 * x.numel()  # the allocator rounds up


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_leaves_the_operators_alone(dtype):
    x = make(SHAPES[0])
    expected = step(x)
    with torch.autocast("cuda", dtype):
        assert_equal(step(x), expected)


COMPILED = {
    "traced": {"backend": "aot_eager"},
    "inductor": {},
    "CUDA graphs": {"mode": "reduce-overhead"},
}


@options
@pytest.mark.parametrize("how", COMPILED)
def test_compiled(regularization, how):
    if how != "traced":
        pytest.importorskip("triton")

    def loss(x):
        ranks = diffsort.soft_rank(x, regularization=regularization, regularization_strength=0.1)
        return (ranks * torch.cos(x)).sum()

    compiled = torch.compile(loss, fullgraph=True, **COMPILED[how])
    for seed in range(4):  # graphs are recorded after some calls, and then replayed
        x = make(SHAPES[0], seed).double()
        expected = torch.func.grad(loss)(x)
        leaf = x.clone().requires_grad_()
        torch.compiler.cudagraph_mark_step_begin()
        compiled(leaf).backward()
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-10, atol=1e-10)


def test_transformations_are_equal_in_every_run_on_request():
    """torch.func differentiates scatter and gather, which torch itself makes deterministic."""

    def loss(x):
        return (diffsort.soft_rank(x, regularization_strength=0.1) ** 3).sum()

    x = make(SHAPES[1])
    torch.use_deterministic_algorithms(True)
    try:
        expected = torch.func.grad_and_value(loss)(x)
        for _ in range(20):
            assert_equal(torch.func.grad_and_value(loss)(x), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_derivatives_by_name():
    """diffsort.vjp and diffsort.jvp, by a number as the strength too, are those of the CPU."""
    x, g = torch.randn(3, 40, dtype=torch.float64), torch.randn(3, 40, dtype=torch.float64)
    wrt = ("values", "regularization_strength")
    tangents = {"values": g, "regularization_strength": 1.5}
    result, pull = diffsort.vjp(diffsort.soft_rank, x, wrt=wrt)
    on_device, pull_there = diffsort.vjp(diffsort.soft_rank, x.cuda(), wrt=wrt)
    moved = diffsort.jvp(diffsort.soft_rank, x, tangents)[1]
    tangents["values"] = g.cuda()
    moved_there = diffsort.jvp(diffsort.soft_rank, x.cuda(), tangents)[1]
    found = on_device, *pull_there(g.cuda()), moved_there
    for one, other in zip(found, (result, *pull(g), moved), strict=True):
        assert one.device.type == "cuda"
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_data_of_python_come_to_the_device_of_the_tensor(dtype):
    x, weights = torch.tensor([[3, 1, 2], [5, 0, 1]], dtype=dtype), [1.0, 0.5, 0.0]
    expected = diffsort.project(x, weights)
    compiled = torch.compile(diffsort.project, fullgraph=True, backend="aot_eager")
    for project in (diffsort.project, compiled):
        torch.testing.assert_close(project(x.cuda(), weights).cpu(), expected)


def test_a_stream_of_cupy():
    cupy = devices.cupy()
    x = cupy.random.default_rng(0).standard_normal((300, 700))
    expected = diffsort.soft_rank(x, regularization_strength=0.1)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        y = x * 1
        found = diffsort.soft_rank(y, regularization_strength=0.1)
        stream.synchronize()
    assert np.array_equal(found.get(), expected.get())


def test_capture_and_replay_with_cupy():
    cupy = devices.cupy()
    if not hasattr(cupy.cuda.Stream, "begin_capture"):
        pytest.skip("this CuPy captures no graphs")
    x, y = cupy.random.default_rng(0).standard_normal((2, 300, 700))
    expected = diffsort.soft_rank(y, regularization_strength=0.1)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        diffsort.soft_rank(x, regularization_strength=0.1)  # memory for the pool of the stream
        stream.synchronize()
        stream.begin_capture()
        found = diffsort.soft_rank(x, regularization_strength=0.1)
        graph = stream.end_capture()
        x[...] = y
        graph.launch(stream)
        stream.synchronize()
    assert np.array_equal(found.get(), expected.get())
