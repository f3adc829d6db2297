"""Parameters, tensor subclasses, dispatch modes, checkpointing, inference mode and threads."""

from __future__ import annotations

import importlib
import threading

import pytest

import diffsort

from .helpers import (
    Case,
    assert_close,
    cotangent,
    every_case,
    expected,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    tangent,
    torch,
    torch_internals,
)

pytestmark = torch_internals
TorchDispatchMode = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
TorchFunctionMode = torch.overrides.TorchFunctionMode
checkpoint = importlib.import_module("torch.utils.checkpoint").checkpoint


@every_case
def test_parameters(case):
    x = torch.nn.Parameter(point(grad=False))
    strength = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
    y = case(x, strength)
    assert type(y) is torch.Tensor
    y.backward(cotangent())
    dx, ds = expected_vjp(case, x, strength, cotangent())
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds.sum())


class Tagged(torch.Tensor):
    """A subclass without behaviour: torch's default __torch_function__ keeps it."""


class Counted(torch.Tensor):
    """A subclass that sees every torch function."""

    calls = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        Counted.calls += 1
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("subclass", [Tagged, Counted])
@every_case
def test_subclass_values(case, subclass):
    leaf = point()
    x = leaf.as_subclass(subclass)
    y = case(x)
    assert isinstance(y, subclass)
    assert_close(y.as_subclass(torch.Tensor), expected(case, leaf))
    y.as_subclass(torch.Tensor).backward(cotangent())
    assert_close(leaf.grad.as_subclass(torch.Tensor), expected_vjp(case, leaf, 0.7, cotangent())[0])


@few_cases
def test_torch_function_is_called_on_the_way(case):
    before = Counted.calls
    case(point(grad=False).as_subclass(Counted))
    assert Counted.calls > before


class Wrapper(torch.Tensor):
    """A wrapper without memory of its own: every operation must go through the dispatcher."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, requires_grad=inner.requires_grad
        )

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        tree_map = torch.utils._pytree.tree_map
        args, kwargs = tree_map(
            lambda a: a.inner if isinstance(a, Wrapper) else a, (args, kwargs or {})
        )
        result = function(*args, **kwargs)
        return tree_map(lambda a: Wrapper(a) if isinstance(a, torch.Tensor) else a, result)


@every_case
def test_wrapper_subclass_through_backward(case):
    x = Wrapper(point(grad=False)).requires_grad_()
    strength = Wrapper(torch.tensor(0.7, dtype=torch.float64)).requires_grad_()
    y = case(x, strength)
    assert isinstance(y, Wrapper)
    assert_close(y.inner, expected(case, point()))
    dx, ds = torch.autograd.grad(y, (x, strength), Wrapper(cotangent()))
    wanted = expected_vjp(case, point(), 0.7, cotangent())
    assert_close(dx.inner, wanted[0])
    assert_close(ds.inner, wanted[1].sum())


@few_cases
def test_wrapper_cotangent_for_a_plain_result(case):
    x = point()
    (dx,) = torch.autograd.grad(case(x), x, Wrapper(cotangent()))
    assert_close(dx.inner, expected_vjp(case, x, 0.7, cotangent())[0])


class Log(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@every_case
def test_dispatch_mode_sees_the_work_and_values_stay(case):
    x, strength = point(), strength_of("scalar")
    with Log() as forward:
        y = case(x, strength)
    with Log() as backward:
        dx, ds = torch.autograd.grad(y, (x, strength), cotangent())
    wanted = expected_vjp(case, x, strength, cotangent())
    assert any(name.startswith("diffsort.") for name in forward.names)
    assert backward.names
    assert_close(y, expected(case, x, strength))
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1].sum())


@few_cases
def test_dispatch_mode_around_the_backward_pass_alone(case):
    x = point()
    y = case(x)
    with Log() as log:
        (dx,) = torch.autograd.grad(y, x, cotangent())
    assert log.names
    assert_close(dx, expected_vjp(case, x, 0.7, cotangent())[0])


class Doubling(TorchFunctionMode):
    """Sees Python-level functions; leaves the values as they are."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


@few_cases
def test_function_mode(case):
    x = point()
    with Doubling() as mode:
        y = case(x)
    assert mode.calls
    y.backward(cotangent())
    assert_close(y, expected(case, x))
    assert_close(x.grad, expected_vjp(case, x, 0.7, cotangent())[0])


@every_case
def test_default_device_context_changes_nothing(case):
    x = point()
    with torch.device("meta"):
        y = case(x)
    assert y.device.type == "cpu"
    y.backward(cotangent())
    assert_close(y, expected(case, x))
    assert_close(x.grad, expected_vjp(case, x, 0.7, cotangent())[0])


def test_default_dtype_reaches_integers_alone():
    torch.set_default_dtype(torch.float64)
    try:
        assert diffsort.soft_rank(torch.tensor([3, 1, 2])).dtype == torch.float64
        assert diffsort.soft_rank(torch.tensor([3.0, 1.0], dtype=torch.float32)).dtype is (
            torch.float32
        )
    finally:
        torch.set_default_dtype(torch.float32)


