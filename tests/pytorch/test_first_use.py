"""A transformation may be the first thing that a process does with diffsort.

Backends are imported when their first array arrives; here that happens inside the transformation,
in a fresh interpreter each.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from .helpers import torch  # noqa: F401  (skips without torch)

PREAMBLE = """
import torch
import diffsort

x = torch.tensor([[2.9, 0.1, 1.2, 1.3]])
wanted = torch.tensor([[4.0, 1.2333333, 2.3333333, 2.4333333]])


class Ranks(torch.nn.Module):
    def forward(self, x):
        return diffsort.soft_rank(x)


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="aot_eager")


"""
FIRST_USES = {
    "compile": "result = compiled(lambda x: diffsort.soft_rank(x))(x)",
    "compile_backend": (
        "x = torch.nn.Parameter(x)\n"
        'result = compiled(lambda x: diffsort.soft_rank(x, backend="torch"))(x).detach()'
    ),
    "compile_grad": (
        "g = torch.tensor([1.0, 2.0, 3.0, 4.0])\n"
        "wanted = torch.tensor([[0.0, -1.0, 0.0, 1.0]])\n"
        "result = compiled(torch.func.grad(lambda x: (diffsort.soft_rank(x) * g).sum()))(x)"
    ),
    "compile_project": (
        "w = torch.tensor([4.0, 3.0, 2.0, 1.0])\n"
        "result = compiled(lambda x: diffsort.project(x, w))(x)"
    ),
    "strict_export": "result = torch.export.export(Ranks(), (x,), strict=True).module()(x)",
    "vmap_and_fake": (
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "with FakeTensorMode():\n"
        "    diffsort.soft_rank(torch.empty(2, 3))\n"
        "result = torch.func.vmap(diffsort.soft_rank)(x)"
    ),
}


@pytest.mark.parametrize("use", list(FIRST_USES))
def test_first_use(use, tmp_path):
    script = tmp_path / "first_use.py"  # a file, since Dynamo reads sources
    script.write_text(
        PREAMBLE + FIRST_USES[use] + "\ntorch.testing.assert_close(result, wanted)\nprint('same')\n"
    )
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.stdout == "same\n", run.stderr[-3000:]
