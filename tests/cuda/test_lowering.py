"""What JAX makes of the operators for CUDA devices, in a build with the library and without."""

import os
import re
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace

import _diffsort_native as native
import numpy as np
import pytest

import diffsort
from diffsort import errors
from diffsort.backends import solver

from .emulation import HERE, library, shared_object

jax = pytest.importorskip("jax", minversion="0.4.31")
compat = pytest.importorskip("diffsort.backends.jax.compat")
lowering = pytest.importorskip("diffsort.backends.jax.lowering")

X = np.array([[2.9, 0.1, 1.2, 1.3], [0.3, 0.1, 0.2, 0.9]], np.float32)
# names of the operands and results as bits, in the order of the handlers
Z, W, STRENGTH = 1, 2, 4


def first_on_path(folder):
    """PYTHONPATH with a folder before what may be there."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def _with_library(monkeypatch):
    monkeypatch.setattr(native, "cuda_problem", lambda device=None: None)
    monkeypatch.setattr(solver, "_warned", set())
    monkeypatch.setattr(solver, "requested", "auto")


def lowered(function, *arguments, platforms=("cuda",), warn=False):
    traced = jax.jit(lambda *arguments: function(*arguments))  # not traced before
    if not hasattr(traced, "trace"):
        pytest.skip("this JAX lowers for its own platform only")
    with warnings.catch_warnings():
        if not warn:
            warnings.simplefilter("error")
        return traced.trace(*arguments).lower(lowering_platforms=platforms).as_text()


def calls(text):
    """(target, attributes, types of operands and results) of every custom call of ours."""
    found = []
    for line in text.splitlines():
        match = re.search(r"custom_call @(diffsort_\w+)\(.*?\) \{(.*)\} : \((.*)\) -> (.*)$", line)
        if match:
            attributes = dict(re.findall(r"(\w+) = (-?[\d.e+]+) : [if]64", match[2]))
            attributes = {name: float(value) for name, value in attributes.items()}
            types = [re.findall(r"tensor<([^>]*)>", match[group]) for group in (3, 4)]
            found.append((match[1], attributes, *types))
    return found


def kl_loss(x, strength=1.0):
    ranks = diffsort.soft_rank(x, regularization="kl", regularization_strength=strength)
    return (ranks**2).sum()


@pytest.mark.usefixtures("_with_library")
class TestWithTheLibrary:
    def test_an_operator_is_one_call(self):
        def ranks(x):
            return diffsort.soft_rank(x, direction="descending", regularization_strength=0.5)

        text = lowered(ranks, X)
        assert "callback" not in text
        ((target, attributes, operands, results),) = calls(text)
        assert target == "diffsort_project"
        assert operands == ["2x4xf32", "2x1xf32"]
        assert results[0] == "2x4xf32"
        assert attributes["axis"] == -1
        assert attributes["regularization"] == 0
        assert (attributes["z_sign"], attributes["w_sign"]) == (-1.0, 1.0)
        assert attributes["operands"] == Z + STRENGTH

    def test_the_axis_goes_last(self):
        text = lowered(lambda x: diffsort.soft_sort(x, axis=0, regularization="kl"), X.T)
        ((_, attributes, operands, _),) = calls(text)
        assert operands[0] == "2x4xf32"
        assert attributes["axis"] == -1
        assert attributes["operands"] == W + STRENGTH
        assert text.count("stablehlo.transpose") == 3  # values, strength, result

    def test_a_gradient_is_two_calls(self):
        def loss(x, strength):
            ranks = diffsort.soft_rank(x, axis=0, regularization_strength=strength)
            return (ranks**2).sum()

        for arguments, wide in (((0,), False), ((0, 1), True)):
            text = lowered(jax.grad(loss, arguments), X.T, np.float32(0.7))
            forward, backward = calls(text)
            assert (forward[0], backward[0]) == ("diffsort_project", "diffsort_vjp")
            assert forward[1]["axis"] == backward[1]["axis"] == -1
            # The strength's cotangent comes in float64, also where JAX has none.
            assert ("2x1xf64" in backward[3]) == wide
            assert bool(re.search(r"convert .*2x1xf64>\) -> tensor<2x1xf32>", text)) == wide

    def test_a_tangent_is_two_calls(self):
        def push(x, dx):
            return jax.jvp(lambda x: diffsort.soft_rank(x, regularization="kl"), (x,), (dx,))

        assert [call[0] for call in calls(lowered(push, X, X))] == [
            "diffsort_project",
            "diffsort_jvp",
        ]

    def test_vmap_is_one_call(self):
        text = lowered(jax.vmap(diffsort.soft_rank, in_axes=1), X.T)
        ((_, _, operands, _),) = calls(text)
        assert operands[0] == "2x4xf32"

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_is_solved_in_float32(self, dtype):
        text = lowered(diffsort.soft_rank, jax.numpy.asarray(X, dtype))
        assert calls(text)[0][2] == ["2x4xf32", "2x1xf32"]

    def test_rows_are_independent_for_the_partitioner(self):
        text = lowered(diffsort.soft_rank, X)
        assert 'num_batch_dims = "1"' in text

    def test_shardy_may_split_rows_of_the_float64_cotangent_too(self):
        if not getattr(jax.config, "jax_use_shardy_partitioner", False):
            pytest.skip("this JAX does not use Shardy")

        def loss(x, strength):
            return (diffsort.soft_rank(x, regularization_strength=strength) ** 2).sum()

        strengths = np.full((2, 1), 0.7, np.float32)
        text = lowered(jax.grad(loss, (0, 1)), X, strengths)
        _, backward = calls(text)
        assert backward[3] == ["2x4xf32", "2x1xf64"]
        # i: rows, to be split; j: sorted elements, to be whole; k: one number per row.
        assert re.findall(r"op_sharding_rule<(.*?)>}", text.replace(" ", "")) == [
            "([i,j],[i,k])->([i,j],[i,j]){i=2,j=4,k=1}need_replication={j}",
            "([i,j],[i,j],[i,j],[i,k])->([i,j],[i,k]){i=2,j=4,k=1}need_replication={j}",
        ]

    def test_scratch_memory_is_a_result_as_large_as_the_devices_need(self, monkeypatch):
        asked = []

        def workspace(target, n, is_float64, regularization, operands, results, device):
            asked.append((target, n, is_float64, regularization, operands, results, device))
            return 1000 + device

        monkeypatch.setattr(native, "xla_cuda_workspace", workspace)
        monkeypatch.setattr(compat, "cuda_ordinals", lambda: [0, 3, 1])
        forward, backward = calls(lowered(jax.grad(kl_loss), np.ones((2, 3, 5), np.float32)))
        assert forward[3] == ["2x3x5xf32", "2x3x5xi32", "2x3x126xui64"]
        assert backward[3] == ["2x3x5xf32", "2x3x126xui64"]
        assert forward[1]["results"] == 1 + 2 + 8
        assert backward[1]["results"] == 1 + 8
        assert asked[:3] == [
            ("diffsort_project", 5, False, 1, Z + STRENGTH, 1 + 2, device) for device in (0, 3, 1)
        ]
        # The cotangent, result, block_z and strength.
        assert asked[3:] == [
            ("diffsort_vjp", 5, False, 1, 1 + 8 + 16 + 64, 1, device) for device in (0, 3, 1)
        ]

        # Many rows share what is enough for some at a time.
        monkeypatch.setattr(lowering, "MOST_AT_ONCE", 2000)
        ((_, _, _, results),) = calls(lowered(diffsort.soft_rank, np.ones((7, 5), np.float32)))
        assert results[1] == "7x36xui64"

    def test_scratch_memory_is_asked_for_by_the_type_of_the_values(self, monkeypatch):
        asked = []
        monkeypatch.setattr(native, "xla_cuda_workspace", lambda *of: asked.append(of) or 0)
        monkeypatch.setattr(compat, "cuda_ordinals", lambda: [0])
        jax.config.update("jax_enable_x64", True)
        try:
            x = jax.numpy.asarray(X, "float64")
            for strength in (np.float32(0.7), np.float64(0.7)):
                loss = partial(kl_loss, x)
                lowered(jax.grad(loss), strength)
                lowered(lambda s, loss=loss: jax.jvp(loss, (s,), (s,)), strength)
        finally:
            jax.config.update("jax_enable_x64", False)
        assert {of[0] for of in asked} == {f"diffsort_{name}" for name in ("project", "vjp", "jvp")}
        assert all(of[2] is True for of in asked)

    def test_scratch_memory_for_devices_that_are_not_known(self, monkeypatch):
        """Such as those of a program that is exported elsewhere."""
        monkeypatch.setattr(compat, "cuda_ordinals", list)
        for n in (lowering.NO_WORKSPACE, lowering.NO_WORKSPACE + 1):
            ((_, attributes, _, results),) = calls(lowered(diffsort.soft_rank, np.ones((3, n))))
            needs = n > lowering.NO_WORKSPACE
            assert attributes["results"] == 1 + 8 * needs
            assert results[1:] == [f"3x{(20 * n + 7) // 8}xui64"] * needs

    def test_scratch_memory_of_shapes_that_are_not_known(self, monkeypatch):
        export = pytest.importorskip("jax.export")
        monkeypatch.setattr(native, "xla_cuda_workspace", lambda *of: 7)
        monkeypatch.setattr(compat, "cuda_ordinals", lambda: [0])
        check = export.DisabledSafetyCheck.custom_call("diffsort_project")
        for shape, expected in (("b, 5", "?x1xui64"), ("3, n", "3x?xui64"), ("b, n", "?x?xui64")):
            argument = jax.ShapeDtypeStruct(export.symbolic_shape(shape), np.float32)
            program = export.export(
                jax.jit(lambda x: diffsort.soft_rank(x)),
                platforms=["cuda"],
                disabled_checks=[check],
            )(argument)
            ((_, attributes, _, results),) = calls(str(program.mlir_module()))
            assert attributes["results"] == 1 + 8
            assert results[1] == expected

    def test_rows_that_need_more_than_four_gigabytes(self, monkeypatch):
        """Also where the number of words is too large for a rule of Shardy's."""
        monkeypatch.setattr(compat, "cuda_ordinals", lambda: [0])
        for row, words in ((1 << 33, 1 << 30), (1 << 35, 1 << 32)):
            monkeypatch.setattr(native, "xla_cuda_workspace", lambda *of, row=row: row)
            ((_, _, _, results),) = calls(lowered(diffsort.soft_rank, X[:1]))
            assert results[1] == f"1x{words}xui64"
            ((_, _, _, results),) = calls(lowered(diffsort.soft_rank, X))  # one at a time
            assert results[1] == f"2x{words // 2}xui64"

    def test_empty_arrays_are_not_worth_a_call(self):
        assert not calls(lowered(diffsort.soft_rank, np.zeros((2, 0), np.float32)))
        assert not calls(lowered(diffsort.soft_rank, np.zeros((0, 3), np.float32)))

    def test_a_program_for_two_platforms_has_both(self):
        text = lowered(diffsort.soft_rank, X, platforms=("cpu", "cuda"))
        assert {call[0] for call in calls(text)} == {"diffsort_project"}

    def test_the_fallback_is_there_on_request(self, monkeypatch):
        monkeypatch.setattr(solver, "requested", "fallback")
        assert not calls(lowered(diffsort.soft_rank, X))


