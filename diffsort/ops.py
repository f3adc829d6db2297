"""The public functions: documentation, and dispatch to the backend that owns the arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, SupportsIndex

from diffsort.backends import Backend, resolve, resolve_pair
from diffsort.core import permutahedron

Array = Any


def soft_sort(
    values: Array,
    *,
    axis: SupportsIndex = -1,
    direction: str = "ascending",
    regularization: str = "l2",
    regularization_strength: float | Array = 1.0,
    backend: str | None = None,
) -> Array:
    r"""Sort differentiably.

    The result is :math:`\mp P_\Psi(\rho / \varepsilon, \mp x)` with :math:`\rho = (n, \dots, 1)`
    and :math:`P_\Psi` the projection onto the permutahedron ([1]_, definition 1); the upper signs
    are for ascending order.

    Parameters
    ----------
    values : array of shape (..., n, ...)
        NumPy array, torch tensor, JAX or CuPy array, or a sequence (read as NumPy). float64,
        float32, float16, bfloat16; integers and bools become the framework's default float.
    axis : int, default -1
        The axis that is sorted; all others are batch axes.
    direction : {"ascending", "descending"}
        Order of the result. Letter case is ignored, here and in `regularization`.
    regularization : {"l2", "kl"}
        Euclidean projection, or the logarithm of the Kullback-Leibler projection of exp(values).
    regularization_strength : float or array, default 1.0
        ε ≥ 0, in units of 1 / values. An array broadcasts against `values` with length 1 along
        `axis` (one strength per row) and is differentiated like `values`.
    backend : {"numpy", "torch", "jax", "cupy"}, optional
        By default the framework of `values`. A name converts a sequence or a NumPy array first.

    Returns
    -------
    array of the shape, dtype, framework and device of `values`
        Soft-sorted values, in the units of `values`.

    Raises
    ------
    ValueError
        For an option that is not listed, an axis out of range, 0-d values, a strength that is
        negative, NaN or infinite, or one of the wrong shape.
    TypeError
        For complex, object or string data, or a strength that is no number and no array.
    diffsort.errors.BackendMismatchError
        If the arrays are of different frameworks, or of another one than `backend`.
    diffsort.errors.MissingBackendError
        If the framework that `backend` names cannot be imported.
    diffsort.errors.MissingKernelError
        If the device of `values` has no kernel in this build and `set_solver("native")` holds.

    Warns
    -----
    diffsort.errors.FallbackWarning
        Once per framework and device, if the device of `values` has no kernel in this build.

    Notes
    -----
    Cost: O(n log n) time and O(n) memory per row, forward; O(n) backward.

    Limits: with l2 the result is exactly the hard sort for ε ≤ 1 / (largest gap between sorted
    neighbours). As ε grows all results approach one number: the mean with l2; with kl, in ascending
    order, -log(mean(exp(-values))), descending log(mean(exp(values))). At ε = 0 it is the hard
    sort, and the gradient its inverse (stable) permutation.

    Ties are taken in input order, so gradients at ties are well defined. NaN makes its own row NaN,
    gradient included. A row with ±inf is sorted at ε = 0 and NaN at ε > 0, where the limit of large
    values is not finite. Results do not depend on the number of threads, bit for bit. float32 is
    summed in float64.

    References
    ----------
    .. [1] Blondel, Teboul, Berthet, Djolonga. Fast Differentiable Sorting and Ranking. ICML 2020.
       https://arxiv.org/abs/2002.08871

    Examples
    --------
    >>> import numpy as np
    >>> import diffsort
    >>> x = np.array([2.9, 0.1, 1.2, 1.3])
    >>> diffsort.soft_sort(x, regularization_strength=1.0)
    array([0.15, 1.15, 1.6 , 2.6 ])
    >>> diffsort.soft_sort(x, regularization_strength=0.0, direction="descending")
    array([2.9, 1.3, 1.2, 0.1])
    """
    owner, values = resolve("soft_sort", "values", values, backend)
    return permutahedron.soft_sort(
        owner.project, values, regularization_strength, axis, direction, regularization
    )


def soft_rank(
    values: Array,
    *,
    axis: SupportsIndex = -1,
    direction: str = "ascending",
    regularization: str = "l2",
    regularization_strength: float | Array = 1.0,
    backend: str | None = None,
) -> Array:
    r"""Rank differentiably; ranks count from 1.

    The result is :math:`P_\Psi(\pm x / \varepsilon, \rho)` with :math:`\rho = (n, \dots, 1)` and
    :math:`P_\Psi` the projection onto the permutahedron ([1]_, definition 2); the sign is + for
    ascending order.

    Parameters
    ----------
    values : array of shape (..., n, ...)
        NumPy array, torch tensor, JAX or CuPy array, or a sequence (read as NumPy). float64,
        float32, float16, bfloat16; integers and bools become the framework's default float.
    axis : int, default -1
        The axis along which to rank; all others are batch axes.
    direction : {"ascending", "descending"}
        Whether the smallest or the largest value gets the rank near 1. Letter case is ignored, here
        and in `regularization`.
    regularization : {"l2", "kl"}
        Euclidean or Kullback-Leibler projection.
    regularization_strength : float or array, default 1.0
        ε ≥ 0, in the units of `values`. An array broadcasts against `values` with length 1 along
        `axis` (one strength per row) and is differentiated like `values`.
    backend : {"numpy", "torch", "jax", "cupy"}, optional
        By default the framework of `values`. A name converts a sequence or a NumPy array first.

    Returns
    -------
    array of the shape, dtype, framework and device of `values`
        Soft ranks between 1 and n; each row sums to n (n + 1) / 2. float16 holds ranks up to 65504.

    Raises
    ------
    ValueError
        For an option that is not listed, an axis out of range, 0-d values, a strength that is
        negative, NaN or infinite, or one of the wrong shape.
    TypeError
        For complex, object or string data, or a strength that is no number and no array.
    diffsort.errors.BackendMismatchError
        If the arrays are of different frameworks, or of another one than `backend`.
    diffsort.errors.MissingBackendError
        If the framework that `backend` names cannot be imported.
    diffsort.errors.MissingKernelError
        If the device of `values` has no kernel in this build and `set_solver("native")` holds.

    Warns
    -----
    diffsort.errors.FallbackWarning
        Once per framework and device, if the device of `values` has no kernel in this build.

    Notes
    -----
    Cost: O(n log n) time and O(n) memory per row, forward; O(n) backward.

    Limits: with l2 the result is exactly the hard ranks for ε ≤ the smallest gap between sorted
    neighbours. Where (max - min) / ε ≤ n / 2, the row is one block and the result the affine
    function (x - mean(x)) / ε + (n + 1) / 2: a rank correlation computed from it is a Pearson
    correlation. For standardised data that begins below ε = 1, so choose ε with the spread of
    `values` in mind. At ε = 0 ties share the mean of their ranks, and the gradient is 0.

    Ties are taken in input order, so gradients at ties are well defined. NaN makes its own row NaN,
    gradient included. Infinities of one sign share the mean of their ranks, get gradient 0, and
    leave the finite values to be ranked among themselves. Results do not depend on the number of
    threads, bit for bit. float32 is summed in float64: l2 results err by at most n 2⁻²².

    References
    ----------
    .. [1] Blondel, Teboul, Berthet, Djolonga. Fast Differentiable Sorting and Ranking. ICML 2020.
       https://arxiv.org/abs/2002.08871

    Examples
    --------
    >>> import numpy as np
    >>> import diffsort
    >>> x = np.array([2.9, 0.1, 1.2, 1.3])
    >>> diffsort.soft_rank(x, regularization_strength=2.0)
    array([3.2625, 1.8625, 2.4125, 2.4625])
    >>> diffsort.soft_rank(x, regularization_strength=0.0)
    array([4., 1., 2., 3.])
    """
    owner, values = resolve("soft_rank", "values", values, backend)
    return permutahedron.soft_rank(
        owner.project, values, regularization_strength, axis, direction, regularization
    )


def project(
    z: Array,
    w: Array,
    *,
    axis: SupportsIndex = -1,
    regularization: str = "l2",
    regularization_strength: float | Array = 1.0,
    backend: str | None = None,
) -> Array:
    r"""Project onto the permutahedron of `w`, the convex hull of all its permutations.

    l2: :math:`\operatorname{argmin}_{y \in P(w)} \|y - z / \varepsilon\|_2`.
    kl: :math:`\operatorname{argmin}_{y \in P(w)} \operatorname{KL}(y, e^{z / \varepsilon})`, with
    `w` and the result non-negative ([1]_, section 3).

    Parameters
    ----------
    z, w : arrays of one framework that broadcast against each other in the batch axes
        Both have length n along `axis`. With w = (1, ..., 1, 0, ..., 0) the result is a soft top-k
        mask. Types as for `soft_rank`; the result has the promoted one.
    axis : int, default -1
        The axis along which to project, of the broadcast shape.
    regularization : {"l2", "kl"}
        For kl, a row of `w` with a negative entry gives a NaN row.
    regularization_strength : float or array, default 1.0
        ε ≥ 0, in the units of `z`; shapes as for `soft_rank`. At ε = 0, elements of w go to z's in
        the order of z, and ties of z share their mean.
    backend : {"numpy", "torch", "jax", "cupy"}, optional
        By default the framework of the arrays.

    Returns
    -------
    array of the broadcast shape
        In the units of `w`.

    Raises
    ------
    ValueError, TypeError, diffsort.errors.DiffsortError
        As `soft_rank`, and ValueError where the shapes of z and w do not fit.

    Warns
    -----
    diffsort.errors.FallbackWarning
        As `soft_rank`.

    Notes
    -----
    Cost: O(n log n) time and O(n) memory per row, forward; O(n) backward. Infinite z are limits, as
    in `soft_rank`; infinite w give NaN at ε > 0. Gradients exist for z, w and the strength.

    References
    ----------
    .. [1] Blondel, Teboul, Berthet, Djolonga. Fast Differentiable Sorting and Ranking. ICML 2020.
       https://arxiv.org/abs/2002.08871

    Examples
    --------
    >>> import numpy as np
    >>> import diffsort
    >>> diffsort.project(np.array([2.9, 0.1, 1.2, 1.3]), np.array([1.0, 1.0, 0.0, 0.0]))
    array([1.  , 0.  , 0.45, 0.55])
    """
    owner, z, w = resolve_pair("project", z, w, backend)
    return permutahedron.project(owner.project, z, w, regularization_strength, axis, regularization)


# Which operand of the projection an argument's name means.
_OPERANDS = {
    soft_sort: {"values": "w", "regularization_strength": "strength"},
    soft_rank: {"values": "z", "regularization_strength": "strength"},
    project: {"values": "z", "w": "w", "regularization_strength": "strength"},
}


def vjp(
    fun: Callable[..., Array],
    values: Array,
    *,
    wrt: str | tuple[str, ...] = ("values",),
    **options: Any,
) -> tuple[Array, Callable[[Array], Any]]:
    """Apply an operator and return its transposed Jacobian as a function.

    Made for frameworks without derivatives of their own, above all NumPy; works for all.

    Parameters
    ----------
    fun : {soft_sort, soft_rank, project}
        One of diffsort's operators; their derivatives are known, other functions' are not.
    values : array
        The first argument of `fun` (z for `project`).
    wrt : str or tuple of str
        The arguments to differentiate by: "values", "regularization_strength", and for `project`
        "w".
    **options
        The other arguments of `fun`; for `project` including ``w``.

    Returns
    -------
    result : array
        ``fun(values, **options)``.
    vjp_fun : function
        Takes a cotangent of the result's shape and returns the cotangent of the argument in `wrt`,
        with that argument's shape; a tuple of them if `wrt` names several.

    Raises
    ------
    TypeError
        As `fun`, for cotangents as for values; if `fun` is not one of the operators, has no
        argument of an option's name, or is `project` and ``w`` is missing.
    ValueError
        As `fun`; if `wrt` names something else, or a cotangent has another shape than the result.
    diffsort.errors.DiffsortError
        As `fun`; BackendMismatchError if a cotangent is of another framework than the result.

    Warns
    -----
    diffsort.errors.FallbackWarning
        As `fun`.

    Notes
    -----
    Cost: O(n) per row for each call of `vjp_fun`, which may be called many times.

    Examples
    --------
    >>> import numpy as np
    >>> import diffsort
    >>> x = np.array([2.9, 0.1, 1.2, 1.3])
    >>> ranks, vjp_fun = diffsort.vjp(diffsort.soft_rank, x, regularization_strength=2.0)
    >>> vjp_fun(np.array([1.0, 2.0, 3.0, 4.0]))
    array([-0.75, -0.25,  0.25,  0.75])
    """
    names = tuple(wrt) if isinstance(wrt, (tuple, list)) else (wrt,)
    operands = _operand_names("vjp", fun, "wrt", names)
    result, pull_back = _differentiate(
        "vjp", fun, values, options, lambda owner: partial(owner.vjp, wrt=operands)
    )

    def vjp_fun(cotangent: Array) -> Any:
        cotangents = pull_back(cotangent)
        return cotangents if len(names) > 1 else cotangents[0]

    return result, vjp_fun


def jvp(
    fun: Callable[..., Array],
    values: Array,
    tangent: Array | Mapping[str, Array],
    **options: Any,
) -> tuple[Array, Array]:
    """Apply an operator and its Jacobian.

    Parameters
    ----------
    fun : {soft_sort, soft_rank, project}
        One of diffsort's operators.
    values : array
        The first argument of `fun` (z for `project`).
    tangent : array or dict
        The direction in `values`, of the same shape; or a dict from argument names, as in `vjp`, to
        directions. Arguments that are not named are held fixed.
    **options
        The other arguments of `fun`; for `project` including ``w``.

    Returns
    -------
    result, tangent_out : arrays
        ``fun(values, **options)`` and its derivative in that direction, of the same shape.

    Raises
    ------
    TypeError
        As `fun`, for tangents as for values; if `fun` is not one of the operators, has no
        argument of an option's name, or is `project` and ``w`` is missing.
    ValueError
        As `fun`; if a name is not an argument, or a tangent has another shape than its argument.
    diffsort.errors.DiffsortError
        As `fun`; BackendMismatchError if a tangent is of another framework than its argument.

    Warns
    -----
    diffsort.errors.FallbackWarning
        As `fun`.

    Notes
    -----
    Cost: O(n log n) per row for the result, O(n) for the derivative.

    Examples
    --------
    >>> import numpy as np
    >>> import diffsort
    >>> x = np.array([2.9, 0.1, 1.2, 1.3])
    >>> diffsort.jvp(diffsort.soft_sort, x, np.array([1.0, 0.0, 0.0, 0.0]))[1]
    array([0. , 0. , 0.5, 0.5])
    """
    tangents = dict(tangent) if isinstance(tangent, Mapping) else {"values": tangent}
    operands = _operand_names("jvp", fun, "tangent", tuple(tangents))
    directions = dict(zip(operands, tangents.values(), strict=True))
    result, tangent_out = _differentiate(
        "jvp", fun, values, options, lambda owner: partial(owner.jvp, tangents=directions)
    )
    return result, tangent_out


def _operand_names(
    function: str, fun: Callable[..., Array], argument: str, names: tuple[str, ...]
) -> tuple[str, ...]:
    known = _OPERANDS.get(fun) if callable(fun) else None
    if known is None:
        raise TypeError(
            f"{function}: fun must be soft_sort, soft_rank or project of diffsort, got {fun!r}. "
            "Apply the chain rule around it by hand, or use a framework with autograd."
        )
    valid = all(isinstance(name, str) and name in known for name in names)
    if not names or not valid or len(set(names)) < len(names):
        raise ValueError(
            f"{function}: {argument} must name different arguments of {fun.__name__} out of "
            f"{', '.join(known)}, got {names!r}."
        )
    return tuple(known[name] for name in names)


def _differentiate(
    function: str,
    fun: Callable[..., Array],
    values: Array,
    options: dict[str, Any],
    solve_of: Callable[[Backend], Callable[..., Any]],
) -> Any:
    """`fun` with a backend's vjp or jvp, which `solve_of` picks, in the place of its project."""
    defaults = dict(fun.__kwdefaults__ or {})
    allowed = {*defaults, "w"} if fun is project else {*defaults}
    unknown = options.keys() - allowed
    if unknown:
        raise TypeError(
            f"{function}: {fun.__name__} has no argument {', '.join(map(repr, sorted(unknown)))}."
        )
    if fun is project and "w" not in options:
        raise TypeError(f"{function}: project needs w as well; pass w=...")
    options = {**defaults, **options}
    backend, strength = options.pop("backend"), options.pop("regularization_strength")
    operator = getattr(permutahedron, fun.__name__)
    if fun is project:
        owner, z, w = resolve_pair("project", values, options.pop("w"), backend)
        return operator(solve_of(owner), z, w, strength, **options)
    owner, values = resolve(fun.__name__, "values", values, backend)
    return operator(solve_of(owner), values, strength, **options)
