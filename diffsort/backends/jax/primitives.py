"""The solver as three JAX primitives: the projection, its Jacobian and the transposed Jacobian.

    projection_p    z, w, strength                 -> result, block_z, block_w
    pushforward_p   dz, dw, dstrength; the point   -> dresult              J d
    pullback_p      dresult; the point             -> dz, dw, dstrength    Jᵀ g

The point is z, w, result, block_z, block_w and strength, as far as the regularization reads them.
All arrays have one shape, but for strengths, which have length 1 along the axis. Operands and
results may be absent: the parameters `operands` and `results` name those that are there, in order.
The first one's JVP rule binds the second, for the directions that are not symbolically zero, with
the part of the point that these read.

`lowering` has what they become on each platform. The linear ones are each other's transposes, and
are differentiated with respect to the point by the operations of `formulas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir

from diffsort.backends.jax import compat, formulas, lowering, meshes
from diffsort.backends.jax.formulas import DIRECTION_OF, Operands, Static
from diffsort.backends.jax.lowering import Map
from diffsort.core.spec import KL, LOG_KL

Array = Any

POINT = ("z", "w", "result", "block_z", "block_w", "strength")


def bind(
    primitive: Any, static: Static, results: Sequence[str], **operands: Array | None
) -> dict[str, Array]:
    """The results by name. Operands that are None are absent."""
    present = tuple(name for name in _maps[primitive].operands if operands.get(name) is not None)
    found = primitive.bind(
        *(operands[name] for name in present),
        static=static,
        operands=present,
        results=tuple(results),
    )
    return dict(zip(results, found, strict=True))


# --- the primitives -------------------------------------------------------------------------------


def _abstract(
    *avals: Any, static: Static, operands: tuple[str, ...], results: tuple[str, ...]
) -> list[Any]:
    """Shapes and dtypes of the results. `update` keeps what the arrays' type says of meshes."""
    by_name = dict(zip(operands, avals, strict=True))
    values = next(aval for name, aval in by_name.items() if "strength" not in name)
    strength = by_name["strength"]

    def result(name: str) -> Any:
        if name == "dstrength":
            return strength.update(weak_type=False)
        dtype = np.dtype(np.int32) if name.startswith("block") else formulas.float_dtype(by_name)
        return values.update(dtype=dtype, weak_type=False)

    return [result(name) for name in results]


