"""What may be passed in: memory layouts, integers, sequences, numbers, letter cases."""

import numpy as np
import pytest
from problem import operators, ops

import diffsort

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
@operators
def test_integers_and_bools_promote(backend, op, options, kind):
    """As the floats that they are: -x of a uint8 is not its negative."""
    arrays = [np.array([[3, 0, 250, 7, 7], [1, 1, 0, 9, 2]]), np.array([5, 1, 3, 2, 1])]
    arrays = [array.astype(kind) for array in arrays[: 2 if op == "project" else 1]]
    with backend.path():
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


@pytest.mark.parametrize("sign", ["", "u"])
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_strength_of_any_integer_type_of_torch(torch, sign, bits):
    values = torch.tensor([[0.0, 2.5, 10.0]])
    strength = torch.tensor([[3]]).to(getattr(torch, f"{sign}int{bits}"))
    expected = diffsort.soft_rank(values, regularization_strength=3.0)
    assert torch.equal(diffsort.soft_rank(values, regularization_strength=strength), expected)


def test_option_names_in_any_letter_case(backend):
    values = {"values": np.array([0.0, 0.25, 1.0])}
    found = backend.call("soft_rank", values, direction="DESCENDING", regularization="KL")
    expected = backend.call("soft_rank", values, direction="descending", regularization="kl")
    assert np.array_equal(found, expected)


def test_bfloat16_mixes_like_any_float():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    z, w = np.array([1, 3, 2], bfloat16), np.array([4, 0.5, 1], np.float16)
    result = diffsort.project(z, w, regularization_strength=bfloat16(0.5))
    assert result.dtype == np.float32
    expected = diffsort.project(z.astype(float), w.astype(float), regularization_strength=0.5)
    # All inputs are exact in both types; one rounding to float32 of numbers up to 4.
    np.testing.assert_allclose(result, expected, rtol=0, atol=4 * 2.0**-24)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_sequence_follows_the_floats_beside_it(backend, dtype):
    values = backend.asarray(np.array([1.0, 2.0]), dtype)
    for z, w in ((values, [1.0, 0.0]), ([1, 0], values)):
        with backend.path():
            assert str(diffsort.project(z, w).dtype).rpartition(".")[2] == dtype
