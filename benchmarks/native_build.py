"""Builds the programs of benchmarks/native from this checkout."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "benchmarks"


def cmake():
    """That of PyPI where it is installed: a distribution's may be too old."""
    try:
        import cmake
    except ImportError:
        return "cmake"
    return str(Path(cmake.CMAKE_BIN_DIR) / "cmake")


def build():
    """Brings the programs up to date and returns their folder."""
    options = ("BENCHMARKS=ON", "PYTHON=OFF", "CUDA=OFF")
    configure = [cmake(), "-S", ROOT, "-B", FOLDER, "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-DDIFFSORT_{option}" for option in options]
    for command in (configure, [cmake(), "--build", FOLDER, "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return FOLDER / "benchmarks" / "native"
