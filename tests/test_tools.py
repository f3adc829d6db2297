"""The scripts in tools/, as far as they run without a GPU."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def gpu_check(folder, commands, **environment):
    """A run of the tool with these shell scripts as commands, and the folder of its results."""
    bash = shutil.which("bash") or pytest.skip("no bash")
    for name, script in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    results = folder / "results"
    environment |= {"OUT": str(results), "WHEELS": str(folder / "none")}
    run = subprocess.run(
        [bash, ROOT / "tools" / "gpu_check.sh"],
        env={"PATH": f"{folder}:{os.defpath}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return run, results


def test_gpu_check_says_early_what_is_missing(tmp_path):
    """With a Python that has the standard library alone."""
    python = tmp_path / "python3"
    bare = {python.name: f'exec "{sys.executable}" -I -S "$@"'}
    run, results = gpu_check(tmp_path, bare, PARTS="build tests")
    assert run.returncode == 2
    packages = "torch array-api-compat nanobind scikit-build-core pytest"
    assert f"{python} cannot import: {packages}\n" in run.stderr
    assert f"-d wheels {packages}\n" in run.stderr
    if shutil.which("nvidia-smi", path=os.defpath) is None:
        assert "not on the PATH: nvidia-smi" in run.stderr
    assert not results.exists()


COMMANDS = {
    "nvidia-smi": "echo a device, 1.0, 9.0, 1 MiB",
    # The benchmark alone does something: --quick --output FILE.
    "python3": """
case $1 in
  benchmarks/gpu.py) echo a table >"$4"; echo measured; sleep "$DURATION" ;;
  -) cat >/dev/null ;;
esac""",
}


@pytest.mark.parametrize("duration", [0, 60])
def test_gpu_check_leaves_the_table_of_a_whole_run_or_what_there_is(tmp_path, duration):
    settings = {"PARTS": "benchmark", "LIMIT": "3", "DURATION": str(duration)}
    run, results = gpu_check(tmp_path, COMMANDS, **settings)
    is_whole = duration == 0
    assert run.returncode == (0 if is_whole else 1), run.stderr
    table = "gpu.md" if is_whole else "gpu-part.md"
    found = sorted(path.name for path in results.iterdir())
    assert found == sorted([table, "gpu_benchmark.log", "gpu_check.md"])
    assert (results / table).read_text() == "a table\n"
    assert f"- benchmark: status {0 if is_whole else 124} after" in run.stdout
    assert "; measured\n" in run.stdout


@pytest.fixture
def tool():
    path = ROOT / "tools" / "check_cuda_library.py"
    spec = importlib.util.spec_from_file_location("check_cuda_library", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = (
    "step_kernel<diffsort::WriteZ<diffsort::Rows> >(long, int)",
    "team_kernel<diffsort::MoveElements<diffsort::SortDigit<unsigned int> > >(long)",
    "tile_kernel<diffsort::ProjectTiles<float, (diffsort::Regularization)0> >(long)",
    "block_rows_kernel<diffsort::ProjectRows<double, (diffsort::Regularization)1> >(long)",
)


@pytest.mark.parametrize("name", KINDS)
def test_every_kernel_of_the_cuda_library_has_bounds(tool, name):
    def problems(registers=32, stack=0, shared=0):
        return [*tool.kernel_problems("90", "void diffsort::" + name, registers, stack, shared)]

    assert problems() == []
    for excess, what in (
        ({"registers": 97}, "97 registers, more than"),
        ({"stack": 700}, "700 bytes of stack, more than"),
    ):
        (problem,) = problems(**excess)
        assert what in problem
    assert len(problems(shared=1 << 15)) == ("rows_kernel" in name)


def test_a_kernel_of_the_cuda_library_without_bounds_is_a_problem(tool):
    (problem,) = tool.kernel_problems("90", "void other_kernel<float>(float*)", 1, 0, 0)
    assert "add other_kernel to REGISTERS" in problem


def test_spilled_registers_of_a_step_are_a_problem(tool):
    """Steps call nothing, so any stack of theirs is spilled registers."""
    assert [*tool.kernel_problems("90", KINDS[0], 64, 8, 0)]
