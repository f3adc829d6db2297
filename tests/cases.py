"""The published numbers: the 60-digit cases of data/reference.json and the printed examples."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)  # hashed by identity: arrays have no hash
class Case:
    name: str
    op: str
    regularization: str
    direction: str
    strength: float
    values: np.ndarray
    result: np.ndarray
    cotangent: np.ndarray
    vjp: np.ndarray | None

    def __str__(self):
        return self.name

    @property
    def options(self):
        return {"regularization": self.regularization, "direction": self.direction}


def _load(index, record):
    arrays = {name: np.array(record[name]) for name in ("values", "result", "cotangent", "vjp")}
    options = {name: record[name] for name in ("op", "regularization", "direction")}
    strength = record["regularization_strength"]
    name = "-".join([*options.values(), record["family"], str(index)])
    return Case(name=name, strength=strength, **options, **arrays)


def _printed(line):
    call, *numbers = (part.split() for part in line.split("|"))
    op, regularization, direction, strength = call
    result, vjp = [np.array(row, dtype=float) for row in [*numbers, []][:2]]
    return Case(
        name="-".join(call),
        op=op,
        regularization=regularization,
        direction=direction,
        strength=float(strength),
        values=np.array([2.9, 0.1, 1.2, 1.3]),
        result=result,
        cotangent=np.array([1.0, 2.0, 3.0, 4.0]),
        vjp=vjp if vjp.size else None,
    )


PATH = Path(__file__).parent / "data" / "reference.json"
GOLDEN = [_load(*item) for item in enumerate(json.loads(PATH.read_text(encoding="utf-8")))]

# Of values (2.9, 0.1, 1.2, 1.3): the result and, for the cotangent (1, 2, 3, 4), the VJP.
TABLE = """\
soft_rank l2 ascending  .0625 | 4 1 2 3                            | 0 0 0 0
soft_rank l2 ascending  1     | 4 1.233333 2.333333 2.433333       | 0 -1 0 1
soft_rank l2 ascending  2     | 3.2625 1.8625 2.4125 2.4625        | -.75 -.25 .25 .75
soft_rank l2 descending 2     | 1.7375 3.1375 2.5875 2.5375
soft_rank kl ascending  1     | 4 1 2.375104 2.624896              | 0 0 -1.24688 1.24688
soft_rank kl ascending  2     | 4 1.317126 2.282913 2.399961       | 0 -.777416 -.206001 .983417
soft_rank kl descending 2     | 1.078131 4 2.522445 2.399424
soft_sort l2 ascending  1     | .15 1.15 1.6 2.6                   | 3.5 1.5 1.5 3.5
soft_sort l2 ascending  2     | .625 1.125 1.625 2.125             | 2.5 2.5 2.5 2.5
soft_sort kl ascending  1     | .125926 1.125926 1.429361 2.429361 |1.175871 2.25078 .74922 5.824129
soft_sort kl descending 1     | 2.770639 1.770639 1.174074 .174074 | 2.49606 1.74818 5.25182 .50394
"""
TABLE = [_printed(line) for line in TABLE.splitlines()]
TABLE_ATOL = 5.1e-6  # five decimals or more