def test_without_the_library_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(native, "cuda_problem", lambda device=None: "of no library")
    monkeypatch.setattr(solver, "_warned", set())
    monkeypatch.setattr(solver, "requested", "auto")
    with pytest.warns(errors.FallbackWarning, match=r"kernels for: cpu.* \(of no library\)"):
        assert not calls(lowered(diffsort.soft_rank, X, warn=True))
    monkeypatch.setattr(solver, "requested", "native")
    with pytest.raises(errors.MissingKernelError, match=r"\(of no library\)"):
        lowered(diffsort.soft_rank, X)


OLD = "no kernels for cuda:1"


@pytest.mark.parametrize(
    ("ordinals", "problem"), [([], None), ([0], None), ([0, 1], OLD), ([1], OLD), ([None], None)]
)
def test_every_device_of_the_process_is_asked(monkeypatch, ordinals, problem):
    asked = []

    def local_devices(*, backend):
        assert backend == "cuda"
        if not ordinals:
            raise RuntimeError("Unknown backend cuda")
        return [SimpleNamespace(local_hardware_id=ordinal) for ordinal in ordinals]

    def cuda_problem(device=None):
        asked.append(device)
        return OLD if device == 1 else None

    monkeypatch.setattr(jax, "local_devices", local_devices)
    monkeypatch.setattr(native, "xla_cuda_workspace", lambda *of: 0)
    monkeypatch.setattr(native, "cuda_problem", cuda_problem)
    monkeypatch.setattr(solver, "_warned", set())
    monkeypatch.setattr(solver, "requested", "native")
    if problem is None:
        assert calls(lowered(diffsort.soft_rank, X))
        assert asked == (ordinals or [None])
        return
    with pytest.raises(errors.MissingKernelError, match=rf"\({problem}\)"):
        lowered(diffsort.soft_rank, X)
    monkeypatch.setattr(solver, "requested", "auto")
    with pytest.warns(errors.FallbackWarning, match=rf"\({problem}\)"):
        assert not calls(lowered(diffsort.soft_rank, X, warn=True))


