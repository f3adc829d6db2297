"""Draw docs/images/soft_rank_strength.png: soft ranks of seven values as the strength grows.

Run it with `pip install ".[docs]" && python docs/images/soft_rank_strength.py`.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import diffsort

VALUES = np.array([0.0, 0.9, 1.2, 2.6, 3.0, 3.3, 5.0])
STRENGTHS = np.geomspace(0.05, 20, 600)
TARGET = Path(__file__).with_suffix(".png")
COLOURS = ("#3b4cc0", "#6f92f3", "#5aa7a0", "#7a7a7a", "#e0a030", "#e8765c", "#b40426")


def one_block_from(ranks, regularization):
    """First strength at which the ranks have the closed form of a single block."""
    n = len(VALUES)
    scaled = VALUES / STRENGTHS[:, None]
    if regularization == "l2":
        whole = scaled - scaled.mean(axis=1, keepdims=True) + (n + 1) / 2
    else:
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        whole = weights / weights.sum(axis=1, keepdims=True) * n * (n + 1) / 2
    return STRENGTHS[np.abs(ranks - whole).max(axis=1) < 1e-9][0]


def main():
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, regularization in zip(panels, ("l2", "kl"), strict=True):
        # One row per strength: the strength is an array that broadcasts against the values.
        ranks = diffsort.soft_rank(
            np.broadcast_to(VALUES, (len(STRENGTHS), len(VALUES))),
            regularization=regularization,
            regularization_strength=STRENGTHS[:, None],
        )
        for column, value, colour in zip(ranks.T, VALUES, COLOURS, strict=True):
            axes.plot(STRENGTHS, column, color=colour, lw=2.2, solid_capstyle="round")
            label = {"color": colour, "ha": "right", "va": "center"}
            axes.text(STRENGTHS[0] / 1.18, column[0], f"{value:.1f}", **label)
        axes.set_xscale("log")
        axes.set_xlim(STRENGTHS[0] / 2.1, STRENGTHS[-1])
        axes.xaxis.set_major_locator(FixedLocator([0.1, 1, 10]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_title(f'regularization="{regularization}"', fontsize=11, family="monospace")
        axes.set_xlabel("regularization_strength")
        axes.spines[["top", "right"]].set_visible(False)
        start = one_block_from(ranks, regularization)
        axes.axvspan(start, STRENGTHS[-1], color="0.95", lw=0, zorder=0)
        label = {"y": 7.6, "color": "0.35", "fontsize": 9, "va": "center"}
        axes.text(STRENGTHS[0] / 1.18, s="value", ha="right", **label)
        axes.text(STRENGTHS[0] * 1.1, s="hard ranks", **label)
        axes.text(start * 1.1, s="one block", **label)
    panels[0].set_ylim(0.6, 7.9)
    panels[0].set_yticks(range(1, len(VALUES) + 1))
    panels[0].set_ylabel("soft rank")
    figure.savefig(TARGET, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
