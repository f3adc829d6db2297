"""np.sort without AVX-512, which NumPy can be told only before it is imported: in a second process.

NumPy's AVX-512 sort is slow on some processors, and its AVX2 sort is then the strong baseline. The
process takes part in the rounds like every other contender: it gets their inputs through a pipe,
reads the clock itself, and answers with the time.
"""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

DISABLED = "X86_V4 AVX512_ICL AVX512_SPR"


def has_avx512():
    """Whether NumPy sorts with AVX-512 in this process."""
    from numpy._core._multiarray_umath import __cpu_features__ as features

    return features.get("AVX512_SKX", False) or features.get("X86_V4", False)


class Sorter:
    """A context in which `timer` is one of `measure.rounds`."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", Path(__file__).resolve()],
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": DISABLED},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def timer(self, inputs):
        pickle.dump(inputs.values, self._process.stdin, protocol=5)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)


def serve():
    import numpy as np

    if has_avx512():
        raise SystemExit(f"NPY_DISABLE_CPU_FEATURES={DISABLED} did not disable AVX-512")
    while True:
        try:
            values = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        begin = time.perf_counter()
        for each in values:
            np.sort(each, axis=-1)
        elapsed = time.perf_counter() - begin
        pickle.dump(elapsed, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
