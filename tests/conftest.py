import os

import pytest
from backends import BACKENDS, BROKEN, DTYPES

# test_broken_backend puts a broken backend in the place of all others.
IN_USE = [name for name in [os.environ.get("DIFFSORT_TEST_BACKEND")] if name] or list(BACKENDS)


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
