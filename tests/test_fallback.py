"""The fallback: its blocks are those of the native solver, wherever and however it runs."""

import warnings

import _diffsort_native as native
import certified
import numpy as np
import oracle
import pytest
from array_api_compat import numpy as xp
from backends import fallback, rounded
from tolerances import assert_within

import diffsort
from diffsort.backends import solver
from diffsort.core.fallback import find_blocks
from diffsort.core.projection import Projection
from diffsort.core.spec import KL, L2, LOG_KL, Spec
from diffsort.core.tools import Tools
from diffsort.errors import FallbackWarning, MissingKernelError

STANDARD = Tools(xp, "cpu", np.float64)  # no hooks: the standard alone
NARROW = Tools(xp, "cpu", np.float32)  # a device without float64
GEOMETRIES = {"l2": L2, "kl": KL, "log_kl": LOG_KL}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES)


def blocks(z, w, strength, regularization, tools=STANDARD):
    with np.errstate(all="ignore"):
        return find_blocks(tools, z, w, strength, -1, regularization)


def native_blocks(z, w, strength, regularization):
    shape = (z if w is None else w).shape
    found = np.empty(shape, np.int32), np.empty(shape, np.int32)
    native.project(z, w, strength, -1, regularization, 1.0, 1.0, None, *found, 1)
    return found


def assert_same_blocks(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.int32
        assert np.array_equal(one, other)


# --- against the native solver --------------------------------------------------------------------


def normal(rng, shape):
    return rng.normal(size=shape), rng.normal(size=shape)


def integers(rng, shape):
    return tuple(rng.integers(-4, 5, size=shape).astype(float) for _ in range(2))


def quarters_and_zero_weights(rng, shape):
    z, w = np.round(4 * rng.normal(size=shape)) / 4, rng.normal(size=shape)
    return z, np.where(rng.random(shape) < 0.3, 0.0, w)


def many_scales(rng, shape):
    scale = 10.0 ** rng.integers(-8, 8, size=shape)
    return scale * rng.normal(size=shape), rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)


def clusters(rng, shape):
    """Far apart, each with gaps of its own size."""
    centre = 1e12 * rng.integers(-2, 3, size=shape)
    return centre + rng.normal(size=shape), rng.normal(size=shape)


def increasing_steps(rng, shape):
    """s - w grows ever faster: blocks merge late and all at once."""
    rho = np.arange(shape[1], 0.0, -1)
    steps = np.cumsum(np.arange(shape[1]) * rng.random(shape), axis=1)[:, ::-1]
    return rho + 0.1 * rng.random(shape), steps / shape[1]


FAMILIES = [normal, integers, quarters_and_zero_weights, many_scales, clusters, increasing_steps]
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64, 100, 255, 1000]


def strengths(rng, rows, n):
    """Rows that are hard, nearly hard, in between, and one block; powers of two keep ties exact."""
    power = np.round(rng.uniform(-2, 2) + rng.uniform(-8, 8, size=(rows, 1))) - np.log2(n) / 2
    return np.where(rng.random((rows, 1)) < 0.1, 0.0, 2.0 ** np.round(power))


@geometries
@pytest.mark.parametrize("tools", ["wide", "narrow"])
def test_blocks_are_whole_where_only_rounding_tells_values_apart(tools, geometry):
    """Neighbouring values of y differ by a few of their last digits, so that comparisons need not
    be monotone: whatever pools, every block starts where its elements say, and holds a run."""
    rng = np.random.default_rng(27)
    tools = NARROW if tools == "narrow" else STANDARD
    epsilon = float(np.finfo(tools.wide).eps)
    for n in (8, 16, 64, 200):
        noise = rng.normal(size=(2000, n)) * 10.0 ** rng.integers(0, 3, size=(2000, 1))
        z = np.sort(np.arange(n, 0, -1) + n * epsilon * noise, axis=1)[:, ::-1]
        for w in (None, np.broadcast_to(np.arange(n, 0.0, -1), z.shape)):
            rows = [None if a is None else a.astype(tools.wide) for a in (z, w)]
            strength = np.ones((len(z), 1), tools.wide)
            start, _ = blocks(*rows, strength, GEOMETRIES[geometry], tools)
            assert np.array_equal(np.take_along_axis(start, start, axis=1), start)
            assert (np.diff(start, axis=1) >= 0).all()


