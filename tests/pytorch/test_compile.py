"""torch.compile(fullgraph=True): the same values and derivatives as the oracle, without breaks.

fullgraph=True turns every graph break into an error. "aot_eager" exercises all of the tracing and
none of the code generation; "inductor" needs a C++ compiler and is slow, so a few cases only.
"""

from __future__ import annotations

import importlib
import shutil
import sys

import numpy as np
import pytest

import diffsort

from .helpers import (
    CASES,
    FEW,
    NUMERIC,
    POINT,
    SINGLE,
    Case,
    assert_close,
    cotangent,
    edges,
    expected,
    expected_jvp,
    expected_vjp,
    few_cases,
    point,
    strength_of,
    tangent,
    torch,
    torch_internals,
    total,
)

pytestmark = [
    torch_internals,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.skipif(sys.version_info >= (3, 15), reason="Dynamo does not know this Python"),
]
CompileCounterWithBackend = importlib.import_module(
    "torch._dynamo.testing"
).CompileCounterWithBackend
func = torch.func
BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=pytest.mark.skipif(
            not any(map(shutil.which, ("g++", "clang++", "c++"))),
            reason="inductor needs a C++ compiler",
        ),
    ),
]


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


few_and_project = pytest.mark.parametrize(
    "case", [*FEW, Case("project", "ascending", "kl")], ids=str
)


def compiled(function, backend="aot_eager", **options):
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, "per_row") for case in CASES]
    + [(case, kind) for case in FEW for kind in ("number", "scalar")],
    ids=str,
)
def test_forward_and_backward(case, kind):
    f = compiled(lambda x, s: case(x, s) * 2)
    for flip in (1, -1):  # the second call replays the compiled graph on other blocks
        x = (flip * point(grad=False)).requires_grad_()
        strength = strength_of(kind)
        y = f(x, strength)
        y.backward(cotangent())
        dx, ds = expected_vjp(case, x, strength, 2 * cotangent())
        assert_close(y, 2 * expected(case, x, strength))
        assert_close(x.grad, dx)
        if kind != "number":
            assert_close(strength.grad, total(ds, strength))


