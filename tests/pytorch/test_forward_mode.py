"""Forward mode with dual numbers, alone and mixed with reverse mode."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import diffsort

from .helpers import (
    NUMBER,
    NUMERIC,
    SINGLE,
    assert_close,
    cotangent,
    edges,
    every_case,
    every_strength,
    expected,
    expected_jvp,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    tangent,
    torch,
    torch_internals,
)

fwad = torch.autograd.forward_ad
pytestmark = torch_internals

STRENGTH_TANGENT = {
    "scalar": torch.tensor(1.3, dtype=torch.float64),
    "per_row": torch.tensor([[0.7], [-0.4], [1.9]], dtype=torch.float64),
}


@every_strength
@every_case
def test_tangent_in_values(case, kind):
    x, strength = point(grad=False), strength_of(kind, grad=False)
    with fwad.dual_level():
        y, t = fwad.unpack_dual(case(fwad.make_dual(x, tangent()), strength))
    assert_close(y, expected(case, x, strength))
    assert_close(t, expected_jvp(case, x, strength, tangent()))


@pytest.mark.parametrize("kind", ["scalar", "per_row"])
@every_case
def test_tangent_in_strength_alone(case, kind):
    x, strength, ds = point(grad=False), strength_of(kind, grad=False), STRENGTH_TANGENT[kind]
    with fwad.dual_level():
        y, t = fwad.unpack_dual(case(x, fwad.make_dual(strength, ds)))
    wanted = expected_jvp(case, x, strength, torch.zeros_like(x), ds)
    assert wanted.abs().max() > 0.01
    assert_close(y, expected(case, x, strength))
    assert_close(t, wanted)


@pytest.mark.parametrize("kind", ["scalar", "per_row"])
@every_case
def test_tangents_in_values_and_strength(case, kind):
    x, strength, ds = point(grad=False), strength_of(kind, grad=False), STRENGTH_TANGENT[kind]
    with fwad.dual_level():
        y = case(fwad.make_dual(x, tangent()), fwad.make_dual(strength, ds))
        t = fwad.unpack_dual(y).tangent
    assert_close(t, expected_jvp(case, x, strength, tangent(), ds))


@every_case
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, v = edges()
    ds = torch.tensor([[0.5], [1.0], [-2.0], [0.25], [1.5]], dtype=torch.float64)
    with fwad.dual_level():
        y = case(fwad.make_dual(x, v), fwad.make_dual(strength, ds))
        t = fwad.unpack_dual(y).tangent
    wanted = expected_jvp(case, x, strength, v, ds)
    assert wanted.isnan().any(dim=1).tolist() == [False, True, False, False, False]
    assert_close(t, wanted)


@pytest.mark.parametrize(
    "view", [lambda t: t[:, :1].expand(t.shape), lambda t: t.T.contiguous().T, torch._neg_view]
)
@few_cases
def test_tangent_views(case, view):
    v = view(tangent())
    with fwad.dual_level():
        t = fwad.unpack_dual(case(fwad.make_dual(point(grad=False), v))).tangent
    assert_close(t, expected_jvp(case, point(), NUMBER, v.clone()))


@every_case
def test_tangent_of_values_that_also_need_a_gradient(case):
    x, v, g = point(), tangent(), cotangent()
    with fwad.dual_level():
        y, t = fwad.unpack_dual(case(fwad.make_dual(x, v), 1.1))
        assert_close(t, expected_jvp(case, x, 1.1, v))
        (dx,) = torch.autograd.grad(y, x, g, retain_graph=True)
        assert_close(dx, expected_vjp(case, x, 1.1, g)[0])
        # Reverse over forward: the gradient of the tangent is a Hessian-vector product.
        if t.requires_grad:
            (hv,) = torch.autograd.grad(t, x, g, allow_unused=True)
        else:
            hv = None
    hv = torch.zeros_like(x) if hv is None else hv
    assert_close(hv, _hessian_vector(case, x, 1.1, g, v), rtol=NUMERIC, atol=NUMERIC)


def _hessian_vector(case, x, strength, g, v):
    rows = [
        np.einsum("k,kij,j->i", c, case.hessian(r, strength)[:, :-1, :-1], u)
        for r, c, u in zip(x.tolist(), g.numpy(), v.numpy(), strict=True)
    ]
    return np.stack(rows)


@every_case
def test_forward_over_reverse(case):
    x, strength, v, g = point(), strength_of("scalar", grad=False), tangent(), cotangent()
    ds = 0.6
    with fwad.dual_level():
        dual_x = fwad.make_dual(x, v)
        dual_s = fwad.make_dual(strength, torch.tensor(ds, dtype=torch.float64))
        (dx,) = torch.autograd.grad(case(dual_x, dual_s), dual_x, g, create_graph=True)
        value, t = fwad.unpack_dual(dx)
    assert_close(value, expected_vjp(case, x, strength, g)[0])
    wanted = []
    for i in range(3):
        h = np.einsum("k,kij->ij", g[i].numpy(), case.hessian(x[i].tolist(), strength.item()))
        wanted.append(h[:-1] @ np.append(v[i].numpy(), ds))
    wanted = np.stack(wanted)
    t = torch.zeros_like(x) if t is None else t
    assert_close(t, wanted, rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_dual_cotangent_for_a_result_computed_before(case):
    # The backward pass is linear in its cotangent, also where the forward pass saw no dual numbers.
    x, strength, g, v = point(), strength_of("per_row"), cotangent(), tangent()
    y = case(x, strength)
    with fwad.dual_level():
        dx, ds = torch.autograd.grad(y, (x, strength), fwad.make_dual(g, v))
        dx, ds = fwad.unpack_dual(dx), fwad.unpack_dual(ds)
        for at, gradient in enumerate((dx, ds)):
            assert_close(gradient.primal, expected_vjp(case, x, strength, g)[at])
            assert_close(gradient.tangent, expected_vjp(case, x, strength, v)[at])


@few_cases
def test_dual_without_tangent_has_none(case):
    with fwad.dual_level():
        y = case(point(grad=False))
        assert fwad.unpack_dual(y).tangent is None


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.bfloat16, 0.1)])
@few_cases
def test_other_dtypes(case, dtype, tolerance):
    x, v = point(dtype, grad=False), tangent(dtype)
    with fwad.dual_level():
        t = fwad.unpack_dual(case(fwad.make_dual(x, v), 0.75)).tangent
    assert t.dtype == dtype
    assert_close(t, expected_jvp(case, x, 0.75, v), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", [0, 1])
@few_cases
def test_axis(case, axis):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    v = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    with fwad.dual_level():
        t = fwad.unpack_dual(case(fwad.make_dual(x, v), 0.6, axis=axis)).tangent
    wanted = expected_jvp(case, x.movedim(axis, -1), 0.6, v.movedim(axis, -1))
    assert_close(t, wanted.movedim(-1, axis))


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_project_tangent_in_w(regularization):
    z = point(grad=False)[0]
    w = torch.tensor([3.1, 0.4, 1.9, 0.8, 2.2], dtype=torch.float64)
    options = {"regularization": regularization, "regularization_strength": 1.1}
    with fwad.dual_level():
        t = fwad.unpack_dual(
            diffsort.project(z, fwad.make_dual(w, tangent()[0]), **options)
        ).tangent
    jacobian = oracle.jacobian(
        "project", z, wrt="w", w=w, strength=1.1, regularization=regularization
    )
    assert_close(t, jacobian @ tangent()[0].numpy())
