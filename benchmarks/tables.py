"""Markdown tables of what cpu.py measured. `found` maps a shape to times by contender."""

import itertools

import hard_sorts
import numpy as np
import report
from measure import OPERATORS, REGULARIZATIONS, Case

CASES = [(r, regime) for r in REGULARIZATIONS for regime in "SMH"]


def nanoseconds(times, shape):
    """Median per element; a dash for what was not measured."""
    return "–" if times is None else report.short(np.median(times) / np.prod(shape) * 1e9)


def ratio(times, base):
    return "–" if times is None or base is None else report.quartiles(times / base)


def kernels(found):
    """One table per operator: float32, one thread, beside the sorts."""
    header = ("shape", "reg.", "regime", "f, ns", "fb, ns", "torch.sort, ns", "f / torch.sort")
    header += ("fb / torch.sort", "f / np.argsort", f"f / {hard_sorts.AVX2}")
    for operator in OPERATORS:
        rows = []
        for (shape, t), case in itertools.product(found.items(), CASES):
            f, fb = (t.get(Case(operator, *case, passes)) for passes in ("f", "fb"))
            if fb is None:
                continue
            torch_sort = t["torch.sort", "float32", 1]
            rows.append([str(shape), *case, nanoseconds(f, shape), nanoseconds(fb, shape)])
            rows[-1] += [nanoseconds(torch_sort, shape), ratio(f, torch_sort)]
            rows[-1] += [ratio(fb, torch_sort), ratio(f, t["np.argsort", "float32", 1])]
            rows[-1].append(ratio(f, hard_sorts.strong_numpy(t)))
        yield f"### {operator}\n\n" + report.table(header, rows)


def sorts(found):
    """The baselines alone, ns per element."""
    names = list(dict.fromkeys(n for t in found.values() for n in t if not isinstance(n, Case)))
    labels = [f"{name}, {dtype}" + f", {k} threads" * (k > 1) for name, dtype, k in names]
    rows = [[str(s), *(nanoseconds(t.get(n), s) for n in names)] for s, t in found.items()]
    return report.table(("shape", *labels), rows)


def families(found):
    """Rows of other distributions: forward and backward, beside torch.sort."""
    header = ("shape", "inputs", "torch.sort, ns", "operator", "reg.")
    header += tuple(f"{regime}{unit}" for regime in "MH" for unit in (", ns", " / torch.sort"))
    rows = []
    for shape, of_shape in found.items():
        for name, t in of_shape.items():
            sort = t["torch.sort", "float32", 1]
            for operation in itertools.product(OPERATORS, REGULARIZATIONS):
                rows.append([str(shape), name, nanoseconds(sort, shape), *operation])
                for regime in "MH":
                    times = t[Case(*operation, regime, "fb")]
                    rows[-1] += [nanoseconds(times, shape), ratio(times, sort)]
    return report.table(header, rows)


def types_and_threads(found, threads):
    """Forward and backward: float64 beside float32, and all threads beside one."""
    header = ("shape", "operator", "reg.", "regime", "float64 / float32")
    header += (
        f"1 / {threads} threads",
        "fb / torch.sort, float64",
        f"fb / torch.sort, {threads} threads",
    )
    rows = []
    for shape, t in found.items():
        for operator, case in itertools.product(OPERATORS, CASES):
            one = t.get(Case(operator, *case, "fb"))
            wide = t.get(Case(operator, *case, "fb", "float64"))
            every = t.get(Case(operator, *case, "fb", "float32", threads)) if threads > 1 else None
            if wide is None and every is None:
                continue
            rows.append([str(shape), operator, *case, ratio(wide, one), ratio(one, every)])
            rows[-1].append(ratio(wide, t.get(("torch.sort", "float64", 1))))
            rows[-1].append(ratio(every, t.get(("torch.sort", "float32", threads))))
    return report.table(header, rows)


def through_torch(found, rivals):
    """One table per operator; how many times faster than each rival, both forward and backward."""
    header = ("shape", "reg.", "regime", "f, ns", "fb, ns", "fb / torch.sort")
    header += tuple(column for r in rivals for column in (f"{r} fb, ns", f"{r} fb / fb"))
    for operator in OPERATORS:
        rows = []
        for (shape, t), case in itertools.product(found.items(), CASES):
            f, fb = (t.get(Case(operator, *case, passes)) for passes in ("f", "fb"))
            if fb is None:
                continue
            rows.append([str(shape), *case, nanoseconds(f, shape), nanoseconds(fb, shape)])
            rows[-1].append(ratio(fb, t["torch.sort", "float32", 1]))
            for rival in rivals:
                other = t.get(Case(operator, *case, "fb", library=rival))
                rows[-1] += [nanoseconds(other, shape), ratio(other, fb)]
        yield f"### {operator}\n\n" + report.table(header, rows)


def by_name(found, baseline):
    """A row per contender: ns per element and the ratio to one of them, of the same type."""
    rows = []
    for shape, times in found.items():
        for name, t in times.items():
            label, dtype = named(name)
            if isinstance(t, str):
                rows.append([str(shape), label, dtype, "–", t])
                continue
            base = times.get((baseline, dtype, 1), times.get(baseline))
            rows.append([str(shape), label, dtype, nanoseconds(t, shape), ratio(t, base)])
    return report.table(("shape", "contender", "dtype", "ns", f"ratio to {baseline}"), rows)


def named(name):
    """Of a contender: in words, and its dtype."""
    if isinstance(name, Case):
        return " ".join(name[:4]), name.dtype
    return (name, "float32") if isinstance(name, str) else name[:2]
