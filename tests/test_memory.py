"""Memory that forward and backward add: what is kept between them, and the peak of one long row."""

import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import diffsort

ONE_PASS = pathlib.Path(__file__).parents[1] / "benchmarks" / "one_pass.py"
RESET = pathlib.Path("/proc/self/clear_refs")
# Freed memory goes back to the kernel at once, so that the peak is that of live memory.
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@pytest.mark.parametrize(
    ("op", "regularization", "wrt", "arrays"),
    [
        ("soft_rank", "l2", "values", 2),  # the result and the blocks
        ("soft_rank", "kl", "values", 3),  # the result once more, which the derivative reads
        ("soft_rank", "l2", "regularization_strength", 3),  # and the values
        ("soft_sort", "l2", "values", 3),  # blocks of both operands
        ("soft_sort", "kl", "values", 4),  # and the values
        ("soft_sort", "l2", "regularization_strength", 2),
    ],
)
def test_vjp_keeps_what_its_derivative_reads(op, regularization, wrt, arrays):
    """In NumPy, whose arrays tracemalloc sees, in arrays of 4 bytes per element."""
    values = np.random.default_rng(0).normal(size=(4, 50_000)).astype(np.float32)
    options = {"regularization": regularization, "wrt": wrt}
    diffsort.vjp(getattr(diffsort, op), values[:, :9], **options)  # the first call imports
    tracemalloc.start()
    try:
        kept = diffsort.vjp(getattr(diffsort, op), values, **options)
        found = tracemalloc.get_traced_memory()[0] / values.nbytes
    finally:
        tracemalloc.stop()
    del kept
    assert arrays <= found < arrays + 0.1


@pytest.mark.skipif(
    not os.access(RESET, os.W_OK), reason="this platform does not tell a process's peak of memory"
)
@pytest.mark.parametrize(
    ("through", "op", "regularization", "inputs"),
    [
        ("NumPy", "soft_rank", "l2", "Cauchy"),
        ("NumPy", "soft_sort", "l2", "normal"),
        ("torch", "soft_rank", "l2", "outlier"),
        ("torch", "soft_sort", "l2", "ReLU"),
        ("torch", "soft_rank", "kl", "normal"),
        ("torch", "soft_sort", "kl", "normal"),
    ],
)
def test_forward_and_backward_add_28_bytes_per_element(
    request, through, op, regularization, inputs
):
    """Of one long float32 row: result, saved arrays, cotangent, gradient and scratch."""
    if through == "torch":
        request.getfixturevalue("torch")
    done = subprocess.run(
        [sys.executable, ONE_PASS, through, op, regularization, "M", inputs, "1x2000000"],
        env={**os.environ, **RETURNING},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 16 < float(done.stdout) <= 28
