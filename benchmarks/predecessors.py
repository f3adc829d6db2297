"""What README.md says was reproduced in torchsort, checked again: prints and saves a table.

Needs torchsort beside diffsort; see README.md in this folder. float64 ranks by diffsort, which the
test suite holds to an oracle, are the truth for torchsort's float32 ranks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import report
import torch
import torchsort

import diffsort

SECONDS = 20
HALF = """
import torch, torchsort
torchsort.soft_rank(torch.randn(1, {n}, dtype=torch.float16))
"""


def attempt(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:70]}"
    return "works"


def second_derivative() -> str:
    x = torch.tensor([[2.9, 0.1, 1.2, 1.3]], dtype=torch.float64, requires_grad=True)

    def hessian(soft_rank: Callable[..., torch.Tensor]) -> torch.Tensor:
        def loss(x: torch.Tensor) -> torch.Tensor:
            ranks = soft_rank(x, regularization="kl", regularization_strength=2.0)
            return (ranks**2).sum()

        return torch.autograd.functional.hessian(loss, x)

    ours, theirs = hessian(diffsort.soft_rank), hessian(torchsort.soft_rank)
    return f"largest entry {theirs.abs().max():.3g}, right is {ours.abs().max():.3g}"


def float32_error(n: int) -> str:
    torch.manual_seed(0)
    x = torch.randn(1, n)
    truth = diffsort.soft_rank(x.double(), regularization_strength=1e-3)
    theirs, ours = (
        float((module.soft_rank(x, regularization_strength=1e-3).double() - truth).abs().max())
        for module in (torchsort, diffsort)
    )
    return f"off by {theirs:.3g} ranks (diffsort {ours:.3g})"


def small_strength() -> str:
    torch.manual_seed(0)
    x = torch.randn(1, 100, requires_grad=True)
    torchsort.soft_rank(x, regularization="kl", regularization_strength=0.01)[0, 0].backward()
    assert x.grad is not None
    return f"{int(x.grad.isnan().sum())} of 100 gradient entries are NaN"


def half_precision(n: int) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", HALF.format(n=n)], timeout=SECONDS, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return f"has not returned after {SECONDS} s"
    return "returns" if done.returncode == 0 else done.stderr.decode().splitlines()[-1][:90]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="predecessors.md", help="file in benchmarks/results")
    options = parser.parse_args()

    x, v = torch.randn(3, 5), torch.randn(3, 5)
    soft_rank = torchsort.soft_rank
    rows = [
        ("Hessian of Σ soft_rank² (kl)", second_derivative()),
        ("torch.func.vmap", attempt(lambda: torch.func.vmap(soft_rank)(x.expand(2, 3, 5)))),
        ("torch.func.jvp", attempt(lambda: torch.func.jvp(soft_rank, (x,), (v,)))),
        ("compile(fullgraph=True)", attempt(lambda: torch.compile(soft_rank, fullgraph=True)(x))),
        ("float32 l2 ranks, n = 10⁵", float32_error(10**5)),
        ("float32 l2 ranks, n = 10⁶", float32_error(10**6)),
        ("kl gradient, strength 0.01", small_strength()),
        ("float16, n = 2048", half_precision(2048)),
        ("float16, n = 2100", half_precision(2100)),
    ]
    text = report.heading("torchsort's defects, checked", torch.get_num_threads())
    text += "\n" + report.table(("what", "torchsort"), rows)
    print(text)
    report.write(options.output, text)


if __name__ == "__main__":
    main()
