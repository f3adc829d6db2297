"""torch.export: the exported program computes what the module computes."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

import diffsort

from .helpers import (
    Case,
    assert_close,
    edges,
    expected,
    expected_vjp,
    few_cases,
    point,
    tangent,
    torch,
    torch_internals,
)

pytestmark = [
    torch_internals,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Operator(torch.nn.Module):
    """The operator with a learnable strength."""

    def __init__(self, case, axis=-1):
        super().__init__()
        self.case, self.axis = case, axis
        self.strength = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x):
        return self.case(x, self.strength, axis=self.axis)


@pytest.mark.parametrize("strict", [False, True])
@few_cases
def test_values(case, strict):
    module = Operator(case)
    assert_close(
        module(point(grad=False)), expected(case, point())
    )  # test_first_use.py does without
    program = torch.export.export(module, (point(grad=False),), strict=strict).module()
    for x in (point(grad=False), tangent(), -point(grad=False)):
        assert_close(program(x), expected(case, x))


@few_cases
def test_gradients_of_the_exported_program(case):
    program = torch.export.export(Operator(case), (point(grad=False),)).module()
    x, g = point(), tangent()
    program(x).backward(g)
    dx, ds = expected_vjp(case, x, 0.7, g)
    assert_close(x.grad, dx)
    assert_close(program.strength.grad, ds.sum())


@few_cases
def test_dynamic_batch_and_length(case):
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    program = torch.export.export(
        Operator(case), (point(grad=False),), dynamic_shapes={"x": {0: batch, 1: length}}
    ).module()
    generator = torch.Generator().manual_seed(4)
    for shape in ((3, 5), (7, 5), (2, 9)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        assert_close(program(x), expected(case, x))


@few_cases
def test_dynamic_batch_with_another_axis(case):
    program = torch.export.export(
        Operator(case, axis=0),
        (point(grad=False).T,),
        dynamic_shapes={"x": {1: torch.export.Dim("batch", min=2)}},
    ).module()
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert_close(program(x), expected(case, x.T).T)


@few_cases
def test_edge_rows_in_the_exported_program(case):
    class PerRow(torch.nn.Module):
        def forward(self, x, strength):
            return case(x, strength)

    x, strength, _ = edges()
    example = torch.randn(5, 5, dtype=torch.float64), torch.ones(5, 1, dtype=torch.float64)
    program = torch.export.export(PerRow(), example).module()
    assert_close(program(x, strength), expected(case, x, strength))


def test_number_strength_is_a_constant_of_the_program():
    class Ranks(torch.nn.Module):
        def forward(self, x):
            return diffsort.soft_rank(x, regularization_strength=0.25)

    program = torch.export.export(Ranks(), (point(torch.float32, grad=False),)).module()
    x = tangent(torch.float32)
    result = program(x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, diffsort.soft_rank(x, regularization_strength=0.25))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("strength", [lambda n: 0.1 * n, lambda n: n], ids=["float", "int"])
def test_strength_computed_from_a_dynamic_length(strength, strict):
    class Ranks(torch.nn.Module):
        def forward(self, x):
            return diffsort.soft_rank(x, regularization_strength=strength(x.shape[-1]))

    Ranks()(point(grad=False))  # test_first_use.py does without
    length = torch.export.Dim("length", min=2)
    program = torch.export.export(
        Ranks(), (point(grad=False),), dynamic_shapes={"x": {1: length}}, strict=strict
    ).module()
    case, generator = Case("soft_rank", "ascending", "l2"), torch.Generator().manual_seed(4)
    for n in (5, 9, 3):
        x = 3 * torch.randn(3, n, generator=generator, dtype=torch.float64)
        assert_close(program(x), expected(case, x, float(strength(n))))


def test_number_of_numpy_as_strength():
    """torch.export(strict=True) loses the values of NumPy's numbers, in x * number as well."""

    class Ranks(torch.nn.Module):
        def forward(self, x):
            return diffsort.soft_rank(x, regularization_strength=number)

    number, x = np.float64(0.7), point(grad=False)
    program = torch.export.export(Ranks(), (x,)).module()
    assert_close(program(x), expected(Case("soft_rank", "ascending", "l2"), x, 0.7))
    with pytest.raises(Exception, match="got a number of NumPy, whose value"):
        torch.export.export(Ranks(), (x,), strict=True)


def test_saved_program_loads():
    case = Case("soft_rank", "ascending", "kl")
    program = torch.export.export(Operator(case), (point(grad=False),))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert_close(loaded(tangent()), expected(case, tangent()))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "imports", ["import torch, diffsort", "import diffsort, diffsort.backends.torch, torch"]
)
def test_saved_program_loads_in_a_process_that_calls_no_operator(imports, tmp_path):
    """What the documentation says of the imports that it takes."""
    case = Case("soft_rank", "ascending", "l2")
    module, x = Operator(case).requires_grad_(False), point(grad=False)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "exported.pt2")
    torch.jit.save(torch.jit.trace(module, x), tmp_path / "traced.pt")
    torch.save([x, module(x)], tmp_path / "expected.pt")
    script = f"""if True:
        {imports}
        x, expected = torch.load("expected.pt")
        for program in (torch.export.load("exported.pt2").module(), torch.jit.load("traced.pt")):
            torch.testing.assert_close(program(x), expected)
        print("same")
    """
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout == "same\n", run.stderr[-3000:]


def test_core_decompositions():
    case = Case("soft_sort", "ascending", "kl")
    program = torch.export.export(Operator(case), (point(grad=False),)).run_decompositions()
    assert_close(program.module()(tangent()), expected(case, tangent()))
