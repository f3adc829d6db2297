"""The corners: empty, tied, tiny, infinite, NaN, oddly laid out, integer."""

import certified
import numpy as np
import pytest
from backends import rounded
from oracle import Batch
from tolerances import assert_within, derivative_tolerance, result_tolerance

import diffsort

OPS = ["soft_rank", "soft_sort", "project"]
ops = pytest.mark.parametrize("op", OPS)
directed_ops = pytest.mark.parametrize(
    ("op", "options"),
    [
        *[(op, {"direction": d}) for op in OPS[:2] for d in ("ascending", "descending")],
        ("project", {}),
    ],
    ids=lambda x: x if isinstance(x, str) else "".join(x.values()),
)
regularizations = pytest.mark.parametrize("regularization", ["l2", "kl"])


def inputs_of(op, values, strength, seed=8):
    inputs = {"values": np.asarray(values, dtype=float), "regularization_strength": strength}
    if op == "project":
        inputs["w"] = np.random.default_rng(seed).uniform(0, 3, size=inputs["values"].shape)
    return inputs


def check(backend, op, inputs, dtype="float64", axis=-1, **options):
    """Result, VJP and JVP against the oracle."""
    truth = Batch(op, inputs, axis, **options)
    rng = np.random.default_rng(9)
    wrt = [name for name in inputs if name != "regularization_strength"]
    g = rounded(rng.normal(size=truth.shape), dtype)
    tangents = {name: rounded(rng.normal(size=inputs[name].shape), dtype) for name in wrt}
    options = {"axis": axis, **options}

    result, gradients = backend.vjp(op, inputs, g, wrt, dtype, **options)
    tolerance = result_tolerance(dtype, truth.value(), truth.value("scale"))
    assert_within(result, truth.value(), tolerance)
    for name, gradient in zip(wrt, gradients, strict=True):
        size = truth.vjp(np.abs(g), name, "magnitude")
        assert_within(gradient, truth.vjp(g, name), derivative_tolerance(dtype, size))

    result, tangent = backend.jvp(op, inputs, tangents, dtype, **options)
    assert_within(result, truth.value(), tolerance)
    size = truth.jvp({name: np.abs(t) for name, t in tangents.items()}, "magnitude")
    assert_within(tangent, truth.jvp(tangents), derivative_tolerance(dtype, size))


NORMAL = np.random.default_rng(10).normal(size=9)
ROWS = {
    "one value": ([3.5], [0.0, 1.0]),
    "ties": ([1.0, 1, 2, 0, 2], [0.0, 0.4, 1.0, 2.0]),
    "constant": ([3.0] * 5, [0.0, 1e-30, 1.0, 1e30]),
    "zeros of both signs": ([0.0, -0.0, 1.0, -0.0, 0.0], [0.0, 0.5]),
    "gaps of exactly the strength": ([0.0, 1, 2, 4, 5], [1.0]),
    "tiny": (1e-12 * NORMAL, [0.0, 3e-13, 1e-12, 1.0]),
    "far from zero": (1e9 + NORMAL, [0.0, 0.4, 3.0]),
    "denormal": ([5e-324, 0.0, 1.5e-323, -5e-324], [0.0, 1.0]),
    "huge": ([1e300, -1e300, 3e300, 0.0], [0.0, 1.0, 1e300]),
    "extreme strengths": (NORMAL, [1e-30, 1e-10, 1e10, 1e30]),
}
EDGES = [(name, strength) for name, (_, strengths) in ROWS.items() for strength in strengths]


@regularizations
@pytest.mark.parametrize(("name", "strength"), EDGES)
@directed_ops
def test_edge_row(backend, op, options, name, strength, regularization):
    inputs = inputs_of(op, ROWS[name][0], strength)
    check(backend, op, inputs, regularization=regularization, **options)


@regularizations
@pytest.mark.parametrize("scale", [1e-12, 1e3])
@directed_ops
def test_float32_scales(backend, op, options, scale, regularization):
    """Blocks must come from comparisons, not from a tolerance in the values' units."""
    values = rounded(scale * np.random.default_rng(12).normal(size=(4, 9)), "float32")
    strength = {"soft_rank": 0.4 * scale, "soft_sort": 2 / scale, "project": 0.4 * scale}[op]
    inputs = inputs_of(op, values, strength)
    inputs = {k: v if isinstance(v, float) else rounded(v, "float32") for k, v in inputs.items()}
    check(backend, op, inputs, "float32", regularization=regularization, **options)


