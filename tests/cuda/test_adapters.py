"""The path of CUDA arrays through the backends, on the emulated device: NumPy stands for CuPy, with
which it shares the adapter, and tensors of the CPU for those of a device."""

from functools import partial

import _diffsort_native as native
import backends
import numpy as np
import pytest
import test_conformance as conformance
from problem import operators, regularizations

import diffsort
from diffsort.backends import kernels
from diffsort.backends import numpy as numpy_backend
from diffsort.backends.adapter import Adapter

from .emulation import STREAM, DeviceArray, _memory


class _NumPyMemory(numpy_backend._Memory):
    zeros = staticmethod(lambda shape, dtype, like: np.zeros(shape, dtype))
    moveaxis = staticmethod(np.moveaxis)
    broadcast = staticmethod(np.broadcast_to)
    dense = staticmethod(np.ascontiguousarray)
    strides = staticmethod(lambda array: array.strides)
    stream = staticmethod(lambda like: STREAM)

    @staticmethod
    def on_device(like):
        return np.errstate()

    @staticmethod
    def lend(array):
        if not isinstance(array, np.ndarray):
            return array
        lent = DeviceArray(array)
        if array.size:  # the same memory without the mark of a read-only array, unknown to DLPack
            lent.kept, lent.array = array, _memory(array.ctypes.data, array.shape, array.dtype)
        return lent


@pytest.fixture(autouse=True)
def _every_test_reaches_the_device(device):
    device.calls.clear()
    yield
    assert device.calls, "the path did not lead through the device"


@pytest.fixture
def numpy(device, monkeypatch):
    cuda = kernels.Cuda(_NumPyMemory())
    monkeypatch.setattr(kernels, "native", device.module)
    monkeypatch.setattr(numpy_backend._NumPy, "kernels", lambda *arguments: cuda)
    # Without the short cut that is NumPy's alone.
    monkeypatch.setattr(numpy_backend, "project", partial(Adapter.project, numpy_backend._adapter))
    return backends.NumPy()


@pytest.fixture
def torch_module(device, monkeypatch):
    torch = pytest.importorskip("torch", minversion="2.6")
    from diffsort.backends.torch import kernels as of_torch

    class Memory(of_torch.Memory):
        @staticmethod
        def lend(tensor):
            lent = of_torch.Memory.lend(tensor)
            return DeviceArray(lent) if isinstance(lent, torch.Tensor) else lent

        @staticmethod
        def stream(like):
            return STREAM

    monkeypatch.setattr(kernels, "native", device.module)
    monkeypatch.setattr(of_torch, "_cpu", kernels.Cuda(Memory()))
    return torch


@pytest.fixture(params=["numpy", "torch", "torch-reference"])
def adapter(request):
    if request.param == "numpy":
        return request.getfixturevalue("numpy")
    request.getfixturevalue("torch_module")
    return backends.BACKENDS[request.param]()


@operators
def test_conformance(adapter, op, options):
    for dtype in ("float64", "float32"):
        example = conformance.example(op, dtype, options)
        example.check_values(adapter)
        example.check(adapter)


@pytest.mark.parametrize("axis", [0, 1, -2])
@operators
def test_conformance_along_axis(adapter, op, options, axis):
    example = conformance.example(op, "float64", options, axis=axis)
    example.check_values(adapter)
    example.check(adapter)


@operators
def test_conformance_with_a_number_as_strength(adapter, op, options):
    conformance.example(op, "float64", options, strength="number").check(adapter)


@conformance.broadcasts
@regularizations
def test_conformance_of_broadcasts(adapter, regularization, shapes):
    conformance.broadcast(regularization, shapes).check(adapter)


@pytest.mark.parametrize("shape", [(1, 7), (1, 1, 7), (7,)], ids=str)
@operators
def test_conformance_of_a_single_row(adapter, op, options, shape):
    example = conformance.example(op, "float64", options, strength="number", shapes=(shape, shape))
    example.check_values(adapter)
    example.check(adapter)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@operators
def test_conformance_of_halves(adapter, op, options, dtype):
    conformance.example(op, dtype, options).check(adapter)


