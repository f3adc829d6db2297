"""Cases and expected values of tests/points.py as tensors, for the PyTorch tests."""

from __future__ import annotations

from dataclasses import dataclass

import points
import pytest
from points import (
    COTANGENT,
    EDGE_POINT,
    EXACT,
    NUMBER,
    NUMERIC,
    PER_ROW,
    POINT,
    SINGLE,
    TANGENT,
    WEIGHTS,
    difference,
)

torch = pytest.importorskip("torch", minversion="2.6")

import diffsort  # noqa: E402

__all__ = ["EDGE_POINT", "NUMERIC", "SINGLE", "difference"]


@dataclass(frozen=True)
class Case(points.Operator):
    """One operator with its options, on tensors."""

    def __call__(self, x, strength=NUMBER, **options):
        options = {
            "regularization": self.regularization,
            "regularization_strength": strength,
            **options,
        }
        if self.op == "project":
            shape = [1] * x.ndim
            shape[options.get("axis", -1)] = -1
            w = torch.tensor(WEIGHTS, dtype=x.dtype, device=x.device)
            w = w[: x.shape[options.get("axis", -1)]].reshape(shape)
            return diffsort.project(x, w, **options)
        return getattr(diffsort, self.op)(x, direction=self.direction, **options)


CASES = points.operators(Case)
FEW = points.few_operators(Case)

# PyTorch scripts its own forward-mode decompositions and warns about that.
torch_internals = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
every_case = pytest.mark.parametrize("case", CASES, ids=str)
few_cases = pytest.mark.parametrize("case", FEW, ids=str)
STRENGTHS = {
    "number": lambda: NUMBER,
    "scalar": lambda: torch.tensor(NUMBER, dtype=torch.float64),
    "per_row": lambda: torch.tensor(PER_ROW, dtype=torch.float64),
}
every_strength = pytest.mark.parametrize("kind", list(STRENGTHS))


def point(dtype=None, grad=True):
    return torch.tensor(POINT, dtype=dtype or torch.float64, requires_grad=grad)


def cotangent(dtype=None):
    return torch.tensor(COTANGENT, dtype=dtype or torch.float64)


def tangent(dtype=None):
    return torch.tensor(TANGENT, dtype=dtype or torch.float64)


def strength_of(kind, grad=True):
    strength = STRENGTHS[kind]()
    if isinstance(strength, torch.Tensor):
        strength.requires_grad_(grad)
    return strength


def _numpy(x):
    return torch.as_tensor(x, dtype=torch.float64).detach().resolve_neg().numpy()


def expected(case, x, strength=NUMBER):
    return torch.tensor(points.expected(case, _numpy(x), _numpy(strength)))


def expected_vjp(case, x, strength, g):
    found = points.expected_vjp(case, _numpy(x), _numpy(strength), _numpy(g))
    return tuple(map(torch.tensor, found))


def expected_jvp(case, x, strength, t, strength_t=None):
    strength_t = None if strength_t is None else _numpy(strength_t)
    found = points.expected_jvp(case, _numpy(x), _numpy(strength), _numpy(t), strength_t)
    return torch.tensor(found)


def expected_jacobian(case, x, strength=NUMBER):
    return torch.tensor(points.expected_jacobian(case, _numpy(x), _numpy(strength)))


def total(strength_gradient, strength):
    """Sum per-row strength gradients down to the shape of the strength argument."""
    if isinstance(strength, torch.Tensor) and strength.ndim:
        return strength_gradient
    return strength_gradient.sum()


def assert_close(actual, wanted, rtol=EXACT, atol=EXACT):
    """Equal values (NaN where NaN is wanted), whatever the floating dtype of `actual`."""
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    assert actual is not None, "no gradient at all"
    assert actual.shape == wanted.shape
    torch.testing.assert_close(
        actual.detach().double(), wanted, rtol=rtol, atol=atol, equal_nan=True
    )


def edges(dtype=None):
    """Rows where the derivative is defined by convention, their strengths and cotangents."""
    arrays = (EDGE_POINT, points.EDGE_STRENGTH, points.EDGE_COTANGENT)
    return tuple(torch.tensor(array, dtype=dtype or torch.float64) for array in arrays)
