"""What the types of arrays say of meshes: axes that are manual (inside shard_map) or explicit.

The operands of a call are made to agree on both where they enter; directions and results then have
the same types. Automatic axes are the partitioners' business: see `compat.sharding_attributes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from diffsort.core.spec import Spec

Array = Any
Shape = tuple[int, ...]


def broadcast(spec: Spec, arrays: Sequence[Array], shapes: Sequence[Shape]) -> list[Array]:
    """The operands of a call in their shapes, over all axes of meshes that any of them is over.

    An operand that is the same on all devices gets its gradient summed over them.
    """
    arrays = _vary_alike(arrays)
    sharding = _common_sharding(spec, arrays, len(shapes[0]))
    return [_broadcast(array, shape, sharding) for array, shape in zip(arrays, shapes, strict=True)]


# --- manual axes ----------------------------------------------------------------------------------


def _vary_alike(arrays: Sequence[Array]) -> list[Array]:
    axes = [_varying_axes(array) for array in arrays]
    union = frozenset().union(*axes)

    def varied(array: Array, own: frozenset[str]) -> Array:
        missing = tuple(sorted(union - own))
        if not missing:
            return array
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(array, missing, to="varying")
        return jax.lax.pvary(array, missing)

    return [varied(array, own) for array, own in zip(arrays, axes, strict=True)]


def _varying_axes(array: Array) -> frozenset[str]:
    if not hasattr(jax, "typeof"):
        return frozenset()
    aval = jax.typeof(array)
    if hasattr(aval, "vma"):
        return frozenset(aval.vma)
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset() if manual is None else frozenset(manual.varying)


# --- explicit axes --------------------------------------------------------------------------------


def explicit_sharding(array: Array) -> NamedSharding | None:
    """The sharding over explicit axes, if there is any. Before JAX 0.7 it is not looked at."""
    if not hasattr(jax.sharding, "reshard"):
        return None
    sharding = jax.typeof(array).sharding
    return None if all(part is None for part in sharding.spec) else sharding


def check_whole_rows(spec: Spec, argument: str, array: Array) -> None:
    """As jnp.sort, which refuses as well: nothing is gathered that was to stay where it is."""
    sharding = explicit_sharding(array)
    if sharding is not None and sharding.spec[spec.axis] is not None:
        raise ValueError(
            f"{spec.function}: {argument} must not be sharded over an explicit mesh axis along "
            f"axis {spec.axis}, which is sorted, got {sharding.spec}. Gather it first with "
            "jax.sharding.reshard."
        )


def shard_like(array: Array, like: Array) -> Array:
    sharding, own = explicit_sharding(like), explicit_sharding(array)
    if sharding == own:
        return array
    if sharding is None:
        assert own is not None
        sharding = own.update(spec=PartitionSpec())
    return jax.sharding.reshard(array, sharding)


def per_shard(function: Callable[..., Any], sharding: NamedSharding) -> Callable[..., Any]:
    """A function of rows that are all sharded alike, as each device applies it to its own."""
    mesh, explicit = sharding.mesh, jax.sharding.AxisType.Explicit
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    mapped: Callable[..., Any] = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=sharding.spec,
        out_specs=sharding.spec,
        axis_names={name for name, kind in kinds if kind == explicit},
    )
    return mapped


def _common_sharding(spec: Spec, arrays: Sequence[Array], ndim: int) -> NamedSharding | None:
    shardings = [sharding for sharding in map(explicit_sharding, arrays) if sharding is not None]
    if not shardings:
        return None
    aligned = [(None,) * (ndim - len(each.spec)) + tuple(each.spec) for each in shardings]
    choices = [{part for part in along if part is not None} for along in zip(*aligned, strict=True)]
    parts = [next(iter(choice), None) for choice in choices]
    used = [part if isinstance(part, tuple) else (part,) for part in parts if part is not None]
    names = [name for part in used for name in part]
    if any(len(choice) > 1 for choice in choices) or len(set(names)) < len(names):
        got = " and ".join(str(sharding.spec) for sharding in shardings)
        raise ValueError(
            f"{spec.function}: all arrays must be sharded alike over explicit mesh axes, or not at "
            f"all, got {got}. Bring them to one sharding with jax.sharding.reshard."
        )
    return NamedSharding(shardings[0].mesh, PartitionSpec(*parts))


def _broadcast(array: Array, shape: Shape, sharding: NamedSharding | None) -> Array:
    if sharding is None:
        return jnp.broadcast_to(array, shape)
    # In two steps: where an axis is new, the gradient is summed before it leaves the device.
    kept = range(len(shape) - array.ndim, len(shape))
    parts = [sharding.spec[d] if shape[d] == array.shape[d - len(shape)] else None for d in kept]
    array = jax.sharding.reshard(array, NamedSharding(sharding.mesh, PartitionSpec(*parts)))
    return jax.lax.broadcast_in_dim(array, shape, kept, out_sharding=sharding)
