"""The fast path and the reference path: one function, computed twice.

The reference is plain torch operations, held by every other file here; the fast path runs in eager
calls only. Both solve in float64 sums, so they differ by the last rounding and little more.
"""

from __future__ import annotations

import importlib

import pytest

from .helpers import CASES, every_case, few_cases, torch, torch_internals

backend = importlib.import_module("diffsort.backends.torch")
pytestmark = torch_internals

# Distance in units in the last place of the largest entry of a row: two roundings to the compute
# type on each path, and one to the result's.
ULPS = 8
SHAPES = [((7,), -1), ((4, 6), -1), ((4, 6), 0), ((2, 3, 5), 1), ((2, 1, 3, 4), -3), ((1, 64), 1)]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
STRENGTHS = ["number", "scalar", "full", "trailing", "with_zeros"]


def _strength(kind, shape, axis, dtype, generator):
    if kind == "number":
        return 0.37
    if kind == "scalar":
        return torch.tensor(0.6, dtype=dtype, requires_grad=True)
    rows = list(shape)
    rows[axis] = 1
    if kind == "trailing" and (axis - len(shape)) % len(shape) > 0:
        rows = rows[1:]  # the leading batch axis is left to broadcasting
    strength = 0.05 + 2 * torch.rand(rows, generator=generator, dtype=torch.float64)
    if kind == "with_zeros":
        strength.flatten()[::2] = 0
    return strength.to(dtype).requires_grad_()


def _run(case, x, strength, g, axis):
    wanted = [x] + ([strength] if isinstance(strength, torch.Tensor) else [])
    y = case(x, strength, axis=axis)
    return (y, *torch.autograd.grad(y, wanted, g))


def _took_the_fast_path(y):
    node = y.grad_fn
    while node is not None and "_Projection" not in node.name():
        node = node.next_functions[0][0] if node.next_functions else None
    return node is not None


def _assert_equal_to_rounding(fast, reference, dtype, scale):
    assert fast.dtype == reference.dtype
    assert fast.shape == reference.shape
    assert fast.stride() == reference.stride()
    bound = ULPS * torch.finfo(dtype).eps * scale
    torch.testing.assert_close(
        fast.detach().double(), reference.detach().double(), rtol=0, atol=bound, equal_nan=True
    )


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@every_case
def test_values_and_first_derivatives(case, dtype, shape, axis, kind):
    if case.op == "project" and shape[axis] > 5:
        shape = tuple(5 if d == axis % len(shape) else s for d, s in enumerate(shape))
    generator = torch.Generator().manual_seed(sum(shape) + 10 * axis)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    g = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    strength = _strength(kind, shape, axis, dtype, generator)
    fast = _run(case, x, strength, g, axis)
    with backend.reference_path():
        reference = _run(case, x, strength, g, axis)
    assert _took_the_fast_path(fast[0])
    assert not _took_the_fast_path(reference[0])
    n = shape[axis]
    soft = torch.as_tensor(strength).detach().flatten()
    smallest = min(soft[soft > 0].tolist(), default=1.0)
    first = g.abs().max().item() * max(1.0, n if case.regularization == "kl" else 1.0) / smallest
    second = first * n * x.detach().abs().max().item() / smallest * x.numel()
    scales = max(n, x.detach().abs().max().item() / smallest), max(first, 1.0), max(second, 1.0)
    for a, b, scale in zip(fast, reference, scales, strict=False):
        _assert_equal_to_rounding(a, b, dtype, scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@every_case
def test_ties_nan_and_infinities(case, dtype):
    inf, nan = float("inf"), float("nan")
    x = torch.tensor(
        [
            [1.0, 1.0, 2.0, 0.0, 2.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [nan, 1.0, 2.0, 3.0, 4.0],
            [inf, 1.0, -inf, 0.5, inf],
            [-0.0, 0.0, 1.0, -1.0, 0.0],
        ],
        dtype=dtype,
        requires_grad=True,
    )
    g = torch.tensor([[1.0, -2.0, 3.0, 0.5, -0.25]], dtype=dtype).expand(5, 5)
    for value in (0.0, 0.5, 3.0):
        strength = torch.full((5, 1), value, dtype=dtype, requires_grad=True)
        fast = _run(case, x, strength, g, -1)
        with backend.reference_path():
            reference = _run(case, x, strength, g, -1)
        for a, b in zip(fast, reference, strict=True):
            _assert_equal_to_rounding(a, b, dtype, 20.0)
        assert reference[0].isnan().any(dim=1)[2]


@every_case
def test_zeros_have_no_sign(case):
    """Of -x in the ascending sort, 0 is -0."""
    x = torch.tensor([[0.0, 0.0, 0.0], [-0.0, 0.0, -0.0]], dtype=torch.float64)
    for strength in (0.0, 1.0):
        fast = case(x, strength)
        with backend.reference_path():
            reference = case(x, strength)
        for y in (fast, reference, torch.func.vmap(lambda row, s=strength: case(row, s))(x)):
            assert not (torch.signbit(y) & (y == 0)).any()


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "soft_rank"], ids=str)
def test_derivatives_by_strengths_whose_square_has_no_inverse(case):
    scale = 1e-200
    x = scale * torch.tensor([2.9, 0.1, 1.2, 1.3], dtype=torch.float64)
    strength = torch.tensor(2 * scale, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (fast,) = torch.autograd.grad(case(x, strength), strength, g)
    with backend.reference_path():
        (reference,) = torch.autograd.grad(case(x, strength), strength, g)
    _, forward = torch.func.jvp(lambda s: case(x, s) @ g, (strength,), (torch.ones_like(strength),))
    for found in (reference, forward):
        _assert_equal_to_rounding(fast, found, torch.float64, fast.abs().item())


@few_cases
def test_long_rows(case):
    # Pooling over thousands of elements, in both precisions.
    generator = torch.Generator().manual_seed(6)
    for dtype in (torch.float64, torch.float32):
        x = torch.randn(2, 3000, generator=generator, dtype=dtype, requires_grad=True)
        g = torch.randn(2, 3000, generator=generator, dtype=dtype)
        strength = torch.tensor([[1e-3], [0.05]], dtype=dtype, requires_grad=True)
        fast = _run(case, x, strength, g, -1)
        with backend.reference_path():
            reference = _run(case, x, strength, g, -1)
        for a, b in zip(fast, reference, strict=True):
            scale = b.detach().abs().amax(dim=-1, keepdim=True).clamp(min=1.0).max().item()
            _assert_equal_to_rounding(a, b, dtype, 16 * scale)


@few_cases
def test_results_are_dense_in_c_order_whatever_the_input_is(case):
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for view in (x.permute(2, 0, 1), x[::2], x[:1].expand(5, 4, 3)):
        leaf = view.detach().requires_grad_()
        y = case(leaf)
        assert _took_the_fast_path(y)
        (gradient,) = torch.autograd.grad(y, leaf, view)
        assert all(each.is_contiguous() for each in (y, gradient, case(view)))


@few_cases
def test_without_gradient(case):
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    fast = case(x)
    with backend.reference_path():
        reference = case(x)
    _assert_equal_to_rounding(fast, reference, torch.float32, 5.0)


def test_reference_path_ends_also_after_an_error():
    x = torch.tensor([2.0, 1.0], requires_grad=True)

    def fail():
        with backend.reference_path():
            assert not _took_the_fast_path(CASES[0](x))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _took_the_fast_path(CASES[0](x))
