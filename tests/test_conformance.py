"""Every backend, dtype, operator and option against the min-max oracle: values, VJP and JVP.

test_broken_backend holds this file to a promise: with a backend whose values (or derivatives) are
slightly wrong, no test whose name says "values" (or "vjp" or "jvp") passes.
"""

from functools import cache

import numpy as np
import pytest
from backends import ALL, IN_USE, rounded
from cases import GOLDEN, TABLE, TABLE_ATOL
from oracle import solve
from problem import Problem, operators, regularizations
from tolerances import assert_within, derivative_tolerance, result_tolerance

# Strengths at which rows of seven normal values fall into a few blocks: `_example` asserts it.
STRENGTH = {"soft_rank": 0.37, "soft_sort": 2.3, "project": 0.57}
SHAPE = (3, 4, 7)
# name: shapes of (values, w) that broadcast to SHAPE, w for `project` only
BROADCASTS = {
    "one w per row": (SHAPE, SHAPE),
    "one w for all rows": (SHAPE, (7,)),
    "one w per batch": (SHAPE, (3, 1, 7)),
    "one z for all w": ((7,), SHAPE),
}


@cache
def _example(op, dtype, options, axis=-1, strength="array", shapes=(SHAPE, SHAPE)):
    """An array of strengths has one per row, one of them 0; any other strength is a number."""
    rng = np.random.default_rng(11)
    inputs = {"values": rounded(rng.normal(size=shapes[0]), dtype)}
    if op == "project":
        inputs["w"] = rounded(2 * np.abs(rng.normal(size=shapes[1])), dtype)
        inputs["w"].flat[::3] = 0  # zeros are what makes top-k masks
    shape = np.broadcast_shapes(*(array.shape for array in inputs.values()))
    if strength == "array":
        per_row = [size if k != axis % len(shape) else 1 for k, size in enumerate(shape)]
        rows = STRENGTH[op] * rng.uniform(0.5, 1.5, size=per_row)
        rows.flat[0] = 0
        inputs["regularization_strength"] = rounded(rows, dtype)
    else:
        inputs["regularization_strength"] = float(rounded(STRENGTH[op], dtype))
    problem = Problem(op, inputs, dtype, axis=axis, **dict(options))
    blocks = [len(set(row.block)) for row in problem.truth.solutions.flat]
    assert any(1 < count < shape[axis] for count in blocks)
    return problem


def example(op, dtype, options, **more):
    return _example(op, dtype, tuple(options.items()), **more)


@operators
def test_values(backend, dtype, op, options):
    example(op, dtype, options).check_values(backend)


@operators
def test_vjp(backend, dtype, op, options):
    example(op, dtype, options).check_vjp(backend)


@operators
def test_jvp(backend, dtype, op, options):
    example(op, dtype, options).check_jvp(backend)


@operators
def test_values_with_a_number_as_strength(backend, dtype, op, options):
    example(op, dtype, options, strength="number").check_values(backend)


@operators
def test_vjp_with_a_number_as_strength(backend, op, options):
    example(op, "float64", options, strength="number").check_vjp(backend)


@operators
def test_jvp_with_a_number_as_strength(backend, op, options):
    example(op, "float64", options, strength="number").check_jvp(backend)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@operators
def test_values_along_axis(backend, op, options, axis):
    example(op, "float64", options, axis=axis).check_values(backend)


@pytest.mark.parametrize("axis", [0, 1, -2, -3])
@operators
def test_vjp_along_axis(backend, op, options, axis):
    example(op, "float64", options, axis=axis).check_vjp(backend)


@pytest.mark.parametrize("axis", [0, 1, -2, -3])
@operators
def test_jvp_along_axis(backend, op, options, axis):
    example(op, "float64", options, axis=axis).check_jvp(backend)


broadcasts = pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=BROADCASTS)


def broadcast(regularization, shapes):
    return example("project", "float64", {"regularization": regularization}, shapes=shapes)


@broadcasts
@regularizations
def test_values_of_project_broadcast(backend, regularization, shapes):
    broadcast(regularization, shapes).check_values(backend)


@broadcasts
@regularizations
def test_vjp_of_project_broadcasts(backend, regularization, shapes):
    broadcast(regularization, shapes).check_vjp(backend)


@broadcasts
@regularizations
def test_jvp_of_project_broadcasts(backend, regularization, shapes):
    broadcast(regularization, shapes).check_jvp(backend)


@regularizations
def test_values_of_top_k_mask(backend, dtype, regularization):
    z = rounded(np.random.default_rng(3).normal(size=(5, 8)), dtype)
    inputs = {"values": z, "w": np.array([1.0, 1, 1, 0, 0, 0, 0, 0])}
    Problem("project", inputs, dtype, regularization=regularization).check_values(backend)


golden_cases = pytest.mark.parametrize(
    ("backend", "case"),
    [(name, case) for name in IN_USE for case in GOLDEN[ALL[name].golden]],
    ids=str,
    indirect=["backend"],
)
wide_dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


@cache
def _golden(case, dtype):
    """Inputs, cotangent, and the truth: the case's own numbers where its inputs are exact."""
    inputs = {"values": rounded(case.values, dtype), "regularization_strength": case.strength}
    cotangent = rounded(case.cotangent, dtype)
    row = solve(case.op, inputs["values"], strength=case.strength, **case.options)
    if dtype == "float64":
        return inputs, cotangent, row, case.result, case.vjp
    return inputs, cotangent, row, row.value, cotangent @ row.jacobian["values"]


@wide_dtypes
@golden_cases
def test_values_of_golden_case(backend, dtype, case):
    inputs, _, row, expected, _ = _golden(case, dtype)
    found = backend.call(case.op, inputs, dtype, **case.options)
    assert_within(found, expected, result_tolerance(dtype, expected, row.scale))


@wide_dtypes
@golden_cases
def test_vjp_of_golden_case(backend, dtype, case):
    inputs, cotangent, row, _, expected = _golden(case, dtype)
    _, (found,) = backend.vjp(case.op, inputs, cotangent, ["values"], dtype, **case.options)
    size = np.abs(cotangent) @ row.magnitude["values"]
    assert_within(found, expected, derivative_tolerance(dtype, size))


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_values_of_printed_table(backend, case):
    inputs = {"values": case.values, "regularization_strength": case.strength}
    found = backend.call(case.op, inputs, **case.options)
    assert_within(found, case.result, TABLE_ATOL)


@pytest.mark.parametrize("case", [case for case in TABLE if case.vjp is not None], ids=str)
def test_vjp_of_printed_table(backend, case):
    inputs = {"values": case.values, "regularization_strength": case.strength}
    _, (found,) = backend.vjp(case.op, inputs, case.cotangent, ["values"], **case.options)
    assert_within(found, case.vjp, TABLE_ATOL)