@few_cases
def test_learnable_strength_alone(case):
    f = compiled(case)
    strength = strength_of("scalar")
    f(point(grad=False), strength).backward(cotangent())
    assert_close(strength.grad, expected_vjp(case, point(), strength, cotangent())[1].sum())


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_model_with_a_loss(backend):
    # A whole training step as users write it: linear layer, soft rank, scalar loss.
    torch.manual_seed(0)
    weight = torch.randn(5, 5, requires_grad=True)
    strength = torch.tensor(0.6, requires_grad=True)
    x, target = point(torch.float32, grad=False), cotangent(torch.float32)

    def loss(weight, strength, x):
        ranks = diffsort.soft_rank(
            x @ weight, regularization="kl", regularization_strength=strength
        )
        return ((ranks - target) ** 2).mean()

    weight.data.mul_(0.3)  # scores close enough together for ranks that are soft
    eager = torch.autograd.grad(loss(weight, strength, x), (weight, strength))
    value = compiled(loss, backend)(weight, strength, x)
    assert_close(value, loss(weight, strength, x).double(), rtol=SINGLE)
    value.backward()
    assert eager[0].abs().max() > 1e-3
    assert eager[1].abs() > 1e-3
    assert_close(weight.grad, eager[0].double(), rtol=SINGLE, atol=SINGLE)
    assert_close(strength.grad, eager[1].double(), rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_inductor_soft_sort_on_a_middle_axis(backend):
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    f = compiled(
        lambda x: diffsort.soft_sort(x.sin(), axis=1, regularization_strength=0.7), backend
    )
    y = f(x)
    y.backward(g)
    z = x.detach().sin().movedim(1, -1)
    case = Case("soft_sort", "ascending", "l2")
    dz = expected_vjp(case, z, 0.7, g.movedim(1, -1))[0].movedim(-1, 1)
    assert_close(y, expected(case, z, 0.7).movedim(-1, 1))
    assert_close(x.grad, dz * x.detach().cos())


@few_cases
def test_number_strength_that_changes(case):
    count = CompileCounterWithBackend("aot_eager")
    f = compiled(lambda x, s: case(x, s), count)
    frames = []
    for s in (0.3, 0.7, 1.5, 0.8, 2.5, 4.0, 0.0):
        x = point()
        y = f(x, s)
        y.backward(cotangent())
        assert_close(y, expected(case, x, s))
        assert_close(x.grad, expected_vjp(case, x, s, cotangent())[0])
        frames.append(count.frame_count)
    # A number is a constant at first, and from its second value on an input of the graph. The hard
    # limit 0 may have a graph of its own.
    assert len(set(frames[1:-1])) == 1, f"compiled anew for new numbers: {frames}"


@few_cases
def test_tensor_strength_never_recompiles(case):
    count = CompileCounterWithBackend("aot_eager")
    f = compiled(lambda x, s: case(x, s), count)
    frames = []
    for s in (0.3, 0.7, 1.5, 2.5, 0.0):
        strength = torch.tensor(s, dtype=torch.float64)
        assert_close(f(point(grad=False), strength), expected(case, point(), s))
        frames.append(count.frame_count)
    assert len(set(frames)) == 1, f"compiled anew for new values: {frames}"


@pytest.mark.parametrize(
    "number",
    [np.float64(0.7), np.float32(0.5), np.int64(2), np.array(0.7)],
    ids=lambda number: type(number).__name__,
)
@few_cases
def test_number_of_numpy_as_strength(case, number):
    """As an argument and from around the function."""
    x = point()
    for y in (compiled(case)(x, number), compiled(lambda x: case(x, number))(x)):
        assert_close(y, expected(case, x, float(number)))
        assert_close(
            torch.autograd.grad(y, x, cotangent())[0],
            expected_vjp(case, x, float(number), cotangent())[0],
        )


@pytest.mark.parametrize("numbers", [[1 / 3, 0.25, 2.5, 0.1, 1.7], (3, 1, 2, 5, 4)])
def test_sequences(numbers):
    x = point(grad=False)
    wanted = diffsort.project(x, torch.tensor(numbers, dtype=x.dtype))
    assert_close(compiled(lambda x: diffsort.project(x, numbers))(x), wanted)
    with pytest.raises(Exception, match="BackendMismatchError"):
        compiled(lambda x: diffsort.project(x, [x[0, 0], x[0, 1], *x[1, :3]]))(x)


@few_cases
def test_ties_nan_row_and_zero_strength_row(case):
    x, strength, g = edges()
    x.requires_grad_()
    strength.requires_grad_()
    y = compiled(case)(x, strength)
    y.backward(g)
    dx, ds = expected_vjp(case, x, strength, g)
    assert_close(y, expected(case, x, strength))
    assert_close(x.grad, dx)
    assert_close(strength.grad, ds)


@few_cases
def test_invalid_strength_tensor_gives_nan_rows(case):
    strength = torch.tensor([[0.4], [-1.0], [2.3]], dtype=torch.float64)
    y = compiled(case)(point(grad=False), strength)
    assert y.isnan().any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("axis", [1])
@few_cases
def test_axis_and_dynamic_shapes(case, axis):
    f = compiled(lambda x, s: case(x, s, axis=axis), dynamic=True)
    generator = torch.Generator().manual_seed(3)
    for shape in ((4, 3, 5), (6, 3, 2), (2, 7, 3)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        g = torch.randn(shape, generator=generator, dtype=torch.float64)
        strength = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
        y = f(x, strength)
        y.backward(g)
        last = [a.movedim(axis, -1) for a in (x, g)]
        dx, ds = expected_vjp(case, last[0], 0.6, last[1])
        assert_close(y, expected(case, last[0], 0.6).movedim(-1, axis))
        assert_close(x.grad, dx.movedim(-1, axis))
        assert_close(strength.grad, ds.sum())


def test_automatic_dynamic_shapes():
    f = compiled(diffsort.soft_rank)
    for n in (3, 4, 5, 7):
        x = torch.linspace(-1, 1, 2 * n).reshape(2, n).flip(1)
        torch.testing.assert_close(f(x), diffsort.soft_rank(x))


def test_strided_values_and_integers():
    f = compiled(diffsort.soft_rank)
    wide = torch.randn(4, 12, generator=torch.Generator().manual_seed(1))
    for x in (wide[:, ::2], wide.T, wide[:1].expand(3, 12), torch.tensor([[3, 1, 2]])):
        y = f(x)
        assert y.is_contiguous()
        torch.testing.assert_close(y, diffsort.soft_rank(x))


@few_cases
def test_non_contiguous_and_negated_cotangents(case):
    f = compiled(case)
    for g in (cotangent().T.contiguous().T, cotangent()[:, :1].expand(3, 5)):
        x, strength = point(), strength_of("scalar")
        f(x, strength).backward(g)
        dx, ds = expected_vjp(case, x, strength, g)
        assert_close(x.grad, dx)
        assert_close(strength.grad, ds.sum())


@few_cases
def test_result_changed_in_place_inside_the_graph(case):
    f = compiled(lambda x: case(x, 0.7).mul_(2).add_(1))
    x = point()
    y = f(x)
    y.backward(cotangent())
    assert_close(y, 2 * expected(case, x, 0.7) + 1)
    assert_close(x.grad, expected_vjp(case, x, 0.7, 2 * cotangent())[0])


@few_and_project
def test_compiled_grad(case):
    g = cotangent()

    def loss(x, s):
        return (case(x, s) * g).sum()

    x, strength = point(grad=False), strength_of("per_row", grad=False)
    dx, ds = compiled(func.grad(loss, argnums=(0, 1)))(x, strength)
    wanted = expected_vjp(case, x, strength, g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1])


@few_and_project
def test_compiled_jvp(case):
    x, strength, v = point(grad=False), strength_of("scalar", grad=False), tangent()

    def push(x, s, v):
        return func.jvp(case, (x, s), (v, torch.ones_like(s)))

    y, t = compiled(push)(x, strength, v)
    assert_close(y, expected(case, x, strength))
    assert_close(t, expected_jvp(case, x, strength, v, 1.0))


@few_cases
def test_compiled_vmap_and_vmap_of_grad(case):
    x, g = point(grad=False), cotangent()
    s = torch.tensor([0.4, 1.1, 2.3], dtype=torch.float64)

    def forward(x, s):
        return case(x, s)

    def loss(x, s, g):
        return (case(x, s) * g).sum()

    assert_close(compiled(func.vmap(forward))(x, s), expected(case, x, s[:, None]))
    dx, ds = compiled(func.vmap(func.grad(loss, argnums=(0, 1))))(x, s, g)
    wanted = expected_vjp(case, x, s[:, None], g)
    assert_close(dx, wanted[0])
    assert_close(ds, wanted[1][:, 0])


@few_cases
def test_compiled_hessian(case):
    g = cotangent()[0]

    def loss(x, s):
        return (case(x, s) * g).sum()

    (xx, xs), (_, ss) = compiled(func.hessian(loss, argnums=(0, 1)))(
        point(grad=False)[0], torch.tensor(1.1, dtype=torch.float64)
    )
    h = np.einsum("k,kij->ij", g.numpy(), case.hessian(POINT[0], 1.1))
    assert_close(xx, h[:-1, :-1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(xs, h[:-1, -1], rtol=NUMERIC, atol=NUMERIC)
    assert_close(ss, h[-1, -1], rtol=NUMERIC, atol=NUMERIC)


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd], ids=["jacrev", "jacfwd"])
@pytest.mark.parametrize("case", FEW[1::2], ids=str)
def test_compiled_jacobian(case, transform):
    x = point(grad=False)[1]
    jacobian = compiled(transform(lambda x: case(x, 1.1)))(x)
    assert_close(jacobian, case.jacobian(POINT[1], 1.1))


def test_the_options_are_checked_while_compiling():
    with pytest.raises(Exception, match="regularization"):
        compiled(lambda x: diffsort.soft_rank(x, regularization="l3"))(point(grad=False))


def test_no_gradient_and_inference_mode():
    f = compiled(diffsort.soft_sort)
    with torch.no_grad():
        y = f(point())
    assert not y.requires_grad
    wanted = expected(Case("soft_sort", "ascending", "l2"), point(), 1.0)
    assert_close(y, wanted)
    with torch.inference_mode():
        assert_close(f(point(grad=False)).clone(), wanted)
