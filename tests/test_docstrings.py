"""The examples in the docstrings print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import diffsort

# Command-line modules act on import or need no examples.
MODULES = [
    "diffsort",
    *(
        module.name
        for module in pkgutil.walk_packages(diffsort.__path__, "diffsort.")
        if module.name not in ("diffsort.__main__", "diffsort.show_config")
        and not module.name.startswith(("diffsort.backends.torch", "diffsort.backends.cupy"))
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", ["soft_sort", "soft_rank", "project", "vjp", "jvp"])
def test_every_operator_shows_an_example(name: str) -> None:
    examples = doctest.DocTestFinder().find(getattr(diffsort, name), name)
    assert sum(len(found.examples) for found in examples) >= 3
