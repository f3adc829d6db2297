"""The solver as three JAX primitives: the projection, its Jacobian and the transposed Jacobian.

    projection_p    z, w, strength                 -> result, block_z, block_w
    pushforward_p   dz, dw, dstrength; the point   -> tangent              J d
    pullback_p      cotangent; the point           -> z, w, strength       Jᵀ g

The point is z, w, result, block_z, block_w and strength, as far as the regularization reads them.
All arrays have one shape, but for strengths, which have length 1 along the axis. Operands and
results may be absent: the parameters `operands` and `results` name those that are there, in order.
The first one's JVP rule binds the second, for the directions that are not symbolically zero, with
the part of the point that these read.

On a CPU they are custom calls of the native module; on platforms without a kernel they are lowered
to the fallback solver. The linear ones are each other's transposes, and are differentiated with
respect to the point by the formulas of `diffsort.core.isotonic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir

from diffsort.backends.jax import compat
from diffsort.core import isotonic
from diffsort.core.spec import KL, LOG_KL

Array = Any
Operands = dict[str, Any]

POINT = ("z", "w", "result", "block_z", "block_w", "strength")


class Static(NamedTuple):
    """What is known when a call is traced."""

    axis: int
    regularization: int
    z_sign: float
    w_sign: float
    solver: str


class _Map(NamedTuple):
    """One of the three maps: names in the order of the native handler, and the map by formula."""

    target: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    formula: Callable[[Static, Operands], dict[str, Array]]


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


# --- the maps by formula --------------------------------------------------------------------------


def _wide() -> Any:
    """The widest float that this process computes in."""
    return jnp.float64 if jax.config.jax_enable_x64 else jnp.float32


def _signed(static: Static, at: Operands, name: str) -> Array:
    """An operand of P; an absent one is ρ = (n, ..., 1)."""
    values = at.get(name)
    sign = static.w_sign if name in ("w", "result") else static.z_sign
    if values is not None:
        return sign * values.astype(_wide())
    like = _values(at)
    n = like.shape[static.axis]
    rho = jnp.arange(n, 0, -1, dtype=_wide())
    return jnp.broadcast_to(rho.reshape((n,) + (1,) * (-static.axis - 1)), like.shape)


def _values(at: Operands) -> Array:
    """An operand of the common shape."""
    return next(array for name, array in at.items() if "strength" not in name)


def _blocks(static: Static, at: Operands) -> Any:
    return Blocks(at["block_z"], at.get("block_w", at["block_z"]), static.axis)


class Blocks:
    """`isotonic.Blocks` by scatter and gather."""

    def __init__(self, block_z: Array, block_w: Array, axis: int) -> None:
        self.axis = axis
        self.nan_row = block_z == -1
        self.infinite = block_z <= -2
        self._ids = {"z": _starts(block_z), "w": _starts(block_w)}

    def total(self, values: Array, *, of: isotonic.Side, at: isotonic.Side) -> Array:
        return self._scatter("add", 0, values, of, at)

    def maximum(self, values: Array, *, of: isotonic.Side, at: isotonic.Side) -> Array:
        return jax.lax.stop_gradient(self._scatter("max", -jnp.inf, values, of, at))

    def _scatter(
        self, how: str, start: float, values: Array, of: isotonic.Side, at: isotonic.Side
    ) -> Array:
        values = jnp.moveaxis(values, self.axis, -1)
        ids = jnp.moveaxis(self._ids[of], self.axis, -1)
        start = jnp.full_like(values, start)

        def row(start: Array, ids: Array, values: Array) -> Array:
            return getattr(start.at[ids], how)(values)

        for _ in range(values.ndim - 1):
            row = jax.vmap(row)
        found = row(start, ids, values)
        found = jnp.take_along_axis(found, jnp.moveaxis(self._ids[at], self.axis, -1), axis=-1)
        return jnp.moveaxis(found, -1, self.axis)


def _starts(block: Array) -> Array:
    return jnp.where(block < -1, -2 - block, jnp.maximum(block, 0))


def _project_formula(static: Static, at: Operands) -> dict[str, Array]:
    raise NotImplementedError


def _pushforward_formula(static: Static, at: Operands) -> dict[str, Array]:
    """The transpose of the transpose."""
    wide = _wide()
    like = _values(at)

    def pull(cotangent: Array) -> Operands:
        found = _pullback(static, {**at, "cotangent": cotangent})
        return {name: found[name] for name, d in _DIRECTION_OF.items() if d in at}

    _, push = jax.vjp(pull, jnp.zeros(like.shape, wide))
    (tangent,) = push({name: at[d].astype(wide) for name, d in _DIRECTION_OF.items() if d in at})
    return {"tangent": tangent.astype(_float_dtype(at))}


def _pullback_formula(static: Static, at: Operands) -> dict[str, Array]:
    found = _pullback(static, at)
    dtype = _float_dtype(at)
    return {
        "z": found["z"].astype(dtype),
        "w": found["w"].astype(dtype),
        "strength": found["strength"].astype(at["strength"].dtype),
    }


def _pullback(static: Static, at: Operands) -> dict[str, Array]:
    wide = _wide()
    found = isotonic.vjp(
        jnp,
        _blocks(static, at),
        static.regularization,
        static.w_sign * at["cotangent"].astype(wide),
        _signed(static, at, "result"),
        _signed(static, at, "z"),
        _signed(static, at, "w"),
        at["strength"].astype(wide),
    )
    return {
        "z": static.z_sign * found.z,
        "w": static.w_sign * found.w,
        "strength": found.strength,
    }


# --- the primitives -------------------------------------------------------------------------------


def _abstract(
    *avals: Any, static: Static, operands: tuple[str, ...], results: tuple[str, ...]
) -> list[Any]:
    """Shapes and dtypes of the results. `update` keeps what the arrays' type says of meshes."""
    by_name = dict(zip(operands, avals, strict=True))
    values = next(aval for name, aval in by_name.items() if "strength" not in name)
    strength = by_name["strength"]

    def result(name: str) -> Any:
        if name == "strength":
            return strength.update(weak_type=False)
        dtype = np.dtype(np.int32) if name.startswith("block") else _float_dtype(by_name)
        return values.update(dtype=dtype, weak_type=False)

    return [result(name) for name in results]


