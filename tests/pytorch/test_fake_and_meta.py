"""Tensors without data: fake, meta, and the tracers built on them."""

from __future__ import annotations

import importlib

import pytest

import diffsort

from .helpers import (
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
    total,
)

FakeTensorMode = importlib.import_module("torch._subclasses.fake_tensor").FakeTensorMode
make_fx = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx
pytestmark = torch_internals
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def _same_form(actual, real):
    assert actual.shape == real.shape
    assert actual.dtype == real.dtype
    assert actual.stride() == real.stride()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.bool])
@every_case
def test_meta_result_has_the_form_of_the_real_one(case, dtype):
    real = point(grad=False).to(dtype)
    for x in (real, real.T.contiguous().T, real[:, :1].expand(3, 5), real[:0]):
        meta = torch.empty_strided(x.shape, x.stride(), dtype=dtype, device="meta")
        y = case(meta)
        assert y.device.type == "meta"
        assert y.dtype == (dtype if dtype.is_floating_point else torch.get_default_dtype())
        assert y.shape == x.shape
        assert y.is_contiguous()
        _same_form(y, case(x))


@pytest.mark.parametrize("kind", ["number", "scalar", "per_row"])
@every_case
def test_meta_backward(case, kind):
    x = torch.empty(3, 5, dtype=torch.float64, device="meta", requires_grad=True)
    strength = strength_of(kind, grad=False)
    if kind != "number":
        strength = strength.to("meta").requires_grad_()
    case(x, strength).sum().backward()
    real = point()
    case(real, strength_of(kind, grad=False)).sum().backward()
    _same_form(x.grad, real.grad)
    if kind != "number":
        assert strength.grad.shape == strength.shape


@pytest.mark.parametrize("axis", [0, 1, -1])
@few_cases
def test_meta_axis(case, axis):
    x = torch.empty(2, 3, 4, dtype=torch.float64, device="meta", requires_grad=True)
    y = case(x, axis=axis)
    _same_form(y, case(torch.rand(2, 3, 4, dtype=torch.float64), axis=axis))
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert dx.shape == x.shape


@pytest.mark.parametrize("kind", ["number", "scalar", "per_row"])
@every_case
def test_fake_tensors_through_backward_and_double_backward(case, kind):
    with FakeTensorMode() as mode:
        x = torch.empty(3, 5, dtype=torch.float64, requires_grad=True)
        strength = strength_of(kind)
        inputs = (x,) if kind == "number" else (x, strength)
        y = case(x, strength)
        gradients = torch.autograd.grad(y.sum(), inputs, create_graph=True)
        second = sum(g.square().sum() for g in gradients) + 0 * sum(i.sum() for i in inputs)
        hessian = torch.autograd.grad(second, inputs)
    assert y.fake_mode is mode
    _same_form(y, case(point(grad=False), strength_of(kind, grad=False)))
    for tensor, like in zip((*gradients, *hessian), inputs * 2, strict=True):
        assert tensor.fake_mode is mode
        assert tensor.shape == like.shape
        assert tensor.dtype == like.dtype


@few_cases
def test_fake_tensors_from_real_ones(case):
    mode = FakeTensorMode()
    x = mode.from_tensor(point(grad=False))
    with mode:
        y = case(x)
    assert y.fake_mode is mode
    _same_form(y, case(point(grad=False)))


@few_cases
def test_real_tensors_are_unharmed_after_fake_ones(case):
    with FakeTensorMode():
        case(torch.empty(3, 5, dtype=torch.float64))
    assert_close(case(point()), expected(case, point()))


@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
@few_cases
def test_traced_forward_and_backward(case, tracing):
    def step(x, strength, g):
        x, strength = x.detach().requires_grad_(), strength.detach().requires_grad_()
        y = case(x, strength)
        return (y, *torch.autograd.grad(y, (x, strength), g))

    inputs = point(grad=False), strength_of("per_row", grad=False), cotangent()
    graph = make_fx(step, tracing_mode=tracing)(*inputs)
    # Other values than the ones it was traced with: nothing may be baked into the graph.
    for x in (inputs[0], -inputs[0], tangent()):
        y, dx, ds = graph(x, *inputs[1:])
        wanted = expected_vjp(case, x, inputs[1], inputs[2])
        assert_close(y, expected(case, x, inputs[1]))
        assert_close(dx, wanted[0])
        assert_close(ds, total(wanted[1], inputs[1]))


@few_cases
def test_traced_torch_func(case):
    g = cotangent()

    def gradient(x, s):
        return torch.func.grad(lambda x, s: (case(x, s) * g).sum(), argnums=(0, 1))(x, s)

    graph = make_fx(gradient)(point(grad=False), strength_of("scalar", grad=False))
    s = torch.tensor(1.1, dtype=torch.float64)
    dx, ds = graph(tangent(), s)
    wanted = expected_vjp(case, tangent(), s, g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1].sum())


def test_meta_skips_the_checks_that_need_values_and_keeps_the_others():
    x = torch.empty(3, 5, device="meta")
    diffsort.soft_rank(x, regularization_strength=torch.empty((), device="meta"))
    with pytest.raises(ValueError, match="regularization_strength"):
        diffsort.soft_rank(x, regularization_strength=-1.0)
    with pytest.raises(ValueError, match="axis"):
        diffsort.soft_rank(x, axis=2)