@geometries
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_blocks_equal_those_of_the_native_solver(family, geometry):
    """Thousands of rows of every length. In log_kl rounding decides about exact ties, which the
    families of integers and quarters are made of."""
    if geometry == "log_kl" and family in (integers, quarters_and_zero_weights):
        pytest.skip("ties in log_kl are a matter of rounding")
    rng = np.random.default_rng(21)
    code = GEOMETRIES[geometry]
    pooled = 0
    for n in LENGTHS:
        rows = max(4, 4000 // n)
        z, w = family(rng, (rows, n))
        w = np.abs(w) if geometry == "kl" else w
        for operands in [(z, w), (z, None), (None, w)]:
            epsilon = strengths(rng, rows, n)
            expected = native_blocks(*operands, epsilon, code)
            assert_same_blocks(blocks(*operands, epsilon, code), expected)
            pooled += np.count_nonzero([1 < len(set(row)) < n for row in expected[0]])
    assert pooled > 1000


@pytest.mark.parametrize("geometry", ["l2", "kl"])
def test_special_rows_equal_those_of_the_native_solver(geometry):
    """NaN, infinities, invalid strengths, negative weights, zeros of both signs."""
    rng = np.random.default_rng(22)
    for n in (1, 2, 3, 5, 8, 11):
        shape = (3000, n)
        z = rng.choice([0.0, -0.0, 0.5, 1.0, 1.5, np.inf, -np.inf], size=shape)
        w = rng.choice([0.0, -0.0, 0.5, 1.0, 2.0], size=shape)
        z[rng.random(3000) < 0.1, 0] = np.nan
        w[rng.random(3000) < 0.1, -1] = np.nan
        w[rng.random(3000) < 0.1, 0] = -1.0
        w[rng.random(3000) < 0.1, 0] = np.inf
        kinds = [0.0, 0.25, 0.5, 1.0, 3.0, 4.0, 7.0, -1.0, np.nan, np.inf]
        epsilon = rng.choice(kinds, size=(3000, 1))
        found = blocks(z, w, epsilon, GEOMETRIES[geometry])
        assert_same_blocks(found, native_blocks(z, w, epsilon, GEOMETRIES[geometry]))
        assert {-1} < set(found[0].flat)


@pytest.mark.parametrize(("op", "regularization"), [("project", "l2"), ("project", "kl")])
def test_ties_are_those_of_the_oracle(op, regularization):
    """All rows of four small integers, against exact comparisons."""
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 4), axis=-1).reshape(-1, 4)
    rng = np.random.default_rng(23)
    w, epsilon = rng.integers(0, 4, size=grid.shape).astype(float), np.ones((len(grid), 1))
    found, _ = blocks(grid, w, epsilon, GEOMETRIES[regularization])
    expected = [
        oracle.solve(op, row, weights, 1.0, regularization=regularization).block
        for row, weights in zip(grid, w, strict=True)
    ]
    assert np.array_equal(found, expected)


def test_exact_ties_of_log_kl_pool():
    """Two blocks with the same s and w up to a constant have the same value."""
    w = np.array([[1.0, 0.0, 1.0, 2.0]])
    found, _ = blocks(None, w, np.array([[2.0]]), LOG_KL)
    assert np.array_equal(found, [[0, 0, 0, 0]])


# --- without float64 ------------------------------------------------------------------------------

SINGLE = [
    ("soft_rank", "l2", 1.7),
    ("soft_rank", "l2", 1e3),
    ("soft_rank", "kl", 0.37),
    ("soft_rank", "kl", 10.0),
    ("soft_sort", "l2", 0.23),
    ("soft_sort", "kl", 0.23),
]


