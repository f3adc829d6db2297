import pytest


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The emulated device, behind a library of its own."""
    from .emulation import Emulation, library

    return Emulation(library(tmp_path_factory.mktemp("library")))
