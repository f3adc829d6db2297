"""Every length, shape and kind of row against the solver of the CPU: the same results up to
rounding, and the same blocks where doubles hold the arithmetic.

Sums are taken in another order there. Where two blocks have equal values only up to rounding, one
device may pool them and the other may not, which moves the result by a rounding and the derivatives
from one side of a kink to the other: see the limits in docs/conventions.md.
"""

import devices
import numpy as np
import pytest

import diffsort

from .helpers import PROBLEM

torch = devices.torch()
assert PROBLEM is None

# Around every length at which the kernels change what they do, and around powers of two.
LENGTHS = [
    *range(71),
    *(n + d for k in range(7, 15) for n in [2**k] for d in (-1, 0, 1)),
    *(1000, 20_000, 100_003, 1_000_000),
]
# Families whose sums are exact, with a strength that is a power of two.
INTEGERS = ("ties", "constant", "reversed", "alternating")
CODES = {"soft_rank-l2": 0, "soft_rank-kl": 1, "soft_sort-l2": 0, "soft_sort-kl": 2}


def families(n, rng):
    """name -> rows that pool in very different ways."""
    steps = np.arange(n, dtype=float)
    yield "normal", rng.normal(size=n)
    yield "ties", rng.integers(-2, 3, size=n).astype(float)
    yield "constant", np.zeros(n)
    yield "sorted", steps / max(n, 1)
    yield "reversed", -steps
    yield "alternating", (-1.0) ** steps
    yield "huge range", rng.normal(size=n) * 10.0 ** rng.integers(-15, 15, size=n)
    yield "walk", np.cumsum(rng.normal(size=n))
    yield "spikes", np.where(rng.random(n) < 0.01, 1e6, rng.normal(size=n))


def blocks(x, strength, case):
    """Of the custom operator, on the device of x."""
    operands = (x, None) if case.startswith("soft_rank") else (None, x)
    return torch.ops.diffsort.blocks(*operands, strength, -1, CODES[case], 1.0, 1.0)


def both(x, strength, case):
    """Results and gradients on the two devices, as NumPy arrays."""
    op, regularization = case.split("-")
    for device in ("cuda", "cpu"):
        leaf = x.to(device, copy=True).requires_grad_()
        result = getattr(diffsort, op)(
            leaf, regularization=regularization, regularization_strength=strength.to(device)
        )
        result.backward(torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).to(device).expand_as(x))
        yield result.detach().cpu().numpy(), leaf.grad.cpu().numpy()


def rows_with_equal_blocks(x, strength, case):
    found = blocks(x.cuda(), strength.cuda(), case)
    expected = blocks(x, strength, case)
    pairs = zip(found, expected, strict=True)
    return np.all([(one.cpu() == other).all(-1).numpy() for one, other in pairs], axis=0)


@pytest.mark.parametrize("case", CODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(n, dtype, case):
    rng = np.random.default_rng(n)
    rows = dict(families(n, rng)) if n <= 20_000 else {"normal": rng.normal(size=n)}
    x = torch.tensor(np.array([*rows.values()]), dtype=dtype)
    exact = np.array([name in INTEGERS and case.endswith("l2") for name in rows])
    for scale in (0.0, 1e-2, 1.0, 30.0):
        size = scale * (n if case.startswith("soft_sort") else 1 / (n + 1))
        number = 2.0 ** round(np.log2(size)) if size else 0.0
        strength = torch.full((len(x), 1), number, dtype=torch.float64)
        (found, gradient), (expected, expected_gradient) = both(x, strength, case)
        # A mean of w is as exact as the largest of them lets it be, however small it is itself.
        assert_close(found, expected, x.numpy() if case.startswith("soft_sort") else 0.0)
        equal = rows_with_equal_blocks(x, strength, case)
        assert equal[exact | (number == 0)].all()
        assert_close(gradient[equal], expected_gradient[equal])


@pytest.mark.parametrize("case", CODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "rows"), [(16, 400), (100, 400), (3000, 100), (9000, 40)])
def test_nearly_all_normal_rows_have_the_same_blocks(n, rows, dtype, case):
    """And so the same gradients, which is all that the test above lets a row with others off from.

    Devices differ where two blocks have values that lie as near as their sums round, n u of the
    row's range, with u = 2**-53 (a few u of a logarithm for kl). The 2 n comparisons of a row of
    independent normal numbers find that with a chance of the order of n u each: n**2 u is 1e-8 for
    n = 9000, where even one row of a hundred is far from chance. Exact ties, of which l2 of float32
    has some, are found by both, since sums of so few bits do not round.
    """
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(n), dtype=dtype)
    for scale in (1e-2, 1.0, 30.0):
        size = scale * (n if case.startswith("soft_sort") else 1 / (n + 1))
        strength = torch.full((rows, 1), 2.0 ** round(np.log2(size)), dtype=torch.float64)
        equal = rows_with_equal_blocks(x, strength, case)
        assert equal.mean() >= 0.99
        (_, gradient), (_, expected) = both(x, strength, case)
        assert_close(gradient[equal], expected[equal])