@pytest.mark.parametrize(
    ("shape", "axis"), [((0,), 0), ((3, 0), 1), ((0, 5), 1), ((2, 0, 4), 1), ((2, 0, 4), 2)]
)
@ops
def test_empty(backend, dtype, op, shape, axis):
    inputs = inputs_of(op, np.empty(shape), np.ones(()))
    result, gradients = backend.vjp(op, inputs, np.empty(shape), list(inputs), dtype, axis=axis)
    assert result.shape == shape
    for array, gradient in zip(inputs.values(), gradients, strict=True):
        assert gradient.shape == np.shape(array)
        assert not gradient.any()
    tangents = {"values": np.empty(shape)}
    result, tangent = backend.jvp(op, inputs, tangents, dtype, axis=axis)
    assert result.shape == tangent.shape == shape


@regularizations
@directed_ops
def test_five_dimensions(backend, op, options, regularization):
    values = np.random.default_rng(13).normal(size=(2, 1, 3, 4, 2))
    check(backend, op, inputs_of(op, values, 0.6), axis=3, regularization=regularization, **options)


def spoiled_row(op, name, value):
    """Three rows; the middle one of the input `name` gets `value`. (whole, spoiled)"""
    rng = np.random.default_rng(14)
    values, strength = rng.normal(size=(3, 6)), rng.uniform(0.5, 1, size=(3, 1))
    whole = inputs_of(op, values, strength)
    spoiled = {key: array.copy() for key, array in whole.items()}
    spoiled[name][1, 2] = value
    return whole, spoiled


def check_confined(backend, op, name, value, dtype, regularization):
    """Result, gradients and tangent of the middle row are NaN, those of the others unchanged."""
    whole, spoiled = spoiled_row(op, name, value)
    ones = {key: np.ones_like(array) for key, array in whole.items()}

    def answers(inputs):
        inputs = {key: rounded(array, dtype) for key, array in inputs.items()}
        options = {"dtype": dtype, "regularization": regularization}
        result, gradients = backend.vjp(op, inputs, ones["values"], list(inputs), **options)
        return result, *gradients, backend.jvp(op, inputs, ones, **options)[1]

    for clean, found in zip(answers(whole), answers(spoiled), strict=True):
        clean[1] = np.nan
        np.testing.assert_array_equal(found, clean)


@regularizations
@ops
def test_nan_stays_in_its_row(backend, dtype, op, regularization):
    check_confined(backend, op, "values", np.nan, dtype, regularization)


@regularizations
def test_nan_in_w_stays_in_its_row(backend, dtype, regularization):
    check_confined(backend, "project", "w", np.nan, dtype, regularization)


def test_negative_w_in_kl_stays_in_its_row(backend):
    check_confined(backend, "project", "w", -0.5, "float64", "kl")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@regularizations
def test_infinity_in_soft_sort_has_no_value(backend, dtype, regularization, value):
    check_confined(backend, "soft_sort", "values", value, dtype, regularization)


INFINITE = [
    [np.inf, 0.27, -np.inf, 0.1, np.inf, 0.9],
    [0.3, 0.2, np.inf, 0.1, -0.7, 0.9],
    [-np.inf, -np.inf, 1.0, -np.inf, -np.inf, 1.1],
    [np.inf, -np.inf, np.inf, -np.inf, np.inf, np.inf],
]


@regularizations
@directed_ops
def test_infinite_values_at_strength_0(backend, op, options, regularization):
    check(backend, op, inputs_of(op, INFINITE, 0.0), regularization=regularization, **options)


@regularizations
@pytest.mark.parametrize("op", ["soft_rank", "project"])
def test_infinite_values_are_the_limit_of_huge_ones(backend, op, regularization):
    check(backend, op, inputs_of(op, INFINITE, 0.5), regularization=regularization)


@regularizations
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_infinite_values_that_meet_zero_weights(backend, strength, regularization):
    inputs = {
        "values": np.array([1.0, -np.inf, 2.0, -np.inf]),
        "w": np.array([0.0, 1.0, 0.0, 2.0]),
        "regularization_strength": strength,
    }
    check(backend, "project", inputs, regularization=regularization)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("direction", ["ascending", "descending"])
