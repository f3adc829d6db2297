"""How many threads a call may use."""

from __future__ import annotations

import os

# What the solver takes: an int of C++.
MOST = 2**31 - 1

# Set by diffsort.set_num_threads; 0 means: the framework's own setting, or `default`.
requested = 0


def _default() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may run on."""
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    try:
        count = int(setting)
    except ValueError:
        count = 0
    if count > 0:
        return min(count, MOST)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Found once, when diffsort is imported: OpenMP reads its variables once as well, and to look again
# in every call would take as long as a small call does.
default = _default()
