"""The figures of cpu.py. Each function writes a PNG beside the tables and returns the Markdown."""

import itertools

import hard_sorts
import matplotlib
import numpy as np
import report
import sweeps as published
import targets
from measure import OPERATORS, REGULARIZATIONS, Case

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the choice of the backend
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

REGIME_COLORS = {"S": "#2a9d8f", "M": "#1f6fb4", "H": "#264653"}
SORT_COLORS = {"torch.sort": "#8a8a8a", "np.argsort": "#e9a03b", "np.sort": "#d1495b"}
SORT_COLORS[hard_sorts.AVX2] = "#8d2f3c"
OPERATOR_COLORS = {"soft_rank": "#1f6fb4", "soft_sort": "#e07b39"}
LIBRARY_COLORS = {"diffsort": "#1f6fb4", "torchsort": "#e07b39", "fast-soft-sort": "#7a9e3f"}

MEMORY = """\
Growth of memory with the length of one row, through torch, at the first call; dotted: the goal. Up
to 131072 elements the derivative has a table with 32 bytes per element, and up to 262144 ranks in M
are counted into cells of 24 bytes, of which there are up to 1.25 per element, and 2.5 where
range/strength is 2 n: then it is about 100 bytes per element, scratch that the thread keeps for its
next call.
"""

plt.rcParams.update(
    {
        "figure.dpi": 130,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
    }
)


def ratios(found, name):
    """soft_rank and soft_sort beside torch.sort, for every shape and regime."""
    figure, axes = plt.subplots(
        1, 2, figsize=(9, 1.0 + 0.34 * len(found)), sharex=True, sharey=True
    )
    shapes = list(found)
    for axis, operator in zip(axes, ("soft_rank", "soft_sort"), strict=True):
        for regime, color in REGIME_COLORS.items():
            case = Case(operator, "l2", regime, "fb")
            points = [
                (np.median(found[shape][case] / found[shape]["torch.sort", "float32", 1]), i)
                for i, shape in enumerate(shapes)
                if case in found[shape]
            ]
            axis.plot(*zip(*points, strict=True), "o", color=color, label=regime)
        axis.axvline(1, color="#8a8a8a", linewidth=1)
        axis.axvline(targets.SORT, color="#8a8a8a", linewidth=1, linestyle="--")
        if operator == "soft_rank":
            axis.axvline(targets.MUST["S"], color=REGIME_COLORS["S"], linewidth=1, linestyle="--")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"{operator} l2, forward + backward")
        axis.set_xlabel("time / time of torch.sort")
    axes[0].set_yticks(range(len(shapes)), [f"({rows}, {n:,})" for rows, n in shapes])
    axes[0].invert_yaxis()
    axes[1].legend(title="regime", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, name, "The solver alone beside torch.sort, by shape; dashed: the goals.\n")


def growth(found, name):
    """Cost per element against the length of one row: a panel for each operator."""
    operators = tuple(itertools.product(REGULARIZATIONS, OPERATORS))
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.5), sharex=True, sharey=True)
    for axis, (regularization, operator) in zip(axes.flat, operators, strict=True):
        for sort, color in SORT_COLORS.items():
            _growth_line(axis, found, (sort, "float32", 1), sort, color=color, linestyle="--")
        for regime, color in REGIME_COLORS.items():
            case = Case(operator, regularization, regime, "fb")
            _growth_line(axis, found, case, f"{regime}, forward + backward", color=color)
        axis.set_title(f"{operator} {regularization}")
    axes[0, 0].set(xscale="log", yscale="log")
    for axis in axes[1]:
        axis.set_xlabel("length of the row")
    for axis in axes[:, 0]:
        axis.set_ylabel("ns per element")
    axes[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, name, "Growth with the length of one row, float32, one thread.\n")


def _growth_line(axis, found, contender, label, **style):
    points = [
        (n, np.median(times[contender]) / n * 1e9)
        for (rows, n), times in found.items()
        if rows == 1 and contender in times
    ]
    if points:
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label, **style)


def memory(found, name):
    """Bytes per element against the length of one row."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for (operator, regularization), growth in found.items():
        axis.plot(
            *zip(*growth.items(), strict=True),
            marker="o",
            markersize=4,
            label=f"{operator} {regularization}",
            color=OPERATOR_COLORS[operator],
            linestyle="--" if regularization == "kl" else "-",
        )
    axis.axhline(targets.BYTES, color="#8a8a8a", linewidth=1, linestyle=":")
    axis.set(xscale="log", xlabel="length of the row", ylabel="bytes per element", ylim=(0, None))
    axis.set_title("Forward + backward of one row, float32, regime M")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, name, MEMORY)


def sweeps(swept, caption, name):
    """Panels of time against length or number of rows."""
    figure, axes = plt.subplots(1, len(swept), figsize=(4.0 * len(swept), 3.8))
    for axis, (sweep, found) in zip(np.atleast_1d(axes), swept, strict=True):
        contenders = list(dict.fromkeys(key for times in found.values() for key in times))
        for contender in sorted(contenders, key=published.label):
            points = [
                (shape[sweep.varies], np.median(times[contender]) * 1e6)
                for shape, times in found.items()
                if contender in times
            ]
            axis.plot(
                *zip(*points, strict=True),
                marker="o",
                markersize=3,
                label=published.label(contender),
                **_style(contender),
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(sweep.label)
        axis.set_title(sweep.title, fontsize=9)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=7.5)
    np.atleast_1d(axes)[0].set_ylabel("µs a call")
    return _save(figure, name, caption)


def _style(contender):
    """Colour for the library; dashes for forward alone, pale for kl."""
    if not isinstance(contender, Case):
        return {"color": "#8a8a8a"}
    return {
        "color": LIBRARY_COLORS[contender.library],
        "linestyle": "--" if contender.passes == "f" else "-",
        "alpha": 0.5 if contender.regularization == "kl" else 1.0,
    }


def _save(figure, name, caption):
    figure.tight_layout()
    figure.savefig(report.RESULTS / name, bbox_inches="tight")
    plt.close(figure)
    alternative = " ".join(caption.split())
    return f"{caption}\n![{alternative}]({name})\n"
