"""Fixed points for the tests of transformations, and what is true there by the min-max oracle.

Every framework's tests take their operators, points and expectations from here, in NumPy, one row
at a time: nothing here takes its truth from the code under test.
"""

from dataclasses import dataclass

import numpy as np
import oracle

# Rows without ties and at a distance from every point where blocks merge or split, for the
# strengths below: numeric differentiation is valid there.
POINT = [
    [2.9, 0.1, 1.2, 1.35, 0.7],
    [-0.7, 0.45, 2.2, 0.3, -1.9],
    [0.05, -0.3, 0.21, 1.7, 1.1],
]
NUMBER = 0.7
PER_ROW = [[0.4], [1.1], [2.3]]
COTANGENT = [
    [1.0, -2.0, 3.0, 0.5, -0.25],
    [0.3, 0.7, -1.1, 2.0, 1.0],
    [-0.6, 1.5, 0.2, 0.9, -1.3],
]
TANGENT = [
    [0.2, 1.0, -0.4, 0.3, 0.9],
    [-1.0, 0.1, 0.6, -0.8, 0.35],
    [0.5, -0.2, 1.4, 0.15, -0.45],
]
WEIGHTS = [3.1, 0.4, 1.9, 0.8, 2.2]  # the w of `project`

# Rows where the derivative is defined by convention: ties, a NaN row, a row with strength 0.
EDGE_POINT = [
    [1.0, 1.0, 2.0, 0.0, 2.0],
    [0.3, float("nan"), 1.0, 2.0, -1.0],
    [0.4, 1.7, 0.4, -0.2, 1.1],
    [1.5, 1.5, 1.5, 0.5, 0.25],
    [2.9, 0.1, 1.2, 1.35, 0.7],
]
EDGE_STRENGTH = [[0.4], [1.0], [0.0], [2.0], [0.7]]
EDGE_COTANGENT = [*COTANGENT, *COTANGENT[:2]]


@dataclass(frozen=True)
class Operator:
    """One operator with its options; ``project`` takes ``WEIGHTS`` as its w."""

    op: str
    direction: str
    regularization: str

    def __str__(self):
        return f"{self.op}-{self.direction}-{self.regularization}"

    def solve(self, row, strength=NUMBER):
        w = np.array(WEIGHTS[: len(row)]) if self.op == "project" else None
        return oracle.solve(self.op, row, w, strength, self.direction, self.regularization)

    def value(self, row, strength=NUMBER):
        """The operator on one row."""
        return self.solve(row, strength).value

    def jacobian(self, row, strength=NUMBER):
        """d result[i] / d row[j] as entry (i, j)."""
        return self.solve(row, strength).jacobian["values"]

    def strength_jacobian(self, row, strength=NUMBER):
        """d result / d strength."""
        return self.solve(row, strength).jacobian["regularization_strength"][:, 0]

    def hessian(self, row, strength=NUMBER):
        """Second derivatives of every result entry in (row, strength): (n, n + 1, n + 1)."""

        def first(p):
            found = self.solve(p[:-1], p[-1]).jacobian
            return np.concatenate([found["values"], found["regularization_strength"]], axis=1)

        return difference(first, np.append(row, strength))


def difference(function, at, step=1e-4):
    """Fourth-order central differences: entry (..., j) is d function / d at[j]."""
    columns = []
    for j in range(at.size):
        e = np.zeros_like(at)
        e[j] = step
        near = function(at + e) - function(at - e)
        far = function(at + 2 * e) - function(at - 2 * e)
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=-1)


def operators(kind):
    """Every operator with every option, as objects of that subclass of `Operator`."""
    return [
        kind(op, direction, regularization)
        for op in ("soft_rank", "soft_sort")
        for direction in ("ascending", "descending")
        for regularization in ("l2", "kl")
    ] + [kind("project", "ascending", regularization) for regularization in ("l2", "kl")]


def few_operators(kind):
    """Where a test is slow: every operator, regularization and direction once or twice."""
    return [
        kind("soft_rank", "ascending", "l2"),
        kind("soft_rank", "descending", "kl"),
        kind("soft_sort", "descending", "l2"),
        kind("soft_sort", "ascending", "kl"),
    ]


# Tolerances, relative and absolute; the numbers compared are of size 1 to 100.
EXACT = 1e-10  # float64 against the oracle: what docs/conventions.md promises
# Against `difference` of the oracle's Jacobian: its rounding, 2^-53 * 100 / step = 1e-10, and its
# truncation, step^4 / 30 of a fifth derivative of up to 0.4^-5, leave two digits to spare.
NUMERIC = 1e-8
SINGLE = 2.0**-17  # float32: a few dozen roundings of 2^-24, of numbers of size 1


def _rows(x, strength):
    """Shape of x, and rows (last axis) of it with the strength of each."""
    x = np.asarray(x, dtype=np.float64)
    strength = np.broadcast_to(np.asarray(strength, dtype=np.float64), (*x.shape[:-1], 1))
    return x.shape, list(zip(x.reshape(-1, x.shape[-1]), strength.reshape(-1), strict=True))


def expected(case, x, strength=NUMBER):
    """Oracle values over the last axis of x."""
    shape, rows = _rows(x, strength)
    return np.stack([case.value(r, s) for r, s in rows]).reshape(shape)


def expected_vjp(case, x, strength, g):
    """Gradients (in values, in the strength of each row with shape (..., 1)) for cotangent g."""
    shape, rows = _rows(x, strength)
    gs = np.asarray(g, dtype=np.float64).reshape(-1, shape[-1])
    dx = [c @ case.jacobian(r, s) for (r, s), c in zip(rows, gs, strict=True)]
    ds = [c @ case.strength_jacobian(r, s) for (r, s), c in zip(rows, gs, strict=True)]
    return np.stack(dx).reshape(shape), np.stack(ds).reshape(*shape[:-1], 1)


def expected_jvp(case, x, strength, t, strength_t=None):
    """Directional derivative for tangent t of the values (and of the strength)."""
    shape, rows = _rows(x, strength)
    ts = np.asarray(t, dtype=np.float64).reshape(-1, shape[-1])
    out = np.stack([case.jacobian(r, s) @ v for (r, s), v in zip(rows, ts, strict=True)])
    if strength_t is not None:
        ds = np.broadcast_to(np.asarray(strength_t, dtype=np.float64), (*shape[:-1], 1))
        out += ds.reshape(-1, 1) * np.stack([case.strength_jacobian(r, s) for r, s in rows])
    return out.reshape(shape)


def expected_jacobian(case, x, strength=NUMBER):
    """Dense Jacobian in values of a 2-D x: shape (B, n, B, n)."""
    (b, n), rows = _rows(x, strength)
    out = np.zeros((b, n, b, n))
    for i, (r, s) in enumerate(rows):
        out[i, :, i, :] = case.jacobian(r, s)
    return out
