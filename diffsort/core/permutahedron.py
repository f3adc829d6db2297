"""Every operator as a call of one projection onto the permutahedron.

With ρ = (n, ..., 1) and P the projection (Blondel et al. 2020, section 3, definitions 1 and 2):

    soft_rank(x) = P(±x / ε, ρ)      + ascending (the smallest value gets rank ~1), - descending
    soft_sort(x) = ±P(ρ / ε, ±x)     - ascending, + descending

`solve(spec, z, w, strength)` is a backend's `project`, or its `vjp` or `jvp`; None stands for ρ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from diffsort.core.spec import (
    DIRECTIONS,
    KL,
    LOG_KL,
    REGULARIZATIONS,
    Spec,
    check_axis,
    check_ndim,
    check_option,
)

Array = Any
Result = TypeVar("Result")
Solve = Callable[[Spec, Array, Array, Any], Result]


def soft_rank(
    solve: Solve[Result],
    values: Array,
    strength: Any,
    axis: SupportsIndex,
    direction: str,
    regularization: str,
) -> Result:
    """exp of the KL projection is the KL projection in the linear domain, which KL stands for."""
    check_ndim("soft_rank", "values", values.ndim)
    spec = Spec(
        "soft_rank",
        "values",
        check_axis("soft_rank", axis, values.ndim),
        check_option("soft_rank", "regularization", regularization, REGULARIZATIONS),
        -check_option("soft_rank", "direction", direction, DIRECTIONS),
        1.0,
    )
    return solve(spec, values, None, strength)


def soft_sort(
    solve: Solve[Result],
    values: Array,
    strength: Any,
    axis: SupportsIndex,
    direction: str,
    regularization: str,
) -> Result:
    """The KL form takes the values as logarithms of w and stays there."""
    check_ndim("soft_sort", "values", values.ndim)
    code = check_option("soft_sort", "regularization", regularization, REGULARIZATIONS)
    spec = Spec(
        "soft_sort",
        "values",
        check_axis("soft_sort", axis, values.ndim),
        LOG_KL if code == KL else code,
        1.0,
        check_option("soft_sort", "direction", direction, DIRECTIONS),
    )
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
    ndim = max(z.ndim, w.ndim)
    spec = Spec(
        "project",
        "z",
        check_axis("project", axis, ndim),
        check_option("project", "regularization", regularization, REGULARIZATIONS),
        1.0,
        1.0,
    )
    return solve(spec, z, w, strength)