def test_the_handlers_compute_what_they_are_asked_for(tmp_path):
    """The handlers of the CUDA platform themselves, on the emulated device."""
    include = compat.ffi.include_dir()
    if not os.path.exists(os.path.join(include, "xla", "ffi", "api", "c_api.h")):
        pytest.skip("this jaxlib carries no headers of XLA's FFI")
    library(tmp_path)
    options = "-std=c++17", f"-isystem{include}"
    shared_object(HERE / "xla_shim.cpp", tmp_path / "xla_shim.so", *options)
    run = subprocess.run(
        [sys.executable, HERE / "xla_on_host.py", tmp_path],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": first_on_path(tmp_path),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


SCRIPT = """
import os
import jax, numpy as np
import diffsort
from diffsort.backends import capabilities

def is_open():
    return "libdiffsort_cuda.so" in open("/proc/self/maps").read()

x = np.array([[2.0, 1.0, 3.0]], np.float32)
if os.path.exists("/proc/self/maps"):  # not before something of CUDA is asked for
    diffsort.soft_rank(x)
    diffsort.soft_rank(jax.numpy.asarray(x))
    assert not is_open()
    diffsort.show_config()
    assert is_open()
print("answers:")
print(capabilities.devices("jax"), capabilities.devices("torch"), capabilities.devices("cupy"))
traced = jax.jit(diffsort.soft_rank)
print(jax.jit(diffsort.soft_rank)(x).tolist())
if hasattr(traced, "trace"):
    text = traced.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "custom_call @diffsort_project" in text, text
try:
    import torch
    print(diffsort.soft_rank(torch.tensor(x)).tolist())
except ImportError:
    pass
"""


def test_a_build_with_the_library_on_a_machine_without_a_device(tmp_path):
    """The handlers are registered for both platforms, and the CPU is none the worse for it."""
    library(tmp_path, "DEVICES=0")
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": first_on_path(tmp_path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.partition("answers:\n")[2].splitlines()
    assert lines[0] == "('cpu', 'cuda') ('cpu', 'cuda') ('cuda',)"
    assert set(lines[1:]) == {"[[2.0, 1.0, 3.0]]"}
