"""Autocast neither changes the result's dtype nor the accuracy of what comes in as float32."""

from __future__ import annotations

import pytest

import diffsort

from .helpers import (
    SINGLE,
    assert_close,
    cotangent,
    every_case,
    expected,
    expected_vjp,
    point,
    strength_of,
    torch,
    torch_internals,
)

pytestmark = torch_internals


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@every_case
def test_same_bits_and_dtype_as_without_autocast(case, dtype, low):
    results = []
    for enabled in (False, True):
        x, strength = point(dtype), strength_of("per_row", grad=False).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=low, enabled=enabled):
            y = case(x, strength)
        y.backward(cotangent(dtype))
        results.append((y, x.grad, strength.grad))
    for plain, cast in zip(*results, strict=True):
        assert plain.dtype == cast.dtype == dtype
        assert torch.equal(plain, cast)


@every_case
def test_float32_accuracy_under_autocast(case):
    x, strength = point(torch.float32), strength_of("scalar", grad=False).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = case(x, strength)
        y.backward(cotangent(torch.float32))  # the backward pass inside the region, too
    dx, ds = expected_vjp(case, x, strength, cotangent())
    assert_close(y, expected(case, x, strength), rtol=SINGLE, atol=SINGLE)
    assert_close(x.grad, dx, rtol=SINGLE, atol=SINGLE)
    assert_close(strength.grad, ds.sum(), rtol=SINGLE, atol=SINGLE)


def test_after_a_layer_that_autocast_runs_in_bfloat16():
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 5)
    strength = torch.nn.Parameter(torch.tensor(0.7))  # stays float32 under autocast
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = linear(point(torch.float32, grad=False))
        ranks = diffsort.soft_rank(scores, regularization_strength=strength)
        loss = ranks.float().square().sum()
    assert scores.dtype == ranks.dtype == torch.bfloat16
    loss.backward()
    assert linear.weight.grad.dtype == strength.grad.dtype == torch.float32
    assert linear.weight.grad.abs().max() > 0
    wanted = diffsort.soft_rank(scores.detach().float(), regularization_strength=0.7)
    torch.testing.assert_close(ranks.float(), wanted, rtol=2**-8, atol=0)


@every_case
def test_double_backward_under_autocast(case):
    second = []
    for enabled in (False, True):
        x, strength = point(torch.float32), strength_of("per_row", grad=False).float()
        strength.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            g = cotangent(torch.float32)
            dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g, create_graph=True)
            total = dx.square().sum() + ds.square().sum() + 0 * x.sum()
            second.append(torch.autograd.grad(total, (x, strength)))
    for plain, cast in zip(*second, strict=True):
        assert cast.dtype == torch.float32
        torch.testing.assert_close(cast, plain)


def test_integers_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert diffsort.soft_rank(torch.tensor([3, 1, 2])).dtype == torch.get_default_dtype()
