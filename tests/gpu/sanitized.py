"""Every kernel once, small: what tools/gpu_check.sh runs under compute-sanitizer.

compute-sanitizer --tool memcheck python tests/gpu/sanitized.py
"""

import itertools
import sys

import torch

import diffsort

LENGTHS = [int(text) for text in sys.argv[1:]] or [1, 7, 32, 33, 257, 1025, 4097, 9001, 40_000]


def tangents(n, dtype):
    """The kernels of jvp, which PyTorch does not use."""
    try:
        import cupy
    except ImportError:
        print("no CuPy: the kernels of jvp are left out")
        return
    x, t = (
        cupy.random.default_rng(0)
        .standard_normal((2, 3, n))
        .astype(str(dtype).removeprefix("torch."))
    )
    for op, regularization in itertools.product(("soft_rank", "soft_sort"), ("l2", "kl")):
        moving = {"values": t, "regularization_strength": 1.0}
        diffsort.jvp(getattr(diffsort, op), x, moving, regularization=regularization)
    diffsort.jvp(diffsort.project, x, {"values": t, "w": t}, w=abs(x), regularization="kl")
    cupy.cuda.Device().synchronize()


def main():
    diffsort.set_solver("native")
    for n, dtype in itertools.product(LENGTHS, (torch.float32, torch.float64)):
        x = torch.randn(3, n, dtype=dtype, device="cuda", requires_grad=True)
        w = torch.rand(n, dtype=dtype, device="cuda", requires_grad=True)
        strength = torch.tensor([[0.0], [0.01], [1.0]], device="cuda", requires_grad=True)
        for op, regularization in itertools.product(("soft_rank", "soft_sort"), ("l2", "kl")):
            options = {"regularization": regularization, "regularization_strength": strength}
            getattr(diffsort, op)(x, **options).sin().sum().backward()
        for regularization in ("l2", "kl"):
            result = diffsort.project(x, w, regularization=regularization)
            result.sin().sum().backward()
        one_row = x.detach()[:1].requires_grad_()
        diffsort.soft_rank(one_row).sin().sum().backward()
        tangents(n, dtype)
    torch.cuda.synchronize()
    print(f"{len(LENGTHS)} lengths, all kernels")


if __name__ == "__main__":
    main()
