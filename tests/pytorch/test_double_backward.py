"""Second derivatives: dense Hessians against numeric differentiation of the oracle's Jacobian."""

from __future__ import annotations

import numpy as np
import pytest

import diffsort

from .helpers import (
    NUMERIC,
    SINGLE,
    Case,
    assert_close,
    cotangent,
    difference,
    edges,
    every_case,
    expected_jvp,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    tangent,
    torch,
)


def _grad(output, inputs):
    """Gradient with zeros where a derivative is identically zero and so not in the graph."""
    output = output + sum(0 * i.sum() for i in inputs)
    return torch.autograd.grad(output, inputs, retain_graph=True)


def _rows(gradient, inputs):
    """The gradient of every entry of `gradient` in `inputs`, flattened side by side."""
    rows = [_grad(entry, inputs) for entry in gradient.reshape(-1)]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


@pytest.mark.parametrize("row", [0, 1, 2])
@every_case
def test_hessian_in_values_and_strength(case, row):
    x = point(grad=False)[row].requires_grad_()
    strength = strength_of("per_row", grad=False)[row, 0].clone().requires_grad_()
    g = cotangent()[row]
    first = torch.autograd.grad(case(x, strength), (x, strength), g, create_graph=True)
    hessian = torch.cat([_rows(part, (x, strength)) for part in first])
    wanted = np.einsum("k,kij->ij", g.numpy(), case.hessian(x.detach().numpy(), strength.item()))
    assert_close(hessian, wanted, rtol=NUMERIC, atol=NUMERIC)
    assert_close(hessian, hessian.detach().T)


@every_case
def test_the_test_point_has_second_derivatives_to_find(case):
    # Otherwise the comparisons above would hold for an implementation that returns zeros.
    h = np.stack(
        [
            case.hessian(r, s)
            for r, (s,) in zip(point().tolist(), [[0.4], [1.1], [2.3]], strict=True)
        ]
    )
    n = h.shape[1]
    mixed, values, strength = h[..., :n, n], h[..., :n, :n], h[..., n, n]
    # Inside its blocks soft_sort is a sum of a function of x and a function of the strength.
    assert (np.abs(mixed).max() > 0.01) == (case.op != "soft_sort")
    assert np.abs(strength).max() > 0.01
    assert (np.abs(values).max() > 0.01) == (case.regularization == "kl")


