"""The examples that users of torchsort know from its documentation, to the printed digits."""

import numpy as np

import diffsort

DIGITS = np.array([[8, 0, 5, 3, 2, 1, 6, 7, 9]])
PRINTED = 5.1e-5  # four decimals


def test_soft_sort():
    found = diffsort.soft_sort(DIGITS, regularization_strength=1.0)
    np.testing.assert_allclose(found, [0.5556 + np.arange(9)], rtol=0, atol=PRINTED)


def test_soft_sort_nearly_hard():
    found = diffsort.soft_sort(DIGITS, regularization_strength=0.1)
    np.testing.assert_allclose(found, [[0, 1, 2, 3, 5, 6, 7, 8, 9]], rtol=0, atol=PRINTED)


def test_soft_rank():
    found = diffsort.soft_rank(DIGITS)
    np.testing.assert_allclose(found, [[8, 1, 5, 4, 3, 2, 6, 7, 9]], rtol=0, atol=PRINTED)


def test_gradient_of_soft_sort(backend):
    _, (found,) = backend.vjp("soft_sort", {"values": DIGITS}, np.eye(9)[:1], ["values"])
    np.testing.assert_allclose(found, np.full((1, 9), 0.1111), rtol=0, atol=PRINTED)


def test_spearman(backend):
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