def _float_dtype(by_name: Operands) -> Any:
    return next(
        array.dtype
        for name, array in by_name.items()
        if "strength" not in name and not name.startswith("block")
    )


def _batch(
    primitive: Any, arrays: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[Any, list[int]]:
    """Axes are negative, so a batch axis in front moves none of them."""
    size = next(
        array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None
    )

    def batched(array: Array, dim: int | None) -> Array:
        if dim is None:
            return jnp.broadcast_to(array, (size, *array.shape))
        return jnp.moveaxis(array, dim, 0)

    arrays = [batched(array, dim) for array, dim in zip(arrays, dims, strict=True)]
    found = primitive.bind(*arrays, **params)
    return found, [0] * len(found)


def _lower_by_formula(
    formula: Any, *arrays: Array, static: Static, operands: Any, results: Any
) -> list[Array]:
    found = formula(static, dict(zip(operands, arrays, strict=True)))
    return [found[name] for name in results]


def _lower_native(
    primitive: Any,
    by_formula: Any,
    ctx: Any,
    *arrays: Any,
    static: Static,
    operands: Any,
    results: Any,
) -> Any:
    if static.solver == "fallback":
        return by_formula(ctx, *arrays, static=static, operands=operands, results=results)
    if static.axis != -1 and compat.is_partitioned(ctx):
        # The partitioners split leading axes only: the sorted one goes last.
        at_last = mlir.lower_fun(partial(_bind_with_axis_last, primitive), multiple_results=True)
        return at_last(ctx, *arrays, static=static, operands=operands, results=results)
    map_ = _maps[primitive]
    rule = compat.ffi.ffi_lowering(
        map_.target, extra_attributes=compat.sharding_attributes(ctx, static.axis)
    )
    return rule(
        ctx,
        *arrays,
        axis=np.int64(static.axis),
        regularization=np.int64(static.regularization),
        z_sign=np.float64(static.z_sign),
        w_sign=np.float64(static.w_sign),
        operands=_bits(map_.operands, operands),
        results=_bits(map_.results, results),
    )


def _bind_with_axis_last(
    primitive: Any, *arrays: Array, static: Static, operands: Any, results: Any
) -> list[Array]:
    arrays = tuple(jnp.moveaxis(array, static.axis, -1) for array in arrays)
    found = primitive.bind(
        *arrays, static=static._replace(axis=-1), operands=operands, results=results
    )
    return [jnp.moveaxis(array, -1, static.axis) for array in found]


def _bits(names: tuple[str, ...], present: tuple[str, ...]) -> np.int64:
    return np.int64(sum(1 << i for i, name in enumerate(names) if name in present))


_maps: dict[Any, _Map] = {}


def _primitive(name: str, map_: _Map) -> Any:
    primitive = compat.Primitive(name)
    primitive.multiple_results = True
    _maps[primitive] = map_

    @partial(jax.jit, static_argnames=("static", "operands", "results"))
    def compiled(*arrays: Array, **params: Any) -> Any:
        return primitive.bind(*arrays, **params)

    def evaluate(*arrays: Array, **params: Any) -> Any:
        with jax.disable_jit(False):  # a user's jax.disable_jit() cannot mean this call
            return compiled(*arrays, **params)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(_abstract)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    by_formula = mlir.lower_fun(partial(_lower_by_formula, map_.formula), multiple_results=True)
    mlir.register_lowering(primitive, by_formula)
    mlir.register_lowering(primitive, partial(_lower_native, primitive, by_formula), platform="cpu")
    compat.register_replication_rule(primitive)
    return primitive


projection_p = _primitive(
    "diffsort_projection",
    _Map(
        "diffsort_project",
        ("z", "w", "strength"),
        ("result", "block_z", "block_w"),
        _project_formula,
    ),
)
pushforward_p = _primitive(
    "diffsort_pushforward",
    _Map("diffsort_jvp", ("dz", "dw", "dstrength", *POINT), ("tangent",), _pushforward_formula),
)
pullback_p = _primitive(
    "diffsort_pullback",
    _Map("diffsort_vjp", ("cotangent", *POINT), ("z", "w", "strength"), _pullback_formula),
)


# --- derivatives ----------------------------------------------------------------------------------

# The operands in which each map is linear.
_LINEAR = {pushforward_p: ("dz", "dw", "dstrength"), pullback_p: ("cotangent",)}
_DIRECTION_OF = {"z": "dz", "w": "dw", "strength": "dstrength"}


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero or tangent.dtype == jax.dtypes.float0


def _projection_jvp(
    primitive: Any,
    primals: Sequence[Array],
    tangents: Sequence[Any],
    *,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> tuple[list[Array], list[Any]]:
    at = dict(zip(operands, primals, strict=True))
    moving = {
        _DIRECTION_OF[name]: tangent
        for name, tangent in zip(operands, tangents, strict=True)
        if not _is_zero(tangent)
    }
    moves_w = "dw" in moving
    blocks = ("block_z", "block_w") if moves_w else ("block_z",)
    out = bind(primitive, static, tuple(dict.fromkeys((*results, "result", *blocks))), **at)
    kl, log_kl = static.regularization == KL, static.regularization == LOG_KL
    reads = {
        "z": "dstrength" in moving or (moves_w and kl),
        "w": moves_w and log_kl,
        # Where the strength alone moves and z is ρ, the result is there to tell the dtype.
        "result": kl or not (moves_w or "dz" in moving or "z" in at),
        **dict.fromkeys((*blocks, "strength"), True),
    }
    point = {name: {**at, **out}.get(name) for name in POINT if reads.get(name)}
    change = bind(pushforward_p, static, ("tangent",), **moving, **point)["tangent"]
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
    moving = {
        name: tangent
        for name, tangent in zip(operands, tangents, strict=True)
        if not _is_zero(tangent)
    }
    linear = {name: moving.pop(name) for name in _LINEAR[primitive] if name in moving}
    out = bind(primitive, static, results, **at)
    change = {name: jnp.zeros_like(value) for name, value in out.items()}
    if linear:
        point = {name: value for name, value in at.items() if name not in _LINEAR[primitive]}
        change = bind(primitive, static, results, **point, **linear)
    if moving:

        def by_point(values: Operands) -> dict[str, Array]:
            found = _maps[primitive].formula(static, {**at, **values})
            return {name: found[name] for name in results}

        _, more = jax.jvp(by_point, ({name: at[name] for name in moving},), (moving,))
        change = {name: change[name] + more[name] for name in results}
    return [out[name] for name in results], [change[name] for name in results]


def _pushforward_transpose(
    cotangents: Sequence[Any],
    *arrays: Any,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> list[Any]:
    at = dict(zip(operands, arrays, strict=True))
    (cotangent,) = cotangents
    if type(cotangent) is ad.Zero:
        return [ad.Zero(array.aval) if ad.is_undefined_primal(array) else None for array in arrays]
    wanted = [name for name in _DIRECTION_OF if ad.is_undefined_primal(at.get(_DIRECTION_OF[name]))]
    point = {name: at[name] for name in POINT if name in at}
    found = bind(pullback_p, static, wanted, cotangent=cotangent, **point)
    by_direction = {_DIRECTION_OF[name]: value for name, value in found.items()}
    return [by_direction.get(name) for name in operands]


def _pullback_transpose(
    cotangents: Sequence[Any],
    *arrays: Any,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> list[Any]:
    at = dict(zip(operands, arrays, strict=True))
    directions = {
        _DIRECTION_OF[name]: cotangent
        for name, cotangent in zip(results, cotangents, strict=True)
        if type(cotangent) is not ad.Zero
    }
    if not directions:
        return [ad.Zero(array.aval) if ad.is_undefined_primal(array) else None for array in arrays]
    point = {name: at[name] for name in POINT if name in at}
    found = bind(pushforward_p, static, ("tangent",), **directions, **point)
    return [found["tangent"] if name == "cotangent" else None for name in operands]


ad.primitive_jvps[projection_p] = partial(_projection_jvp, projection_p)
ad.primitive_jvps[pushforward_p] = partial(_linear_jvp, pushforward_p)
ad.primitive_jvps[pullback_p] = partial(_linear_jvp, pullback_p)
ad.primitive_transposes[pushforward_p] = _pushforward_transpose
ad.primitive_transposes[pullback_p] = _pullback_transpose
