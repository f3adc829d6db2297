"""PyTorch's own checkers: first and second order, forward and reverse, plain and batched."""

from __future__ import annotations

import pytest

import diffsort

from .helpers import (
    NUMBER,
    WEIGHTS,
    every_case,
    few_cases,
    point,
    strength_of,
    torch,
    torch_internals,
)

pytestmark = torch_internals
EVERYTHING = {
    "check_forward_ad": True,
    "check_batched_grad": True,
    "check_batched_forward_grad": True,
    "check_undefined_grad": True,
}


def _small(rows=2):
    return point(grad=False)[:rows].clone().requires_grad_()


@every_case
def test_gradcheck_in_values(case):
    assert torch.autograd.gradcheck(lambda x: case(x, NUMBER), (_small(),), **EVERYTHING)


@pytest.mark.parametrize("kind", ["scalar", "per_row"])
@every_case
def test_gradcheck_in_values_and_strength(case, kind):
    strength = strength_of(kind, grad=False)
    strength = (strength[:2] if strength.ndim else strength).clone().requires_grad_()
    assert torch.autograd.gradcheck(case, (_small(), strength), **EVERYTHING)


@every_case
def test_gradcheck_in_strength_alone(case):
    x = _small().detach()
    strength = strength_of("per_row", grad=False)[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: case(x, s), (strength,), **EVERYTHING)


@few_cases
def test_gradcheck_along_the_first_axis(case):
    x = point(grad=False).T.contiguous().requires_grad_()
    strength = strength_of("per_row", grad=False).T.contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: case(x, s, axis=0), (x, strength), **EVERYTHING)


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_gradcheck_of_project_in_all_its_arguments(regularization):
    def project(z, w, strength):
        return diffsort.project(
            z, w, regularization=regularization, regularization_strength=strength
        )

    w = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True)
    inputs = _small(), w, strength_of("scalar")
    assert torch.autograd.gradcheck(project, inputs, **EVERYTHING)
    assert torch.autograd.gradgradcheck(
        project, (_small(1), w, strength_of("scalar")), check_batched_grad=True
    )


@pytest.mark.parametrize("kind", ["scalar", "per_row"])
@every_case
def test_gradgradcheck(case, kind):
    strength = strength_of(kind, grad=False)
    strength = (strength[:2] if strength.ndim else strength).clone().requires_grad_()
    assert torch.autograd.gradgradcheck(
        case,
        (_small(), strength),
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        check_batched_grad=True,
    )


@few_cases
def test_gradgradcheck_with_a_number_as_strength(case):
    assert torch.autograd.gradgradcheck(
        lambda x: case(x, NUMBER), (_small(),), check_fwd_over_rev=True, check_batched_grad=True
    )


def test_gradcheck_notices_a_wrong_gradient():
    # The point must be one where a wrong map is seen: compare against a plainly wrong one.
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return diffsort.soft_rank(x, regularization_strength=NUMBER)

        @staticmethod
        def backward(ctx, g):
            return torch.zeros_like(g)

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, (_small(),))