def assert_close(found, expected, averaged=0.0):
    """Both take sums in float64 and round once; kl goes through exponentials, whose last digits
    differ between the libraries."""
    n = expected.shape[-1]
    roundings = 4 if expected.dtype == np.float32 else 64 * max(n, 1) ** 0.5
    near = roundings * np.finfo(expected.dtype).eps
    size = max(np.abs(expected).max(initial=1.0), np.abs(averaged).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=near * size, equal_nan=True)


@pytest.mark.parametrize("rows", [65_535, 65_536, 200_001])
@pytest.mark.parametrize("n", [3, 16, 40])
def test_many_rows(rows, n):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, n, generator=generator)
    strength = torch.rand(rows, 1, generator=generator).double()
    for one, other in zip(*both(x, strength, "soft_rank-l2"), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=8 * n * 2.0**-24)


def test_more_than_two_to_the_31_elements():
    rows, n = 2**27 + 3, 16
    if torch.cuda.mem_get_info()[0] < 16 * 4 * rows * n // 4:
        pytest.skip("not enough memory on the device")
    x = torch.arange(n, 0, -1, dtype=torch.float32, device="cuda").expand(rows, n).contiguous()
    with torch.no_grad():
        ranks = diffsort.soft_rank(x, regularization_strength=0.0)
    assert torch.equal(ranks[-1], x[-1])
    assert torch.equal(ranks[:: 2**20], x[:: 2**20])


@pytest.mark.parametrize("n", [5, 33, 1000, 50_000])
def test_special_rows_stay_alone(n):
    """NaN, infinities and strengths that are none, each in its own row."""
    x = torch.randn(6, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x[1, n // 2], x[2, 0], x[3, :3] = float("nan"), float("inf"), float("-inf")
    strength = torch.tensor([[0.1], [0.1], [0.1], [0.1], [0.0], [0.1]], dtype=torch.float64)
    for case in CODES:
        for one, other in zip(*both(x, strength, case), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * n, equal_nan=True)
    strength[5] = -1.0
    ranks = diffsort.soft_rank(x.cuda(), regularization_strength=strength.cuda())
    assert ranks[5].isnan().all()
    assert ranks[0].isfinite().all()


@pytest.mark.parametrize("case", CODES)
@pytest.mark.parametrize("shape", [(1, 7), (1, 1, 7), (1, 5000)], ids=str)
def test_a_single_row(shape, case):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    strength = torch.full((1,) * len(shape), 0.5, dtype=torch.float64)
    for one, other in zip(*both(x, strength, case), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * shape[-1])


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("n", [7, 700, 5000, 20_000])
def test_project(n, regularization):
    """Many z onto one w, with the gradients of both."""
    generator = torch.Generator().manual_seed(n)
    z = torch.randn(3, n, generator=generator, dtype=torch.float64)
    w = torch.rand(n, generator=generator, dtype=torch.float64)
    found = []
    for device in ("cuda", "cpu"):
        leaves = [array.to(device, copy=True).requires_grad_() for array in (z, w)]
        result = diffsort.project(*leaves, regularization=regularization)
        result.backward(z.to(device))
        arrays = result.detach(), *(leaf.grad for leaf in leaves)
        found.append([array.cpu().numpy() for array in arrays])
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_and_strides(axis):
    x = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(1))
    for view in (
        lambda t: t,
        lambda t: t.transpose(0, 2),
        lambda t: t[:, ::2],
        lambda t: t[:1].expand(4, 6, 7),
    ):
        on_cpu, on_gpu = view(x), view(x.cuda())
        torch.testing.assert_close(
            diffsort.soft_rank(on_gpu, axis=axis).cpu(), diffsort.soft_rank(on_cpu, axis=axis)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [4, 7, 10, 32])
def test_arrays_that_begin_anywhere(n, dtype):
    """Short rows are read by fours, which take one instruction where the array is aligned."""
    generator = torch.Generator().manual_seed(n)
    numbers, cotangents = torch.randn(2, 70 * n + 3, generator=generator, dtype=dtype)
    for first in range(4):
        found = []
        for device in ("cuda", "cpu"):
            x, g = (
                array.to(device)[first : first + 70 * n].view(70, n)
                for array in (numbers, cotangents)
            )
            ranks = diffsort.soft_rank(x.requires_grad_())
            ranks.backward(g)
            found.append((ranks.detach().cpu(), x.grad.cpu()))
        torch.testing.assert_close(*found)