@every_case
def test_hessian_of_a_batch_with_strength_per_row(case):
    x, strength, g = point(), strength_of("per_row"), cotangent()
    v, u = tangent(), torch.tensor([[0.3], [-0.8], [1.2]], dtype=torch.float64)
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g, create_graph=True)
    hx, hs = _grad((dx * v).sum() + (ds * u).sum(), (x, strength))
    for i in range(3):
        h = np.einsum("k,kij->ij", g[i].numpy(), case.hessian(x[i].tolist(), strength[i].item()))
        wanted = h @ np.append(v[i].numpy(), u[i].numpy())
        assert_close(hx[i], wanted[:-1], rtol=NUMERIC, atol=NUMERIC)
        assert_close(hs[i], wanted[-1:], rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_number_strength_and_cotangent_that_needs_a_gradient(case):
    # d/dg <v, J' g> = J v: the backward pass is linear in its cotangent.
    x, g, v = point(), cotangent().requires_grad_(), tangent()
    (dx,) = torch.autograd.grad(case(x, 0.7), x, g, create_graph=True)
    assert_close(dx, expected_vjp(case, x, 0.7, g)[0])
    (dg,) = torch.autograd.grad((dx * v).sum(), g)
    assert_close(dg, expected_jvp(case, x, 0.7, v))


@every_case
def test_strength_only(case):
    x, strength, g = point(grad=False), strength_of("scalar"), cotangent()
    (ds,) = torch.autograd.grad(case(x, strength), strength, g, create_graph=True)
    (dss,) = torch.autograd.grad(ds, strength)
    wanted = sum(
        g[i].numpy() @ case.hessian(x[i].numpy(), strength.item())[:, -1, -1] for i in range(3)
    )
    assert_close(dss, wanted, rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_squared_result(case):
    # d²/dx² of ½|y|² is J'J plus the curvature term: both orders meet in one graph.
    x = point(grad=False)[0].requires_grad_()
    loss = 0.5 * (case(x, 1.1) ** 2).sum()
    (dx,) = torch.autograd.grad(loss, x, create_graph=True)
    jacobian, y = case.jacobian(x.tolist(), 1.1), case.value(x.tolist(), 1.1)
    h = case.hessian(x.tolist(), 1.1)[:, :-1, :-1]
    wanted = jacobian.T @ jacobian + np.einsum("k,kij->ij", y, h)
    assert_close(_rows(dx, (x,)), wanted, rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    v = torch.tensor(np.random.default_rng(3).normal(size=x.shape))
    x.requires_grad_()
    strength.requires_grad_()
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g, create_graph=True)
    hx, hs = _grad((dx * v).sum() + 0.5 * ds.sum(), (x, strength))
    if case.regularization == "kl":  # in l2 the derivative in x is a constant of the block
        assert hx[1].isnan().all()
    assert_close(hx[2], torch.zeros(5))
    assert_close(hs[2], torch.zeros(1))
    assert hx[[0, 3, 4]].isfinite().all()
    assert hs[[0, 3, 4]].isfinite().all()
    i = 4  # the row without ties
    h = np.einsum("k,kij->ij", g[i].numpy(), case.hessian(x[i].tolist(), strength[i].item()))
    wanted = h @ np.append(v[i].numpy(), 0.5)
    assert_close(hx[i], wanted[:-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(hs[i], wanted[-1:], rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_project_in_z_and_w(regularization):
    z = point(grad=False)[0].requires_grad_()
    w = torch.tensor([3.1, 0.4, 1.9, 0.8, 2.2], dtype=torch.float64, requires_grad=True)
    g = cotangent()[0]

    def first(z, w):
        y = diffsort.project(z, w, regularization=regularization, regularization_strength=1.1)
        return torch.autograd.grad(y, (z, w), g, create_graph=True)

    hessian = torch.cat([_rows(part, (z, w)) for part in first(z, w)])
    columns, step = [], 1e-5
    for j in range(10):
        e = torch.zeros(10, dtype=torch.float64)
        e[j] = step
        high, low = (torch.cat(first(z + s * e[:5], w + s * e[5:])) for s in (1, -1))
        columns.append((high - low) / (2 * step))
    assert_close(hessian, torch.stack(columns, 1).detach(), rtol=NUMERIC, atol=NUMERIC)
    if regularization == "kl":
        assert hessian[:5, 5:].abs().max() > 0.01


@pytest.mark.parametrize("op", ["soft_rank", "soft_sort"])
def test_third_derivative_of_kl(op):
    case = Case(op, "ascending", "kl")
    x, v, g = point(grad=False)[2].requires_grad_(), tangent()[2], cotangent()[2]

    def second(x):
        (dx,) = torch.autograd.grad(case(x, 2.3), x, g, create_graph=True)
        return torch.autograd.grad((dx * v).sum(), x, create_graph=True)[0]

    def wanted(row):
        h = case.hessian(row, 2.3)[:, :-1, :-1]
        return np.einsum("k,kij,i,j->", g.numpy(), h, v.numpy(), v.numpy())

    (third,) = torch.autograd.grad((second(x) * v).sum(), x)
    wanted = difference(wanted, x.detach().numpy(), step=1e-3)
    assert np.abs(wanted).max() > 0.01
    assert_close(third, wanted, rtol=1e-5, atol=1e-6)


@few_cases
def test_float32(case):
    x, strength, g = point(torch.float32), strength_of("per_row", grad=False).float(), cotangent()
    strength.requires_grad_()
    g = g.float()
    dx, _ = torch.autograd.grad(case(x, strength), (x, strength), g, create_graph=True)
    (hs,) = _grad((dx * tangent(torch.float32)).sum(), (strength,))
    wanted = [
        [np.einsum("k,kj,j->", g[i].numpy(), case.hessian(x[i].tolist(), s)[:, :-1, -1], t)]
        for i, (s, t) in enumerate(zip([0.4, 1.1, 2.3], tangent().numpy(), strict=True))
    ]
    assert hs.dtype == torch.float32
    assert_close(hs, wanted, rtol=SINGLE, atol=SINGLE)


def test_infinite_weights_at_strength_0():
    """The projection is linear in w there and does not depend on z."""
    inf = float("inf")
    z = torch.tensor([1.0, 2.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([inf, 1.0, 0.25, inf], dtype=torch.float64, requires_grad=True)
    strength = torch.zeros((), dtype=torch.float64, requires_grad=True)
    g = torch.tensor([0.3, -1.0, 2.0, 1.0], dtype=torch.float64)
    y = diffsort.project(z, w, regularization="kl", regularization_strength=strength)
    dz, dw, ds = torch.autograd.grad(y, (z, w, strength), g, create_graph=True)
    assert_close(dz, torch.zeros(4))
    # In descending order w is 0, 3, 1, 2 and z is 1, 0, 2, 3, of which the middle two are equal.
    assert_close(dw, [-1.0, 1.15, 1.0, 1.15])
    assert_close(ds, torch.zeros(()))
    second = _rows(torch.cat([dz, dw, ds[None]]), (z, w, strength))
    assert_close(second, torch.zeros_like(second))
