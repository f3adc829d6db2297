"""Many cotangents at once: is_grads_batched and the vectorized functional Jacobians."""

from __future__ import annotations

import numpy as np
import pytest

from .helpers import (
    NUMERIC,
    assert_close,
    edges,
    every_case,
    expected_jacobian,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    torch,
    torch_internals,
)

pytestmark = torch_internals
STRENGTHS = [0.4, 1.1, 2.3]


@every_case
def test_batched_cotangents(case):
    x, strength = point(), strength_of("per_row")
    g = torch.tensor(np.random.default_rng(2).normal(size=(4, 3, 5)))
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g, is_grads_batched=True)
    wanted = [expected_vjp(case, x, strength, c) for c in g]
    assert_close(dx, torch.stack([w[0] for w in wanted]))
    assert_close(ds, torch.stack([w[1] for w in wanted]))


@pytest.mark.parametrize("kind", ["number", "scalar"])
@every_case
def test_identity_gives_the_jacobian(case, kind):
    x, strength = point(), strength_of(kind)
    basis = torch.eye(15, dtype=torch.float64).reshape(15, 3, 5)
    (jacobian,) = torch.autograd.grad(case(x, strength), x, basis, is_grads_batched=True)
    assert_close(jacobian.reshape(3, 5, 3, 5), expected_jacobian(case, x, strength))


@every_case
def test_expanded_batch_of_cotangents(case):
    x = point()
    g = torch.ones((), dtype=torch.float64).expand(2, 3, 5)
    (dx,) = torch.autograd.grad(case(x), x, g, is_grads_batched=True)
    wanted = expected_vjp(case, x, 0.7, g[0])[0]
    assert_close(dx, torch.stack([wanted, wanted]))


@every_case
def test_batched_hessian_rows(case):
    x = point(grad=False)[0].requires_grad_()
    strength = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([1.0, -2.0, 3.0, 0.5, -0.25], dtype=torch.float64)
    # The squares put every input into the graph: soft_sort l2 is linear in x.
    y = (case(x, strength) * g).sum() + 0.5 * (x**2).sum() + 0.5 * strength**2
    dx, ds = torch.autograd.grad(y, (x, strength), create_graph=True)
    basis = torch.eye(6, dtype=torch.float64)
    hx, hs = torch.autograd.grad(
        (dx, ds), (x, strength), (basis[:, :5], basis[:, 5]), is_grads_batched=True
    )
    h = np.einsum("k,kij->ij", g.numpy(), case.hessian(x.tolist(), 1.1)) + np.eye(6)
    assert_close(hx, h[:, :5], rtol=NUMERIC, atol=NUMERIC)
    assert_close(hs, h[:, 5], rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    x.requires_grad_()
    strength.requires_grad_()
    batch = torch.stack([g, 2 * g.flip(1)])
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), batch, is_grads_batched=True)
    for i in range(2):
        wanted = expected_vjp(case, x, strength, batch[i])
        assert_close(dx[i], wanted[0])
        assert_close(ds[i], wanted[1])


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@every_case
def test_functional_jacobian_vectorized(case, strategy):
    x, strength = point(grad=False), torch.tensor([[s] for s in STRENGTHS], dtype=torch.float64)
    jx, js = torch.autograd.functional.jacobian(
        case, (x, strength), vectorize=True, strategy=strategy
    )
    assert_close(jx, expected_jacobian(case, x, strength))
    wanted = np.zeros((3, 5, 3, 1))
    for i, s in enumerate(STRENGTHS):
        wanted[i, :, i, 0] = case.strength_jacobian(x[i].tolist(), s)
    assert_close(js, wanted)


@pytest.mark.parametrize("vectorize", [False, True])
@few_cases
def test_functional_hessian(case, vectorize):
    g = torch.tensor([1.0, -2.0, 3.0, 0.5, -0.25], dtype=torch.float64)
    x = point(grad=False)[0]

    def loss(x, s):
        return (case(x, s) * g).sum()

    (xx, xs), (_, ss) = torch.autograd.functional.hessian(
        loss, (x, torch.tensor(1.1, dtype=torch.float64)), vectorize=vectorize
    )
    h = np.einsum("k,kij->ij", g.numpy(), case.hessian(x.tolist(), 1.1))
    assert_close(xx, h[:-1, :-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(xs, h[:-1, -1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(ss, h[-1, -1], rtol=NUMERIC, atol=NUMERIC)
