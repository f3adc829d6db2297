"""What torch and JAX share: `vjp` and `jvp` by the framework's own transforms of `project`.

For libraries without transforms `adapter` has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffsort.core.spec import Spec, present

Array = Any


class Functional:
    """`transforms` is what has the framework's `vjp` and `jvp`. The backend adds its `project` and

    operands(spec, z, w, strength)             the operands by name, checked
    as_float(values, like)                     an operand as an array that has derivatives, where
                                               `like` is
    direction(spec, argument, values, like)    a tangent or cotangent of `like`, checked
    """

    def __init__(
        self,
        transforms: Any,
        project: Callable[[Spec, Array, Array, Any], Array],
        operands: Callable[[Spec, Array, Array, Any], dict[str, Any]],
        as_float: Callable[[Any, Array], Array],
        direction: Callable[[Spec, str, Any, Array], Array],
    ) -> None:
        self.transforms, self.project = transforms, project
        self.operands, self.as_float, self.direction = operands, as_float, direction

    def vjp(
        self, spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
    ) -> tuple[Array, Callable[[Any], tuple[Array, ...]]]:
        function, primals = self._function(spec, z, w, strength, wrt)
        result, pull_back = self.transforms.vjp(function, *primals)
        return result, lambda cotangent: pull_back(
            self.direction(spec, "cotangent", cotangent, result)
        )

    def jvp(
        self,
        spec: Spec,
        z: Array | None,
        w: Array | None,
        strength: Any,
        tangents: dict[str, Any],
    ) -> tuple[Array, Array]:
        function, primals = self._function(spec, z, w, strength, tuple(tangents))
        directions = tuple(
            self.direction(spec, "tangent", tangent, primal)
            for tangent, primal in zip(tangents.values(), primals, strict=True)
        )
        result, tangent = self.transforms.jvp(function, primals, directions)
        return result, tangent

    def _function(
        self, spec: Spec, z: Array | None, w: Array | None, strength: Any, wrt: tuple[str, ...]
    ) -> tuple[Callable[..., Array], tuple[Array, ...]]:
        """The projection as a function of the operands in `wrt`, and the point it is taken at."""
        operands = self.operands(spec, z, w, strength)  # checks, before anything is converted
        primals = tuple(self.as_float(operands[name], present(z, w)) for name in wrt)

        def function(*values: Array) -> Array:
            at = {**operands, **dict(zip(wrt, values, strict=True))}
            return self.project(spec, at["z"], at["w"], at["strength"])

        return function, primals
