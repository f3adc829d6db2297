"""Which jaxlib a build fits, and what happens on one that it does not fit."""

from __future__ import annotations

import jaxlib
import pytest

from .helpers import jax, run

compat = pytest.importorskip("diffsort.backends.jax.compat")

FITS = [
    (None, (0, 1)),  # a jaxlib without the header: before 0.4.35
    (None, None),
    ((0, 0), (0, 1)),
    ((0, 1), (0, 1)),
    ((0, 3), (0, 1)),
    ((0, 3), (0, 3)),
    ((1, 2), (1, 0)),
    ((1, 2), None),  # a build without handlers is held up elsewhere
]
DOES_NOT_FIT = [
    (None, (0, 2)),
    ((0, 1), (0, 2)),
    ((0, 0), (0, 2)),
    ((1, 0), (0, 1)),
    ((1, 0), (0, 3)),
    ((0, 3), (1, 0)),
    ((1, 0), (1, 1)),
]


@pytest.mark.parametrize(("runtime", "built"), FITS, ids=str)
def test_versions_that_fit(monkeypatch, runtime, built):
    monkeypatch.setattr(compat, "runtime_ffi_version", lambda: runtime)
    assert compat.misfit(built) is None


@pytest.mark.parametrize(("runtime", "built"), DOES_NOT_FIT, ids=str)
def test_versions_that_do_not_fit(monkeypatch, runtime, built):
    monkeypatch.setattr(compat, "runtime_ffi_version", lambda: runtime)
    message = compat.misfit(built)
    assert f"version {built[0]}.{built[1]} of XLA's FFI" in message
    assert jaxlib.__version__ in message
    assert ("an unknown version" if runtime is None else f"{runtime[0]}.{runtime[1]}") in message


def test_the_version_is_read_from_the_header(monkeypatch, tmp_path):
    header = tmp_path / "include" / "xla" / "ffi" / "api" / "c_api.h"
    monkeypatch.setattr(jaxlib, "__file__", str(tmp_path / "__init__.py"))
    assert compat.runtime_ffi_version() is None
    header.parent.mkdir(parents=True)
    header.write_text("#define XLA_FFI_API_MAJOR 3\n#define XLA_FFI_API_MINOR 14\n")
    assert compat.runtime_ffi_version() == (3, 14)
    header.write_text("// nothing of that kind\n")
    assert compat.runtime_ffi_version() is None


def test_this_jaxlib_fits():
    """Otherwise no test here would have run anything."""
    assert compat.misfit(compat.native.xla_ffi_version) is None
    version = compat.runtime_ffi_version()
    assert version is None or version[0] == 0


OTHER_RUNTIME = """
from pathlib import Path
import jax, jax.numpy as jnp, jaxlib

header = Path("include/xla/ffi/api/c_api.h")
header.parent.mkdir(parents=True)
header.write_text("#define XLA_FFI_API_MAJOR 7\\n#define XLA_FFI_API_MINOR 0\\n")
jaxlib.__file__ = str(Path("__init__.py").absolute())

import diffsort

x = jnp.array([2.0, 1.0, 3.0])
rank = diffsort.soft_rank
for call in (rank, jax.jit(rank), jax.grad(lambda x: rank(x).sum())):
    try:
        call(x)
    except diffsort.errors.MissingKernelError as error:
        print(str(error).splitlines()[0])
    else:
        raise SystemExit("no error")
assert rank([2.0, 1.0, 3.0]).tolist() == [2.0, 1.0, 3.0]
assert jax.jit(jnp.sort)(x).tolist() == [1.0, 2.0, 3.0]
assert jax.grad(lambda x: (x**2).sum())(x).tolist() == [4.0, 2.0, 6.0]
"""


def test_on_a_runtime_of_another_major_version(tmp_path):
    lines = run(OTHER_RUNTIME, tmp_path).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("soft_rank: this build of diffsort was made for version 0.")
        assert f"jaxlib {jaxlib.__version__} has version 7.0" in line
        assert "pip install" in line


def test_jax_alone_is_enough(tmp_path):
    """The first use of JAX in a process may be through diffsort, and inside a transformation."""
    script = """
import diffsort
print(type(diffsort.soft_rank([2.0, 1.0], backend="jax")).__module__.partition(".")[0])
import jax
print(jax.jit(jax.vmap(diffsort.soft_rank))(jax.numpy.array([[2.0, 1.0]])).tolist())
"""
    assert run(script, tmp_path).split("\n")[:2] == ["jaxlib", "[[2.0, 1.0]]"]
    assert jax.__version__
