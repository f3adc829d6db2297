"""Cost of the fallback: against the native solver, and with the length of a row.

    python benchmarks/fallback.py             everything, about ten minutes
    python benchmarks/fallback.py --quick     rows up to 100,000 elements, few rounds

measure.py says how time is measured. In regime S a row is one block, and the native l2 rank does
not sort it; in H it is nearly hard.
"""

import argparse
import itertools

import measure
import numpy as np
import report
import torch
from measure import OPERATORS, REGULARIZATIONS

import diffsort

TEXT = """\
Forward, one thread. Times are medians; ratios are medians within a round, with quartiles.
"""
FRAMEWORKS = {"numpy": np.asarray, "torch": torch.from_numpy}


def timer(framework, solver, operator, regularization, regime):
    """A timer of `measure.rounds`."""
    function = getattr(diffsort, operator)

    def prepare(inputs):
        strengths = inputs.strengths(operator, regularization, regime).tolist()
        return zip(map(FRAMEWORKS[framework], inputs.values), strengths, strict=True)

    def run(values, strength):
        function(values, regularization=regularization, regularization_strength=strength)

    looped = measure.looped(run, prepare)

    def solved(inputs):
        diffsort.set_solver(solver)
        elapsed = looped(inputs)
        diffsort.set_solver("auto")
        return elapsed

    return solved


def rounds(contenders, shape, dtype, count):
    timers = {key: (dtype, timer(*key)) for key in contenders}
    return measure.rounds(timers, shape, calls=1, seconds=0, least=count)


def against_native(options):
    rows = []
    for case in itertools.product(("float32", "float64"), OPERATORS, REGULARIZATIONS, "SMH"):
        dtype, *of_operator = case
        pairs = itertools.product(FRAMEWORKS, ("native", "fallback"))
        contenders = [(*pair, *of_operator) for pair in pairs]
        t = rounds(contenders, (128, 1000), dtype, options.rounds)
        cells = [*case]
        for framework in FRAMEWORKS:
            native = t[(framework, "native", *of_operator)]
            fallback = t[(framework, "fallback", *of_operator)]
            cells += [
                report.short(1e3 * np.median(native)),
                report.short(1e3 * np.median(fallback)),
                report.quartiles(fallback / native),
            ]
        rows.append(cells)
        print(*cells, flush=True)
    header = ["dtype", "operator", "reg.", "regime"]
    for framework in FRAMEWORKS:
        header += [f"{framework} native, ms", "fallback, ms", "ratio"]
    return report.table(header, rows)


def growth(options):
    rows = []
    for operator, regularization, framework in itertools.product(
        OPERATORS, REGULARIZATIONS, FRAMEWORKS
    ):
        contender = framework, "fallback", operator, regularization, "M"
        cells, before = [operator, regularization, framework], None
        for n in options.lengths:
            t = rounds([contender], (1, n), "float32", max(3, options.rounds // 3))[contender]
            each = 1e9 * np.median(t) / n
            step = "" if before is None else f" ({report.short(each / before)})"
            cells.append(report.short(each) + step)
            before = each
        rows.append(cells)
        print(*cells, flush=True)
    return report.table(["operator", "reg.", "framework", *map(str, options.lengths)], rows)


def main():
    parser = argparse.ArgumentParser(description="Cost of the fallback.")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.rounds = 5 if options.quick else 15
    options.lengths = [10**k for k in range(2, 6 if options.quick else 7)]
    torch.set_num_threads(1)
    diffsort.set_num_threads(1)
    parts = [
        report.heading("Cost of the fallback", 1),
        "## Against the native solver at (128, 1000)\n\n" + measure.REGIMES + TEXT,
        against_native(options),
        "## Growth with the length of one row\n\n"
        "Regime M, float32, forward: ns per element, and in parentheses the ratio to the column "
        "before. O(log n) array operations per element and level, so a slow growth is expected; "
        "short rows pay for the calls.\n",
        growth(options),
    ]
    report.write("fallback.md", "\n".join(parts))


if __name__ == "__main__":
    main()
