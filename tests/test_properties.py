"""Laws of soft sorting and ranking that need no oracle, on inputs that Hypothesis looks for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import diffsort

settings.register_profile("tests", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("tests")


@pytest.fixture(params=["native", "fallback"], scope="module", autouse=True)
def choice(request):
    """Every law holds for both solvers."""
    diffsort.set_solver(request.param)
    yield
    diffsort.set_solver("auto")


DIRECTIONS = pytest.mark.parametrize("direction", ["ascending", "descending"])
REGULARIZATIONS = pytest.mark.parametrize("regularization", ["l2", "kl"])

# Multiples of 1/64 up to 16: sums and differences are exact, ties and equal gaps are frequent.
values = st.integers(-1024, 1024).map(lambda k: k / 64)
rows = st.integers(1, 12).flatmap(lambda n: arrays(np.float64, n, elements=values))
strengths = st.sampled_from([2.0**-12, 2.0**-4, 0.3, 1.0, 2.7, 2.0**4, 2.0**12])


def rounding(*arrays):
    """A hundred roundings of the largest number involved: sums of 12 terms, an exp and a log."""
    return 100 * 2.0**-53 * max(1, *(np.max(np.abs(array), initial=0) for array in arrays))


def assert_close(found, expected, *sizes):
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding(found, expected, *sizes))


def ranks(n):
    return np.arange(1.0, n + 1)


@DIRECTIONS
@REGULARIZATIONS
@given(x=rows, strength=strengths, seed=st.integers(0, 99))
def test_permuting_the_values_permutes_ranks_and_not_the_sort(
    regularization, direction, x, strength, seed
):
    options = {
        "regularization": regularization,
        "regularization_strength": strength,
        "direction": direction,
    }
    order = np.random.default_rng(seed).permutation(x.size)
    r = diffsort.soft_rank(x, **options)
    assert_close(diffsort.soft_rank(x[order], **options), r[order])
    assert_close(diffsort.soft_sort(x[order], **options), diffsort.soft_sort(x, **options))


@REGULARIZATIONS
@given(z=rows, strength=strengths, data=st.data())
def test_projection_lies_in_the_permutahedron(regularization, z, strength, data):
    """Rado: the sum is that of w, and no k entries have a larger sum than the k largest of w."""
    w = np.abs(data.draw(arrays(np.float64, z.size, elements=values)))
    options = {"regularization": regularization, "regularization_strength": strength}
    result = diffsort.project(z, w, **options)
    excess = np.cumsum(np.sort(result)[::-1]) - np.cumsum(np.sort(w)[::-1])
    assert abs(excess[-1]) <= rounding(w.sum())
    assert excess.max() <= rounding(w.sum())


@given(z=rows, strength=strengths, data=st.data())
def test_projection_is_the_nearest_point(z, strength, data):
    """The variational inequality: <z / strength - p, q - p> <= 0 for every vertex q of P(w)."""
    w = data.draw(arrays(np.float64, z.size, elements=values))
    q = w[np.random.default_rng(data.draw(st.integers(0, 99))).permutation(z.size)]
    p = diffsort.project(z, w, regularization_strength=strength)
    s = (z - z.mean()) / strength  # q - p sums to 0
    terms = (s - p) * (q - p)
    assert terms.sum() <= rounding(np.abs(s).max() * np.abs(q - p).max(), *terms) * z.size


@given(z=rows, strength=strengths, data=st.data())
def test_kl_projection_is_the_nearest_point(z, strength, data):
    """The same for the gradient of the KL divergence: <z / strength - log p, q - p> <= 0."""
    assume(np.ptp(z) / strength < 600)  # otherwise entries of p underflow, and log p is not p
    w = 1 + np.abs(data.draw(arrays(np.float64, z.size, elements=values)))
    q = w[np.random.default_rng(data.draw(st.integers(0, 99))).permutation(z.size)]
    p = diffsort.project(z, w, regularization="kl", regularization_strength=strength)
    s = (z - z.max()) / strength
    terms = (s - np.log(p)) * (q - p)
    terms -= (q - p) * (s - np.log(p)).mean()
    assert terms.sum() <= rounding(np.abs(s).max() * np.abs(q - p).max(), *terms) * z.size


@DIRECTIONS
@REGULARIZATIONS
@given(x=rows, strength=strengths)
def test_order_is_kept(regularization, direction, x, strength):
    options = {
        "regularization": regularization,
        "regularization_strength": strength,
        "direction": direction,
    }
    sign = 1 if direction == "ascending" else -1
    r = diffsort.soft_rank(x, **options)[np.argsort(sign * x, kind="stable")]
    assert np.diff(r).min(initial=0) >= -rounding(r)
    y = diffsort.soft_sort(x, **options)
    assert (sign * np.diff(y)).min(initial=0) >= -rounding(y)


@DIRECTIONS
@given(x=rows, strength=strengths)
def test_sums_are_kept(direction, x, strength):
    n = x.size
    options = {"regularization_strength": strength, "direction": direction}
    for regularization in ("l2", "kl"):
        r = diffsort.soft_rank(x, regularization=regularization, **options)
        assert_close(r.sum(), n * (n + 1) / 2)
    assert_close(diffsort.soft_sort(x, **options).sum(), x.sum(), n * x)
    y = diffsort.soft_sort(x, regularization="kl", **options)
    sign = -1 if direction == "ascending" else 1
    top = (sign * x).max()  # errors of y and of the sum are relative to exp(top)
    assert_close(np.exp(sign * y - top).sum(), np.exp(sign * x - top).sum(), n * y)


@DIRECTIONS
@REGULARIZATIONS
@given(x=rows, strength=strengths, shift=values, power=st.integers(-20, 20))
def test_shift_and_scale(regularization, direction, x, strength, shift, power):
    options = {"regularization": regularization, "direction": direction}
    r = diffsort.soft_rank(x, regularization_strength=strength, **options)
    # 2^power and the shift are exact in float64: the same numbers come in, up to the shift.
    scale = 2.0**power
    scaled = diffsort.soft_rank(scale * x, regularization_strength=scale * strength, **options)
    assert np.array_equal(scaled, r)
    assert_close(diffsort.soft_rank(x + shift, regularization_strength=strength, **options), r)
    y = diffsort.soft_sort(x, regularization_strength=strength, **options)
    moved = diffsort.soft_sort(x + shift, regularization_strength=strength, **options)
    assert_close(moved, y + shift, x, shift)


@given(x=rows, strength=strengths)
def test_directions_are_dual_in_l2(x, strength):
    n, options = x.size, {"regularization_strength": strength}
    down = diffsort.soft_rank(x, direction="descending", **options)
    assert_close(down, n + 1 - diffsort.soft_rank(x, **options))
    down = diffsort.soft_sort(x, direction="descending", **options)
    assert_close(down, diffsort.soft_sort(x, **options)[::-1], x)


@REGULARIZATIONS
@given(x=rows, strength=strengths)
def test_descending_is_ascending_of_the_negative(regularization, x, strength):
    options = {"regularization": regularization, "regularization_strength": strength}
    down = diffsort.soft_rank(x, direction="descending", **options)
    assert np.array_equal(down, diffsort.soft_rank(-x, **options))
    down = diffsort.soft_sort(x, direction="descending", **options)
    assert np.array_equal(down, -diffsort.soft_sort(-x, **options))


@given(x=arrays(np.float64, st.integers(2, 12), elements=values, unique=True))
def test_ranks_are_hard_up_to_the_smallest_gap(x):
    """Exactly hard if and only if the strength is at most the smallest gap (l2)."""
    hard = 1.0 + np.argsort(np.argsort(x))
    gap = np.diff(np.sort(x)).min()
    assert np.array_equal(diffsort.soft_rank(x, regularization_strength=gap), hard)
    assert not np.array_equal(diffsort.soft_rank(x, regularization_strength=1.01 * gap), hard)


@given(x=arrays(np.float64, st.integers(2, 12), elements=values, unique=True))
def test_sort_is_hard_up_to_the_largest_gap(x):
    """Exactly hard if and only if the strength is at most 1 / the largest gap (l2)."""
    limit = 1 / np.diff(np.sort(x)).max()
    hard = diffsort.soft_sort(x, regularization_strength=0.99 * limit)
    assert np.array_equal(hard, np.sort(x))
    assert not np.array_equal(diffsort.soft_sort(x, regularization_strength=1.01 * limit), hard)


@given(x=rows, slack=st.floats(1, 100))
def test_one_block_in_l2(x, slack):
    """range(x) <= strength n / 2 leaves one block: the ranks are affine in x."""
    n, strength = x.size, slack * max(2 * np.ptp(x) / x.size, 1)
    r = diffsort.soft_rank(x, regularization_strength=strength)
    assert_close(r, (x - x.mean()) / strength + (n + 1) / 2)


@given(x=rows, slack=st.floats(1, 100))
def test_one_block_in_kl(x, slack):
    """range(x) <= strength ln 2 leaves one block: the ranks are a softmax."""
    n, strength = x.size, slack * max(np.ptp(x) / np.log(2), 1)
    r = diffsort.soft_rank(x, regularization="kl", regularization_strength=strength)
    p = np.exp((x - x.max()) / strength)
    assert_close(r, p / p.sum() * n * (n + 1) / 2)


@given(x=rows)
def test_projecting_twice_changes_nothing(x):
    """A point of P(w) is its own Euclidean projection."""
    w = ranks(x.size)
    once = diffsort.project(x, w)
    assert_close(diffsort.project(once, w), once)


@REGULARIZATIONS
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])
@given(x=rows, strength=strengths, seed=st.integers(0, 99))
def test_vjp_is_the_transpose_of_jvp(op, regularization, x, strength, seed):
    """<Ju, v> = <u, J^T v>, in all arguments at once."""
    rng = np.random.default_rng(seed)
    primals = {"values": x, "regularization_strength": np.array([strength])}
    if op == "project":
        primals["w"] = rng.random(x.size)
    u = {name: rng.normal(size=array.shape) for name, array in primals.items()}
    v = rng.normal(size=x.size)
    fun, options = getattr(diffsort, op), {**primals, "regularization": regularization}
    del options["values"]
    _, ju = diffsort.jvp(fun, x, u, **options)
    _, pull = diffsort.vjp(fun, x, wrt=tuple(primals), **options)
    pulled = dict(zip(primals, pull(v), strict=True))
    # Each side adds terms of this size; the Jacobian's entries are at most n^2 / strength each,
    # and the strength's column multiplies them by range(x) / strength.
    size = x.size**2 / strength * max(1, np.ptp(x) / strength, x.size / strength)
    np.testing.assert_allclose(
        ju @ v, sum((pulled[name] * u[name]).sum() for name in primals), rtol=0, atol=rounding(size)
    )