@pytest.mark.parametrize("n", [10, 1000, 10**5, 10**6])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(("op", "regularization", "factor"), SINGLE)
def test_accuracy_without_float64(op, regularization, factor, offset, n):
    """Everything in float32, against certified answers, relative to the scale: the largest |w| in
    l2 and log_kl (there at least 1), the result in kl.

    l2: (8 + 2 log2 n) 2^-23. A sum has log2 n roundings of 2^-24, one for each round of doubling;
    those of w and of z enter, and a few roundings of the operands.
    kl: (8 + log2 n log n) 2^-23. Blocks are compared by logarithms, of size 2 log n where blocks
    have weight, which are moved with a rounding of 2^-24 of that size on each of log2 n levels.
    """
    if n == 10**6 and offset:
        pytest.skip("a million once")
    rng = np.random.default_rng(n)
    values = rounded(rng.normal(offset, 1, n), "float32")
    strength = {"soft_rank": factor / n if regularization == "l2" else factor}.get(op, factor * n)
    strength = float(rounded(strength, "float32"))
    answer = certified.solve(op, values, values, strength, "ascending", regularization)
    ranks = op == "soft_rank"
    code = L2 if regularization == "l2" else KL if ranks else LOG_KL
    spec = Spec(op, "values", -1, code, 1.0, 1.0 if ranks else -1.0)
    x = values.astype(np.float32)[None]
    with np.errstate(all="ignore"):
        epsilon = np.full((1, 1), strength, np.float32)
        found = Projection(NARROW, spec, *((x, None) if ranks else (None, x)), epsilon).result
    assert found.dtype == np.float32
    roundings = 8 + np.log2(n) * (2 if regularization == "l2" else np.log(n))
    assert_within(found[0].astype(float), answer.value, roundings * 2.0**-23 * answer.scale)


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort"])
def test_accuracy_without_float64_of_nearly_even_rows(op, regularization):
    """Within the same bounds where most comparisons are close, and some wrong by their rounding;
    the native solver in float64 tells the truth to more digits."""
    n, ranks = 64, op == "soft_rank"
    x = (np.arange(n) + 1e-3 * np.random.default_rng(1).normal(size=(6000, n))).astype(np.float32)
    options = {"regularization": regularization, "regularization_strength": 1.0}
    expected = getattr(diffsort, op)(x.astype(np.float64), **options)
    code = L2 if regularization == "l2" else KL if ranks else LOG_KL
    spec = Spec(op, "values", -1, code, 1.0, 1.0 if ranks else -1.0)
    with np.errstate(all="ignore"):
        epsilon = np.ones((1, 1), np.float32)
        found = Projection(NARROW, spec, *((x, None) if ranks else (None, x)), epsilon).result
    roundings = 8 + np.log2(n) * (2 if regularization == "l2" else np.log(n))
    scale = expected if ranks and regularization == "kl" else n
    assert (np.abs(found - expected) <= roundings * 2.0**-23 * scale).all()


@pytest.mark.parametrize("n", [2, 7, 50, 400])
def test_accuracy_without_float64_of_kl_with_any_weights(n):
    """To the bound of kl comes 2 S, S being the largest difference of s within a block: s, of up to
    that size, has three roundings of 2^-24 and is what an exponential is taken of."""
    rng = np.random.default_rng(n)
    z, w = rng.normal(0, 8, (500, n)), np.exp(rng.uniform(-70, 0, (500, n)))
    z, w = (rounded(array, "float32") for array in (z, w))
    epsilon = rounded(np.exp(rng.uniform(-2, 2, (500, 1))), "float32")
    options = {"regularization": "kl", "regularization_strength": epsilon}
    expected = diffsort.project(z, w, **options)
    starts, _ = native_blocks(z, w, epsilon, KL)
    spread = max(
        np.ptp(row[ids == start]) / strength
        for row, ids, strength in zip(z, starts, epsilon[:, 0], strict=True)
        for start in np.unique(ids)
    )
    assert spread > 30
    with np.errstate(all="ignore"):
        narrow = (array.astype(np.float32) for array in (z, w, epsilon))
        found = Projection(NARROW, Spec("project", "z", -1, KL, 1.0, 1.0), *narrow).result
    bound = (8 + np.log2(n) * np.log(n) + 2 * spread) * 2.0**-23
    # Below, float32 has no digits left.
    assert_within(found.astype(float), expected, np.maximum(bound * expected, 2.0**-126))


def test_neighbours_are_compared_by_their_differences():
    """In float32, with a strength far below the resolution of the largest values."""
    rng = np.random.default_rng(24)
    z = rounded(np.concatenate([rng.normal(1e6, 1, 50), rng.normal(0, 1e-6, 50)]), "float32")[None]
    w = rounded(rng.normal(size=(1, 100)), "float32")
    for strength in 2.0 ** np.arange(-30, 4):
        epsilon = np.array([[strength]])
        expected = native_blocks(z, w, epsilon, L2)
        found = blocks(*(a.astype(np.float32) for a in (z, w, epsilon)), L2, NARROW)
        assert_same_blocks(found, expected)


