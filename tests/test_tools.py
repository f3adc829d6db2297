"""The scripts in tools/, as far as they run without a GPU."""

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
