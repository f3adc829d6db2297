"""The conformance suite on a CUDA device: the tests of tests/test_conformance.py, on the fixture
`backend` of this folder."""

import pytest
import test_conformance as conformance
from cases import GOLDEN
from test_conformance import *  # noqa: F403

from .helpers import BACKENDS, ON_THE_FIXTURE, PROBLEM


def test_the_build_has_kernels_for_the_device():
    assert PROBLEM is None, PROBLEM


# The suite's own name the backends of the CPU.
golden_cases = pytest.mark.parametrize(
    ("backend", "case"),
    [(name, case) for name in ON_THE_FIXTURE for case in GOLDEN[BACKENDS[name].golden]],
    ids=str,
    indirect=["backend"],
)


@conformance.wide_dtypes
@golden_cases
def test_values_of_golden_case(backend, dtype, case):
    conformance.test_values_of_golden_case(backend, dtype, case)


@conformance.wide_dtypes
@golden_cases
def test_vjp_of_golden_case(backend, dtype, case):
    conformance.test_vjp_of_golden_case(backend, dtype, case)
