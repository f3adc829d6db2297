"""Skips the files of this folder, with a reason, where there is no CUDA device; and the backends of
`backends.py` on one. The native solver is required: nothing here may pass by the fallback."""

import backends
import devices
import numpy as np
import pytest

from diffsort.backends import kernels

if devices.of_the_driver() == 0:
    pytest.skip("no CUDA device (asked of the driver)", allow_module_level=True)


class _OnCuda:
    def __init__(self):
        devices.torch()
        super().__init__()

    def asarray(self, array, dtype):
        return super().asarray(array, dtype).cuda()

    def to_numpy(self, array, dtype):
        assert array.is_cuda
        return super().to_numpy(array.cpu(), dtype)


class Torch(_OnCuda, backends.Torch):
    pass


class TorchReference(_OnCuda, backends.TorchReference):
    pass


class JAX(backends.JAX):
    def __init__(self):
        self.device = devices.jax().devices("cuda")[0]
        super().__init__()

    def asarray(self, array, dtype):
        with self.x64(dtype):
            return self.jax.device_put(super().asarray(array, dtype), self.device)

    def to_numpy(self, array, dtype):
        assert array.devices() == {self.device}
        return super().to_numpy(array, dtype)


class CuPy(backends.NumPy):
    golden = slice(4, None, 8)

    def __init__(self):
        self.cupy = devices.cupy()
        super().__init__()

    def asarray(self, array, dtype):
        if dtype == "bfloat16":
            pytest.skip("CuPy has no bfloat16")
        return self.cupy.asarray(np.asarray(array).astype(dtype))

    def to_numpy(self, array, dtype):
        assert type(array) is self.cupy.ndarray
        assert array.dtype == dtype
        return array.get().astype(np.float64)


BACKENDS = {"torch": Torch, "torch-reference": TorchReference, "cupy": CuPy, "jax": JAX}
ON_THE_FIXTURE = ("torch", "torch-reference", "cupy")  # test_jax.py has the tests of JAX

# The capability of the first device is what the build must have been made for.
PROBLEM = kernels.cuda_problem(0)
