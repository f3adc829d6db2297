"""Bad input: the right error, with the function, the argument and what came in its message."""

import sys

import numpy as np
import pytest

import diffsort
from diffsort import errors
from diffsort.backends import kernels, solver

VALUES = np.array([[0.5, 2.0, 1.0], [3.0, 1.5, -2.0]])
OPS = ["soft_rank", "soft_sort", "project"]
ops = pytest.mark.parametrize("op", OPS)


def call(op, values=VALUES, **options):
    rest = {"w": np.array([3.0, 2.0, 1.0]), **options} if op == "project" else options
    return getattr(diffsort, op)(values, **rest)


def check_message(raised, *parts):
    message = str(raised.value)
    for part in parts:
        assert str(part) in message


BAD_OPTIONS = {
    "regularization name": ("regularization", "l1", ValueError, ['"l2"', '"kl"', "'l1'"]),
    "regularization type": ("regularization", 2, ValueError, ['"l2"', '"kl"', "2"]),
    "backend name": ("backend", "tensorflow", ValueError, ['"numpy"', '"torch"', "'tensorflow'"]),
    "backend type": ("backend", np, ValueError, ['"numpy"', '"torch"', "module"]),
    "axis too large": ("axis", 2, ValueError, ["2 dimensions", "2."]),
    "axis too small": ("axis", -3, ValueError, ["2 dimensions", "-3"]),
    "axis a float": ("axis", 1.0, TypeError, ["integer", "1.0"]),
    "axis None": ("axis", None, TypeError, ["integer", "None"]),
    "axis a tuple": ("axis", (0, 1), TypeError, ["integer", "(0, 1)"]),
    "strength negative": ("regularization_strength", -0.5, ValueError, ["≥ 0", "-0.5"]),
    "strength NaN": ("regularization_strength", np.nan, ValueError, ["≥ 0", "nan"]),
    "strength infinite": ("regularization_strength", np.inf, ValueError, ["finite", "inf"]),
    "strength a string": ("regularization_strength", "1", TypeError, ["number", "str"]),
    "strength None": ("regularization_strength", None, TypeError, ["number", "None"]),
    "strength complex": ("regularization_strength", 1j, TypeError, ["real", "complex"]),
    "strength a bool": ("regularization_strength", True, TypeError, ["number", "bool"]),
    "strength negative in a row": (
        "regularization_strength", np.array([[1.0], [-2.0]]), ValueError, ["≥ 0", "-2.0"]
    ),
    "strength NaN in a row": (
        "regularization_strength", np.array([[np.nan], [1.0]]), ValueError, ["≥ 0", "nan"]
    ),
    "strength per element": (
        "regularization_strength", np.ones((2, 3)), ValueError, ["(2, 1)", "(2, 3)"]
    ),
    "strength of too many rows": (
        "regularization_strength", np.ones((3, 1)), ValueError, ["(2, 1)", "(3, 1)"]
    ),
    "strength of too many dimensions": (
        "regularization_strength", np.ones((1, 2, 1)), ValueError, ["(2, 1)", "(1, 2, 1)"]
    ),
    "strength of strings": (
        "regularization_strength", np.array([["1"], ["2"]]), TypeError, ["real", "<U1"]
    ),
    "strength of complex numbers": (
        "regularization_strength", np.ones((2, 1), complex), TypeError, ["real", "complex128"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "error", "parts"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
@ops
def test_bad_option(op, name, value, error, parts):
    with pytest.raises(error) as raised:
        call(op, **{name: value})
    check_message(raised, f"{op}: {name} ", *parts)


MASKED = {
    "one per row": np.ma.masked_less(np.array([[1.0], [-2.0]]), 0),
    "nothing masked": np.ma.array([[1.0], [2.0]]),
    "0-d": np.ma.array(1.0),
    "np.ma.masked": np.ma.masked,
}


@pytest.mark.parametrize("strength", MASKED.values(), ids=MASKED)
@ops
def test_masked_strength(op, strength):
    with pytest.raises(TypeError, match=f"{op}: regularization_strength must not be a masked arr"):
        call(op, regularization_strength=strength)


@pytest.mark.filterwarnings("ignore::diffsort.errors.FallbackWarning")
@pytest.mark.parametrize("backend", ["torch", "jax", "array_api"])
@pytest.mark.parametrize("strength", [np.ma.masked, np.ma.array(1.0)], ids=["masked", "0-d"])
def test_masked_strength_of_other_arrays(backend, strength):
    if backend == "array_api":
        values = pytest.importorskip("array_api_strict").asarray([1.0, 2.0])
    else:
        framework = pytest.importorskip({"jax": "jax.numpy"}.get(backend, backend))
        values = framework.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match="soft_rank: regularization_strength must not be a masked"):
        diffsort.soft_rank(values, regularization_strength=strength)


def test_masked_tangent_of_the_strength():
    tangent = {"regularization_strength": np.ma.masked}
    with pytest.raises(TypeError, match="soft_rank: tangent must not be a masked array"):
        diffsort.jvp(diffsort.soft_rank, VALUES, tangent, regularization_strength=1.0)


def test_float8():
    """A type of ml_dtypes that NumPy counts among its floats, unlike the others of 8 bits."""
    float8 = pytest.importorskip("ml_dtypes").float8_e5m2
    with pytest.raises(TypeError, match=r"soft_rank: values must hold .*, got float8"):
        diffsort.soft_rank(np.ones(3, float8))
    for strength in (np.ones((2, 1), float8), float8(1)):
        with pytest.raises(TypeError, match=r"regularization_strength must .* got dtype float8"):
            diffsort.soft_rank(VALUES, regularization_strength=strength)


@pytest.mark.parametrize("direction", ["up", "", None, 1])
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort"])
def test_bad_direction(op, direction):
    with pytest.raises(ValueError, match='must be "ascending" or "descending"') as raised:
        call(op, direction=direction)
    check_message(raised, f"{op}: direction ", repr(direction))


BAD_ARRAYS = {
    "0-d array": (np.array(1.5), ValueError, ["0-d"]),
    "number": (1.5, ValueError, ["0-d"]),
    "complex": (np.ones(3, complex), TypeError, ["complex128"]),
    "strings": (np.array(["a", "b", "c"]), TypeError, ["<U1"]),
    "objects": (np.array([1, None, 2]), TypeError, ["object"]),
    "dates": (np.array(["2020-01-01"] * 3, dtype="M8[D]"), TypeError, ["datetime64[D]"]),
    "records": (np.zeros(3, dtype=[("x", "f8")]), TypeError, ["[('x', '<f8')]"]),
    "long doubles": (np.ones(3, np.longdouble), TypeError, [np.dtype(np.longdouble)]),
    "masked": (np.ma.masked_less(np.arange(3.0), 1), TypeError, ["masked"]),
    "ragged list": ([[1.0, 2.0], [1.0]], ValueError, ["ragged"]),
    "string": ("abc", TypeError, ["str"]),
    "None": (None, TypeError, ["NoneType"]),
    "set": ({1, 2, 3}, TypeError, ["set"]),
}
bad_arrays = pytest.mark.parametrize(
    ("value", "error", "parts"), BAD_ARRAYS.values(), ids=BAD_ARRAYS
)


@bad_arrays
@ops
def test_bad_values(op, value, error, parts):
    with pytest.raises(error) as raised:
        call(op, value)
    check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ", *parts)


@bad_arrays
def test_bad_w(value, error, parts):
    with pytest.raises(error) as raised:
        diffsort.project(VALUES, value)
    check_message(raised, "project: w ", *parts)


@pytest.mark.parametrize(
    ("z", "w", "axis"),
    [((2, 3), (2, 4), -1), ((2, 3), (4,), -1), ((2, 3), (3,), 0), ((2, 3), (4, 3), -1)],
)
def test_z_and_w_that_do_not_fit(z, w, axis):
    with pytest.raises(ValueError, match="project: z and w must") as raised:
        diffsort.project(np.ones(z), np.ones(w), axis=axis)
    check_message(raised, z, w)


@pytest.mark.parametrize("name", ["dim", "descending", "regularisation", "tau"])
@ops
def test_unknown_keyword(op, name):
    with pytest.raises(TypeError, match=rf"{op}\(\).*'{name}'"):
        call(op, **{name: 1})


@ops
def test_options_are_keyword_only(op):
    arrays = [VALUES, VALUES] if op == "project" else [VALUES]
    with pytest.raises(TypeError, match=rf"{op}\(\) takes {len(arrays)} positional argument"):
        getattr(diffsort, op)(*arrays, -1)


class TestTorch:
    @pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
    @ops
    def test_bad_strength_in_a_tensor(self, torch, op, bad):
        strength = torch.tensor([[1.0], [bad]])
        w = {"w": torch.ones(3)} if op == "project" else {}
        with pytest.raises(ValueError, match="regularization_strength must be ≥ 0") as raised:
            call(op, torch.ones(2, 3), regularization_strength=strength, **w)
        check_message(raised, f"{op}: ", bad)

    @pytest.mark.parametrize("shape", [(2, 3), (3, 1), (1, 2, 1)])
    def test_strength_of_a_wrong_shape(self, torch, shape):
        strength = torch.ones(shape)
        with pytest.raises(ValueError, match="regularization_strength must broadcast") as raised:
            call("soft_rank", torch.ones(2, 3), regularization_strength=strength)
        check_message(raised, "soft_rank: ", (2, 1), shape)

    @pytest.mark.parametrize("dtype", ["complex64", "complex128"])
    @ops
    def test_complex_values(self, torch, op, dtype):
        with pytest.raises(TypeError) as raised:
            call(op, torch.ones(3, dtype=getattr(torch, dtype)), **self.w_for(torch, op))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ", f"torch.{dtype}")

    @ops
    def test_0d_values(self, torch, op):
        with pytest.raises(ValueError, match="0-d") as raised:
            call(op, torch.tensor(1.0), **self.w_for(torch, op))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ")

    @ops
    def test_tensor_for_another_backend(self, torch, op):
        with pytest.raises(errors.BackendMismatchError, match='backend is "numpy"') as raised:
            call(op, torch.ones(3), backend="numpy", **self.w_for(torch, op))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ", "torch.Tensor")

    @ops
    def test_tensor_as_strength_of_an_array(self, torch, op):
        with pytest.raises(errors.BackendMismatchError) as raised:
            call(op, VALUES, regularization_strength=torch.ones(2, 1))
        check_message(raised, f"{op}: regularization_strength ", "torch.Tensor", "numpy")

    @ops
    def test_array_as_strength_of_a_tensor(self, torch, op):
        with pytest.raises(errors.BackendMismatchError) as raised:
            call(
                op,
                torch.ones(2, 3),
                regularization_strength=np.ones((2, 1)),
                **self.w_for(torch, op),
            )
        check_message(raised, f"{op}: regularization_strength ", "numpy.ndarray", "torch")

    def test_frameworks_mixed_in_project(self, torch):
        with pytest.raises(errors.BackendMismatchError) as raised:
            diffsort.project(VALUES, torch.ones(3))
        check_message(raised, "project: w ", "torch.Tensor", "numpy")
        with pytest.raises(errors.BackendMismatchError) as raised:
            diffsort.project(torch.ones(3), np.ones(3))
        check_message(raised, "project: w ", "numpy.ndarray", "torch")

    def test_sparse_values(self, torch):
        with pytest.raises((TypeError, NotImplementedError), match="soft_rank: values "):
            diffsort.soft_rank(torch.eye(3).to_sparse())

    @pytest.mark.parametrize("dtype", ["bool", "complex64", "float8_e5m2", "float8_e4m3fn"])
    def test_strength_of_a_wrong_dtype(self, torch, dtype):
        strength = torch.ones(2, 1).to(getattr(torch, dtype))
        with pytest.raises(TypeError, match="soft_rank: regularization_strength must be") as raised:
            diffsort.soft_rank(torch.ones(2, 3), regularization_strength=strength)
        check_message(raised, f"torch.{dtype}")

    @pytest.mark.parametrize("axis", [-1, 0])
    @ops
    def test_too_many_dimensions(self, torch, op, axis):
        with pytest.raises(ValueError, match="must have at most 64 dimensions, got 66") as raised:
            call(op, torch.ones([1] * 66), axis=axis, **self.w_for(torch, op))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ")
        most = torch.ones([1] * 64)
        assert call(op, most, axis=axis, **({"w": most} if op == "project" else {})).ndim == 64

    def test_strength_that_is_not_dense(self, torch):
        sparse = torch.ones(2, 1).to_sparse()
        nested = torch.nested.nested_tensor([torch.ones(1)] * 2, layout=torch.jagged)
        for strength, kind in ((sparse, "layout torch.sparse_coo"), (nested, "a nested tensor")):
            with pytest.raises(TypeError, match="soft_rank: regularization_strength ") as raised:
                diffsort.soft_rank(torch.ones(2, 3), regularization_strength=strength)
            check_message(raised, "must be a dense tensor", kind)

    @ops
    def test_device_without_a_kernel(self, torch, op, monkeypatch):
        """A fake tensor claims to be on a device that need not exist."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        monkeypatch.setattr(solver, "requested", "native")
        monkeypatch.setattr(kernels, "_problems", {0: "for a reason"})
        with FakeTensorMode():
            values = torch.ones(3, device="cuda")
            with pytest.raises(errors.MissingKernelError) as raised:
                call(op, values, **({"w": values} if op == "project" else {}))
        name = "z" if op == "project" else "values"
        check_message(raised, f"{op}: {name} ", "torch.float32", "cuda:0", "cpu", "show_config")
        check_message(raised, "(for a reason)")

    def w_for(self, torch, op):
        return {"w": torch.ones(3)} if op == "project" else {}


def test_hierarchy():
    assert issubclass(errors.DiffsortError, Exception)
    assert issubclass(errors.MissingKernelError, (errors.DiffsortError, NotImplementedError))
    for error, base in [
        (errors.MissingKernelError, NotImplementedError),
        (errors.BackendMismatchError, TypeError),
        (errors.MissingBackendError, ImportError),
    ]:
        assert issubclass(error, errors.DiffsortError)
        assert issubclass(error, base)


@pytest.mark.parametrize("count", [0, -1])
def test_thread_count_below_one(count):
    with pytest.raises(ValueError, match=f"set_num_threads: threads .* got {count}"):
        diffsort.set_num_threads(count)


@pytest.mark.parametrize("count", ["2", 1.5])
def test_thread_count_of_another_type(count):
    with pytest.raises(TypeError, match=f"set_num_threads: threads .* got {count!r}"):
        diffsort.set_num_threads(count)


@pytest.mark.parametrize("choice", ["gpu", None, 1])
def test_unknown_solver(choice):
    with pytest.raises(ValueError, match="set_solver: solver must be one of") as raised:
        diffsort.set_solver(choice)
    check_message(raised, '"auto"', '"native"', '"fallback"', repr(choice))


@ops
def test_backend_that_is_not_installed(op, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what it takes to make an import fail
    monkeypatch.delitem(sys.modules, "diffsort.backends.cupy", raising=False)
    monkeypatch.delattr("diffsort.backends.cupy", raising=False)
    with pytest.raises(errors.MissingBackendError) as raised:
        call(op, backend="cupy")
    check_message(raised, f'{op}: backend "cupy" needs the package cupy', "[cupy]")


def test_unknown_show_config_mode():
    with pytest.raises(ValueError, match=r"show_config: mode .* got 'yaml'"):
        diffsort.show_config(mode="yaml")


@pytest.mark.parametrize("wrt", [5, None, [["values"]], (), ("values", "values"), "w"])
def test_wrt_names_arguments(wrt):
    with pytest.raises(ValueError, match="vjp: wrt must name different arguments of soft_rank"):
        diffsort.vjp(diffsort.soft_rank, np.ones(3), wrt=wrt)


def test_an_integer_strength_beyond_floats_is_a_value_error():
    message = "soft_rank: regularization_strength must be ≥ 0 and finite in float64, got an integer"
    for number in (2**2000, 10**5000):  # the second has more digits than Python prints
        with pytest.raises(ValueError, match=message):
            diffsort.soft_rank(np.ones(3), regularization_strength=number)


def test_a_sequence_as_strength_says_what_to_do():
    with pytest.raises(TypeError, match=r"got list. Pass a number, or make an array of it as"):
        diffsort.soft_rank(VALUES, regularization_strength=[[1.0], [2.0]])


def test_w_of_no_framework_is_named():
    with pytest.raises(TypeError, match=r"project: w must be .*, got NoneType"):
        diffsort.project(np.ones(3), None)
