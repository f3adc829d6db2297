"""What differs between versions of JAX, from 0.4.31 on, and whether the native module fits one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import _diffsort_native as native
import jax
import jaxlib
from jax.interpreters import ad, mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

try:
    from jax.extend.core import Primitive
except ImportError:  # before 0.4.36
    from jax.core import Primitive
try:
    from jax import ffi
except ImportError:  # before 0.5
    from jax.extend import ffi

__all__ = ["Primitive", "ffi"]

Array = Any


def runtime_ffi_version() -> tuple[int, int] | None:
    """The version of XLA's FFI in this jaxlib, from the header that it carries; None without one.

    Asking the runtime itself is no way: registering a handler that does not fit it breaks all of
    JAX in the process.
    """
    header = Path(jaxlib.__file__).parent / "include" / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text(encoding="utf-8")
    except OSError:
        return None
    found = [
        re.search(rf"^#define XLA_FFI_API_{part}\s+(\d+)", text, re.MULTILINE)
        for part in ("MAJOR", "MINOR")
    ]
    if not all(found):
        return None
    return tuple(int(match[1]) for match in found)  # type: ignore[return-value,index]


def misfit(built: tuple[int, int] | None) -> str | None:
    """Why handlers built for that version of XLA's FFI do not fit this jaxlib, or None.

    A runtime takes handlers of its own major version and of minor versions up to its own. Those of
    0.1 run on 0.0 (jaxlib 0.4.31 to 0.4.34) as well, and everywhere where the version is not told.
    """
    runtime = runtime_ffi_version()
    if built is None or (built == (0, 1) and (runtime is None or runtime[0] == 0)):
        return None
    if runtime is not None and built[0] == runtime[0] and built[1] <= runtime[1]:
        return None
    theirs = "an unknown version" if runtime is None else f"version {runtime[0]}.{runtime[1]}"
    return (
        f"this build of diffsort was made for version {built[0]}.{built[1]} of XLA's FFI, but "
        f"jaxlib {jaxlib.__version__} has {theirs}"
    )


def register_targets() -> None:
    if native.cuda_library is not None:
        for name, handler in native.xla_cuda_handlers.items():
            ffi.register_ffi_target(name, handler, platform="CUDA")
    for name, handler in native.xla_handlers.items():
        ffi.register_ffi_target(name, handler, platform="cpu")
        # Lets XLA's older partitioner (GSPMD) split the batch axes of a call.
        if hasattr(ffi, "register_ffi_target_as_batch_partitionable"):
            ffi.register_ffi_target_as_batch_partitionable(name)


def converted(value: Any, aval: Any) -> Any:
    """An operation that gives a value of the program the dtype of `aval`."""
    shape = ir.RankedTensorType(value.type).shape
    return stablehlo.convert(
        ir.RankedTensorType.get(shape, mlir.dtype_to_ir_type(aval.dtype)), value
    )


def platform(ctx: Any) -> str:
    """What is lowered for."""
    platforms = getattr(ctx, "platforms", None) or ctx.module_context.platforms
    return str(platforms[0])


def cuda_ordinals() -> list[int | None]:
    """Of the CUDA devices of this process, as the driver counts them; None is not known."""
    try:
        return [device.local_hardware_id for device in jax.local_devices(backend="cuda")]
    except RuntimeError:  # there is no such backend
        return []


def partitions(ctx: Any) -> int:
    """Over how many devices XLA may split what is lowered: 1, it does not."""
    context = ctx.module_context.axis_context
    mesh = getattr(context, "mesh", None)
    if mesh is None:
        return getattr(context, "num_devices", 1) or 1
    # In shard_map, along the axes that are not manual.
    return math.prod(size for name, size in mesh.shape.items() if name not in context.manual_axes)


def common_shape(shapes: Sequence[Any], axis: int) -> Any:
    """Of the rows; strengths have length 1. (Symbolic lengths cannot be compared.)"""
    is_one = [isinstance(shape[axis], int) and shape[axis] == 1 for shape in shapes]
    return shapes[is_one.index(False) if False in is_one else 0]


def sharding_attributes(ctx: Any, axis: int) -> Mapping[str, ir.Attribute]:
    """Tells the partitioners that rows are independent: batch axes may be split, `axis` not."""
    shape = common_shape([aval.shape for aval in ctx.avals_in], axis)
    if 0 in shape:
        return {}
    batch_dims = ir.StringAttr.get(str(len(shape) + axis))
    attributes: dict[str, ir.Attribute] = {
        "mhlo.frontend_attributes": ir.DictAttr.get({"num_batch_dims": batch_dims})
    }
    if getattr(jax.config, "jax_use_shardy_partitioner", False):
        rule = _sharding_rule(
            [aval.shape for aval in ctx.avals_in], [aval.shape for aval in ctx.avals_out], axis
        )
        if rule is not None:
            attributes["sdy.sharding_rule"] = ir.Attribute.parse(rule)
    return attributes


def _sharding_rule(inputs: list[Any], outputs: list[Any], axis: int) -> str | None:
    """One factor per batch axis, and along `axis` one per length: sorted elements, one number per
    row, scratch memory. Only batch axes may be split."""
    letters = "ijklmnopqrstuvwxyz"
    shape = common_shape(inputs, axis)
    ndim = len(shape)
    # A rule names sizes, in 32 bits.
    named = all(isinstance(size, int) and size < 1 << 31 for of in (shape, *outputs) for size in of)
    if not named or ndim + 2 > len(letters):
        return None
    sizes = dict(zip(letters, shape, strict=False))
    along = {shape[axis]: letters[ndim + axis]}
    for of in (*inputs, *outputs):
        if of[axis] not in along:
            along[of[axis]] = letters[ndim + len(along) - 1]
            sizes[along[of[axis]]] = of[axis]

    def factors(of: Any) -> str:
        names = list(letters[:ndim])
        names[axis] = along[of[axis]]
        return f"[{', '.join(names)}]"

    mapping = f"({', '.join(map(factors, inputs))})->({', '.join(map(factors, outputs))})"
    listed = ", ".join(f"{letter}={size}" for letter, size in sizes.items())
    whole = ", ".join(letter for size, letter in along.items() if size != 1 or size == shape[axis])
    return f"#sdy.op_sharding_rule<{mapping} {{{listed}}} need_replication={{{whole}}}>"


def no_tangent(array: Array) -> ad.Zero:
    """The tangent of a result that does not change, for JVP rules of primitives."""
    aval = array.aval
    if hasattr(aval, "to_tangent_aval"):
        return ad.Zero(aval.to_tangent_aval())
    return ad.Zero(aval.at_least_vspace())  # before 0.4.34


def register_replication_rule(primitive: Any) -> None:
    """For shard_map of JAX before 0.7, which checks replication by rules of each primitive."""
    try:
        from jax.experimental import shard_map
    except ImportError:
        return
    for name in ("register_standard_check", "register_standard_rewrite"):
        register = getattr(shard_map, name, None)
        if register is not None:
            register(primitive)
