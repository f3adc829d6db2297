"""One small class per framework: the same questions, each answered in the framework's own way.

Inputs are a dict of float64 NumPy arrays, already representable in the dtype under test: "values",
for `project` "w", and perhaps "regularization_strength" (a Python number stays one where nobody
differentiates with respect to it). Answers come back in float64, after a check that shape, dtype
and array type are those of the framework.
"""

import contextlib
import os

import numpy as np
import pytest
from tolerances import EPS

DTYPES = tuple(EPS)


def numpy_dtype(dtype):
    if dtype == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(dtype)


def rounded(array, dtype):
    """The float64 values of `array` after a trip through `dtype`."""
    return np.asarray(array, dtype=np.float64).astype(numpy_dtype(dtype)).astype(np.float64)


class NumPy:
    thorough = True  # whether it takes all of the tests that cost seconds each, or a few
    golden = slice(None)  # the golden cases that it takes: all, for each way to compute
    default_dtype = "float64"  # of promoted integers

    def __init__(self):
        import diffsort

        self.diffsort = diffsort

    def asarray(self, array, dtype):
        return np.asarray(array).astype(numpy_dtype(dtype))

    def to_numpy(self, array, dtype):
        assert type(array) is np.ndarray
        assert array.dtype == numpy_dtype(dtype)
        return array.astype(np.float64)

    def path(self):
        """Forces the path that this class stands for, where a framework has several."""
        return contextlib.nullcontext()

    def call(self, op, inputs, dtype="float64", **options):
        inputs = self._arguments(inputs, dtype)
        with self.path(), self.untouched(inputs, dtype):
            return self.to_numpy(self._apply(op, inputs, options), dtype)

    def vjp(self, op, inputs, cotangent, wrt, dtype="float64", **options):
        """(result, gradients in the order of `wrt`)"""
        inputs, cotangent = self._arguments(inputs, dtype), self.asarray(cotangent, dtype)
        with self.untouched({**inputs, "cotangent": cotangent}, dtype):
            fun, (values, rest) = getattr(self.diffsort, op), _split(inputs)
            result, pull = self.diffsort.vjp(fun, values, wrt=tuple(wrt), **rest, **options)
            gradients = pull(cotangent) if len(wrt) > 1 else [pull(cotangent)]
        return self.to_numpy(result, dtype), [self.to_numpy(array, dtype) for array in gradients]

    def jvp(self, op, inputs, tangents, dtype="float64", **options):
        """(result, tangent of the result)"""
        inputs, tangents = self._arguments(inputs, dtype), self._arguments(tangents, dtype)
        with self.untouched(inputs, dtype), self.untouched(tangents, dtype):
            fun, (values, rest) = getattr(self.diffsort, op), _split(inputs)
            pair = self.diffsort.jvp(fun, values, tangents, **rest, **options)
        return tuple(self.to_numpy(array, dtype) for array in pair)

    @contextlib.contextmanager
    def untouched(self, arrays, dtype):
        """Asserts that none of the arrays has changed at the end."""
        arrays = {name: array for name, array in arrays.items() if not isinstance(array, float)}
        before = {name: self.to_numpy(array, dtype).copy() for name, array in arrays.items()}
        yield
        for name, array in arrays.items():
            assert np.array_equal(self.to_numpy(array, dtype), before[name], equal_nan=True), name

    def _apply(self, op, inputs, options):
        values, rest = _split(inputs)
        return getattr(self.diffsort, op)(values, **rest, **options)

    def _arguments(self, inputs, dtype, arrays=()):
        """Numbers stay numbers, except for the names in `arrays`."""
        return {
            name: value
            if isinstance(value, float) and name not in arrays
            else self.asarray(value, dtype)
            for name, value in inputs.items()
        }


