import pytest

import diffsort


@pytest.fixture(params=["torch", "torch-reference", "cupy"], scope="session")
def backend(request):
    from .helpers import BACKENDS  # not reached where there is no device

    return BACKENDS[request.param]()


@pytest.fixture(autouse=True)
def _native_alone():
    before = diffsort.get_solver()
    diffsort.set_solver("native")
    yield
    diffsort.set_solver(before)
