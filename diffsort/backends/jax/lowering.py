"""What a primitive becomes on each platform.

On a CPU and on CUDA devices it is a custom call of the native module, elsewhere, and in a build
without CUDA kernels, the map's formula. A call gets its parameters as attributes and tells by bits
which operands and results it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import _diffsort_native as native
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

from diffsort.backends import solver
from diffsort.backends.jax import compat, formulas
from diffsort.backends.jax.formulas import Operands, Static

Array = Any

WORKSPACE = "workspace"


class Map(NamedTuple):
    """One of the three maps: names in the order of the native handler, and the map by formula."""

    target: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    formula: Callable[[Static, Operands], dict[str, Array]]


def register(primitive: Any, map_: Map, by_formula: Any) -> None:
    """Registers the lowerings of a primitive; `by_formula` is one for any platform."""
    mlir.register_lowering(primitive, partial(_without_kernel, by_formula))
    for platform, lower in (("cpu", on_cpu), ("cuda", on_cuda)):
        rule = partial(lower, primitive, map_, by_formula)
        mlir.register_lowering(primitive, rule, platform=platform)


def on_cpu(
    primitive: Any, map_: Map, by_formula: Any, ctx: Any, *arrays: Any, **params: Any
) -> Any:
    static: Static = params["static"]
    if static.solver == "fallback":
        return by_formula(ctx, *arrays, **params)
    if static.spec.axis != -1 and compat.partitions(ctx) > 1:
        # The partitioners split leading axes only: the sorted one goes last.
        return _with_axis_last(primitive, ctx, *arrays, **params)
    return _call(map_, ctx, *arrays, **params)


def on_cuda(
    primitive: Any, map_: Map, by_formula: Any, ctx: Any, *arrays: Any, **params: Any
) -> Any:
    static: Static = params["static"]
    if static.solver == "fallback" or any(0 in aval.shape for aval in ctx.avals_in):
        return by_formula(ctx, *arrays, **params)
    if _cuda_problem() is not None:
        return _without_kernel(by_formula, ctx, *arrays, **params)
    if static.spec.axis != -1:  # where the kernels have it
        return _with_axis_last(primitive, ctx, *arrays, **params)
    return _cuda_call(map_, ctx, *arrays, **params)


def _cuda_call(
    map_: Map,
    ctx: Any,
    *arrays: Any,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> Any:
    # The kernels write the strength's cotangent in float64, whatever JAX calls it.
    avals = [
        aval.update(dtype=np.dtype(np.float64)) if name == "dstrength" else aval
        for name, aval in zip(results, ctx.avals_out, strict=True)
    ]
    names = results
    shape = compat.common_shape([aval.shape for aval in ctx.avals_in], -1)
    per_row = _workspace_per_row(map_, ctx, shape, static, operands, results)
    if not (isinstance(per_row, int) and per_row == 0):
        scratch = (*shape[:-1], (per_row + WORD - 1) // WORD)
        avals.append(ctx.avals_out[0].update(shape=scratch, dtype=np.dtype(np.uint64)))
        names = (*results, WORKSPACE)
    wide = ctx.replace(avals_out=avals)
    found = _call(map_, wide, *arrays, static=static, operands=operands, results=names)
    return [
        compat.converted(value, aval) if name == "dstrength" else value
        for name, value, aval in zip(results, found[: len(results)], ctx.avals_out, strict=True)
    ]


# Of any device: the bytes per element that a row takes at most (docs/cuda.md, "Workspace"), and the
# length of rows up to which it takes none.
MOST_WORKSPACE, NO_WORKSPACE = 20, 1024
# In bytes, of all rows: with less than they need, they go by fewer at a time.
MOST_AT_ONCE = 1 << 32
WORD = 8  # bytes, since sizes of 2^31 are too large for a sharding rule


def _workspace_per_row(
    map_: Map,
    ctx: Any,
    shape: Sequence[Any],
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> Any:
    """The scratch memory of a call, in bytes for each row, so that partitioners can split it with
    the rows. Where shapes or devices are not known yet, it is what would always do."""
    *batch, n = shape
    ordinals = compat.cuda_ordinals()
    if not isinstance(n, int) or not ordinals:
        row = 0 if isinstance(n, int) and n <= NO_WORKSPACE else MOST_WORKSPACE * n
    else:
        dtype = formulas.float_dtype(dict(zip(operands, ctx.avals_in, strict=True)))
        row = max(
            native.xla_cuda_workspace(
                map_.target,
                n,
                dtype == np.float64,
                int(static.spec.regularization),
                int(_bits(map_.operands, operands)),
                int(_bits(map_.results, results)),
                -1 if ordinal is None else ordinal,
            )
            for ordinal in ordinals
        )
    if not all(isinstance(size, int) for size in (*batch, n)):
        return row
    # Many rows share, of which each device has one at least.
    rows, most = math.prod(batch), max(compat.partitions(ctx) * row, MOST_AT_ONCE)
    return row if rows * row <= most else -(-most // rows)


def _cuda_problem() -> str | None:
    """Why the kernels cannot run on some CUDA device of this process; None: they can. Where JAX has
    no such device, programs for other machines can be made all the same."""
    ordinals = compat.cuda_ordinals() or [None]
    problems = map(native.cuda_problem, ordinals)
    return next((problem for problem in problems if problem is not None), None)


def _call(
    map_: Map,
    ctx: Any,
    *arrays: Any,
    static: Static,
    operands: tuple[str, ...],
    results: tuple[str, ...],
) -> Any:
    """As a custom call of the native module."""
    rule = compat.ffi.ffi_lowering(
        map_.target, extra_attributes=compat.sharding_attributes(ctx, static.spec.axis)
    )
    return rule(
        ctx,
        *arrays,
        axis=np.int64(static.spec.axis),
        regularization=np.int64(static.spec.regularization),
        z_sign=np.float64(static.spec.z_sign),
        w_sign=np.float64(static.spec.w_sign),
        operands=_bits(map_.operands, operands),
        results=_bits((*map_.results, WORKSPACE), results),
    )


def _bits(names: tuple[str, ...], present: tuple[str, ...]) -> np.int64:
    return np.int64(sum(1 << i for i, name in enumerate(names) if name in present))


def _with_axis_last(primitive: Any, ctx: Any, *arrays: Any, **params: Any) -> Any:
    at_last = mlir.lower_fun(partial(_bind_with_axis_last, primitive), multiple_results=True)
    return at_last(ctx, *arrays, **params)


def _bind_with_axis_last(
    primitive: Any, *arrays: Array, static: Static, **params: Any
) -> list[Array]:
    at_last = static._replace(spec=static.spec._replace(axis=-1))
    arrays = tuple(jnp.moveaxis(array, static.spec.axis, -1) for array in arrays)
    found = primitive.bind(*arrays, static=at_last, **params)
    return [jnp.moveaxis(array, -1, static.spec.axis) for array in found]


def _without_kernel(by_formula: Any, ctx: Any, *arrays: Any, static: Static, **params: Any) -> Any:
    """On a platform that the native module does not serve."""
    if static.solver != "fallback":
        platform = compat.platform(ctx)
        solver.fall_back_or_raise(
            static.spec.function,
            static.spec.argument,
            "jax",
            platform,
            f"an array on {platform}",
            _cuda_problem() if platform == "cuda" else f"there are none for {platform}",
        )
    return by_formula(ctx, *arrays, static=static, **params)
