import pytest


@pytest.fixture(autouse=True)
def _float64():
    """The tests compare in float64; those of other types leave it by `without_x64`."""
    from .helpers import enable_x64  # imports JAX: where that is missing, no test gets here

    with enable_x64(True):
        yield
