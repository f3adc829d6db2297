"""torch before 2.10 has no C exchange API: its tensors come as `__dlpack__` capsules.

That way is stricter: it refuses tensors that require a gradient. Here the tensors on their way to
the native module are wrapped so that they offer nothing else but to be detached.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import diffsort
from diffsort.backends import kernels

from .helpers import torch  # skips where torch is missing

X = [[2.9, 0.1, 1.2, 1.3], [0.3, 0.1, 0.2, 0.9]]


class OnlyCapsules:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

        self.requires_grad = tensor.requires_grad

    def detach(self) -> OnlyCapsules:
        return OnlyCapsules(self.tensor.detach())

    def __dlpack__(self, **options: object) -> object:
        return self.tensor.__dlpack__(**options)


@pytest.fixture
def capsules_only(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tensors that went through a capsule, as a list of one."""
    count = [0]

    def wrapped(function):
        def call(*args):
            tensors = [isinstance(arg, torch.Tensor) for arg in args]
            count[0] += sum(tensors)
            return function(
                *(OnlyCapsules(a) if t else a for a, t in zip(args, tensors, strict=True))
            )

        return call

    native = kernels.native
    functions = {name: wrapped(getattr(native, name)) for name in ("project", "project_vjp")}
    monkeypatch.setattr(kernels, "native", SimpleNamespace(**functions))
    return count


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("operator", [diffsort.soft_rank, diffsort.soft_sort])
def test_values_and_gradients(capsules_only, operator, regularization) -> None:
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    strength = torch.tensor([[1.0], [0.5]], dtype=torch.float64, requires_grad=True)
    result = operator(x, regularization=regularization, regularization_strength=strength)
    result.backward(torch.tensor(X, dtype=torch.float64))
    assert capsules_only[0] > 5
    expected, pull_back = diffsort.vjp(
        operator,
        np.array(X),
        wrt=("values", "regularization_strength"),
        regularization=regularization,
        regularization_strength=strength.detach().numpy(),
    )
    # The same native calls on the same numbers: equal bit for bit.
    np.testing.assert_array_equal(result.detach().numpy(), expected)
    for gradient, truth in zip((x.grad, strength.grad), pull_back(np.array(X)), strict=True):
        np.testing.assert_array_equal(gradient.numpy(), truth)


def test_gradient_of_w(capsules_only) -> None:
    z, w = (torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in X)
    diffsort.project(z, w, regularization="kl").sum().backward()
    # The result sums to what w sums to.
    torch.testing.assert_close(w.grad, torch.ones(4, dtype=torch.float64))
    assert z.grad.abs().max() < 1e-15
