"""The baselines: what the libraries themselves take to sort, forward only."""

import contextlib
import time

import avx2_sort
import measure
import numpy as np
import torch

AVX2 = "np.sort, AVX2"


def torch_sort(threads, preallocated=True):
    """torch.sort, by default into arrays that are there, as those of the kernels are."""

    def timer(inputs):
        tensors = [torch.from_numpy(each) for each in inputs.values]
        options = {"dim": -1}
        if preallocated:
            x = tensors[0]  # filled, so that the memory is there
            options["out"] = [
                torch.empty_like(x, dtype=dtype).fill_(0) for dtype in (x.dtype, torch.int64)
            ]
        with torch.no_grad(), torch_threads(threads):
            begin = time.perf_counter()
            for x in tensors:
                torch.sort(x, **options)
            return time.perf_counter() - begin

    return timer


@contextlib.contextmanager
def torch_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


def numpy_function(function):
    return measure.looped(lambda a: function(a, axis=-1), lambda inputs: zip(inputs.values))


@contextlib.contextmanager
def contenders(dtypes, threads):
    """(name, dtype, threads) -> contender of `measure.rounds`."""
    found = {}
    for dtype in dtypes:
        for count in threads:
            found["torch.sort", dtype, count] = dtype, torch_sort(count)
        for name, function in (("np.sort", np.sort), ("np.argsort", np.argsort)):
            found[name, dtype, 1] = dtype, numpy_function(function)
    if not avx2_sort.has_avx512():
        yield found
        return
    with avx2_sort.Sorter() as sorter:
        yield found | {(AVX2, dtype, 1): (dtype, sorter.timer) for dtype in dtypes}


def strong_numpy(times, dtype="float32"):
    """The times of np.sort's AVX2 path, which on a processor without AVX-512 is np.sort itself."""
    return times.get((AVX2, dtype, 1), times["np.sort", dtype, 1])


def avx512_note():
    if avx2_sort.has_avx512():
        return f'"{AVX2}" is np.sort with NPY_DISABLE_CPU_FEATURES="{avx2_sort.DISABLED}".'
    return "NumPy finds no AVX-512 here: np.sort is already the sort that it uses without."
