"""diffsort.vjp and diffsort.jvp on tensors: the same numbers as on NumPy, and the same errors."""

from __future__ import annotations

import numpy as np
import pytest

import diffsort
from diffsort.errors import BackendMismatchError

from .helpers import torch  # skips where torch is missing

X = np.array([[2.9, 0.1, 1.2, 1.3], [0.3, 0.1, 0.2, 0.9]])
G = np.array([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]])
# One formula computed in two ways in float64: a few dozen roundings of numbers below 100.
CLOSE = {"rtol": 0, "atol": 100 * 50 * 2.0**-53}


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("operator", [diffsort.soft_rank, diffsort.soft_sort])
def test_numbers_are_those_of_numpy(operator, regularization) -> None:
    wrt = ("values", "regularization_strength")
    options = {"regularization": regularization, "regularization_strength": 0.7}
    result, pull = diffsort.vjp(operator, torch.tensor(X), wrt=wrt, **options)
    expected, numpy_pull = diffsort.vjp(operator, X, wrt=wrt, **options)
    # The value with a Python number as the strength: nothing of it is rounded to float32.
    np.testing.assert_allclose(result.numpy(), expected, **CLOSE)
    for found, truth in zip(pull(torch.tensor(G)), numpy_pull(G), strict=True):
        np.testing.assert_allclose(found.numpy(), truth, **CLOSE)
    _, tangent = diffsort.jvp(operator, torch.tensor(X), torch.tensor(G), **options)
    np.testing.assert_allclose(tangent.numpy(), diffsort.jvp(operator, X, G, **options)[1], **CLOSE)


def test_lists_are_cotangents_and_tangents() -> None:
    x = torch.tensor(X[0])
    np.testing.assert_array_equal(
        diffsort.vjp(diffsort.soft_rank, x)[1]([1, 2, 3, 4]).numpy(), [0, -1, 0, 1]
    )
    assert diffsort.jvp(diffsort.soft_rank, x, [1.0, 2, 3, 4])[1].dtype == torch.float64


def test_a_list_beside_a_tensor_takes_its_dtype() -> None:
    z, w = torch.tensor(X[0]), [0.1, 0.2, 0.7, 2.0**25 + 1]
    result = diffsort.project(z, w, regularization_strength=0)
    expected = diffsort.project(X[0], np.array(w), regularization_strength=0)
    np.testing.assert_array_equal(result.numpy(), expected)
    assert diffsort.project(z.float(), w).dtype == torch.float32


@pytest.mark.parametrize(
    ("direction", "error", "message"),
    [
        (torch.ones(3), ValueError, r"\(4,\), got \(3,\)"),
        (np.ones(4), BackendMismatchError, "numpy.ndarray"),
        (torch.ones(4) * 1j, TypeError, "complex64"),
        ("abcd", TypeError, "got dtype <U4"),
        (None, TypeError, "got dtype object"),
    ],
    ids=["shape", "framework", "complex", "string", "none"],
)
def test_a_bad_direction_names_itself(direction, error, message) -> None:
    x = torch.tensor(X[0])
    pull = diffsort.vjp(diffsort.soft_rank, x)[1]
    with pytest.raises(error, match=f"soft_rank: cotangent .*{message}"):
        pull(direction)
    with pytest.raises(error, match=f"soft_rank: tangent .*{message}"):
        diffsort.jvp(diffsort.soft_rank, x, direction)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["a", "b"], TypeError, "got dtype <U1"),
        ([10**30, 1], TypeError, "got dtype object"),
        ([[1, 2], [3]], ValueError, "ragged"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "masked"),
        (None, TypeError, "NoneType"),
        ([torch.tensor(1.0), torch.tensor(2.0)], BackendMismatchError, "stack"),
    ],
    ids=["strings", "big integers", "ragged", "masked", "none", "tensors"],
)
def test_python_data_for_the_torch_backend_is_checked(values, error, message) -> None:
    with pytest.raises(error, match=f"soft_rank: values .*{message}"):
        diffsort.soft_rank(values, backend="torch")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([torch.tensor([1.0, 2.0]), torch.tensor([3.0])])
    with pytest.raises(TypeError, match="soft_rank: values must be a dense tensor, got a nested"):
        diffsort.soft_rank(nested)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_all_unsigned_integers_promote(dtype) -> None:
    ranks = diffsort.soft_rank(torch.tensor([1, 5, 3]).to(dtype))
    assert ranks.dtype == torch.get_default_dtype()
    assert ranks.tolist() == [1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    "around",
    [lambda: torch.device("cpu"), torch.autograd.forward_ad.dual_level],
    ids=["function mode", "dual level"],
)
def test_an_invalid_strength_is_an_error_wherever_it_can_be_read(around) -> None:
    with around(), pytest.raises(ValueError, match=r"must be ≥ 0 and finite, got -1\.0"):
        diffsort.soft_rank(torch.tensor(X), regularization_strength=torch.tensor(-1.0))


