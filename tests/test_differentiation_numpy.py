"""diffsort.vjp and diffsort.jvp as an interface; their numbers are test_conformance's subject."""

import numpy as np
import pytest
from oracle import Batch

import diffsort

RNG = np.random.default_rng(17)
VALUES, COTANGENT = RNG.normal(size=(3, 5)), RNG.normal(size=(3, 5))
PER_ROW = np.array([[0.3], [0.6], [0.9]])
# One formula in float64, with fewer than a hundred roundings of numbers below 100.
CLOSE = {"rtol": 0, "atol": 100 * 100 * 2.0**-53}


def truth(op="soft_rank", strength=1.0, **inputs):
    return Batch(op, {"values": VALUES, "regularization_strength": strength, **inputs})


@pytest.mark.parametrize("wrt", ["values", ("values",), ["values"]])
def test_one_name_gives_one_array(wrt):
    result, pull = diffsort.vjp(diffsort.soft_rank, VALUES, wrt=wrt)
    gradient = pull(COTANGENT)
    assert type(gradient) is np.ndarray
    np.testing.assert_allclose(result, truth().value(), **CLOSE)
    np.testing.assert_allclose(gradient, truth().vjp(COTANGENT), **CLOSE)


def test_values_are_the_default():
    _, pull = diffsort.vjp(diffsort.soft_rank, VALUES)
    np.testing.assert_allclose(pull(COTANGENT), truth().vjp(COTANGENT), **CLOSE)


def test_several_names_give_a_tuple_in_their_order():
    wrt = ("regularization_strength", "values")
    _, pull = diffsort.vjp(diffsort.soft_rank, VALUES, wrt=wrt, regularization_strength=PER_ROW)
    gradients = pull(COTANGENT)
    assert type(gradients) is tuple
    for name, gradient in zip(wrt, gradients, strict=True):
        expected = truth(strength=PER_ROW).vjp(COTANGENT, name)
        np.testing.assert_allclose(gradient, expected, **CLOSE)


@pytest.mark.parametrize(
    "strength", [0.5, np.array(0.5), np.full(1, 0.5), np.full((1, 1), 0.5), PER_ROW]
)
def test_strength_gradient_has_the_shape_of_the_strength(strength):
    _, pull = diffsort.vjp(
        diffsort.soft_sort, VALUES, wrt="regularization_strength", regularization_strength=strength
    )
    expected = truth("soft_sort", strength).vjp(COTANGENT, "regularization_strength")
    assert type(pull(COTANGENT)) is np.ndarray
    np.testing.assert_allclose(pull(COTANGENT), expected, **CLOSE)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (2, 1, 5)])
def test_gradient_of_w_has_the_shape_of_w(shape):
    w = RNG.random(shape)
    result, pull = diffsort.vjp(diffsort.project, VALUES, w=w, wrt=("values", "w"))
    cotangent = np.broadcast_to(COTANGENT, result.shape)
    for name, gradient in zip(("values", "w"), pull(cotangent), strict=True):
        np.testing.assert_allclose(gradient, truth("project", w=w).vjp(cotangent, name), **CLOSE)


def test_vjp_fun_may_be_called_again():
    _, pull = diffsort.vjp(diffsort.soft_rank, VALUES)
    first = pull(COTANGENT)
    assert np.array_equal(pull(2 * COTANGENT), 2 * first)
    assert np.array_equal(pull(COTANGENT), first)


def test_writing_to_the_result_does_not_change_the_gradient():
    options = {"regularization": "kl", "regularization_strength": 0.7}
    result, pull = diffsort.vjp(diffsort.soft_rank, VALUES, **options)
    before = pull(COTANGENT)
    result[...] = 0
    assert np.array_equal(pull(COTANGENT), before)


def test_writing_to_the_input_does_not_change_the_gradient():
    values, strength = VALUES.copy(), PER_ROW.copy()
    _, pull = diffsort.vjp(
        diffsort.soft_rank, values, regularization="kl", regularization_strength=strength,
        wrt=("values", "regularization_strength"),
    )  # fmt: skip
    before = pull(COTANGENT)
    values[...] = strength[...] = 1
    for found, expected in zip(pull(COTANGENT), before, strict=True):
        assert np.array_equal(found, expected)


def test_integer_values_have_float64_gradients():
    _, pull = diffsort.vjp(diffsort.soft_rank, [3, 1, 2])
    gradient = pull([1, 0, 0])
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, [2 / 3, -1 / 3, -1 / 3], **CLOSE)


