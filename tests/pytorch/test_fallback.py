"""Every transformation of torch with the fallback in the place of the native solver.

The truth is the native solver under the same transformation, which the other files of this folder
hold to the oracle. Only the order of sums differs: both solvers' blocks go into the same formulas.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import diffsort
from diffsort.backends import solver

from .helpers import cotangent, every_case, few_cases, point, strength_of, tangent, torch

EXACT = 1e-10


def _compiled(function, *args):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")(*args)


def _exported(case):
    class Module(torch.nn.Module):
        def forward(self, x, s):
            return case(x, s)

    def run(x, s, g):
        return torch.export.export(Module(), (x, s)).module()(x, s)

    return run


def _loss(case):
    return lambda x, s, g: (case(x, s) * g).square().sum()


def _backward(case, x, s, g, create_graph=False):
    x, s = x.detach().requires_grad_(), s.detach().requires_grad_()
    return torch.autograd.grad(_loss(case)(x, s, g), (x, s), create_graph=create_graph), (x, s)


def _double_backward(case, x, s, g):
    gradients, inputs = _backward(case, x, s, g, create_graph=True)
    return torch.autograd.grad(sum(a.square().sum() for a in gradients), inputs)


TRANSFORMATIONS = {
    "value": lambda case: case_only(case),
    "backward": lambda case: lambda x, s, g: _backward(case, x, s, g)[0],
    "double backward": lambda case: lambda x, s, g: _double_backward(case, x, s, g),
    "grad": lambda case: torch.func.grad(_loss(case), argnums=(0, 1)),
    "jvp": lambda case: lambda x, s, g: torch.func.jvp(lambda x: case(x, s), (x,), (tangent(),)),
    "vmap": lambda case: lambda x, s, g: torch.func.vmap(lambda r, t: case(r, t))(x, s),
    "vmap of grad": lambda case: torch.func.vmap(torch.func.grad(_loss(case))),
    "jacrev": lambda case: lambda x, s, g: torch.func.jacrev(case)(x, s),
    "jacfwd": lambda case: lambda x, s, g: torch.func.jacfwd(case)(x, s),
    "hessian": lambda case: lambda x, s, g: torch.func.hessian(_loss(case))(x, s, g),
    "compiled": lambda case: lambda x, s, g: _compiled(case, x, s),
    "compiled grad": lambda case: lambda x, s, g: _compiled(torch.func.grad(_loss(case)), x, s, g),
    "exported": _exported,
}


def case_only(case):
    return lambda x, s, g: case(x, s)


def _answers(monkeypatch, choice, transformation, case):
    monkeypatch.setattr(solver, "requested", choice)
    found = TRANSFORMATIONS[transformation](case)(
        point(grad=False), strength_of("per_row", grad=False), cotangent()
    )
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@few_cases
def test_transformation(case, transformation, monkeypatch):
    expected = _answers(monkeypatch, "native", transformation, case)
    found = _answers(monkeypatch, "fallback", transformation, case)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert not other.isnan().any()
        assert other.detach().abs().max() > 0
        torch.testing.assert_close(one, other, rtol=EXACT, atol=EXACT)


@every_case
def test_gradgradcheck(case, monkeypatch):
    monkeypatch.setattr(solver, "requested", "fallback")
    inputs = point(), strength_of("per_row")
    assert torch.autograd.gradcheck(case, inputs)
    assert torch.autograd.gradgradcheck(case, inputs)


def test_the_choice_is_taken(monkeypatch):
    """With the native module gone, the fallback works and nothing else does."""
    monkeypatch.setattr("diffsort.backends.kernels.native", None)
    x = point()
    with pytest.raises(AttributeError):
        diffsort.soft_rank(x)
    monkeypatch.setattr(solver, "requested", "fallback")
    diffsort.soft_rank(x).sum().backward()
    assert x.grad is not None


def test_a_compiled_function_notices_another_choice(monkeypatch):
    monkeypatch.setattr(solver, "requested", "native")
    torch.compiler.reset()
    compiled = torch.compile(diffsort.soft_rank, fullgraph=True, backend="eager")
    x = point(grad=False)
    expected = compiled(x)
    monkeypatch.setattr(solver, "requested", "fallback")
    monkeypatch.setattr("diffsort.backends.kernels.native", None)
    torch.testing.assert_close(compiled(x), expected, rtol=EXACT, atol=EXACT)


def test_a_compiled_call_on_a_device_without_a_kernel_warns(monkeypatch):
    """The CPU in the place of such a device: Dynamo neither breaks the graph nor fails."""
    monkeypatch.setattr("diffsort.backends.torch.kernels._ALWAYS_WITH_KERNEL", ())
    monkeypatch.setattr("diffsort.backends.torch.is_plain", lambda *tensors: False)
    monkeypatch.setattr(solver, "_warned", set())
    torch.compiler.reset()
    compiled = torch.compile(diffsort.soft_rank, fullgraph=True, backend="eager")
    x = point(grad=False)
    with pytest.warns(diffsort.errors.FallbackWarning, match="torch.float64 on cpu"):
        found = compiled(x)
    monkeypatch.undo()
    torch.testing.assert_close(found, diffsort.soft_rank(x), rtol=EXACT, atol=EXACT)


def test_a_cuda_device_without_an_index_is_the_current_one(monkeypatch):
    from diffsort.backends.torch import kernels

    asked = []
    monkeypatch.setattr(kernels, "cuda_problem", asked.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for device in ("cuda", "cuda:0", "cuda:1"):
        kernels.missing_kernel(SimpleNamespace(device=torch.device(device)))
    assert asked == [3, 0, 1]
