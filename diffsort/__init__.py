"""Fast, exact, differentiable sorting and ranking for NumPy, PyTorch and JAX.

    >>> import diffsort
    >>> diffsort.soft_rank([2.9, 0.1, 1.2, 1.3], regularization_strength=2.0)
    array([3.2625, 1.8625, 2.4125, 2.4625])

Importing this package imports no framework but NumPy. If torch is imported already, the operators
are registered with it, so that saved programs that contain them load.
"""

from __future__ import annotations

import _diffsort_native

from diffsort import errors
from diffsort.config import (
    get_num_threads,
    get_solver,
    set_num_threads,
    set_solver,
    show_config,
)
from diffsort.ops import jvp, project, soft_rank, soft_sort, vjp

__version__: str = _diffsort_native.__version__

__all__ = [
    "__version__",
    "errors",
    "get_num_threads",
    "get_solver",
    "jvp",
    "project",
    "set_num_threads",
    "set_solver",
    "show_config",
    "soft_rank",
    "soft_sort",
    "vjp",
]


def __getattr__(name: str) -> object:
    if name == "DiffSortNet":
        raise AttributeError(
            "diffsort.DiffSortNet belongs to another project, differentiable sorting networks, "
            "which is distributed as `diffsort` and imports under the same name. This package is "
            "`diffsort-permutahedron`; the two cannot be installed side by side."
        )
    raise AttributeError(f"module 'diffsort' has no attribute {name!r}")


def _warn_of_the_other_diffsort() -> None:
    """The other project's modules beside ours mean that one installation overwrote the other."""
    import os
    import warnings

    here = os.path.dirname(__file__)
    others = ("diffsort.py", "functional.py", "networks.py")
    if any(os.path.exists(os.path.join(here, name)) for name in others):
        warnings.warn(
            "The packages `diffsort` (differentiable sorting networks) and "
            "`diffsort-permutahedron` are both installed into the folder of this module, and have "
            "overwritten each other's files. Uninstall both, then install the one you want.",
            stacklevel=3,
        )


def _register_with_torch() -> None:
    """Programs that torch has saved name diffsort's operators, and make no call that would import
    the backend. Beside a torch that is there already, to do it now costs little."""
    import contextlib
    import sys

    if "torch" in sys.modules:
        with contextlib.suppress(ImportError):  # too old a torch concerns its own arrays alone
            import diffsort.backends.torch  # noqa: F401


_warn_of_the_other_diffsort()
_register_with_torch()