# --- the linear maps ------------------------------------------------------------------------------


@geometries
@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_jvp_is_the_transpose_of_vjp(geometry, strength):
    """Of all operands at once, with ties, zero weights and infinite z."""
    rng = np.random.default_rng(25)
    z = np.round(4 * rng.normal(size=(3, 9))) / 4
    z[0, :2] = np.inf, -np.inf
    w = np.abs(rng.normal(size=(3, 9)))
    w[1, ::2] = 0.0
    w[2] = 0.0
    spec = Spec("project", "z", -1, GEOMETRIES[geometry], -1.0, 1.0)
    rows = np.full((3, 1), strength)
    with np.errstate(all="ignore"):
        at = Projection(STANDARD, spec, z, w, rows)
        tangents = {name: rng.normal(size=a.shape) for name, a in [("z", z), ("w", w)]}
        tangents["strength"] = rng.normal(size=(3, 1))
        g = rng.normal(size=(3, 9))
        pushed, pulled = at.jvp(tangents), at.vjp(g)
    right = sum(np.sum(pulled[name] * tangents[name]) for name in tangents)
    # A few hundred products of numbers of order 10 at most, each rounded a few times.
    np.testing.assert_allclose(np.sum(pushed * g), right, rtol=0, atol=1e5 * 2.0**-52)


# --- the choice of the solver ---------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(solver, "_warned", set())
    monkeypatch.setattr(solver, "requested", "auto")


def strict_array(values=(3.0, 1.0, 2.0)):
    strict = pytest.importorskip("array_api_strict", minversion="2.4")
    return strict.asarray(list(values))


@pytest.mark.usefixtures("fresh")
class TestSolver:
    def test_default(self):
        assert diffsort.get_solver() == "auto"

    @pytest.mark.parametrize("choice", ["auto", "native", "fallback"])
    def test_it_is_read_back_and_reported(self, choice):
        diffsort.set_solver(choice)
        assert diffsort.get_solver() == choice
        assert diffsort.show_config("dict")["solver"] == choice

    def test_numpy_takes_the_choice(self, monkeypatch):
        x = np.array([3.0, 1.0, 2.0])
        expected = diffsort.soft_rank(x)
        monkeypatch.setattr("diffsort.backends.kernels.Cpu.project", None)
        with pytest.raises(TypeError):
            diffsort.soft_rank(x)
        with fallback():
            np.testing.assert_array_equal(diffsort.soft_rank(x), expected)

    def test_a_missing_kernel_is_warned_of_once(self):
        x = strict_array()
        with pytest.warns(FallbackWarning, match=r"soft_rank: values is .*set_solver") as caught:
            diffsort.soft_rank(x)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            diffsort.soft_sort(x)

    def test_fallback_does_not_warn(self):
        x = strict_array()
        diffsort.set_solver("fallback")
        diffsort.soft_rank(x)
        assert not solver._warned

    def test_native_raises(self):
        x = strict_array()
        diffsort.set_solver("native")
        with pytest.raises(MissingKernelError, match=r"soft_rank: values is .*show_config"):
            diffsort.soft_rank(x)

    def test_a_device_of_torch_without_a_kernel(self, torch):
        """A fake tensor claims to be on a device that need not exist. Warned of once, computed on
        that device in its type: a copy to the host would fail here."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            x = torch.ones(3, 5, device="cuda")
            with pytest.warns(FallbackWarning, match=r"soft_rank: values is torch.float32 on cuda"):
                y = diffsort.soft_rank(x, regularization="kl")
            z = diffsort.soft_sort(x.half())
        assert y.device.type == z.device.type == "cuda"
        assert (y.shape, y.dtype, z.dtype) == (x.shape, torch.float32, torch.float16)


# --- under tracing --------------------------------------------------------------------------------


@geometries
@pytest.mark.parametrize("n", [1, 5])
def test_torch_compiles_it_into_one_graph(torch, geometry, n):
    from diffsort.backends.torch.tools import tools_of

    rng = np.random.default_rng(26)
    z, w = normal(rng, (4, n))
    w, epsilon = np.abs(w), np.full((4, 1), 0.7)

    torch.compiler.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(z, w, epsilon):
        return find_blocks(tools_of(z), z, w, epsilon, -1, GEOMETRIES[geometry])

    found = compiled(*(torch.tensor(a) for a in (z, w, epsilon)))
    assert_same_blocks([ids.numpy() for ids in found], blocks(z, w, epsilon, GEOMETRIES[geometry]))


def test_torch_computes_it_without_numbers(torch):
    """The operations themselves, on tensors that have none: nothing is read or goes to the host."""
    from diffsort.backends.torch.operators import _blocks_anywhere

    z, epsilon = torch.ones(3, 37, device="meta"), torch.ones(3, 1, device="meta")
    for code in (L2, KL):
        for ids in _blocks_anywhere(z, z, epsilon, -1, code, 1.0, 1.0):
            assert (ids.shape, ids.dtype, ids.device.type) == (z.shape, torch.int32, "meta")


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_torch_without_float64(torch, regularization, monkeypatch):
    """The CPU in the place of a device that has none: results, gradients and their types."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **kwargs or {})
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                assert getattr(tensor, "dtype", None) is not torch.float64, function
            return out

    monkeypatch.setattr("diffsort.backends.torch.tools._WITHOUT_FLOAT64", ("cpu",))
    generator = torch.Generator().manual_seed(28)
    x = torch.randn(4, 50, generator=generator, requires_grad=True)
    strength = torch.full((4, 1), 0.3, requires_grad=True)
    g = torch.randn(4, 50, generator=generator)

    def answers():
        y = diffsort.soft_rank(x, regularization=regularization, regularization_strength=strength)
        return y, *torch.autograd.grad(y, (x, strength), g)

    expected = answers()
    monkeypatch.setattr(solver, "requested", "fallback")
    with NoFloat64():
        found = answers()
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        # Sums of 50 terms of size 50 / 0.3^2 at most, to a few roundings of float32.
        torch.testing.assert_close(one, other, rtol=0, atol=50 * 50 / 0.09 * 2.0**-23)