def _batch(
    primitive: Any, arrays: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[Any, list[int]]:
    """Axes are negative, so a batch axis in front moves none of them."""
    size = next(
        array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None
    )
    arrays = [
        array if dim is None else jnp.moveaxis(array, dim, 0)
        for array, dim in zip(arrays, dims, strict=True)
    ]
    shapes = [
        (size, *array.shape) if dim is None else array.shape
        for array, dim in zip(arrays, dims, strict=True)
    ]
    found = primitive.bind(*meshes.broadcast(params["static"].spec, arrays, shapes), **params)
    return found, [0] * len(found)


def _by_formula(formula: Any, *arrays: Array, **params: Any) -> list[Array]:
    if meshes.explicit_sharding(arrays[0]) is None:
        return _of_rows(formula, *arrays, **params)
    return _per_shard(formula, *arrays, **params)


def _of_rows(
    formula: Any, *arrays: Array, static: Static, operands: Any, results: Any
) -> list[Array]:
    # Formulas broadcast by rank, whatever the caller's own code may do.
    with jax.numpy_rank_promotion("allow"):
        found = formula(static, dict(zip(operands, arrays, strict=True)))
    return [found[name] for name in results]


@partial(jax.jit, static_argnums=0, static_argnames=("static", "operands", "results"))
def _per_shard(formula: Any, *arrays: Array, **params: Any) -> list[Array]:
    """Rows are independent: no formula has to know of explicit axes."""
    sharding = meshes.explicit_sharding(arrays[0])
    assert sharding is not None
    found: list[Array] = meshes.per_shard(partial(_of_rows, formula, **params), sharding)(*arrays)
    return found


_maps: dict[Any, Map] = {}


def _primitive(name: str, map_: Map) -> Any:
    primitive = compat.Primitive(name)
    primitive.multiple_results = True
    _maps[primitive] = map_

    @partial(jax.jit, static_argnames=("static", "operands", "results"))
    def compiled(*arrays: Array, **params: Any) -> Any:
        return primitive.bind(*arrays, **params)

    def evaluate(*arrays: Array, static: Static, operands: Any, results: Any) -> Any:
        if static.solver == "fallback":
            return _by_formula(
                map_.formula, *arrays, static=static, operands=operands, results=results
            )
        with jax.disable_jit(False):  # a user's jax.disable_jit() cannot mean this call
            return compiled(*arrays, static=static, operands=operands, results=results)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(_abstract)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    by_formula = mlir.lower_fun(partial(_by_formula, map_.formula), multiple_results=True)
    lowering.register(primitive, map_, by_formula)
    compat.register_replication_rule(primitive)
    return primitive


projection_p = _primitive(
    "diffsort_projection",
    Map(
        "diffsort_project",
        ("z", "w", "strength"),
        ("result", "block_z", "block_w"),
        formulas.project,
    ),
)
pushforward_p = _primitive(
    "diffsort_pushforward",
    Map("diffsort_jvp", ("dz", "dw", "dstrength", *POINT), ("dresult",), formulas.pushforward),
)
pullback_p = _primitive(
    "diffsort_pullback",
    Map("diffsort_vjp", ("dresult", *POINT), ("dz", "dw", "dstrength"), formulas.pullback),
)


# --- derivatives ----------------------------------------------------------------------------------

# The operands in which each map is linear, which are the results of its transpose.
_LINEAR = {pushforward_p: ("dz", "dw", "dstrength"), pullback_p: ("dresult",)}
_TRANSPOSE = {pushforward_p: pullback_p, pullback_p: pushforward_p}


def _nonzero(names: Sequence[str], directions: Sequence[Any]) -> dict[str, Array]:
    """The tangents or cotangents that are there."""
    return {
        name: direction
        for name, direction in zip(names, directions, strict=True)
        if type(direction) is not ad.Zero and direction.dtype != jax.dtypes.float0
    }


def _projection_jvp(
    primals: Sequence[Array],
    tangents: Sequence[Any],
    *,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> tuple[list[Array], list[Any]]:
    at = dict(zip(operands, primals, strict=True))
    moving = {DIRECTION_OF[name]: each for name, each in _nonzero(operands, tangents).items()}
    moves_w = "dw" in moving
    blocks = ("block_z", "block_w") if moves_w else ("block_z",)
    out = bind(projection_p, static, tuple(dict.fromkeys((*results, "result", *blocks))), **at)
    kl, log_kl = static.spec.regularization == KL, static.spec.regularization == LOG_KL
    reads = {
        "z": "dstrength" in moving or (moves_w and kl),
        "w": moves_w and log_kl,
        # Where the strength alone moves and z is ρ, the result is there to tell the dtype.
        "result": kl or not (moves_w or "dz" in moving or "z" in at),
        **dict.fromkeys((*blocks, "strength"), True),
    }
    point = {name: {**at, **out}.get(name) for name in POINT if reads.get(name)}
    change = bind(pushforward_p, static, ("dresult",), **moving, **point)["dresult"]
    return [out[name] for name in results], [
        change if name == "result" else compat.no_tangent(out[name]) for name in results
    ]


def _linear_jvp(
    primitive: Any,
    primals: Sequence[Array],
    tangents: Sequence[Any],
    *,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> tuple[list[Array], list[Array]]:
    at = dict(zip(operands, primals, strict=True))
    moving = _nonzero(operands, tangents)
    linear = {name: moving.pop(name) for name in _LINEAR[primitive] if name in moving}
    out = bind(primitive, static, results, **at)
    change = {name: jnp.zeros_like(value) for name, value in out.items()}
    if linear:
        point = {name: value for name, value in at.items() if name not in _LINEAR[primitive]}
        change = bind(primitive, static, results, **point, **linear)
    if moving:

        def by_point(values: Operands) -> list[Array]:
            arrays = ({**at, **values}[name] for name in operands)
            return _by_formula(_maps[primitive].formula, *arrays, **params)

        params = {"static": static, "operands": operands, "results": results}
        _, more = jax.jvp(by_point, ({name: at[name] for name in moving},), (moving,))
        change = {name: change[name] + add for name, add in zip(results, more, strict=True)}
    return [out[name] for name in results], [change[name] for name in results]


def _linear_transpose(
    primitive: Any,
    cotangents: Sequence[Any],
    *arrays: Any,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> list[Any]:
    """Cotangents of the results are what the transpose is linear in, and the other way round."""
    at = dict(zip(operands, arrays, strict=True))
    wanted = [name for name in operands if ad.is_undefined_primal(at[name])]
    given = _nonzero(results, cotangents)
    if not given:
        found = {name: ad.Zero(at[name].aval) for name in wanted}
    else:
        point = {name: at[name] for name in operands if name in POINT}
        found = bind(_TRANSPOSE[primitive], static, wanted, **given, **point)
    return [found.get(name) for name in operands]


ad.primitive_jvps[projection_p] = _projection_jvp
for _linear in _LINEAR:
    ad.primitive_jvps[_linear] = partial(_linear_jvp, _linear)
    ad.primitive_transposes[_linear] = partial(_linear_transpose, _linear)