def test_a_row_for_all_is_not_copied(numpy, device, monkeypatch):
    """`project` of many rows onto one w: the library is given the row, and stride 0."""
    lent = []
    lend = _NumPyMemory.lend
    monkeypatch.setattr(
        _NumPyMemory,
        "lend",
        staticmethod(lambda array: lent.append(np.shape(array)) or lend(array)),
    )
    z, w = np.random.default_rng(0).normal(size=(2, 30, 5))
    diffsort.project(z, w[0], regularization_strength=np.full((30, 1), 0.3))
    shapes = [shape for shape in lent if shape != ()]  # without what is absent
    scratch = (16 + 30 * (5 + 7 + 0b11100),)  # as emulation.scratch_bytes has it
    assert sorted(shapes) == sorted([(30, 5), (5,), (30, 1), (30, 5), scratch])


def test_results_are_dense(adapter, torch_module):
    for axis in (0, 1, 2):
        x = np.random.default_rng(1).normal(size=(3, 4, 5))
        assert diffsort.soft_rank(torch_module.tensor(x), axis=axis).is_contiguous()


class TestTorch:
    X = ((2.9, 0.1, 1.2, 1.3), (0.3, 0.1, 0.2, 0.9))

    def test_gradients_of_any_layout(self, torch_module):
        """An expanded cotangent, a strength per row, a transposed input: as on the CPU."""
        x = torch_module.tensor(self.X, dtype=torch_module.float64)
        found = []
        for layout in (lambda t: t, lambda t: t.T.contiguous().T):
            leaf = layout(x).detach().requires_grad_()
            strength = torch_module.tensor([[0.5], [0.7]], requires_grad=True)
            diffsort.soft_sort(
                leaf, regularization="kl", regularization_strength=strength
            ).sum().backward()
            found.append((leaf.grad, strength.grad))
        for one, other in zip(*found, strict=True):
            assert torch_module.equal(one, other)

    @pytest.mark.parametrize("batch", [(1,), (1, 1)], ids=str)
    @pytest.mark.parametrize("axis", [-1, 0])
    def test_a_single_row_has_the_gradients_of_a_vector(self, torch_module, batch, axis):
        found = []
        for shape in ((4,), (*batch, 4) if axis == -1 else (4, *batch)):
            leaf = torch_module.tensor(self.X[0]).reshape(shape).requires_grad_()
            strength = torch_module.tensor(0.5).reshape((1,) * len(shape)).requires_grad_()
            ranks = diffsort.soft_rank(leaf, axis=axis, regularization_strength=strength)
            ranks.square().sum().backward()
            alone = diffsort.soft_rank(
                leaf.detach(), axis=axis, regularization_strength=strength.detach().requires_grad_()
            )
            alone.sum().backward()
            found.append((leaf.grad.flatten(), strength.grad.flatten()))
        for one, other in zip(*found, strict=True):
            assert one.abs().max() > 0
            assert torch_module.equal(one, other)

    def test_empty_rows_have_zero_gradients(self, torch_module, device):
        x = torch_module.zeros((3, 0), requires_grad=True)
        strength = torch_module.ones((3, 1), requires_grad=True)
        diffsort.soft_rank(x, regularization_strength=strength).sum().backward()
        assert strength.grad.tolist() == [[0.0], [0.0], [0.0]]
        device.calls.append("none is needed")

    @pytest.mark.parametrize(
        "transformation",
        [
            lambda torch, f: torch.func.grad(f),
            lambda torch, f: torch.func.hessian(f),
            lambda torch, f: torch.func.jacfwd(torch.func.jacrev(f)),
            lambda torch, f: torch.compile(f, fullgraph=True, backend="aot_eager"),
        ],
        ids=["grad", "hessian", "jacfwd of jacrev", "compile"],
    )
    @pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
    def test_transformations(self, torch_module, transformation, monkeypatch):
        def loss(x):
            ranks = diffsort.soft_rank(x, regularization="kl", axis=0, regularization_strength=0.9)
            return ranks.square().sin().sum()

        x = torch_module.tensor(self.X, dtype=torch_module.float64).T
        torch_module.compiler.reset()
        found = transformation(torch_module, loss)(x)
        with monkeypatch.context() as undone:
            from diffsort.backends.torch import kernels as of_torch

            undone.setattr(kernels, "native", native)
            undone.setattr(of_torch, "_cpu", kernels.Cpu(of_torch.Memory(), lambda: 1))
            torch_module.compiler.reset()
            expected = transformation(torch_module, loss)(x)
        assert expected.abs().max() > 0
        assert torch_module.equal(found, expected)
