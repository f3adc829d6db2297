import os

import pytest
from backends import ALL, DTYPES, IN_USE

# XLA compiles quickly rather than well: the tests run each program once. .ci/run has some of them
# run on programs that are compiled for use.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


def pytest_configure(config):
    # torch 2.13 uses what it deprecates when forward mode is first used.
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is:DeprecationWarning")


@pytest.fixture(params=IN_USE, scope="session")
def backend(request):
    return ALL[request.param]()


@pytest.fixture(params=DTYPES, scope="session")
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", minversion="2.6")
