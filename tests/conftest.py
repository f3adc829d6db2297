import os

import pytest
from backends import BACKENDS, BROKEN, DTYPES

# Backends that take minutes to compile what the tests ask of them; jax/test_fallback.py runs the
# conformance suite on this one.
SLOW = {"jax-fallback"}
# A single backend in the place of all others, for tests that run the suite in another process.
IN_USE = [name for name in [os.environ.get("DIFFSORT_TEST_BACKEND")] if name] or [
    name for name in BACKENDS if name not in SLOW
]


def pytest_configure(config):
    # torch 2.13 uses what it deprecates when forward mode is first used.
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is:DeprecationWarning")


@pytest.fixture(params=IN_USE, scope="session")
def backend(request):
    return {**BACKENDS, **BROKEN}[request.param]()


@pytest.fixture(params=DTYPES, scope="session")
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", minversion="2.6")
