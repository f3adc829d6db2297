"""Reverse mode: gradients in values, strength and w equal the oracle's."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import diffsort

from .helpers import (
    CASES,
    NUMBER,
    POINT,
    SINGLE,
    WEIGHTS,
    Case,
    assert_close,
    cotangent,
    edges,
    every_case,
    every_strength,
    expected,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    torch,
    total,
)


@every_strength
@every_case
def test_gradients_equal_the_oracle(case, kind):
    x, strength, g = point(), strength_of(kind), cotangent()
    y = case(x, strength)
    assert_close(y, expected(case, x, strength))
    y.backward(g)
    dx, ds = expected_vjp(case, x, strength, g)
    assert_close(x.grad, dx)
    if kind != "number":
        assert_close(strength.grad, total(ds, strength))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)]
)
@every_case
def test_other_dtypes(case, dtype, tolerance):
    # The inputs are rounded first, so that only the arithmetic and the last rounding differ: a few
    # units in the last place of a result or a gradient of size ten.
    x = point(dtype, grad=False).requires_grad_()
    strength = torch.tensor([[0.5], [1.125], [2.25]], dtype=dtype, requires_grad=True)
    g = cotangent(dtype)
    y = case(x, strength)
    y.backward(g)
    assert y.dtype == x.grad.dtype == strength.grad.dtype == dtype
    dx, ds = expected_vjp(case, x, strength, g)
    assert_close(y, expected(case, x, strength), rtol=tolerance, atol=tolerance)
    assert_close(x.grad, dx, rtol=tolerance, atol=tolerance)
    assert_close(strength.grad, ds, rtol=tolerance, atol=2 * tolerance)


@every_case
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    x.requires_grad_()
    strength.requires_grad_()
    case(x, strength).backward(g)
    dx, ds = expected_vjp(case, x, strength, g)
    assert dx.isnan().any(dim=1).tolist() == [False, True, False, False, False]
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds)


@every_case
def test_zero_strength_as_a_number(case):
    x, _, g = edges()
    x.requires_grad_()
    case(x, 0.0).backward(g)
    assert_close(x.grad, expected_vjp(case, x, 0.0, g)[0])


def test_infinite_values_have_zero_gradient_in_ranks():
    inf = float("inf")
    for regularization in ("l2", "kl"):
        case = Case("soft_rank", "ascending", regularization)
        x = torch.tensor([inf, 0.1, -inf, 0.5, inf], dtype=torch.float64, requires_grad=True)
        case(x, 1.0).backward(torch.tensor([1.0, 2.0, 3.0, 5.0, 4.0], dtype=torch.float64))
        # The finite entries are ranked among themselves, on the ranks 2 and 3.
        big = torch.tensor([1e6, 0.1, -1e6, 0.5, 1e6], dtype=torch.float64)
        dx, _ = expected_vjp(case, big, 1.0, torch.tensor([0.0, 2.0, 0.0, 5.0, 0.0]))
        assert dx[1] != 0
        assert_close(x.grad, dx * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))


@pytest.mark.parametrize("axis", [0, 1, -1])
@few_cases
def test_axis_of_a_three_dimensional_array(case, axis):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    shape = [3, 4, 5]
    shape[axis] = 1
    strength = (0.3 + torch.rand(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    y = case(x, strength, axis=axis)
    y.backward(g)
    last = [a.detach().movedim(axis, -1) for a in (x, strength, g)]
    dx, ds = expected_vjp(case, *last)
    assert_close(y, expected(case, *last[:2]).movedim(-1, axis))
    assert_close(x.grad, dx.movedim(-1, axis))
    assert_close(strength.grad, ds.movedim(-1, axis))


@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 1, 1), (2, 3, 1), (1, 1, 1)])
@few_cases
def test_broadcast_strength_gets_a_gradient_of_its_own_shape(case, shape):
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    strength = (0.3 + torch.rand(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    case(x, strength).backward(g)
    dx, ds = expected_vjp(case, x, strength, g)
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds.sum_to_size(shape))


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("shapes", [((5,), (5,)), ((3, 5), (5,)), ((5,), (3, 5)), ((3, 5), (1, 5))])
def test_project_differentiates_in_w_and_broadcasts(regularization, shapes):
    z = torch.tensor(POINT, dtype=torch.float64)[: int(np.prod(shapes[0])) // 5]
    w = torch.tensor(
        [WEIGHTS, [0.7, 2.6, 1.2, 5.0, 0.2], [4.0, 1.0, 2.9, 0.3, 1.7]], dtype=torch.float64
    )[: int(np.prod(shapes[1])) // 5]
    z, w = z.reshape(shapes[0]).requires_grad_(), w.reshape(shapes[1]).requires_grad_()
    y = diffsort.project(z, w, regularization=regularization, regularization_strength=NUMBER)
    g = cotangent()[: y.numel() // 5].reshape(y.shape)
    y.backward(g)
    zs, ws = (np.broadcast_to(a.detach().numpy(), y.shape).reshape(-1, 5) for a in (z, w))
    rows = [
        oracle.solve("project", a, b, NUMBER, regularization=regularization)
        for a, b in zip(zs, ws, strict=True)
    ]
    gs = g.reshape(-1, 5).numpy()
    dz, dw = (
        torch.tensor(np.stack([c @ r.jacobian[name] for c, r in zip(gs, rows, strict=True)]))
        for name in ("values", "w")
    )
    assert dw.abs().max() > 0.1
    assert_close(y, np.stack([r.value for r in rows]).reshape(y.shape))
    assert_close(z.grad, dz.reshape(y.shape).sum_to_size(z.shape))
    assert_close(w.grad, dw.reshape(y.shape).sum_to_size(w.shape))


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_project_differentiates_in_w_alone(regularization):
    z = point(grad=False)
    w = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True)
    y = diffsort.project(z, w, regularization=regularization, regularization_strength=NUMBER)
    (dw,) = torch.autograd.grad(y, w, cotangent())
    options = {"w": w.detach(), "strength": NUMBER, "regularization": regularization}
    wanted = sum(
        g @ oracle.jacobian("project", row, wrt="w", **options)
        for row, g in zip(z.numpy(), cotangent().numpy(), strict=True)
    )
    assert_close(dw, wanted)


def _expanded(g):
    return g[:, :1].expand(g.shape)


def _transposed(g):
    return g.T.contiguous().T


def _strided(g):
    wide = torch.full((g.shape[0], 2 * g.shape[1]), float("nan"), dtype=g.dtype)
    wide[:, ::2] = g
    return wide[:, ::2]


def _offset(g):
    return torch.cat([torch.full_like(g, float("nan")), g])[g.shape[0] :]


def _negative_bit(g):
    view = torch._neg_view(-g)
    assert view.is_neg()
    return view


def _conjugated_imaginary_part(g):
    view = torch.complex(torch.zeros_like(g), -g).conj().imag
    assert view.is_neg()
    return view


VIEWS = [_expanded, _transposed, _strided, _offset, _negative_bit, _conjugated_imaginary_part]


@pytest.mark.parametrize("view", VIEWS, ids=lambda f: f.__name__)
@every_case
def test_cotangent_views(case, view):
    x, strength = point(), strength_of("per_row")
    g = view(cotangent())
    copy = g.clone()
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g)
    wanted = expected_vjp(case, x, strength, copy)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])
    assert torch.equal(g, copy)


@pytest.mark.parametrize("view", VIEWS, ids=lambda f: f.__name__)
@every_case
def test_value_and_strength_views(case, view):
    base, strength = point(), strength_of("per_row", grad=False)
    x = view(base)
    s = view(strength) if view is not _expanded else strength[:1].expand(strength.shape)
    s.requires_grad_()
    copy = x.detach().clone()
    y = case(x, s)
    assert y.is_contiguous()
    assert not y.is_neg()
    assert_close(y, expected(case, copy, s))
    dx, ds = torch.autograd.grad(y, (x, s), cotangent())
    wanted = expected_vjp(case, copy, s, cotangent())
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])
    assert torch.equal(x, copy)


@every_case
def test_zero_tensor_as_cotangent(case):
    # Autograd's lazy zeros have no memory behind them.
    x, strength = point(), strength_of("scalar")
    g = torch._efficientzerotensor((3, 5), dtype=torch.float64)
    dx, ds = torch.autograd.grad(case(x, strength), (x, strength), g)
    assert_close(dx, torch.zeros(3, 5))
    assert_close(ds, 0.0)


@every_case
def test_gradient_through_the_parts_of_a_complex_leaf(case):
    c = torch.complex(point(grad=False), point(grad=False).flip(0)).requires_grad_()
    x = c.conj().imag  # minus the imaginary part, as a lazy view
    case(x).backward(cotangent())
    wanted, _ = expected_vjp(case, x, NUMBER, cotangent())
    assert_close(c.grad.real, torch.zeros_like(wanted))
    assert_close(c.grad.imag, -wanted)


@every_case
def test_sum_backward(case):
    # sum() hands back an expanded, stride-0 cotangent of ones.
    x = point()
    (3 * case(x).sum()).backward()
    assert_close(x.grad, expected_vjp(case, x, NUMBER, torch.full((3, 5), 3.0))[0])


@every_case
def test_only_strength_needs_a_gradient(case):
    x, strength = point(grad=False), strength_of("per_row")
    y = case(x, strength)
    assert y.requires_grad
    y.backward(cotangent())
    assert x.grad is None
    assert_close(strength.grad, expected_vjp(case, x, strength, cotangent())[1])


@every_case
def test_non_leaf_values(case):
    leaf = point()
    x = leaf * 2 - 1
    x.retain_grad()
    (case(x) ** 2).sum().backward()
    dx, _ = expected_vjp(case, x, NUMBER, 2 * expected(case, x))
    assert_close(x.grad, dx)
    assert_close(leaf.grad, 2 * dx)


@every_case
def test_retain_graph_and_accumulation(case):
    x, strength, g = point(), strength_of("scalar"), cotangent()
    y = case(x, strength)
    y.backward(g, retain_graph=True)
    first = x.grad.clone(), strength.grad.clone()
    y.backward(2 * g)
    assert_close(x.grad, 3 * first[0])
    assert_close(strength.grad, 3 * first[1])
    assert_close(first[0], expected_vjp(case, x, strength, g)[0])


def _refuses_backward(y, g):
    try:
        y.backward(g)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return True
    return False


@every_case
def test_result_changed_in_place_afterwards(case):
    # A result that is kept for the backward pass must not be changed unnoticed: autograd may
    # refuse, but a gradient that is returned must be right.
    x, strength = point(), strength_of("per_row")
    y = case(x, strength)
    y.mul_(2).add_(1)
    assert_close(y, 2 * expected(case, x, strength) + 1)
    if _refuses_backward(y, cotangent()):
        return
    dx, ds = expected_vjp(case, x, strength, 2 * cotangent())
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds)


@pytest.mark.parametrize("case", [c for c in CASES if c.regularization == "l2"], ids=str)
def test_l2_result_may_be_changed_in_place_when_only_values_need_a_gradient(case):
    # The l2 map in the values needs the block structure alone.
    x = point()
    case(x).mul_(2).backward(cotangent())
    assert_close(x.grad, expected_vjp(case, x, NUMBER, 2 * cotangent())[0])


@every_case
def test_values_changed_in_place_afterwards(case):
    leaf, strength = point(), strength_of("per_row")
    x = leaf + 0
    y = case(x, strength)
    before = leaf.detach().clone()
    with torch.no_grad():
        x.zero_()
    if _refuses_backward(y, cotangent()):
        return
    dx, ds = expected_vjp(case, before, strength, cotangent())
    assert_close(leaf.grad, dx)
    assert_close(strength.grad, ds)


@every_case
def test_nothing_is_recorded_without_need(case):
    x = point(grad=False)
    assert not case(x, strength_of("per_row", grad=False)).requires_grad
    assert case(point()).grad_fn is not None
    with torch.no_grad():
        y = case(point(), strength_of("scalar"))
    assert not y.requires_grad
    assert_close(y, expected(case, point(), NUMBER))
    assert not case(point().detach()).requires_grad


@every_case
def test_unused_result(case):
    x, other = point(), torch.ones((), dtype=torch.float64, requires_grad=True)
    case(x)
    assert torch.autograd.grad(other * 2, (other, x), allow_unused=True)[1] is None


@every_case
def test_gradient_is_contiguous_and_owned(case):
    x = point()
    (first,) = torch.autograd.grad(case(x), x, cotangent())
    first.zero_()  # must not reach any state that the next call uses
    (second,) = torch.autograd.grad(case(x), x, cotangent())
    assert second.is_contiguous()
    assert_close(second, expected_vjp(case, x, NUMBER, cotangent())[0])


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 0, 3)])
@every_case
def test_empty_arrays(case, shape):
    x = torch.empty(shape, dtype=torch.float64, requires_grad=True)
    strength = strength_of("scalar")
    y = case(x, strength)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert strength.grad.item() == 0


@every_case
def test_single_element_rows(case):
    x = torch.tensor([[3.5], [-2.0]], dtype=torch.float64, requires_grad=True)
    strength = strength_of("scalar")
    y = case(x, strength)
    y.backward(torch.tensor([[2.0], [5.0]], dtype=torch.float64))
    sort = case.op == "soft_sort"
    assert_close(y, expected(case, x))
    assert_close(x.grad, [[2.0], [5.0]] if sort else [[0.0], [0.0]])
    assert strength.grad.item() == 0


def test_integer_values_give_a_result_without_gradient():
    for dtype in (torch.int64, torch.uint8, torch.bool):
        y = diffsort.soft_rank(torch.tensor([3, 1, 2]).to(dtype))
        assert y.dtype == torch.get_default_dtype()
        assert not y.requires_grad


def test_strength_of_integer_values_still_learns():
    strength = torch.tensor(2.0, requires_grad=True)
    diffsort.soft_rank(torch.tensor([3, 1, 2]), regularization_strength=strength)[0].backward()
    case = Case("soft_rank", "ascending", "l2")
    _, ds = expected_vjp(case, torch.tensor([3.0, 1.0, 2.0]), 2.0, torch.tensor([1.0, 0.0, 0.0]))
    assert ds.item() != 0
    assert_close(strength.grad, ds.sum(), rtol=SINGLE)