@every_case
def test_inference_mode(case):
    with torch.inference_mode():
        y = case(point(), strength_of("scalar"))
        assert y.is_inference()
        inner = case(point(grad=False) + 0)
    assert not y.requires_grad
    assert_close(y.clone(), expected(case, point()))
    assert_close(inner.clone(), expected(case, point()))


@few_cases
def test_inference_tensor_as_strength_or_values_outside_of_inference_mode(case):
    with torch.inference_mode():
        frozen = point(grad=False) + 0
    assert_close(case(frozen), expected(case, point()))


@every_case
def test_grad_modes_nest(case):
    with torch.no_grad():
        assert case(point()).grad_fn is None
        with torch.enable_grad():
            x = point()
            y = case(x)
    y.backward(cotangent())
    assert_close(x.grad, expected_vjp(case, x, 0.7, cotangent())[0])


@every_case
def test_deterministic_algorithms(case):
    # Neither an error nor other values, for empty results that are filled with NaN in this mode.
    torch.use_deterministic_algorithms(True)
    try:
        x, strength = point(), strength_of("per_row")
        y = case(x, strength)
        dx, ds = torch.autograd.grad(y, (x, strength), cotangent(), create_graph=True)
        second = dx.square().sum() + ds.square().sum() + 0 * x.sum()
        torch.autograd.grad(second, (x, strength))
        batch = torch.stack([cotangent(), tangent()])
        (many,) = torch.autograd.grad(case(x), x, batch, is_grads_batched=True)
    finally:
        torch.use_deterministic_algorithms(False)
    wanted = expected_vjp(case, x, strength, cotangent())
    assert_close(y, expected(case, x, strength))
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])
    assert_close(many[1], expected_vjp(case, x, 0.7, tangent())[0])


@pytest.mark.parametrize("use_reentrant", [False, True])
@every_case
def test_checkpoint(case, use_reentrant):
    x, strength = point(), strength_of("per_row")
    y = checkpoint(lambda x, s: 2 * case(x, s), x, strength, use_reentrant=use_reentrant)
    y.backward(cotangent())
    dx, ds = expected_vjp(case, x, strength, 2 * cotangent())
    assert_close(y, 2 * expected(case, x, strength))
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds)


@every_case
def test_saved_tensor_hooks(case):
    # Offloading and compression of saved tensors hang on these hooks.
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.clone()

    x, strength = point(), strength_of("per_row")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = case(x, strength)
    y.backward(cotangent())
    assert packed
    dx, ds = expected_vjp(case, x, strength, cotangent())
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds)


@every_case
def test_anomaly_mode(case):
    x = point()
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        case(x).backward(cotangent())
    assert_close(x.grad, expected_vjp(case, x, 0.7, cotangent())[0])


def _in_threads(work, count=8):
    errors, start = [], threading.Barrier(count)

    def run(index):
        try:
            start.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors, errors[0]


@few_cases
def test_forward_and_backward_from_many_threads(case):
    wanted = {}
    for i in range(8):
        x = (1 + 0.1 * i) * point(grad=False)
        wanted[i] = expected(case, x), *expected_vjp(case, x, 0.7, cotangent())

    def work(i):
        for _ in range(20):
            x = ((1 + 0.1 * i) * point(grad=False)).requires_grad_()
            strength = strength_of("scalar")
            y = case(x, strength)
            y.backward(cotangent())
            assert_close(y, wanted[i][0])
            assert_close(x.grad, wanted[i][1])
            assert_close(strength.grad, wanted[i][2].sum())

    _in_threads(work)


@few_cases
def test_backward_through_one_graph_from_many_threads(case):
    # As in DataParallel: shared leaves, each thread walks its own part of a shared graph.
    x, strength = point(), strength_of("scalar")
    ys = [case(x * (i + 1), strength) for i in range(8)]
    grads = [None] * 8

    def work(i):
        grads[i] = torch.autograd.grad(ys[i], (x, strength), cotangent())

    _in_threads(work)
    for i in range(8):
        dx, ds = expected_vjp(case, (i + 1) * x.detach(), 0.7, cotangent())
        assert_close(grads[i][0], (i + 1) * dx)
        assert_close(grads[i][1], ds.sum())


def test_transformations_in_one_thread_leave_others_alone():
    # Plain eager calls run while another thread is inside torch.func and dual numbers.
    case = Case("soft_rank", "ascending", "kl")
    wanted, (dx_wanted, _) = expected(case, point()), expected_vjp(case, point(), 0.7, cotangent())

    def work(i):
        for _ in range(20):
            x = point(grad=False)
            if i % 3 == 0:
                dx = torch.func.grad(lambda x: (case(x) * cotangent()).sum())(x)
            elif i % 3 == 1:
                dx = torch.func.vmap(torch.func.grad(lambda r, g: (case(r) * g).sum()))(
                    x, cotangent()
                )
            else:
                x = point()
                y = case(x)
                assert_close(y, wanted)
                (dx,) = torch.autograd.grad(y, x, cotangent())
            assert_close(dx, dx_wanted)

    _in_threads(work, 6)
