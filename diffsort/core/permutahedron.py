"""Every operator as a call of one projection onto the permutahedron.

With ρ = (n, ..., 1) and P the projection (Blondel et al. 2020, section 3, definitions 1 and 2):

    soft_rank(x) = P(±x / ε, ρ)      + ascending (the smallest value gets rank ~1), - descending
    soft_sort(x) = ±P(ρ / ε, ±x)     - ascending, + descending

`solve(spec, z, w, strength)` is a backend's `project`, or its `vjp` or `jvp`; None stands for ρ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from diffsort.core.checks import MAX_NDIM, check_axis, check_ndim, check_option
from diffsort.core.spec import DIRECTIONS, KL, LOG_KL, REGULARIZATIONS, Spec

Array = Any
Result = TypeVar("Result")
Solve = Callable[[Spec, Array, Array, Any], Result]

# The calls that there are, along the last axis: by function, regularization and direction. exp of
# the KL projection is the KL projection in the linear domain, which KL stands for; `soft_sort` has
# the values as logarithms of w, and stays there.
_SPECS = {
    (spec.function, regularization, direction): spec
    for regularization, code in REGULARIZATIONS.items()
    for direction, sign in DIRECTIONS.items()
    for spec in (
        Spec("soft_rank", "values", -1, code, -sign, 1.0),
        Spec("soft_sort", "values", -1, LOG_KL if code == KL else code, 1.0, sign),
        Spec("project", "z", -1, code, 1.0, 1.0),
    )
}


def soft_rank(
    solve: Solve[Result],
    values: Array,
    strength: Any,
    axis: SupportsIndex,
    direction: str,
    regularization: str,
) -> Result:
    spec = _spec("soft_rank", values.ndim, axis, regularization, direction)
    return solve(spec, values, None, strength)


def soft_sort(
    solve: Solve[Result],
    values: Array,
    strength: Any,
    axis: SupportsIndex,
    direction: str,
    regularization: str,
) -> Result:
    spec = _spec("soft_sort", values.ndim, axis, regularization, direction)
    return solve(spec, None, values, strength)


def project(
    solve: Solve[Result],
    z: Array,
    w: Array,
    strength: Any,
    axis: SupportsIndex,
    regularization: str,
) -> Result:
    """P(z / ε, w) itself."""
    check_ndim("project", "z", z.ndim)
    check_ndim("project", "w", w.ndim)
    spec = _spec("project", max(z.ndim, w.ndim), axis, regularization)
    return solve(spec, z, w, strength)


def _spec(
    function: str, ndim: int, axis: SupportsIndex, regularization: str, direction: str = "ascending"
) -> Spec:
    """The call that the options mean, along an axis of an array with `ndim` dimensions; checked."""
    try:
        spec = _SPECS[function, regularization, direction]
    except (KeyError, TypeError):  # in another letter case, not listed, or nothing that could be
        regularization = check_option(function, "regularization", regularization, REGULARIZATIONS)
        direction = check_option(function, "direction", direction, DIRECTIONS)
        spec = _SPECS[function, regularization, direction]
    if type(axis) is int and axis == -1 and 0 < ndim <= MAX_NDIM:
        return spec
    check_ndim(function, spec.argument, ndim)
    return spec.along(check_axis(function, axis, ndim))
