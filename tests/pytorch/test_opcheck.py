"""torch.library.opcheck on every operator that diffsort registers."""

from __future__ import annotations

import pytest

import diffsort

from .helpers import EDGE_POINT, PER_ROW, POINT, torch, torch_internals

pytestmark = [
    torch_internals,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]


def _registered():
    diffsort.soft_rank(torch.ones(1))  # loads the backend, which registers the operators
    names = torch._C._dispatch_get_all_op_names()
    return sorted({name.split(".")[0] for name in names if name.startswith("diffsort::")})


def _blocks():
    """Arguments of both operators: soft_rank has no w, soft_sort no z, project both."""
    strength = torch.tensor(PER_ROW, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        x, w = torch.tensor(POINT, dtype=dtype), torch.tensor(POINT, dtype=dtype).abs().flip(1)
        for regularization in (0, 1):
            yield x, None, strength, -1, regularization, 1.0, 1.0
            yield x, None, strength[:1], -1, regularization, -1.0, 1.0
            yield x, w, strength, -1, regularization, 1.0, 1.0
        for regularization in (0, 2):
            yield None, x, strength, -1, regularization, 1.0, -1.0
            yield None, x.T, strength.T, -2, regularization, 1.0, 1.0
    x = torch.tensor(EDGE_POINT, dtype=torch.float64)
    yield x, None, torch.zeros(1, 1, dtype=torch.float64), -1, 0, 1.0, 1.0
    yield x.T, None, torch.ones(1, 1, dtype=torch.float64), -1, 0, 1.0, 1.0
    yield x[:0], None, torch.ones(1, 1, dtype=torch.float64), -1, 0, 1.0, 1.0
    yield x[:, :0], None, torch.ones(1, 1, dtype=torch.float64), -1, 0, 1.0, 1.0
    yield x[None], None, torch.ones(1, 1, 1, dtype=torch.float64), -2, 1, 1.0, 1.0
    yield x[0], None, torch.ones(1, dtype=torch.float64), -1, 1, 1.0, 1.0
    yield x[:1].expand(4, 5), None, torch.ones(1, 1, dtype=torch.float64), -1, 0, 1.0, 1.0


SAMPLES = {"diffsort::blocks": _blocks, "diffsort::fallback_blocks": _blocks}


def _operator(name):
    return getattr(torch.ops.diffsort, name.removeprefix("diffsort::")).default


def test_every_registered_operator_has_samples():
    names = _registered()
    assert names
    assert set(names) <= set(SAMPLES)


@pytest.mark.parametrize("index", range(len(list(_blocks()))))
@pytest.mark.parametrize("name", list(SAMPLES))
def test_opcheck(name, index):
    assert name in _registered()
    args = list(SAMPLES[name]())[index]
    torch.library.opcheck(_operator(name), args)


@pytest.mark.parametrize("name", list(SAMPLES))
def test_opcheck_with_inputs_that_require_gradients(name):
    assert name in _registered()
    args = next(iter(SAMPLES[name]()))
    args = [
        a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
        for a in args
    ]
    torch.library.opcheck(_operator(name), args)


def test_opcheck_notices_a_wrong_fake():
    with torch.library._scoped_library("diffsort_test", "FRAGMENT") as library:
        library.define("wrong(Tensor x) -> Tensor")
        library.impl("wrong", lambda x: x.clone(), "CPU")
        torch.library.register_fake("diffsort_test::wrong", lambda x: x.new_empty(7), lib=library)
        with pytest.raises(Exception, match="test_faketensor"):
            torch.library.opcheck(torch.ops.diffsort_test.wrong.default, (torch.ones(3),))
