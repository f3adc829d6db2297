"""One question to a backend, and the check of its answers: results, VJP and JVP by the oracle."""

import numpy as np
import pytest
from backends import rounded
from oracle import Batch
from tolerances import assert_within, derivative_tolerance, result_tolerance

OPERATORS = [
    *[
        (op, {"direction": direction, "regularization": regularization})
        for op in ("soft_rank", "soft_sort")
        for direction in ("ascending", "descending")
        for regularization in ("l2", "kl")
    ],
    ("project", {"regularization": "l2"}),
    ("project", {"regularization": "kl"}),
]


def names(parameter):
    """Test ids of an operator and its options."""
    return parameter if isinstance(parameter, str) else "-".join(parameter.values())


operators = pytest.mark.parametrize(("op", "options"), OPERATORS, ids=names)
ops = pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])
regularizations = pytest.mark.parametrize("regularization", ["l2", "kl"])


class Problem:
    """An operator at a point, with a cotangent, and tangents of the inputs named in `wrt`."""

    def __init__(self, op, inputs, dtype="float64", *, axis=-1, wrt=None, **options):
        rng = np.random.default_rng(9)
        self.op, self.inputs, self.dtype = op, inputs, dtype
        self.options = {"axis": axis, **options}
        self.truth = Batch(op, inputs, axis, **options)
        self.cotangent = rounded(rng.normal(size=self.truth.shape), dtype)
        self.tangents = {
            name: rounded(rng.normal(size=np.shape(inputs[name])), dtype) for name in wrt or inputs
        }

    def check(self, backend):
        self.check_vjp(backend)
        self.check_jvp(backend)

    def check_values(self, backend):
        self._check_result(backend.call(self.op, self.inputs, self.dtype, **self.options))

    def check_vjp(self, backend):
        wrt, g = list(self.tangents), self.cotangent
        result, gradients = backend.vjp(self.op, self.inputs, g, wrt, self.dtype, **self.options)
        self._check_result(result)
        for name, gradient in zip(wrt, gradients, strict=True):
            size = self.truth.vjp(np.abs(g), name, "magnitude")
            tolerance = derivative_tolerance(self.dtype, size)
            assert_within(gradient, self.truth.vjp(g, name), tolerance)

    def check_jvp(self, backend):
        result, tangent = backend.jvp(
            self.op, self.inputs, self.tangents, self.dtype, **self.options
        )
        self._check_result(result)
        sizes = {name: np.abs(tangent) for name, tangent in self.tangents.items()}
        tolerance = derivative_tolerance(self.dtype, self.truth.jvp(sizes, "magnitude"))
        assert_within(tangent, self.truth.jvp(self.tangents), tolerance)

    def _check_result(self, result):
        expected = self.truth.value()
        tolerance = result_tolerance(self.dtype, expected, self.truth.value("scale"))
        assert_within(result, expected, tolerance)
