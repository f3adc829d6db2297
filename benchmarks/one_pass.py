"""Prints the bytes per element that one forward and backward pass adds, in a fresh process of
memory.py, which says what is measured and how."""

import argparse
import importlib

import measure
import numpy as np
import resident

PIECE = 8192  # elements; longer temporaries would leave memory behind that the pass then finds


def torch_step(library, operator, regularization, threads):
    import torch

    torch.set_num_threads(threads)
    function = getattr(importlib.import_module(library), operator)

    def step(values, strength):
        x = torch.from_numpy(values).requires_grad_()
        y = function(x, regularization=regularization, regularization_strength=strength)
        g = torch.ones_like(y)
        y.backward(g)
        return x, y, g

    return step


def numpy_step(operator, regularization, threads):
    import diffsort

    diffsort.set_num_threads(threads)
    function, options = getattr(diffsort, operator), {"regularization": regularization}

    def step(values, strength):
        y, pull_back = diffsort.vjp(function, values, regularization_strength=strength, **options)
        g = np.ones_like(y)
        return y, pull_back, g, pull_back(g)

    return step


def inputs(kind, shape):
    """float32 of one of the distributions of memory.py, made in small pieces."""
    rng = np.random.default_rng(0)
    draw = rng.standard_cauchy if kind == "Cauchy" else rng.standard_normal
    values = np.empty(shape, np.float32)
    flat = values.reshape(-1)
    for begin in range(0, flat.size, PIECE):
        piece = flat[begin : begin + PIECE]
        piece[...] = draw(piece.size)
    if kind == "ReLU":
        np.maximum(values, 0, out=values)
    if kind == "outlier":
        values[:, shape[1] // 2] = 1e30
    return values


def parse():
    parser = argparse.ArgumentParser()
    for name in ("through", "operator", "regularization", "regime", "inputs"):
        parser.add_argument(name)
    parser.add_argument("shape", type=measure.shape)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm", type=int, nargs="*", default=[])
    return parser.parse_args()


def main():
    options = parse()
    of_operator = options.operator, options.regularization
    if options.through == "NumPy":
        step = numpy_step(*of_operator, options.threads)
    else:
        library = "diffsort" if options.through == "torch" else options.through
        step = torch_step(library, *of_operator, options.threads)
    values = inputs(options.inputs, options.shape)
    ranges = np.ptp(values, axis=-1).astype(np.float64)
    strength = float(measure.strengths(*of_operator, options.regime, ranges, options.shape[1]))
    for n in (64, 64, 64, *options.warm):
        step(inputs("normal", (1, n)), 0.1)
    growth = resident.Growth()
    kept = step(values, strength)
    print(growth.at_peak() / values.size)
    del kept  # until here everything is alive


if __name__ == "__main__":
    main()
