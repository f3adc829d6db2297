"""The examples and the demonstration run from start to end, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# What an example imports besides NumPy; without it the example is skipped, with the reason.
NEEDS = {
    "flax_spearman.py": ("flax", "optax", "scipy", "sklearn"),
    "spearman_regression.py": ("jax", "torch", "sklearn"),
}


def run(command, folder, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_runs(example, tmp_path):
    for module in NEEDS.get(example.name, ()):
        pytest.importorskip(module, reason=f"{example.name} uses {module}")
    result = run([str(example)], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def hide(folder, *packages):
    """A folder for PYTHONPATH in which importing these fails as if they were not installed."""
    for name in packages:
        (folder / "hidden" / name).mkdir(parents=True)
        (folder / "hidden" / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError({f'{name} is hidden by a test'!r}, name={name!r})\n"
        )
    return str(folder / "hidden")


def check_demonstration(result):
    assert result.returncode == 0, result.stderr
    for number in range(1, 6):
        assert f"\n{number}. " in result.stdout
    # The printed gradient agrees with the printed finite difference, digit for digit or nearly.
    table = result.stdout.split("finite difference\n")[1].split("\n\n")[0]
    pairs = [[float(cell) for cell in line.split()[2:]] for line in table.splitlines()]
    assert len(pairs) == 5
    assert max(abs(gradient) for gradient, _ in pairs) > 0.1
    # Central differences of an affine piece: only rounding, about 442 * 2**-52 / 1e-6, remains.
    assert all(abs(gradient - difference) <= 2e-6 for gradient, difference in pairs)


def test_demonstration_needs_numpy_alone(tmp_path):
    path = hide(tmp_path, "matplotlib", "torch", "jax", "cupy", "scipy", "sklearn", "ml_dtypes")
    result = run(["-m", "diffsort"], tmp_path, PYTHONPATH=path)
    check_demonstration(result)
    assert "pip install matplotlib" in result.stdout
    assert not (tmp_path / "diffsort_demo.png").exists()


def test_demonstration_draws_a_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib")
    result = run(["-m", "diffsort"], tmp_path)
    check_demonstration(result)
    assert (tmp_path / "diffsort_demo.png").read_bytes().startswith(b"\x89PNG")


def test_demonstration_in_a_folder_that_takes_no_file(tmp_path):
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib")
    # A folder of the figure's name refuses the file for every user, the superuser included.
    (tmp_path / "diffsort_demo.png").mkdir()
    result = run(["-m", "diffsort"], tmp_path)
    check_demonstration(result)
    assert "was not written" in result.stdout
