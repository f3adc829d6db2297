"""The errors that are diffsort's own; a bad value is a ValueError and a bad type a TypeError."""

from __future__ import annotations

__all__ = [
    "BackendMismatchError",
    "DiffsortError",
    "FallbackWarning",
    "MissingBackendError",
    "MissingKernelError",
]


class DiffsortError(Exception):
    """Base class of diffsort's own errors."""


class BackendMismatchError(DiffsortError, TypeError):
    """Arrays of different frameworks in one call, or of another framework than `backend`."""


class MissingBackendError(DiffsortError, ImportError):
    """A backend that was asked for by name cannot be used here."""


class MissingKernelError(DiffsortError, NotImplementedError):
    """No kernel of this build serves the device of an array."""


class FallbackWarning(UserWarning):
    """The device of an array has no kernel, so the slower solver in array operations is used."""
