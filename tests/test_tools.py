"""The scripts in tools/, as far as they run without a GPU."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_gpu_check_says_early_what_is_missing(tmp_path):
    """With a Python that has the standard library alone."""
    bash = shutil.which("bash") or pytest.skip("no bash")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    results = tmp_path / "results"
    run = subprocess.run(
        [bash, ROOT / "tools" / "gpu_check.sh"],
        env={
            "PATH": f"{tmp_path}:{os.defpath}",
            "OUT": str(results),
            "WHEELS": str(tmp_path / "none"),
            "PARTS": "build tests",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    packages = "torch array-api-compat nanobind scikit-build-core pytest"
    assert f"{python} cannot import: {packages}\n" in run.stderr
    assert f"-d wheels {packages}\n" in run.stderr
    if shutil.which("nvidia-smi", path=os.defpath) is None:
        assert "not on the PATH: nvidia-smi" in run.stderr
    assert not results.exists()


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
