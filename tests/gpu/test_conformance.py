"""The conformance suite on a CUDA device: the tests of tests/test_conformance.py, on the fixture
`backend` of this folder."""

from test_conformance import *  # noqa: F403

from .helpers import PROBLEM


def test_the_build_has_kernels_for_the_device():
    assert PROBLEM is None, PROBLEM
