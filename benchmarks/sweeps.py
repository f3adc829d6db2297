"""Runtime figures that were published for soft sorting, measured again on this machine.

Time of a call against the length of a row or the number of rows, through torch, one thread.
"""

from typing import NamedTuple

import hard_sorts
import measure
import numpy as np
import report
import through_torch
from measure import Case


class Sweep(NamedTuple):
    title: str
    shapes: tuple[tuple[int, int], ...]
    varies: int  # the axis of the shape on the horizontal axis
    cases: tuple[Case, ...]
    strength: float | None = None  # that of the cases' regime where it is None

    @property
    def label(self):
        return ("rows", "length of a row")[self.varies]


def of_libraries(*cases):
    return tuple(
        c._replace(library=name)
        for c in cases
        for name in through_torch.available()
        if through_torch.joins(c._replace(library=name))
    )


SORTS = of_libraries(Case("soft_sort", "l2", "", "f"), Case("soft_sort", "l2", "", "fb"))
RANKS_M = of_libraries(Case("soft_rank", "l2", "M", "fb"), Case("soft_rank", "kl", "M", "fb"))
SORTS_M = of_libraries(Case("soft_sort", "l2", "M", "fb"), Case("soft_sort", "kl", "M", "fb"))
LENGTHS = (1, 100, 500, 1000, 2000, 3000, 4000, 5000)

FIGURES = {
    "torchsort": (
        Sweep("One row, strength 1", tuple((1, n) for n in LENGTHS), 1, SORTS, 1.0),
        Sweep("Rows of 100, strength 1", tuple((2**k, 100) for k in range(9)), 0, SORTS, 1.0),
    ),
    "papers": (
        Sweep(
            "128 rows (Blondel et al. 2020)",
            tuple((128, n) for n in (100, 200, 500, 1000, 2000, 5000)),
            1,
            RANKS_M,
        ),
        Sweep(
            "20 rows (Prillo and Eisenschlos 2020)",
            tuple((20, n) for n in (100, 250, 500, 1000, 2000, 4000)),
            1,
            SORTS_M,
        ),
        Sweep(
            "One row (Paulus et al. 2026)",
            tuple((1, 2**k) for k in range(6, 15)),
            1,
            SORTS_M,
        ),
    ),
}
CAPTIONS = {
    "torchsort": """\
The figure of torchsort's README: soft_sort at strength 1, against the length of one row and against
the number of rows.
""",
    "papers": """\
Shapes of the runtime figures of three papers, in regime M: Blondel, Teboul, Berthet, Djolonga: Fast
Differentiable Sorting and Ranking, ICML 2020; Prillo, Eisenschlos: SoftSort, ICML 2020 (arXiv
2006.16038); Paulus et al.: SoftJAX & SoftTorch, 2026 (arXiv 2603.08824).
""",
}


def measured(sweep, quick, progress):
    """shape -> seconds per call by contender."""
    found = {}
    for shape in sweep.shapes[:: 2 if quick else 1]:
        progress(sweep.title, shape)
        size = shape[0] * shape[1]
        timers = {
            case: ("float32", through_torch.timer(case, sweep.strength))
            for case in sweep.cases
            if through_torch.is_affordable(case, size)
        }
        timers["torch.sort"] = "float32", hard_sorts.torch_sort(1, preallocated=False)
        in_a_row = measure.calls_per_round(size)
        found[shape] = measure.rounds(timers, shape, in_a_row, 0.3 if quick else 1.0, 3)
    return found


def label(name):
    """Of a contender, in a legend or a table."""
    if not isinstance(name, Case):
        return name
    passes = {"f": "forward", "fb": "forward + backward"}[name.passes]
    return f"{name.library} {name.operator} {name.regularization}, {passes}"


def table(sweep, found):
    names = list(dict.fromkeys(name for times in found.values() for name in times))
    rows = [
        [str(shape[sweep.varies])]
        + [report.short(np.median(times[n]) * 1e6) if n in times else "–" for n in names]
        for shape, times in found.items()
    ]
    header = (sweep.label, *(f"{label(name)}, µs" for name in names))
    return f"{sweep.title}:\n\n" + report.table(header, rows)
