"""torch.func transformations and their compositions, by value."""

from __future__ import annotations

import numpy as np
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
    expected_jacobian,
    expected_jvp,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    tangent,
    torch,
    torch_internals,
    total,
)

pytestmark = torch_internals
func = torch.func
STRENGTHS = [0.4, 1.1, 2.3]


def _weighted(case, strength=NUMBER):
    """A scalar function of one row: <cotangent of that row, case(row)>."""
    g = cotangent()

    def loss(x, strength=strength, g=g[0]):
        return (g * case(x, strength)).sum()

    return loss


def _row_hessian(case, i, strength=NUMBER):
    """Hessian in (values, strength) of <cotangent[i], case(row i)>."""
    h = case.hessian(point()[i].tolist(), strength)
    return np.einsum("k,kij->ij", cotangent()[i].numpy(), h)


@every_strength
@every_case
def test_grad_and_vjp(case, kind):
    x, strength, g = point(grad=False), strength_of(kind, grad=False), cotangent()
    dx, ds = expected_vjp(case, x, strength, g)
    loss = _weighted(case)
    assert_close(func.grad(loss)(x, strength, g), dx)
    value, pull = func.vjp(lambda x: case(x, strength), x)
    assert_close(value, expected(case, x, strength))
    assert_close(pull(g)[0], dx)
    if kind == "number":
        return
    both = func.grad(loss, argnums=(0, 1))(x, strength, g)
    assert_close(both[0], dx)
    assert_close(both[1], total(ds, strength))
    assert_close(func.grad(loss, argnums=1)(x, strength, g), total(ds, strength))
    (only,) = func.vjp(lambda s: case(x, s), strength)[1](g)
    assert_close(only, total(ds, strength))
    (dx2, ds2), value = func.grad_and_value(loss, argnums=(0, 1))(x, strength, g)
    assert_close(dx2, dx)
    assert_close(ds2, total(ds, strength))
    assert_close(value, (expected(case, x, strength) * g).sum())


@every_strength
@every_case
def test_jvp(case, kind):
    x, strength, v = point(grad=False), strength_of(kind, grad=False), tangent()
    y, t = func.jvp(lambda x: case(x, strength), (x,), (v,))
    assert_close(y, expected(case, x, strength))
    assert_close(t, expected_jvp(case, x, strength, v))
    if kind == "number":
        return
    ds = torch.full_like(strength, 1.3)
    _, t = func.jvp(case, (x, strength), (v, ds))
    assert_close(t, expected_jvp(case, x, strength, v, 1.3))
    _, t = func.jvp(lambda s: case(x, s), (strength,), (ds,))
    assert_close(t, expected_jvp(case, x, strength, torch.zeros_like(v), 1.3))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@every_case
def test_linearize(case):
    x, v = point(grad=False), tangent()
    y, push = func.linearize(lambda x: case(x, NUMBER), x)
    assert_close(y, expected(case, x))
    assert_close(push(v), expected_jvp(case, x, NUMBER, v))
    assert_close(push(2 * v), 2 * expected_jvp(case, x, NUMBER, v))


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd], ids=["jacrev", "jacfwd"])
@every_case
def test_jacobian_in_values_and_strength(case, transform):
    x, strength = point(grad=False), strength_of("scalar", grad=False)
    jx, js = transform(case, argnums=(0, 1))(x, strength)
    assert_close(jx, expected_jacobian(case, x, strength))
    assert_close(js, np.stack([case.strength_jacobian(r, NUMBER) for r in x.tolist()]))


@pytest.mark.parametrize("chunk", [1, 2])
@few_cases
def test_jacrev_in_chunks(case, chunk):
    x = point(grad=False)
    jacobian = func.jacrev(lambda x: case(x, 1.1), chunk_size=chunk)(x)
    assert_close(jacobian, expected_jacobian(case, x, 1.1))


SECOND = {
    "hessian": func.hessian,
    "jacfwd(jacrev)": lambda f, **k: func.jacfwd(func.jacrev(f, **k), **k),
    "jacrev(jacrev)": lambda f, **k: func.jacrev(func.jacrev(f, **k), **k),
    "jacrev(jacfwd)": lambda f, **k: func.jacrev(func.jacfwd(f, **k), **k),
    "jacfwd(jacfwd)": lambda f, **k: func.jacfwd(func.jacfwd(f, **k), **k),
}


