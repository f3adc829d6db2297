"""Cost of the fallback: against the native solver, and with the length of a row.

    python benchmarks/fallback.py             everything, about ten minutes
    python benchmarks/fallback.py --quick     rows up to 100,000 elements, few rounds

A round draws fresh inputs and times every contender on them once, in an order that turns from round
to round. Ratios are taken within a round; the tables hold their medians and quartiles.
"""

import argparse
import time
from functools import partial

import numpy as np
import report
import torch

import diffsort

REGIMES = """\
Forward, one thread, inputs N(0, 1). Regimes, with range = the largest less the smallest value of a
row: soft_rank l2: range/strength = n/4 (S), n (M), 50 n (H); soft_rank kl: range/strength =
ln(2)/2 (S), 8 (M), 50 n (H); soft_sort: n/(strength · range) = 1/8 (S), 1 (M), 50 (H). In S a row
is one block, and the native l2 rank does not sort it; in H it is nearly hard.
"""

OPERATIONS = [
    ("soft_rank", "l2"),
    ("soft_rank", "kl"),
    ("soft_sort", "l2"),
    ("soft_sort", "kl"),
]
FRAMEWORKS = {"numpy": np.asarray, "torch": torch.from_numpy}


def strength(operator, regularization, regime, x):
    n = x.shape[-1]
    spread = np.median(np.ptp(x, axis=-1))
    if operator == "soft_sort":
        return {"S": 8, "M": 1, "H": 1 / 50}[regime] * n / spread
    if regularization == "kl":
        return spread / {"S": np.log(2) / 2, "M": 8, "H": 50 * n}[regime]
    return spread / {"S": n / 4, "M": n, "H": 50 * n}[regime]


def timed(solver, framework, operator, regularization, regime, x):
    values = FRAMEWORKS[framework](x)
    epsilon = float(strength(operator, regularization, regime, x))
    run = partial(
        getattr(diffsort, operator),
        values,
        regularization=regularization,
        regularization_strength=epsilon,
    )
    diffsort.set_solver(solver)
    begin = time.perf_counter()
    run()
    elapsed = time.perf_counter() - begin
    diffsort.set_solver("auto")
    return elapsed


def rounds(contenders, make_input, count):
    """name -> seconds, one per round; the first round warms up and is not kept."""
    names, times = list(contenders), {name: [] for name in contenders}
    for turn in range(-1, count):
        x = make_input()
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            elapsed = contenders[name](x)
            if turn >= 0:
                times[name].append(elapsed)
    return {name: np.array(values) for name, values in times.items()}


def against_native(rng, options):
    rows = []
    for dtype in ("float32", "float64"):
        for operator, regularization in OPERATIONS:
            for regime in "SMH":
                contenders = {
                    (framework, solver): partial(
                        timed, solver, framework, operator, regularization, regime
                    )
                    for framework in FRAMEWORKS
                    for solver in ("native", "fallback")
                }
                t = rounds(
                    contenders,
                    lambda dtype=dtype: rng.normal(size=(128, 1000)).astype(dtype),
                    options.rounds,
                )
                cells = [dtype, operator, regularization, regime]
                for framework in FRAMEWORKS:
                    native, fallback = t[framework, "native"], t[framework, "fallback"]
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


def growth(rng, options):
    rows = []
    for operator, regularization in OPERATIONS:
        for framework in FRAMEWORKS:
            cells, before = [operator, regularization, framework], None
            for n in options.lengths:
                contender = partial(timed, "fallback", framework, operator, regularization, "M")
                t = rounds(
                    {"fallback": contender},
                    lambda n=n: rng.normal(size=(1, n)).astype("float32"),
                    max(3, options.rounds // 3),
                )["fallback"]
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
    rng = np.random.default_rng(0)
    torch.set_num_threads(1)
    diffsort.set_num_threads(1)
    parts = [
        report.heading("Cost of the fallback", 1),
        "## Against the native solver at (128, 1000)\n\n" + REGIMES,
        against_native(rng, options),
        "## Growth with the length of one row\n\n"
        "Regime M, float32, forward: ns per element, and in parentheses the ratio to the column "
        "before. O(log n) array operations per element and level, so a slow growth is expected; "
        "short rows pay for the calls.\n",
        growth(rng, options),
    ]
    report.write("fallback.md", "\n".join(parts))


if __name__ == "__main__":
    main()
