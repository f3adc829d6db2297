"""Whether there is a CUDA device for the tests, asked of the driver and of each framework.

That a framework can be imported says nothing: CuPy imports on any machine, and PyTorch and JAX have
builds without CUDA.
"""

import ctypes
import functools

import pytest


@functools.cache
def of_the_driver():
    """The number of CUDA devices, by the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def require(devices=1):
    """Skips the test where there are fewer devices."""
    found = of_the_driver()
    if found < devices:
        what = "no CUDA device" if found == 0 else f"{found} CUDA device, {devices} wanted"
        pytest.skip(f"{what} (asked of the driver)")


def torch(devices=1):
    require(devices)
    module = pytest.importorskip("torch", minversion="2.6")
    if module.version.hip is not None or module.cuda.device_count() < devices:
        pytest.skip("this PyTorch has no CUDA")
    return module


def jax(devices=1):
    require(devices)
    module = pytest.importorskip("jax", minversion="0.4.31")
    try:
        count = len(module.devices("cuda"))
    except RuntimeError:
        pytest.skip("this JAX has no CUDA")
    if count < devices:
        pytest.skip("JAX sees fewer CUDA devices")
    return module


def cupy(devices=1):
    require(devices)
    module = pytest.importorskip("cupy", minversion="13.6")
    if module.cuda.runtime.is_hip or module.cuda.runtime.getDeviceCount() < devices:
        pytest.skip("this CuPy has no CUDA")
    return module