@pytest.mark.parametrize(
    ("geometry", "x64", "n"),
    [("l2", True, 17), ("l2", False, 5), ("kl", True, 5), ("kl", False, 1), ("log_kl", False, 5)],
)
def test_jax_traces_it(geometry, x64, n):
    """With the standard alone, and the same blocks as from NumPy in the same precision."""
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(27)
    dtype = np.float64 if x64 else np.float32
    z, w = (np.abs(a).astype(dtype) for a in normal(rng, (4, n)))
    epsilon = np.full((4, 1), 0.25, dtype)
    with jax.enable_x64(x64):
        tools = Tools(jax.numpy, jax.devices("cpu")[0], jax.numpy.dtype(dtype))

        @jax.jit
        def traced(z, w, epsilon):
            return find_blocks(tools, z, w, epsilon, -1, GEOMETRIES[geometry])

        found = [np.asarray(ids) for ids in traced(z, w, epsilon)]
    narrow = STANDARD if x64 else NARROW
    assert_same_blocks(found, blocks(z, w, epsilon, GEOMETRIES[geometry], narrow))


# --- cost -----------------------------------------------------------------------------------------


def operations(torch, n, regularization, seed=0):
    from torch.utils._python_dispatch import TorchDispatchMode

    from diffsort.backends.torch.operators import _blocks_anywhere

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **kwargs or {})

    x = torch.tensor(np.random.default_rng(seed).normal(size=(1, n)))
    with Count() as count:
        _blocks_anywhere(x, None, torch.ones(1, 1), -1, regularization, 1.0, 1.0)
    return count.calls


@pytest.mark.parametrize("regularization", [L2, KL])
def test_operations_grow_with_the_square_of_log_n(torch, regularization):
    """Whatever the numbers are. Rounds of pooling neighbours would take thousands."""
    found = {k: operations(torch, 2**k, regularization) for k in (4, 8, 12, 16)}
    assert operations(torch, 2**12, regularization, seed=1) == found[12]
    # A quadratic in log n from three of them foretells the fourth.
    coefficients = np.polyfit([4, 8, 12], [found[k] for k in (4, 8, 12)], 2)
    assert found[16] <= 1.1 * np.polyval(coefficients, 16)