class Torch(NumPy):
    """Gradients by torch.autograd, tangents by torch.autograd.forward_ad."""

    golden = slice(0, None, 8)  # the numbers are those of NumPy
    default_dtype = "float32"

    def __init__(self):
        self.torch = pytest.importorskip("torch", minversion="2.6")
        super().__init__()

    def asarray(self, array, dtype):
        return self.torch.tensor(np.asarray(array), dtype=getattr(self.torch, dtype))

    def to_numpy(self, array, dtype):
        assert type(array) is self.torch.Tensor
        assert array.dtype == getattr(self.torch, dtype)
        return array.detach().double().numpy()

    def vjp(self, op, inputs, cotangent, wrt, dtype="float64", **options):
        inputs = self._arguments(inputs, dtype, arrays=wrt)
        cotangent = self.asarray(cotangent, dtype)
        sources = [inputs[name].requires_grad_() for name in wrt]
        with self.path(), self.untouched({**inputs, "cotangent": cotangent}, dtype):
            result = self._apply(op, inputs, options)
            gradients = self.torch.autograd.grad(result, sources, cotangent)
        return self.to_numpy(result, dtype), [self.to_numpy(array, dtype) for array in gradients]

    def jvp(self, op, inputs, tangents, dtype="float64", **options):
        forward = self.torch.autograd.forward_ad
        inputs = self._arguments(inputs, dtype, arrays=tangents)
        with self.path(), forward.dual_level():
            for name, tangent in tangents.items():
                inputs[name] = forward.make_dual(inputs[name], self.asarray(tangent, dtype))
            pair = forward.unpack_dual(self._apply(op, inputs, options))
            return tuple(self.to_numpy(array, dtype) for array in pair)


class TorchReference(Torch):
    """The path of plain torch operations, which the fast one must agree with."""

    golden = slice(1, None, 8)

    def path(self):
        from diffsort.backends.torch import reference_path

        return reference_path()


class JAX(NumPy):
    """Gradients by jax.vjp, tangents by jax.jvp. float64 needs x64; the other types run without."""

    golden = slice(2, None, 8)
    default_dtype = "float32"

    def __init__(self):
        self.jax = pytest.importorskip("jax", minversion="0.4.31")
        pytest.importorskip("jax.experimental")
        super().__init__()

    def asarray(self, array, dtype):
        with self.x64(dtype):
            return self.jax.numpy.asarray(np.asarray(array), dtype=dtype)

    def to_numpy(self, array, dtype):
        assert isinstance(array, self.jax.Array)
        assert array.dtype == dtype
        return np.asarray(array).astype(np.float64)

    def x64(self, dtype):
        if hasattr(self.jax, "enable_x64"):
            return self.jax.enable_x64(dtype in ("float64", "int64"))
        return self.jax.experimental.enable_x64(dtype in ("float64", "int64"))  # before 0.8

    def call(self, op, inputs, dtype="float64", **options):
        with self.x64(dtype):
            return super().call(op, inputs, dtype, **options)

    def vjp(self, op, inputs, cotangent, wrt, dtype="float64", **options):
        with self.x64(dtype):
            inputs = self._arguments(inputs, dtype, arrays=wrt)
            function, at = self._function(op, inputs, wrt, options)
            result, pull = self.jax.vjp(function, at)
            (gradients,) = pull(self.asarray(cotangent, dtype))
            answers = [self.to_numpy(gradients[name], dtype) for name in wrt]
            return self.to_numpy(result, dtype), answers

    def jvp(self, op, inputs, tangents, dtype="float64", **options):
        with self.x64(dtype):
            inputs = self._arguments(inputs, dtype, arrays=tangents)
            function, at = self._function(op, inputs, tangents, options)
            directions = self._arguments(tangents, dtype, arrays=tangents)
            pair = self.jax.jvp(function, (at,), (directions,))
            return tuple(self.to_numpy(array, dtype) for array in pair)

    def _function(self, op, inputs, wrt, options):
        """The operator as a function of the inputs in `wrt`, and their values."""
        return (
            lambda at: self._apply(op, {**inputs, **at}, options),
            {name: inputs[name] for name in wrt},
        )


@contextlib.contextmanager
def fallback():
    """Forces the fallback, for every backend."""
    import diffsort

    before = diffsort.get_solver()
    diffsort.set_solver("fallback")
    try:
        yield
    finally:
        diffsort.set_solver(before)


class _Fallback:
    """Mixed into a backend: its fallback. Derivatives are taken with the same choice."""

    thorough = False

    def path(self):
        return fallback()

    def call(self, *args, **options):
        with fallback():
            return super().call(*args, **options)

    def vjp(self, *args, **options):
        with fallback():
            return super().vjp(*args, **options)

    def jvp(self, *args, **options):
        with fallback():
            return super().jvp(*args, **options)


class NumPyFallback(_Fallback, NumPy):
    pass