def test_jvp_of_an_array_is_along_the_values():
    result, tangent = diffsort.jvp(diffsort.soft_sort, VALUES, COTANGENT)
    np.testing.assert_allclose(result, truth("soft_sort").value(), **CLOSE)
    np.testing.assert_allclose(tangent, truth("soft_sort").jvp({"values": COTANGENT}), **CLOSE)


@pytest.mark.parametrize(
    "names",
    [["values"], ["w"], ["regularization_strength"], ["values", "w", "regularization_strength"]],
)
def test_jvp_of_a_dict_adds_the_named_directions(names):
    w = RNG.random(5)
    tangents = {
        "values": COTANGENT,
        "w": RNG.normal(size=5),
        "regularization_strength": RNG.normal(size=(3, 1)),
    }
    tangents = {name: tangents[name] for name in names}
    _, tangent = diffsort.jvp(
        diffsort.project, VALUES, tangents, w=w, regularization_strength=PER_ROW
    )
    expected = truth("project", PER_ROW, w=w).jvp(tangents)
    np.testing.assert_allclose(tangent, expected, **CLOSE)


def test_jvp_along_a_number_strength():
    tangents = {"regularization_strength": 2.0}
    _, tangent = diffsort.jvp(diffsort.soft_rank, VALUES, tangents, regularization_strength=0.5)
    np.testing.assert_allclose(tangent, truth(strength=0.5).jvp(tangents), **CLOSE)


@pytest.mark.parametrize("fun", [np.sort, diffsort.show_config, lambda x: x, "soft_rank", None])
def test_only_operators_have_derivatives_here(fun):
    with pytest.raises(TypeError, match="vjp: fun must be") as raised:
        diffsort.vjp(fun, VALUES)
    assert "soft_rank" in str(raised.value)
    with pytest.raises(TypeError, match="jvp: fun must be"):
        diffsort.jvp(fun, VALUES, VALUES)


@pytest.mark.parametrize("wrt", ["axis", ("values", "direction"), "w", ()])
def test_unknown_wrt(wrt):
    with pytest.raises(ValueError, match="vjp: wrt must") as raised:
        diffsort.vjp(diffsort.soft_rank, VALUES, wrt=wrt)
    assert "regularization_strength" in str(raised.value)
    assert repr(wrt if isinstance(wrt, str) or not wrt else wrt[-1]) in str(raised.value)


@pytest.mark.parametrize("name", ["axis", "w"])
def test_unknown_tangent(name):
    with pytest.raises(ValueError, match="jvp: ") as raised:
        diffsort.jvp(diffsort.soft_rank, VALUES, {name: VALUES})
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("shape", [(5,), (3, 1), (5, 3), (1, 3, 5), ()])
def test_cotangent_of_a_wrong_shape(shape):
    _, pull = diffsort.vjp(diffsort.soft_rank, VALUES)
    with pytest.raises(ValueError, match="cotangent") as raised:
        pull(np.ones(shape))
    assert "(3, 5)" in str(raised.value)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("shape", [(5,), (3, 1), (5, 3), ()])
def test_tangent_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match="tangent") as raised:
        diffsort.jvp(diffsort.soft_rank, VALUES, np.ones(shape))
    assert "(3, 5)" in str(raised.value)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("bad", [np.ones((3, 5), complex), np.full((3, 5), "a")])
def test_cotangent_and_tangent_of_a_wrong_dtype(bad):
    _, pull = diffsort.vjp(diffsort.soft_rank, VALUES)
    with pytest.raises(TypeError, match=f"cotangent .* got {bad.dtype}"):
        pull(bad)
    with pytest.raises(TypeError, match=f"tangent .* got {bad.dtype}"):
        diffsort.jvp(diffsort.soft_rank, VALUES, bad)


@pytest.mark.parametrize(
    "derivative", [diffsort.vjp, lambda *a, **k: diffsort.jvp(*a, VALUES, **k)]
)
def test_options_are_checked_as_in_the_call(derivative):
    with pytest.raises(ValueError, match=r"soft_rank: direction .* got 'up'"):
        derivative(diffsort.soft_rank, VALUES, direction="up")
    with pytest.raises(ValueError, match=r"soft_rank: regularization_strength .* got -1\.0"):
        derivative(diffsort.soft_rank, VALUES, regularization_strength=-1.0)
    with pytest.raises(TypeError, match="'dim'"):
        derivative(diffsort.soft_rank, VALUES, dim=0)