@pytest.mark.parametrize("transform", list(SECOND))
@every_case
def test_second_order_in_values_and_strength(case, transform):
    strength = torch.tensor(1.1, dtype=torch.float64)
    (xx, xs), (sx, ss) = SECOND[transform](_weighted(case), argnums=(0, 1))(
        point(grad=False)[0], strength
    )
    h = _row_hessian(case, 0, 1.1)
    assert_close(xx, h[:-1, :-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(xs, h[:-1, -1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(sx, h[-1, :-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(ss, h[-1, -1], rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("transform", list(SECOND))
@few_cases
def test_second_order_of_the_vector_function(case, transform):
    x = point(grad=False)[0]
    h = SECOND[transform](lambda x: case(x, 1.1))(x)
    assert_close(h, case.hessian(x.tolist(), 1.1)[:, :-1, :-1], rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_grad_of_grad(case):
    loss, v = _weighted(case), tangent()[0]
    strength = torch.tensor(1.1, dtype=torch.float64)

    def directional(x, s):
        return (func.grad(loss)(x, s) * v).sum() + 0.5 * func.grad(loss, argnums=1)(x, s)

    hx, hs = func.grad(directional, argnums=(0, 1))(point(grad=False)[0], strength)
    wanted = _row_hessian(case, 0, 1.1) @ np.append(v.numpy(), 0.5)
    assert_close(hx, wanted[:-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(hs, wanted[-1], rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_jvp_of_grad_and_grad_of_jvp(case):
    loss, v = _weighted(case, 1.1), tangent()[0]
    x = point(grad=False)[0]
    wanted = (_row_hessian(case, 0, 1.1) @ np.append(v.numpy(), 0))[:-1]
    dx, hv = func.jvp(func.grad(loss), (x,), (v,))
    assert_close(dx, expected_vjp(case, x[None], 1.1, cotangent()[:1])[0][0])
    assert_close(hv, wanted, rtol=NUMERIC, atol=NUMERIC)
    reverse = func.grad(lambda x: func.jvp(loss, (x,), (v,))[1])(x)
    assert_close(reverse, wanted, rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("out_dim", [0, 1, -1])
@pytest.mark.parametrize("in_dim", [0, 1, -1])
@every_case
def test_vmap_dimensions(case, in_dim, out_dim):
    rows = point(grad=False)
    x = rows.movedim(0, in_dim)
    y = func.vmap(lambda r: case(r, NUMBER), in_dims=in_dim, out_dims=out_dim)(x)
    assert_close(y.movedim(out_dim, 0), expected(case, rows))


@pytest.mark.parametrize("in_dims", [(0, 0), (None, 0), (0, None), (1, 0), (-1, 0)])
@every_case
def test_vmap_values_and_strength(case, in_dims):
    rows, strength = point(grad=False), torch.tensor(STRENGTHS, dtype=torch.float64)
    x = rows[0] if in_dims[0] is None else rows.movedim(0, in_dims[0])
    s = strength[1] if in_dims[1] is None else strength
    y = func.vmap(case, in_dims=in_dims)(x, s)
    wanted_rows = rows[:1].expand(3, 5) if in_dims[0] is None else rows
    wanted_s = s.expand(3) if in_dims[1] is None else s
    assert_close(y, expected(case, wanted_rows, wanted_s[:, None]))


@pytest.mark.parametrize("in_dim", [0, 1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
@few_cases
def test_vmap_over_batches_and_axis_other_than_the_last(case, in_dim, axis):
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    y = func.vmap(lambda a: case(a, 0.6, axis=axis), in_dims=in_dim)(x.movedim(0, in_dim))
    wanted = [expected(case, a.movedim(axis, -1), 0.6).movedim(-1, axis) for a in x]
    assert_close(y, torch.stack(wanted))


@few_cases
def test_vmap_axis_with_strength_per_row(case):
    generator = torch.Generator().manual_seed(12)
    x = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    s = 0.3 + torch.rand(3, 1, 4, generator=generator, dtype=torch.float64)
    y = func.vmap(lambda a, b: case(a, b, axis=0), in_dims=(0, 0))(x, s)
    assert_close(y, expected(case, x.movedim(1, -1), s.movedim(1, -1)).movedim(-1, 1))
    shared = func.vmap(lambda a: case(a, s[0], axis=0))(x)
    wanted = expected(case, x.movedim(1, -1), s[:1].movedim(1, -1)).movedim(-1, 1)
    assert_close(shared, wanted)


@few_cases
def test_nested_vmap(case):
    x = torch.stack([point(grad=False), tangent(), cotangent(), -tangent()])
    strength = torch.tensor([0.4, 0.9, 1.4, 2.0], dtype=torch.float64)
    y = func.vmap(func.vmap(case, in_dims=(0, None)), in_dims=(0, 0))(x, strength)
    assert_close(y, expected(case, x, strength[:, None, None]))
    # the batch dimensions in the last places, and swapped in the result
    inner = func.vmap(lambda r: case(r, 0.7), in_dims=-1, out_dims=0)
    y = func.vmap(inner, in_dims=-1, out_dims=-1)(x.permute(2, 0, 1))
    assert_close(y.permute(2, 0, 1), expected(case, x.movedim(0, 1), 0.7))


@every_case
def test_vmap_of_grad(case):
    rows, g = point(grad=False), cotangent()
    strength = torch.tensor(STRENGTHS, dtype=torch.float64)
    per_example = func.vmap(func.grad(_weighted(case), argnums=(0, 1)))
    dx, ds = per_example(rows, strength, g)
    wanted = expected_vjp(case, rows, strength[:, None], g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])
    # one row under many strengths, one strength for many cotangents
    dx, ds = func.vmap(func.grad(_weighted(case), argnums=(0, 1)), in_dims=(None, 0, None))(
        rows[0], strength, g[0]
    )
    wanted = expected_vjp(case, rows[:1].expand(3, 5), strength[:, None], g[:1].expand(3, 5))
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])
    dx, ds = func.vmap(func.grad(_weighted(case), argnums=(0, 1)), in_dims=(None, None, 0))(
        rows[0], strength[0], g
    )
    wanted = expected_vjp(case, rows[:1].expand(3, 5), STRENGTHS[0], g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@every_case
def test_grad_of_vmap(case):
    rows, g = point(grad=False), cotangent()
    strength = torch.tensor(STRENGTHS, dtype=torch.float64)

    def loss(x, s):
        return (g * func.vmap(case)(x, s)).sum()

    dx, ds = func.grad(loss, argnums=(0, 1))(rows, strength)
    wanted = expected_vjp(case, rows, strength[:, None], g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@every_case
def test_vmap_of_vjp_and_jvp(case):
    rows, g, v = point(grad=False), cotangent(), tangent()
    strength = torch.tensor(STRENGTHS, dtype=torch.float64)
    t = func.vmap(
        lambda x, s, u: func.jvp(case, (x, s), (u, torch.ones_like(s)))[1], in_dims=(0, 0, 0)
    )(rows, strength, v)
    assert_close(t, expected_jvp(case, rows, strength[:, None], v, 1.0))
    dx = func.vmap(lambda x, s, c: func.vjp(case, x, s)[1](c)[0])(rows, strength, g)
    assert_close(dx, expected_vjp(case, rows, strength[:, None], g)[0])
    # many tangents and cotangents at one point
    t = func.vmap(lambda u: func.jvp(lambda x: case(x, 1.1), (rows[0],), (u,))[1])(v)
    assert_close(t, expected_jvp(case, rows[:1].expand(3, 5), 1.1, v))
    pull = func.vjp(lambda x: case(x, 1.1), rows[0])[1]
    assert_close(func.vmap(pull)(g)[0], expected_vjp(case, rows[:1].expand(3, 5), 1.1, g)[0])


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd], ids=["jacrev", "jacfwd"])
@every_case
def test_vmap_of_jacobian(case, transform):
    rows, strength = point(grad=False), torch.tensor(STRENGTHS, dtype=torch.float64)
    jx, js = func.vmap(transform(case, argnums=(0, 1)))(rows, strength)
    pairs = list(zip(rows.tolist(), STRENGTHS, strict=True))
    assert_close(jx, np.stack([case.jacobian(r, s) for r, s in pairs]))
    assert_close(js, np.stack([case.strength_jacobian(r, s) for r, s in pairs]))


@every_case
def test_vmap_of_hessian(case):
    rows, strength = point(grad=False), torch.tensor(STRENGTHS, dtype=torch.float64)
    (xx, xs), (_, ss) = func.vmap(func.hessian(_weighted(case), argnums=(0, 1)))(
        rows, strength, cotangent()
    )
    wanted = np.stack([_row_hessian(case, i, s) for i, s in enumerate(STRENGTHS)])
    assert_close(xx, wanted[:, :-1, :-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(xs, wanted[:, :-1, -1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(ss, wanted[:, -1, -1], rtol=NUMERIC, atol=NUMERIC)


@every_case
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    loss = _weighted(case)
    wanted = expected_vjp(case, x, strength, g)
    for dx, ds in (
        func.grad(loss, argnums=(0, 1))(x, strength, g),
        func.vmap(func.grad(loss, argnums=(0, 1)))(x, strength, g),
    ):
        assert_close(dx, wanted[0])
        assert_close(ds, wanted[1])
    jacobian = np.stack(
        [case.jacobian(r, s) for r, (s,) in zip(x.tolist(), strength.tolist(), strict=True)]
    )
    for transform in (func.jacrev, func.jacfwd):
        assert_close(func.vmap(transform(case))(x, strength), jacobian)
    y, t = func.jvp(case, (x, strength), (g, torch.ones_like(strength)))
    assert_close(y, expected(case, x, strength))
    assert_close(t, expected_jvp(case, x, strength, g, 1.0))


@few_cases
def test_invalid_strength_gives_nan_where_values_cannot_be_looked_at(case):
    x, strength = point(grad=False), torch.tensor([0.4, -1.0, 2.3], dtype=torch.float64)
    y = func.vmap(case)(x, strength)
    assert y.isnan().any(dim=1).tolist() == [False, True, False]
    assert_close(y[[0, 2]], expected(case, x[[0, 2]], strength[[0, 2], None]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.bfloat16, 0.1)])
@few_cases
def test_other_dtypes(case, dtype, tolerance):
    x, strength = point(dtype, grad=False), torch.tensor([0.5, 1.125, 2.25], dtype=dtype)
    dx, ds = func.vmap(func.grad(_weighted(case), argnums=(0, 1)))(x, strength, cotangent(dtype))
    assert dx.dtype == ds.dtype == dtype
    wanted = expected_vjp(case, x, strength[:, None], cotangent(dtype))
    assert_close(dx, wanted[0], rtol=tolerance, atol=tolerance)
    assert_close(ds, wanted[1][:, 0], rtol=tolerance, atol=tolerance)


@few_cases
def test_randomness_free_under_every_vmap_setting(case):
    x = point(grad=False)
    for setting in ("error", "same", "different"):
        y = func.vmap(lambda r: case(r, NUMBER), randomness=setting)(x)
        assert_close(y, expected(case, x))


def test_functional_call_of_an_ensemble():
    class Ranker(torch.nn.Module):
        def __init__(self, strength):
            super().__init__()
            self.linear = torch.nn.Linear(5, 5, dtype=torch.float64)
            self.strength = torch.nn.Parameter(torch.tensor(strength, dtype=torch.float64))

        def forward(self, x):
            return diffsort.soft_rank(self.linear(x), regularization_strength=self.strength)

    torch.manual_seed(0)
    models = [Ranker(s) for s in STRENGTHS]
    parameters, buffers = func.stack_module_state(models)
    x, g = point(grad=False), cotangent()

    def loss(p, b, x):
        return (func.functional_call(models[0], (p, b), (x,)) * g).sum()

    gradients = func.vmap(func.grad(loss), in_dims=(0, 0, None))(parameters, buffers, x)
    for i, model in enumerate(models):
        (model(x) * g).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().max() > 1e-3
            assert_close(gradients[name][i], parameter.grad)