class TorchFallback(_Fallback, Torch):
    golden = slice(3, None, 8)


class JAXFallback(_Fallback, JAX):
    """With x64, whose sums the tolerances are about; tests/jax/test_fallback.py goes without."""

    default_dtype = "float64"
    golden = slice(12, None, 24)  # XLA compiles a program for each length

    def x64(self, dtype):
        return super().x64("float64")


class ArrayAPIStrict(_Fallback, NumPy):
    """Arrays that offer the standard and nothing more, on a device that is not the default one."""

    device_name = "device1"
    golden = slice(5, None, 8)

    def __init__(self):
        self.strict = pytest.importorskip("array_api_strict", minversion="2.4")
        super().__init__()

    @property
    def device(self):
        return self.strict.Device(self.device_name)

    def asarray(self, array, dtype):
        if dtype in ("float16", "bfloat16"):
            pytest.skip("the standard has no half precision")
        array = np.asarray(array)
        if array.dtype.kind == "f" and np.dtype(dtype).kind != "f":
            array = array.astype(dtype)
        return self.strict.asarray(array, dtype=getattr(self.strict, dtype), device=self.device)

    def to_numpy(self, array, dtype):
        assert type(array) is type(self.strict.zeros(1))
        assert array.dtype == getattr(self.strict, dtype)
        assert array.device == self.device
        on_host = array.to_device(self.strict.Device("CPU_DEVICE"))
        return np.asarray(on_host).astype(np.float64)

    def call(self, *args, **options):
        with self.strictest():
            return super().call(*args, **options)

    def vjp(self, *args, **options):
        with self.strictest():
            return super().vjp(*args, **options)

    def jvp(self, *args, **options):
        with self.strictest():
            return super().jvp(*args, **options)

    @contextlib.contextmanager
    def strictest(self):
        """Without what a lazy or compiling library cannot do, and without extensions."""
        with self.strict.ArrayAPIStrictFlags(
            boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        ):
            yield


def _split(inputs):
    """(values, the rest): values is positional, because `project` calls it z."""
    return inputs["values"], {name: array for name, array in inputs.items() if name != "values"}


class WrongResults(NumPy):
    """Wrong results, right derivatives: for test_broken_backend."""

    def call(self, op, inputs, dtype="float64", **options):
        return _spoiled(super().call(op, inputs, dtype, **options), dtype)

    def vjp(self, op, inputs, cotangent, wrt, dtype="float64", **options):
        result, gradients = super().vjp(op, inputs, cotangent, wrt, dtype, **options)
        return _spoiled(result, dtype), gradients

    def jvp(self, op, inputs, tangents, dtype="float64", **options):
        result, tangent = super().jvp(op, inputs, tangents, dtype, **options)
        return _spoiled(result, dtype), tangent


class WrongDerivatives(NumPy):
    """Right results, wrong derivatives: for test_broken_backend."""

    def vjp(self, op, inputs, cotangent, wrt, dtype="float64", **options):
        result, gradients = super().vjp(op, inputs, cotangent, wrt, dtype, **options)
        return result, [_spoiled(np.roll(array, 1), dtype) for array in gradients]

    def jvp(self, op, inputs, tangents, dtype="float64", **options):
        result, tangent = super().jvp(op, inputs, tangents, dtype, **options)
        return result, _spoiled(tangent, dtype)


def _spoiled(array, dtype):
    """Off by a little more than the dtype can hide."""
    return array + max(1e-3, 32 * EPS[dtype]) * (1 + np.abs(array))


BACKENDS = {
    "numpy": NumPy,
    "numpy-fallback": NumPyFallback,
    "torch": Torch,
    "torch-reference": TorchReference,
    "torch-fallback": TorchFallback,
    "jax": JAX,
    "jax-fallback": JAXFallback,
    "array-api-strict": ArrayAPIStrict,
}
BROKEN = {"wrong-results": WrongResults, "wrong-derivatives": WrongDerivatives}
ALL = {**BACKENDS, **BROKEN}

# Backends that take minutes to compile what the tests ask of them; jax/test_fallback.py runs the
# conformance suite on this one.
SLOW = {"jax-fallback"}
# A single backend in the place of all others, for tests that run the suite in another process.
IN_USE = [name for name in [os.environ.get("DIFFSORT_TEST_BACKEND")] if name] or [
    name for name in BACKENDS if name not in SLOW
]
