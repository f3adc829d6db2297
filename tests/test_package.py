"""The package around the operators: imports, names, typing, reports, and who may import whom."""

import __future__

import ast
import copy
import importlib.metadata
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import diffsort

PACKAGE = Path(diffsort.__file__).parent
NATIVE = Path(__file__).parents[1] / "native"
OPERATORS = ["soft_rank", "soft_sort", "project"]


def python(*arguments, cwd, **env):
    """Standard output of a fresh interpreter, away from the checkout."""
    command = [sys.executable, *arguments]
    env = {**os.environ, "MPLBACKEND": "Agg", **env}
    run = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_and_numpy_calls_load_no_other_framework(tmp_path):
    script = "import sys, diffsort; diffsort.soft_rank([2.0, 1.0]); print(*sys.modules)"
    loaded = python("-c", script, cwd=tmp_path).split()
    assert "numpy" in loaded
    assert {"torch", "jax", "jaxlib", "cupy", "scipy", "matplotlib"}.isdisjoint(loaded)


def test_import_beside_a_torch_that_is_too_old(tmp_path):
    (tmp_path / "torch.py").touch()
    script = "import torch, diffsort; print(diffsort.soft_rank([2.0, 1.0]))"
    assert python("-c", script, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "[2. 1.]\n"


def test_import_adds_less_than_50_ms_to_numpy(tmp_path):
    script = """if True:
        from time import perf_counter
        import numpy
        start = perf_counter()
        import diffsort
        print(perf_counter() - start)
    """
    # The fastest of several: a busy machine can only add to it.
    assert min(float(python("-c", script, cwd=tmp_path)) for _ in range(5)) < 0.05


def test_all_names_the_public_names():
    public = {
        name
        for name, value in vars(diffsort).items()
        if not (name.startswith("_") or isinstance(value, ModuleType | __future__._Feature))
    }
    assert public == set(diffsort.__all__) - {"__version__", "errors"}
    assert diffsort.__all__ == sorted(diffsort.__all__)
    namespace = {}
    exec("from diffsort import *", namespace)
    assert set(diffsort.__all__) <= set(namespace)


def test_typing_information_is_shipped():
    assert (PACKAGE / "py.typed").is_file()
    stub = "_diffsort_native.pyi"
    assert stub in {path.name for path in importlib.metadata.files("diffsort-permutahedron")}


def test_version_is_that_of_the_distribution():
    assert diffsort.__version__ == importlib.metadata.version("diffsort-permutahedron")


@pytest.mark.parametrize("name", ["vjp", "jvp", *OPERATORS])
def test_public_functions_pickle_and_copy_by_reference(name):
    function = getattr(diffsort, name)
    assert function.__module__ + "." + function.__qualname__ == f"diffsort.ops.{name}"
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function


@pytest.mark.parametrize("name", diffsort.errors.__all__)
def test_errors_pickle_and_copy(name):
    error = getattr(diffsort.errors, name)("what came")
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == "what came"


def test_names_of_the_other_diffsort_are_explained():
    with pytest.raises(AttributeError, match="diffsort-permutahedron"):
        diffsort.DiffSortNet  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'soft_argsort'"):
        diffsort.soft_argsort  # noqa: B018


@pytest.mark.parametrize("module", ["diffsort.py", "functional.py", "networks.py"])
def test_files_of_the_other_diffsort_are_noticed(module, tmp_path):
    assert not (PACKAGE / module).exists()
    mixed = shutil.copytree(PACKAGE, tmp_path / "diffsort")
    (mixed / module).touch()
    script = """if True:
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            import diffsort
        print(diffsort.__file__, *(warning.message for warning in caught))
    """
    printed = python("-c", script, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert printed.startswith(str(mixed))
    assert "diffsort-permutahedron" in printed


class TestShowConfig:
    def test_dict(self, capsys):
        config = diffsort.show_config(mode="dict")
        assert capsys.readouterr().out == ""
        assert config["version"] == diffsort.__version__
        assert config["threads"] == diffsort.get_num_threads()
        assert config["native"]["simd"] in ("portable", "avx2", "avx512")
        assert {"cuda", "cuda_devices", "cuda_problem"} <= set(config["native"])
        assert config["backends"]["numpy"]["version"] == importlib.metadata.version("numpy")

    def test_paths_are_those_of_the_chosen_solver(self):
        def paths(backend):
            rows = diffsort.show_config("dict")["backends"][backend]["capabilities"]
            return {(row["device"], row["dtype"]): row["path"] for row in rows}

        assert paths("numpy")["cpu", "float32"] == "native, sums in float64"
        assert paths("torch")["others", "float16"] == "fallback in float32"
        try:
            diffsort.set_solver("fallback")
            assert paths("numpy")["cpu", "float64"] == "fallback"
            assert paths("numpy")["cpu", "float32"] == "fallback in the widest float"
            assert paths("jax")["cpu", "bfloat16"] == "fallback in float32"
            assert paths("torch")["others", "float16"] == "fallback in float32"
            diffsort.set_solver("native")
            assert paths("numpy")["cpu", "float64"] == "native"
            assert paths("torch")["others", "float16"] == "an error: no kernel"
        finally:
            diffsort.set_solver("auto")

    def test_print(self, capsys):
        assert diffsort.show_config() is None
        printed = capsys.readouterr().out
        for part in (diffsort.__version__, "numpy", "torch", "bfloat16"):
            assert part in printed

    def test_vector_instructions_are_chosen_by_the_environment(self, tmp_path):
        script = "import diffsort; print(diffsort.show_config('dict')['native']['simd'])"
        assert python("-c", script, cwd=tmp_path, DIFFSORT_SIMD="portable").strip() == "portable"
        best = python("-c", script, cwd=tmp_path, DIFFSORT_SIMD="").strip()
        assert python("-c", script, cwd=tmp_path, DIFFSORT_SIMD=best).strip() == best
        if best == "avx512":
            assert python("-c", script, cwd=tmp_path, DIFFSORT_SIMD="avx2").strip() == "avx2"

    def test_vector_instructions_that_are_not_there_are_an_error(self, tmp_path):
        env = {**os.environ, "DIFFSORT_SIMD": "Portable"}
        command = [sys.executable, "-c", "import diffsort"]
        run = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        levels = r"(avx512 or )?(avx2 or )?portable"
        message = rf'ImportError: .*DIFFSORT_SIMD must be {levels} .*got "Portable"'
        assert run.returncode != 0
        assert re.search(message, run.stderr), run.stderr

    def test_command(self, tmp_path):
        script = "import diffsort; diffsort.show_config()"
        printed = python("-c", script, cwd=tmp_path)
        assert printed
        assert python("-m", "diffsort.show_config", cwd=tmp_path) == printed

    def test_importing_the_command_keeps_the_function(self, tmp_path):
        script = "import diffsort.show_config; diffsort.show_config()"
        assert "numpy" in python("-c", script, cwd=tmp_path)

    def test_a_framework_that_does_not_import(self, tmp_path):
        (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: no such file')")
        path = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path)}
        assert "numpy" in python("-m", "diffsort.show_config", **path)
        script = """if True:
            import diffsort
            try:
                diffsort.soft_rank([1.0], backend="torch")
            except diffsort.errors.MissingBackendError as error:
                print(error)
        """
        message = python("-c", script, **path)
        assert message.startswith('soft_rank: backend "torch" ')
        assert "libtorch.so" in message


class TestDemonstration:
    """python -m diffsort"""

    def test_it_ends_with_what_this_build_can_do(self, tmp_path):
        printed = python("-m", "diffsort", cwd=tmp_path)
        config = python("-m", "diffsort.show_config", cwd=tmp_path)
        assert printed.rstrip().endswith(config.strip())
        assert len(printed) > len(config) + 500

    def test_it_needs_no_matplotlib(self, tmp_path):
        (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
        printed = python("-m", "diffsort", cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert "matplotlib" in printed
        assert not list(tmp_path.glob("*.png"))


# Which layers a layer may import, and which packages outside of the standard library.
LAYERS = {
    "errors": (set(), set()),
    "core": ({"core"}, set()),
    "ops": ({"core", "backends"}, set()),
    "backends": ({"core", "backends", "errors"}, {"_diffsort_native", "array_api_compat", "numpy"}),
    "config": ({"backends"}, {"_diffsort_native"}),
    "show_config": ({"config"}, set()),
    "data": (set(), {"numpy"}),
    "__init__": ({"errors", "config", "ops", "backends"}, {"_diffsort_native"}),
    "__main__": ({"data"}, {"diffsort", "matplotlib", "numpy"}),
}
MODULES = [
    path.relative_to(PACKAGE)
    for layer in LAYERS
    for path in [PACKAGE / f"{layer}.py", *(PACKAGE / layer).glob("**/*.py")]
    if path.exists()
]


def violations(module, source):
    """The imports of a module, by its path in the package, that its layer may not make."""
    layer = module.parts[0].removesuffix(".py")
    layers, packages = LAYERS[layer]
    if layer == "backends":  # only backends/<f>.py, or the folder <f>, imports the framework f
        framework = module.parts[1].removesuffix(".py")
        packages = packages | {framework} | ({"jaxlib"} if framework == "jax" else set())
    imported = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            imported += [f"{node.module}.{name.name}" for name in node.names]
    found = []
    for name in imported:
        root, _, rest = name.partition(".")
        inside = root == "diffsort" and rest.split(".")[0] in layers
        if not (inside or root in packages or root in sys.stdlib_module_names):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_rules_of_dependence(module):
    assert violations(module, (PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core/isotonic.py", "import numpy as np"),
        ("core/isotonic.py", "from diffsort.backends import resolve"),
        ("core/isotonic.py", "from diffsort import backends"),
        ("core/isotonic.py", "def f():\n    import torch"),
        ("ops.py", "import _diffsort_native"),
        ("ops.py", "from diffsort.config import set_num_threads"),
        ("backends/__init__.py", "import torch"),
        ("backends/numpy.py", "import torch.nn"),
        ("backends/torch/fast.py", "from diffsort import ops"),
        ("errors.py", "import diffsort"),
    ],
)
def test_rules_of_dependence_can_be_broken(module, source):
    assert len(violations(Path(module), source)) == 1


SOURCES = [
    path.relative_to(NATIVE)
    for part in ("include", "src")
    for path in sorted((NATIVE / part).rglob("*.*"))
]


def native_violations(path, source):
    """What a header or source below the bindings includes against bindings -> src -> include.

    It may include the standard library, the platform's threads, float state and vector
    instructions, and headers of include/; a source also those of src/ and of its own folder, and
    what is in src/cuda also CUDA's own: no Python, no DLPack, no framework.
    """
    found, cuda = [], path.parts[:2] == ("src", "cuda")
    for name in re.findall(r"^\s*#\s*include\s+(\S+)", source, re.MULTILINE):
        of_c = r"(stddef|stdint|pthread|sys/mman|xmmintrin|immintrin)\.h"
        standard = re.fullmatch(rf"<([a-z_0-9]+|{of_c})>", name)
        own = re.fullmatch(r'"([\w/]+\.\w+)"', name)  # no ".."
        folders = {"include", path.parts[0], *([path.parent] if path.parts[0] == "src" else [])}
        if cuda and re.fullmatch(r"<(cub/[\w/]+\.cuh|cuda_runtime(_api)?\.h)>", name):
            continue
        if not standard and not (own and any((NATIVE / f / own[1]).is_file() for f in folders)):
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_native_rules_of_dependence(path):
    assert native_violations(path, (NATIVE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "name",
    [
        *("<Python.h>", "<nanobind/nanobind.h>", "<cuda_runtime.h>", "<cub/cub.cuh>"),
        *('"array.h"', '"../bindings/array.h"', '"executor.cuh"'),
    ],
)
def test_native_rules_of_dependence_can_be_broken(name):
    assert {path.suffix for path in SOURCES} >= {".h", ".cpp"}
    assert native_violations(Path("src/parallel.cpp"), f"#include {name}\n#include <cmath>") == [
        name
    ]