@pytest.mark.parametrize(
    ("op", "regularization", "strength"),
    [
        ("soft_rank", "l2", 3e-4),
        ("soft_rank", "kl", 0.02),
        ("soft_sort", "l2", 300.0),
        ("soft_sort", "kl", 300.0),
    ],
)
def test_long_rows_of_half_types(backend, op, strength, regularization, direction, dtype):
    """More elements than the type has integers: no index may go through it."""
    rng = np.random.default_rng(15)
    values = rounded(rng.normal(size=5000), dtype)
    g = rounded(rng.normal(size=5000) / 64, dtype)  # gradients stay below 65504
    options = {"direction": direction, "regularization": regularization}
    answer = certified.solve(op, values, g, strength, **options)
    assert answer.blocks > 1
    inputs = {"values": values, "regularization_strength": strength}
    result, (gradient,) = backend.vjp(op, inputs, g, ["values"], dtype, **options)
    assert_within(result, answer.value, result_tolerance(dtype, answer.value, answer.scale))
    assert_within(gradient, answer.vjp, derivative_tolerance(dtype, answer.magnitude))


LAYOUTS = {
    "every other element": lambda xp, a: a[..., ::2],
    "a window": lambda xp, a: a[1:, 1:, 1:],
    "last axis first": lambda xp, a: a.swapaxes(0, -1),
    "one row for all": lambda xp, a: xp.broadcast_to(a[:1, :1], a.shape),
    "one value per row": lambda xp, a: xp.broadcast_to(a[..., :1], a.shape),
}
NUMPY_LAYOUTS = {
    "backwards": lambda xp, a: a[::-1, :, ::-1],
    "Fortran order": lambda xp, a: np.asfortranarray(a),
    "field of a structure": lambda xp, a: _as_field(a)["x"],
    "other byte order": lambda xp, a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda xp, a: _read_only(a),
}


def _as_field(array):
    structure = np.zeros(array.shape, dtype=[("tag", "i1"), ("x", array.dtype)])
    structure["x"] = array
    return structure


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _cubes(op):
    """The positional arguments of an operator, contiguous."""
    rng = np.random.default_rng(16)
    return [rng.normal(size=(4, 5, 6)), rng.random(size=(4, 5, 6))][: 2 if op == "project" else 1]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("layout", [*LAYOUTS, *NUMPY_LAYOUTS])
@ops
def test_numpy_layouts(op, layout, axis):
    """The answer to a view is the answer to a fresh copy of it, bit for bit."""
    view_of, fun = {**LAYOUTS, **NUMPY_LAYOUTS}[layout], getattr(diffsort, op)
    values, *w = views = [view_of(np, cube) for cube in _cubes(op)]
    values_copy, *w_copy = [np.array(view, dtype=float, order="C") for view in views]
    result = fun(*views, axis=axis)
    assert result.dtype == np.float64
    assert result.flags.c_contiguous
    assert np.array_equal(result, fun(values_copy, *w_copy, axis=axis))

    def gradient(values, w, cotangent):
        return diffsort.vjp(fun, values, axis=axis, **dict(zip(["w"], w, strict=False)))[1](
            cotangent
        )

    assert np.array_equal(gradient(values, w, values), gradient(values_copy, w_copy, values_copy))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@ops
def test_torch_layouts(torch, op, layout, axis):
    fun = getattr(diffsort, op)
    cubes = [torch.from_numpy(cube).requires_grad_() for cube in _cubes(op)]
    views = [LAYOUTS[layout](torch, cube) for cube in cubes]
    copies = [view.detach().clone(memory_format=torch.contiguous_format) for view in views]
    result = fun(*views, axis=axis)
    assert result.is_contiguous()
    assert torch.equal(result, fun(*copies, axis=axis))
    cotangent = views[0].detach()
    found = torch.autograd.grad(result, views, cotangent)
    copies = [copy.requires_grad_() for copy in copies]
    expected = torch.autograd.grad(fun(*copies, axis=axis), copies, cotangent.contiguous())
    for gradient, wanted in zip(found, expected, strict=True):
        assert torch.equal(gradient, wanted)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "int64", "bool"])
