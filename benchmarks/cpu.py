"""Speed on the CPU: diffsort against torchsort, torch.sort, np.sort and np.argsort.

    python benchmarks/cpu.py                      everything, about half an hour
    python benchmarks/cpu.py --quick              the shapes below a million elements, fewer rounds
    python benchmarks/cpu.py --shapes 1x1000 --operators soft_rank

measure.py says how it measures.
"""

import argparse
import time

import measure
import numpy as np
import report
import torch

import diffsort

try:
    import torchsort
except ImportError:
    torchsort = None

COLUMNS = """\
The sorts are forward only; "f" is forward without gradient, "fb" forward and backward, both through
torch.
"""


def contenders(operator, regularization):
    """name -> function of (float32 leaf that requires grad, cotangent, NumPy array, strength)."""

    def forward(library):
        fun = getattr(library, operator)

        def run(x, g, a, s):
            with torch.no_grad():
                fun(x, regularization=regularization, regularization_strength=s)

        return run

    def both(library):
        fun = getattr(library, operator)

        def run(x, g, a, s):
            fun(x, regularization=regularization, regularization_strength=s).backward(g)

        return run

    def torch_sort(x, g, a, s):
        with torch.no_grad():
            torch.sort(x, dim=-1)

    found = {
        "diffsort f": forward(diffsort),
        "diffsort fb": both(diffsort),
        "torch.sort": torch_sort,
        "np.sort": lambda x, g, a, s: np.sort(a, axis=-1),
        "np.argsort": lambda x, g, a, s: np.argsort(a, axis=-1),
    }
    if torchsort is not None:
        found["torchsort f"] = forward(torchsort)
        found["torchsort fb"] = both(torchsort)
    return found


def own_leaf(x, g, a, s):
    """Own leaves for every contender, so that no gradient is accumulated or shared."""
    return x.clone().requires_grad_(), g, a, s


def compare(shape, operator, regularization, regime, options):
    rows, n = shape

    def make_input():
        x, g = torch.randn(rows, n), torch.randn(rows, n)
        a = x.numpy()
        return x, g, a, measure.strength(operator, regularization, regime, a)

    size = rows * n
    least, most = (3, 5) if options.quick else (3, 100)
    t = measure.timed_rounds(
        contenders(operator, regularization),
        make_input,
        measure.calls_per_round(size),
        1.0 if options.quick else 3.0,
        least,
        most,
        own_leaf,
    )
    nan = np.full(len(t["diffsort f"]), np.nan)
    rival_f, rival_fb = t.get("torchsort f", nan), t.get("torchsort fb", nan)
    per = 1e9 / size
    print(
        f"{operator} {regularization} {regime} {rows}x{n}: {len(nan)} rounds, "
        f"fb/torchsort {report.quartiles(t['diffsort fb'] / rival_fb)}",
        flush=True,
    )
    return [
        f"({rows}, {n})",
        regularization,
        regime,
        report.short(np.median(t["diffsort f"]) * per),
        report.short(np.median(t["diffsort fb"]) * per),
        report.short(np.median(rival_f) * per),
        report.short(np.median(rival_fb) * per),
        report.quartiles(t["diffsort fb"] / rival_fb),
        report.quartiles(t["diffsort f"] / t["torch.sort"]),
        report.quartiles(t["diffsort fb"] / t["torch.sort"]),
        report.quartiles(t["diffsort f"] / t["np.sort"]),
        report.quartiles(t["diffsort f"] / t["np.argsort"]),
    ]


HEADER = (
    "shape",
    "reg.",
    "regime",
    "diffsort f",
    "diffsort fb",
    "torchsort f",
    "torchsort fb",
    "fb / torchsort fb",
    "f / torch.sort",
    "fb / torch.sort",
    "f / np.sort",
    "f / np.argsort",
)


def call_overhead(options):
    """One small call of each kind, (1, 10) float32, strength 1, as ratios to the bare sort."""
    calls = 500
    rounds = 20 if options.quick else 60

    def torch_call(fun):
        def run(x, a):
            with torch.no_grad():
                fun(x)

        return run

    pairs = {
        "soft_rank, torch, no grad": (torch_call(diffsort.soft_rank), "torch.sort"),
        "soft_sort, torch, no grad": (torch_call(diffsort.soft_sort), "torch.sort"),
        "soft_rank kl, torch, no grad": (
            torch_call(lambda x: diffsort.soft_rank(x, regularization="kl")),
            "torch.sort",
        ),
        "soft_rank, NumPy": (lambda x, a: diffsort.soft_rank(a), "np.argsort"),
        "soft_sort, NumPy": (lambda x, a: diffsort.soft_sort(a), "np.argsort"),
        "soft_rank kl, NumPy": (
            lambda x, a: diffsort.soft_rank(a, regularization="kl"),
            "np.argsort",
        ),
    }
    runs = {name: run for name, (run, _) in pairs.items()}
    runs["torch.sort"] = torch_call(torch.sort)
    runs["np.argsort"] = lambda x, a: np.argsort(a)
    times = {name: [] for name in runs}
    names = list(runs)
    for turn in range(-1, rounds):
        xs = torch.randn(calls, 1, 10).unbind(0)
        inputs = [(x, x.numpy()) for x in xs]
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            run = runs[name]
            begin = time.perf_counter()
            for x, a in inputs:
                run(x, a)
            if turn >= 0:
                times[name].append((time.perf_counter() - begin) / calls)
    t = {name: np.array(v) for name, v in times.items()}
    rows = [
        [
            name,
            report.short(np.median(t[name]) * 1e6),
            base,
            report.short(np.median(t[base]) * 1e6),
            report.quartiles(t[name] / t[base]),
        ]
        for name, (_, base) in pairs.items()
    ]
    return report.table(("call at (1, 10)", "µs", "baseline", "µs", "ratio"), rows)


def parse():
    parser = argparse.ArgumentParser(description="Speed on the CPU.")
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds")
    parser.add_argument("--threads", type=int, default=1, help="for torch and diffsort")
    parser.add_argument("--shapes", nargs="*", type=measure.shape, help="such as 1x1000 128x100")
    parser.add_argument("--operators", nargs="*", default=["soft_rank", "soft_sort"])
    parser.add_argument("--regularizations", nargs="*", default=["l2", "kl"])
    parser.add_argument("--output", default=report.name("cpu"), help="in benchmarks/results")
    options = parser.parse_args()
    options.shapes = options.shapes or [
        s for s in measure.SHAPES if not options.quick or s[0] * s[1] < 1_000_000
    ]
    return options


def main():
    options = parse()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    diffsort.set_num_threads(options.threads)
    parts = [report.heading("Speed on the CPU", options.threads)]
    parts.append("## Call overhead\n\n" + call_overhead(options))
    print(parts[-1], flush=True)
    parts.append("## Operators\n\n" + measure.REGIMES + COLUMNS)
    for operator in options.operators:
        rows = [
            compare(shape, operator, regularization, regime, options)
            for shape in options.shapes
            for regularization in options.regularizations
            for regime in "SMH"
        ]
        parts.append(f"### {operator}\n\n" + report.table(HEADER, rows))
        print(parts[-1], flush=True)
    report.write(options.output, "\n".join(parts))


if __name__ == "__main__":
    main()
