"""Which backend owns an array. Importing this package imports no framework.

A backend is a module with the functions of `Backend`. It is imported when the first array of its
framework arrives, and is then found by the array's type alone.
"""

from __future__ import annotations

from typing import Any, Protocol

from diffsort.backends.capabilities import PACKAGES
from diffsort.core.spec import Spec
from diffsort.errors import BackendMismatchError, MissingBackendError

Array = Any


class Backend(Protocol):
    """What a backend module offers. `z` or `w` None stands for ρ = (n, ..., 1)."""

    NAME: str

    def asarray(
        self, function: str, argument: str, values: Any, like: Array | None = None
    ) -> Array:
        """This framework's array of `values`: its own, NumPy's, a sequence or a number. A sequence
        takes the floating dtype of `like`."""

    def project(self, spec: Spec, z: Array, w: Array, strength: Any) -> Array: ...

    def vjp(
        self, spec: Spec, z: Array, w: Array, strength: Any, wrt: tuple[str, ...]
    ) -> tuple[Array, Any]: ...

    def jvp(
        self, spec: Spec, z: Array, w: Array, strength: Any, tangents: dict[str, Array]
    ) -> tuple[Array, Array]: ...


# Backend of an array type that needs no conversion; a look-up costs less than 0.1 µs.
_owners: dict[type, Backend] = {}


def resolve(
    function: str, argument: str, values: Any, backend: str | None
) -> tuple[Backend, Array]:
    """The backend for `values`, and `values` as an array of it."""
    if backend is None:
        owner = _owners.get(type(values))
        if owner is not None:
            return owner, values
    owner = _owner_of(function, argument, type(values), backend)
    array = owner.asarray(function, argument, values)
    if array is values:
        _owners[type(values)] = owner
    return owner, array


def _owner_of(function: str, argument: str, array_type: type, backend: str | None) -> Backend:
    framework = _framework_of(array_type)
    if framework == "unknown":
        raise TypeError(
            f"{function}: {argument} must be an array of NumPy, torch, JAX or CuPy, a sequence or "
            f"a number, got {_name(array_type)}. Convert it first, for example with numpy.asarray."
        )
    if backend is not None:
        owner = load(function, backend)
        if framework not in (owner.NAME, "numpy", "python"):
            raise BackendMismatchError(
                f'{function}: {argument} is a {_name(array_type)}, but backend is "{backend}". '
                f"Pass {backend} data, or leave backend out."
            )
        return owner
    if framework == "array_api":
        return _module(framework)
    return load(function, "numpy" if framework == "python" else framework)


def load(function: str, name: str) -> Backend:
    """The backend module of that name."""
    if not isinstance(name, str) or name not in PACKAGES:
        known = ", ".join(f'"{key}"' for key in PACKAGES)
        raise ValueError(f"{function}: backend must be None or one of {known}, got {name!r}.")
    try:
        return _module(name)
    except ImportError as error:
        raise MissingBackendError(
            f'{function}: backend "{name}" needs the package {PACKAGES[name]}, which cannot be '
            f'imported ({error}). Install it: pip install "diffsort-permutahedron[{name}]".'
        ) from error


def _module(name: str) -> Backend:
    # Import statements, which Dynamo follows, where it refuses importlib: the first call of a
    # process may be a compiled one.
    if name == "torch":
        from diffsort.backends import torch

        return torch
    if name == "jax":
        from diffsort.backends import jax

        return jax
    if name == "cupy":
        from diffsort.backends import cupy

        return cupy
    if name == "array_api":
        from diffsort.backends import array_api

        return array_api
    from diffsort.backends import numpy

    return numpy


def check_sequence(function: str, argument: str, values: Any) -> None:
    """Raises if a sequence holds arrays: NumPy would copy them to the host and drop gradients."""
    if not isinstance(values, (list, tuple)):
        return
    types = set(map(type, values))
    for item_type in types:
        if _framework_of(item_type) not in ("python", "numpy", "unknown"):
            raise BackendMismatchError(
                f"{function}: {argument} is a sequence of {_name(item_type)}. Make one array of "
                "it first, with the framework's stack function."
            )
    if types & {list, tuple}:
        for item in values:
            check_sequence(function, argument, item)


def check_framework(function: str, owner: str, argument: str, values: Any) -> None:
    """Raises if `values` is an array of another framework; NumPy's scalars count as numbers."""
    framework = _framework_of(type(values))
    if framework in (owner, "python", "unknown"):
        return
    if framework == "numpy" and values.ndim == 0:
        return
    raise BackendMismatchError(
        f"{function}: {argument} is a {_name(type(values))}, but the values are {owner} data. "
        "Pass all arrays of one framework, or a number."
    )


def resolve_pair(
    function: str, z: Any, w: Any, backend: str | None
) -> tuple[Backend, Array, Array]:
    """The one backend for two arrays; a plain sequence or number follows the other array."""
    if backend is not None:
        owner, z = resolve(function, "z", z, backend)
        return owner, z, resolve(function, "w", w, backend)[1]
    frameworks = _framework_of(type(z)), _framework_of(type(w))
    if frameworks[0] == "python":
        owner, w = resolve(function, "w", w, None)
        return owner, owner.asarray(function, "z", z, like=w), w
    owner, z = resolve(function, "z", z, None)
    if frameworks[1] == "unknown":
        resolve(function, "w", w, None)
    if frameworks[1] not in ("python", frameworks[0]):
        raise BackendMismatchError(
            f"{function}: w is a {_name(type(w))}, but z is a {_name(type(z))}. "
            "Pass both as arrays of one framework."
        )
    return owner, z, owner.asarray(function, "w", w, like=z)


_ROOTS = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jaxlib": "jax", "cupy": "cupy"}
_PYTHON_TYPES = (list, tuple, int, float, complex, range)


def _framework_of(array_type: type) -> str:
    """Name of the framework, "array_api" for arrays of another library with the standard, "python"
    for sequences and numbers, or "unknown".

    Read off the names of the base classes: no framework is imported to find out, and tracers and
    subclasses are found like plain arrays.
    """
    for base in array_type.__mro__:
        framework = _ROOTS.get(base.__module__.partition(".")[0])
        if framework is not None:
            return framework
    if hasattr(array_type, "__jax_array__"):  # wrappers of JAX arrays, such as Flax's parameters
        return "jax"
    if hasattr(array_type, "__array_namespace__"):
        return "array_api"
    return "python" if issubclass(array_type, _PYTHON_TYPES) else "unknown"


# Dynamo evaluates this instead of tracing it; torch.compiler.assume_constant_result sets the same
# mark, but is not to be imported here.
_framework_of._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _name(array_type: type) -> str:
    if _framework_of(array_type) == "jax":  # whose arrays and tracers have names of their own
        return "jax.Array"
    return f"{array_type.__module__}.{array_type.__qualname__}".removeprefix("builtins.")