@directed_ops
def test_integers_and_bools_promote(backend, op, options, kind):
    """As the floats that they are: -x of a uint8 is not its negative."""
    arrays = [np.array([[3, 0, 250, 7, 7], [1, 1, 0, 9, 2]]), np.array([5, 1, 3, 2, 1])]
    arrays = [array.astype(kind) for array in arrays[: 2 if op == "project" else 1]]
    with backend.road():
        found, expected = (
            getattr(diffsort, op)(*(backend.asarray(array, dtype) for array in arrays), **options)
            for dtype in (kind, backend.default_dtype)
        )
    found, expected = (
        backend.to_numpy(array, backend.default_dtype) for array in (found, expected)
    )
    assert np.array_equal(found, expected)


def test_numpy_takes_every_integer_type():
    for kind in "bBhHiIlLqQ":
        found = diffsort.soft_rank(np.array([3, 0, 7], dtype=kind), regularization_strength=0.1)
        assert found.dtype == np.float64
        assert np.array_equal(found, [2, 1, 3])


@pytest.mark.parametrize(
    "sequence", [[3, 0, 7], (3.0, 0.0, 7.0), [np.float32(3), 0, True * 7], range(3)]
)
def test_sequences_are_numpy_arrays(sequence):
    found = diffsort.soft_sort(sequence, regularization_strength=0.01)
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    # Hard: 0.01 <= 1 / (largest gap).
    assert np.array_equal(found, sorted(sequence))
    assert np.array_equal(
        diffsort.soft_sort([list(sequence)], regularization_strength=0.01)[0], found
    )


@pytest.mark.parametrize(
    "number", [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), np.array([0.5])]
)
def test_strength_of_any_number_type(number):
    values = np.array([0.0, 0.25, 1.0])
    found = diffsort.soft_rank(values, regularization_strength=number)
    assert np.array_equal(found, diffsort.soft_rank(values, regularization_strength=0.5))
    assert not np.array_equal(found, [1, 2, 3])


def test_option_names_in_any_letter_case(backend):
    values = {"values": np.array([0.0, 0.25, 1.0])}
    found = backend.call("soft_rank", values, direction="DESCENDING", regularization="KL")
    expected = backend.call("soft_rank", values, direction="descending", regularization="kl")
    assert np.array_equal(found, expected)


DIGITS = np.array([[8, 0, 5, 3, 2, 1, 6, 7, 9]])
PRINTED = 5.1e-5  # four decimals


class TestTorchsortDocumentation:
    """The examples that users of torchsort know, to the printed digits."""

    def test_soft_sort(self):
        found = diffsort.soft_sort(DIGITS, regularization_strength=1.0)
        np.testing.assert_allclose(found, [0.5556 + np.arange(9)], rtol=0, atol=PRINTED)

    def test_soft_sort_nearly_hard(self):
        found = diffsort.soft_sort(DIGITS, regularization_strength=0.1)
        np.testing.assert_allclose(found, [[0, 1, 2, 3, 5, 6, 7, 8, 9]], rtol=0, atol=PRINTED)

    def test_soft_rank(self):
        found = diffsort.soft_rank(DIGITS)
        np.testing.assert_allclose(found, [[8, 1, 5, 4, 3, 2, 6, 7, 9]], rtol=0, atol=PRINTED)

    def test_gradient_of_soft_sort(self, backend):
        _, (found,) = backend.vjp("soft_sort", {"values": DIGITS}, np.eye(9)[:1], ["values"])
        np.testing.assert_allclose(found, np.full((1, 9), 0.1111), rtol=0, atol=PRINTED)

    def test_spearman(self, backend):
        """The gradient exists because equal block values pool: every gap equals the strength."""
        prediction, target = np.array([[1.0, 2, 3, 4, 5]]), np.array([[5.0, 6, 7, 8, 7]])
        p, t = (backend.call("soft_rank", {"values": x}) for x in (prediction, target))
        p, t = p - p.mean(), t - t.mean()
        length = np.linalg.norm(p)
        p, t = p / length, t / np.linalg.norm(t)
        correlation = (p * t).sum()
        assert abs(correlation - 0.8321) <= PRINTED
        # d correlation / d ranks: the projection of t across p (and across constants: t is centred)
        cotangent = (t - correlation * p) / length
        _, (found,) = backend.vjp("soft_rank", {"values": prediction}, cotangent, ["values"])
        expected = [[-0.05547, 0, 0.05547, 0.11094, -0.11094]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=5.1e-6)
