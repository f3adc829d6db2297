"""The truth of the tests: the projection onto the permutahedron by the min-max formula.

    v_i = min over l <= i of max over u >= i of M(l, u)

M(l, u) is the value that the block l..u of the sorted row would take: the mean of s - w (l2) or
lse(s) - lse(w) (kl), s = z / strength. The formula costs O(n^2) and pools nothing, so it shares no
code and no idea with a pooling algorithm. In l2 the comparisons are made in exact integers; in kl
of exp(v), with fifty digits. Values and Jacobians then follow from the blocks of equal v in their
stable forms.

`solve` and the functions named after the operators take one row (1-D); `Batch` takes arrays of any
number of dimensions. `project` with "kl" takes w as it is (linear); `soft_sort` with "kl" works on
logarithms throughout, a third geometry called "log_kl" here.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np

WIDE = np.longdouble
SIGN = {
    ("soft_rank", "ascending"): 1,
    ("soft_rank", "descending"): -1,
    ("soft_sort", "ascending"): -1,
    ("soft_sort", "descending"): 1,
}


@dataclass
class Solution:
    """One row: its result, derivatives, and what rounding errors are to be measured against.

    `jacobian` and `magnitude` map "values", "regularization_strength" and, for `project`, "w" to
    matrices (n, size of the input; one column for the strength). `magnitude` is the Jacobian with
    the terms that it subtracts added up instead; `scale` is the same for the result.
    """

    value: np.ndarray
    scale: np.ndarray
    jacobian: dict
    magnitude: dict
    block: np.ndarray  # of each element of z: the sorted position where its block starts


def solve(op, values, w=None, strength=1.0, direction="ascending", regularization="l2"):
    x = np.asarray(values, dtype=np.float64)
    rho = np.arange(x.size, 0, -1, dtype=np.float64)
    if op == "project":
        return _project(x, np.asarray(w, dtype=np.float64), float(strength), regularization)
    sign = SIGN[op, direction]
    if op == "soft_rank":
        row = _project(sign * x, rho, float(strength), regularization)
        row.jacobian["values"] = sign * row.jacobian["values"]
    else:
        geometry = {"l2": "l2", "kl": "log_kl"}[regularization]
        row = _project(rho, sign * x, float(strength), geometry)
        row.value[:] = sign * row.value
        row.jacobian["regularization_strength"] = sign * row.jacobian["regularization_strength"]
        row.jacobian["values"], row.magnitude["values"] = row.jacobian["w"], row.magnitude["w"]
    return row


def soft_rank(x, strength=1.0, direction="ascending", regularization="l2"):
    return solve("soft_rank", x, None, strength, direction, regularization).value


def soft_sort(x, strength=1.0, direction="ascending", regularization="l2"):
    return solve("soft_sort", x, None, strength, direction, regularization).value


def project(z, w, strength=1.0, regularization="l2"):
    return solve("project", z, w, strength, regularization=regularization).value


def partition(op, values, **options):
    """For each element of z, the sorted position where its block starts."""
    return solve(op, values, **options).block


def jacobian(op, values, wrt="values", **options):
    """d result / d input, a matrix."""
    return solve(op, values, **options).jacobian[wrt]


def strength_jacobian(op, values, **options):
    """d result / d strength, a vector."""
    return solve(op, values, **options).jacobian["regularization_strength"][:, 0]


def rows(fun):
    """`fun` of 1-D rows -> a function of n-d arrays that broadcast, applied along `axis`."""

    def apply(*arrays, axis=-1):
        arrays = [np.moveaxis(array, axis, -1) for array in np.broadcast_arrays(*arrays)]
        result = np.empty(arrays[0].shape)
        for i in np.ndindex(result.shape[:-1]):
            result[i] = fun(*(array[i] for array in arrays))
        return np.moveaxis(result, -1, axis)

    return apply


class Batch:
    """`solve` along one axis of n-d inputs: a dict of "values", perhaps "w" and the strength."""

    def __init__(self, op, inputs, axis=-1, **options):
        inputs = {name: np.asarray(array, dtype=np.float64) for name, array in inputs.items()}
        inputs.setdefault("regularization_strength", np.float64(1.0))
        self.inputs, self.axis = inputs, axis
        self.shape = np.broadcast_shapes(*(array.shape for array in inputs.values()))
        row = {name: self._rows(name, array) for name, array in inputs.items()}
        strength = row.pop("regularization_strength")
        self.solutions = np.empty(strength.shape[:-1], dtype=object)
        for i in np.ndindex(self.solutions.shape):
            arrays = {name: array[i] for name, array in row.items()}
            self.solutions[i] = solve(op, strength=strength[i][0], **arrays, **options)

    def value(self, part="value"):
        """The result, or with part="scale" what its errors are measured against."""
        return self._collect(lambda i: getattr(self.solutions[i], part))

    def vjp(self, cotangent, wrt="values", part="jacobian"):
        g = self._rows("values", cotangent)
        gradient = self._collect(lambda i: g[i] @ getattr(self.solutions[i], part)[wrt])
        shape = self.inputs[wrt].shape
        lead = gradient.ndim - len(shape)
        gradient = gradient.sum(axis=tuple(range(lead)))
        widened = tuple(k for k, size in enumerate(shape) if size == 1)
        return gradient.sum(axis=widened, keepdims=True)

    def jvp(self, tangents, part="jacobian"):
        t = {name: self._rows(name, tangent) for name, tangent in tangents.items()}
        return self._collect(
            lambda i: sum(getattr(self.solutions[i], part)[name] @ t[name][i] for name in t)
        )

    def _rows(self, name, array):
        shape = list(self.shape)
        if name == "regularization_strength":
            shape[self.axis] = 1
        return np.moveaxis(np.broadcast_to(array, shape), self.axis, -1)

    def _collect(self, row):
        found = [row(i) for i in np.ndindex(self.solutions.shape)]
        width = found[0].size if found else self.shape[self.axis]
        return np.moveaxis(np.reshape(found, (*self.solutions.shape, width)), -1, self.axis)


def _project(z, w, strength, geometry):
    n = z.size
    infinite_w = strength > 0 and np.isinf(w).any()
    if np.isnan(z).any() or np.isnan(w).any() or infinite_w or (geometry == "kl" and (w < 0).any()):
        return _nan_row(n)
    sigma, tau = np.argsort(-z, kind="stable"), np.argsort(-w, kind="stable")
    value, block, largest = np.empty(n, dtype=WIDE), np.empty(n, dtype=int), np.zeros(n)
    of_z, size_z, of_w = (np.zeros((n, n), dtype=WIDE) for _ in range(3))
    of_strength = np.zeros((n, 1), dtype=WIDE)
    for start, stop, hard in _blocks(z[sigma], w[tau], strength, geometry):
        i, j = sigma[start:stop], tau[start:stop]
        block[i] = start
        largest[i] = np.abs(w[j][np.isfinite(w[j])]).max(initial=0)
        weights = w[j].astype(WIDE)
        if hard:
            value[i], of_w[np.ix_(i, j)] = weights.mean(), 1 / WIDE(i.size)
            continue
        s = (z[i].astype(WIDE) - z[i[0]]) / strength  # i[0] holds the largest z: s <= 0
        value[i], plus, minus, of_w[np.ix_(i, j)] = _inside(s, weights, geometry)
        of_z[np.ix_(i, i)] = (plus - minus) / strength
        size_z[np.ix_(i, i)] = (plus + minus) / strength
        of_strength[i, 0] = -of_z[np.ix_(i, i)] @ s
    finite = z[np.isfinite(z)]
    spread = np.ptp(finite).astype(WIDE) / strength if strength > 0 and finite.size else 0
    size_strength = size_z.sum(axis=1, keepdims=True) * spread
    scale = {"l2": largest, "kl": value, "log_kl": np.maximum(1, largest)}[geometry]
    return Solution(
        value.astype(float),
        scale.astype(float),
        _floats(values=of_z, w=of_w, regularization_strength=of_strength),
        _floats(values=size_z, w=of_w, regularization_strength=size_strength),
        block,
    )


def _inside(s, w, geometry):
    """One block: the result, d result / ds as a difference (plus, minus), d result / dw."""
    if s.size == 1:
        return w, 0, 0, 1
    p, eye = _softmax(s), np.eye(s.size, dtype=WIDE)
    if geometry == "l2":
        return w.mean() + (s - s.mean()), eye, 1 / WIDE(s.size), 1 / WIDE(s.size)
    if geometry == "kl":
        return p * w.sum(), np.diag(p * w.sum()), np.outer(p * w.sum(), p), p[:, None]
    return (s - _logsumexp(s)) + _logsumexp(w), eye, p[None, :], _softmax(w)[None, :]


def _blocks(s, w, strength, geometry):
    """(start, stop, hard) of the blocks of a sorted row; z does not act inside a hard block."""
    n = s.size
    if strength == 0:
        hard = np.ones(n, dtype=bool)
        start = np.r_[True, s[1:] != s[:-1]]
    else:
        hard = np.isinf(s)
        start = np.r_[True, hard[1:] | hard[:-1]] & np.r_[True, s[1:] != s[:-1]]
        soft = np.flatnonzero(~hard)
        if soft.size:
            low, high = (_l2 if geometry == "l2" else _kl)(s[soft], w[soft], strength, geometry)
            start[soft[1:]] = low[:-1] > high[1:]
    edges = [*np.flatnonzero(start[:n]), n]
    return [(a, b, hard[a]) for a, b in pairwise(edges)]


def _l2(z, w, strength, _):
    """v times a positive constant, twice: the bounds of it are one, for z - strength * w is dyadic
    and its means are rational."""
    n, strength = z.size, Fraction(strength)
    exact = [Fraction(a) - strength * Fraction(b) for a, b in zip(z, w, strict=True)]
    unit = max(value.denominator for value in exact)
    integers = np.array([int(value * unit) for value in exact], dtype=object)
    length = np.maximum(1 + np.arange(n) - np.arange(n)[:, None], 1).astype(object)
    means = _running(np.add, integers, 0) * (math.lcm(*range(1, n + 1)) // length)
    v = _min_max(means)
    return v, v


def _kl(z, w, strength, geometry):
    """Bounds of exp(v), with digits to spare for values however far apart."""
    largest = max(1, *map(abs, (*z, *w)))
    spread = math.log10(largest) - min(0, math.log10(strength))
    with mpmath.workdps(50 + math.ceil(spread)):
        s = np.array([mpmath.exp((mpmath.mpf(x) - z[0]) / strength) for x in z], dtype=object)
        weights = [mpmath.exp(mpmath.mpf(x) - w[0]) if geometry == "log_kl" else x for x in w]
        weights = np.array([mpmath.mpf(x) for x in weights], dtype=object)
        divide = np.frompyfunc(lambda a, b: a / b if b else mpmath.inf, 2, 1)
        v = _min_max(divide(_running(np.add, s, 0), _running(np.add, weights, 0)))
        return v, v * (1 + mpmath.mpf(10) ** -30)


def _running(add, row, nothing):
    """[l, u] -> the sum of row[l..u] in the sense of `add`, for l <= u."""
    upper = np.triu(np.ones((row.size, row.size), dtype=bool))
    return add.accumulate(np.where(upper, row, nothing), axis=1)


def _min_max(means):
    best = np.maximum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # max over u >= i, for every l
    return np.array([best[: i + 1, i].min() for i in range(len(best))], dtype=means.dtype)


def _logsumexp(s):
    return s.max() + np.log(np.exp(s - s.max()).sum())


def _softmax(s):
    return np.exp(s - s.max()) / np.exp(s - s.max()).sum()


def _floats(**arrays):
    return {name: array.astype(float) for name, array in arrays.items()}


def _nan_row(n):
    row, matrix, column = (np.full(shape, np.nan) for shape in (n, (n, n), (n, 1)))
    derivatives = {"values": matrix, "w": matrix, "regularization_strength": column}
    return Solution(row, row, derivatives, dict(derivatives), np.full(n, -1))