def test_devices_do_not_mix() -> None:
    x, meta = torch.tensor(X), torch.ones(2, 1, device="meta")
    with pytest.raises(ValueError, match="regularization_strength must be on the device of values"):
        diffsort.soft_rank(x, regularization_strength=meta)
    with pytest.raises(ValueError, match="project: z and w must be on one device"):
        diffsort.project(x, meta.expand(2, 4))


def test_numbers_and_data_of_python_come_to_the_device_of_the_tensor() -> None:
    x = torch.ones(2, 4, device="meta")
    wrt = ("values", "regularization_strength")
    for strength in (0.5, np.float64(0.5)):
        at = {"regularization_strength": strength}
        result, pull = diffsort.vjp(diffsort.soft_rank, x, wrt=wrt, **at)
        assert [found.device for found in (result, *pull(result))] == [x.device] * 3
        for tangent in (1.0, np.float64(1.0)):
            tangents = {"regularization_strength": tangent}
            assert diffsort.jvp(diffsort.soft_rank, x, tangents, **at)[1].device == x.device
    rows = diffsort.jvp(diffsort.soft_rank, x, [[1.0] * 4] * 2)[1]
    assert rows.device == x.device
    for z in (x, x.to(torch.int64)):  # whose dtype the weights take, and whose they do not
        assert diffsort.project(z, [4.0, 3.0, 2.0, 1.0]).device == x.device


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]], ids=["near first", "far first"])
def test_far_elements_without_weight_add_no_noise_to_the_strength_gradient(order) -> None:
    """kl: three ties share the weight, each a third of it, which no float is; the fourth element is
    in their block with nothing, 1e100 away in z / strength. Any rounding times that would show."""
    z = torch.tensor([1.0, 1.0, 1.0, -2.0], dtype=torch.float64)[order]
    strength = torch.tensor(1e-100, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    cotangent = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64).sqrt()
    result = diffsort.project(z, w, regularization="kl", regularization_strength=strength)
    for create_graph in (False, True):
        (gradient,) = torch.autograd.grad(
            result, strength, cotangent, retain_graph=True, create_graph=create_graph
        )
        assert gradient == 0.0


@pytest.mark.parametrize(
    ("strength", "error"),
    [
        *[(bad, TypeError) for bad in ("0.5", True, [0.5], None, 1j, torch.tensor(True))],
        *[(bad, ValueError) for bad in (-1, float("nan"), 10**400, torch.tensor(-1.0))],
        (np.array([1.0]), BackendMismatchError),
    ],
    ids=str,
)
def test_a_bad_strength_stays_an_error(strength, error) -> None:
    options = {"regularization_strength": strength}
    x, g = torch.tensor(X), torch.tensor(G)
    with pytest.raises(error, match="soft_rank: regularization_strength"):
        diffsort.vjp(diffsort.soft_rank, x, wrt="regularization_strength", **options)
    with pytest.raises(error, match="soft_rank: regularization_strength"):
        diffsort.jvp(diffsort.soft_rank, x, {"values": g}, **options)


def test_complex_values_stay_an_error() -> None:
    x = torch.tensor(X).to(torch.complex64)
    with pytest.raises(TypeError, match=r"soft_rank: values must hold .*complex64"):
        diffsort.vjp(diffsort.soft_rank, x)
    with pytest.raises(TypeError, match=r"soft_rank: values must hold .*complex64"):
        diffsort.jvp(diffsort.soft_rank, x, x)


def test_nested_sequences_of_tensors_are_refused() -> None:
    row = [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0)]
    with pytest.raises(BackendMismatchError, match=r"a sequence of torch\.Tensor.*stack"):
        diffsort.soft_rank([row, row])


def test_an_offset_of_z_costs_the_gradient_of_w_no_digits() -> None:
    """kl with no weight in w: its gradient is softmax(z / strength) of each cotangent's row."""
    rows = []
    for offset in (0.0, 2.0**27):  # exact in float64, also added to these z
        z = torch.tensor([0.5, -0.25, 1.0, 0.125], dtype=torch.float64) + offset
        w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        result = diffsort.project(z, w, regularization="kl", regularization_strength=0.3)
        rows += torch.autograd.grad(result, w, torch.tensor(G[0]), create_graph=True)
    torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=0)
