"""The corners: empty, one element, ties, tiny and huge, NaN and infinities, long half types."""

import certified
import numpy as np
import pytest
from backends import rounded
from problem import Problem, operators, ops, regularizations
from tolerances import assert_within, derivative_tolerance, result_tolerance


def inputs_of(op, values, strength):
    inputs = {"values": np.asarray(values, dtype=float), "regularization_strength": strength}
    if op == "project":
        inputs["w"] = np.random.default_rng(8).uniform(0, 3, size=inputs["values"].shape)
    return inputs


def check(backend, op, inputs, dtype="float64", **options):
    """Everything but the strength's derivatives, whose terms overflow at some of these points."""
    wrt = [name for name in inputs if name != "regularization_strength"]
    Problem(op, inputs, dtype, wrt=wrt, **options).check(backend)


NORMAL = np.random.default_rng(10).normal(size=9)
ROWS = {
    "one value": ([3.5], [0.0, 1.0]),
    "ties": ([1.0, 1, 2, 0, 2], [0.0, 0.4, 1.0, 2.3]),
    "constant": ([0.1] * 6, [0.0, 1e-100, 1e-30, 1.0, 1e30]),
    "zeros of both signs": ([0.0, -0.0, 1.0, -0.0, 0.0], [0.0, 0.5]),
    "gaps of exactly the strength": ([0.0, 1, 2, 4, 5], [1.0]),
    "tiny": (1e-12 * NORMAL, [0.0, 3e-13, 1e-12, 1.0]),
    "far from zero": (1e9 + NORMAL, [0.0, 0.4, 3.0]),
    "denormal": ([5e-324, 0.0, 1.5e-323, -5e-324], [0.0, 1.0]),
    "huge": ([1e300, -1e300, 3e300, 0.0], [0.0, 1.0, 1e300]),
    "extreme strengths": (NORMAL, [1e-30, 1e-10, 1e10, 1e30]),
    "an outlier": ([*NORMAL, 1e30], [1e-30, 1.0, 1e30]),
    "a low outlier": ([-1e30, *NORMAL], [1e-30, 1.0, 1e30]),
}
EDGES = [(name, strength) for name, (_, strengths) in ROWS.items() for strength in strengths]


@pytest.mark.parametrize(("name", "strength"), EDGES)
@operators
def test_edge_row(backend, op, options, name, strength):
    check(backend, op, inputs_of(op, ROWS[name][0], strength), **options)


@pytest.mark.parametrize("strength", [5e-309, 5e-324])
@operators
def test_strengths_without_an_inverse(backend, op, options, strength):
    """1 / strength is beyond the largest float; the result is the limit."""
    result, limit = (
        backend.call(op, inputs_of(op, NORMAL, each), **options) for each in (strength, 0.0)
    )
    assert_within(result, limit, result_tolerance("float64", limit, len(NORMAL)))


@pytest.mark.parametrize("scale", [1e-12, 1e3])
@operators
def test_float32_scales(backend, op, options, scale):
    """Blocks must come from comparisons, not from a tolerance in the values' units."""
    values = rounded(scale * np.random.default_rng(12).normal(size=(4, 9)), "float32")
    strength = {"soft_rank": 0.4 * scale, "soft_sort": 2 / scale, "project": 0.4 * scale}[op]
    inputs = inputs_of(op, values, strength)
    inputs = {k: v if isinstance(v, float) else rounded(v, "float32") for k, v in inputs.items()}
    check(backend, op, inputs, "float32", **options)


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


@operators
def test_five_dimensions(backend, op, options):
    values = np.random.default_rng(13).normal(size=(2, 1, 3, 4, 2))
    check(backend, op, inputs_of(op, values, 0.6), axis=3, **options)


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


@operators
def test_infinite_values_at_strength_0(backend, op, options):
    check(backend, op, inputs_of(op, INFINITE, 0.0), **options)


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


@regularizations
def test_infinite_weights_at_strength_0(backend, dtype, regularization):
    """A block shares an infinite w like any other, and no derivative is 0 times infinity."""
    inf = np.inf
    least = 0.5 if regularization == "kl" else -inf
    inputs = {
        "values": np.array([[1.0, 2.0, 1.0, -inf, 0.5, 2.0], [3.0, inf, 1.0, 2.0, inf, 0.0]]),
        "w": np.array([[inf, 1.0, 0.25, least, inf, 2.0], [0.0, inf, 0.5, inf, 1.0, least]]),
        "regularization_strength": np.zeros((2, 1)),
    }
    Problem("project", inputs, dtype, regularization=regularization).check(backend)


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
