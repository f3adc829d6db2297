"""``python -m diffsort``: a short demonstration on real data, with NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import diffsort
from diffsort.data import load_diabetes

FIGURE = "diffsort_demo.png"
STRENGTHS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1)

Array = NDArray[np.float64]


def collapse_strength(values: Array) -> float:
    """Smallest strength at which the l2 soft ranks of ``values`` are one block.

    One block means: every way to split off the k largest values would violate the order of the
    isotonic step, so the strength exceeds the ratio of the two excess means for every k.
    """
    n = len(values)
    k = np.arange(1, n)
    excess_value = np.cumsum(np.sort(values)[::-1])[:-1] / k - values.mean()
    excess_rank = (n - k) / 2  # mean of the k largest of 1..n, less the mean of all
    return float(np.max(excess_value / excess_rank))


def correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def show_ranks(bmi: Array) -> None:
    print("1. Hard and soft ranks (l2). Smallest value: rank 1. Equal values share a mean rank.")
    print()
    ranks = [diffsort.soft_rank(bmi, regularization_strength=s) for s in STRENGTHS]
    # Nine patients from the thinnest to the heaviest.
    shown = np.argsort(bmi, kind="stable")[np.linspace(0, len(bmi) - 1, 9).astype(int)]
    print(f"{'':24}strength")
    strengths = "".join(f"{s:9g}" for s in STRENGTHS[1:])
    print(f"   {'bmi':>6}  {'patients':>8}   0 (hard){strengths}")
    for i in shown:
        row = "".join(f"{r[i]:9.2f}" for r in ranks)
        print(f"   {bmi[i]:6.1f}  {np.sum(bmi == bmi[i]):8d}  {row}")
    hard = ranks[0]
    print(f"   {'largest change':>16}  " + "".join(f"{np.abs(r - hard).max():9.2f}" for r in ranks))
    print(f"   {'corr. with bmi':>16}  " + "".join(f"{correlation(r, bmi):9.4f}" for r in ranks))
    print()
    limit = collapse_strength(bmi)
    print(f"   From strength {limit:.4f} on, all {len(bmi)} values are one block, and the")
    print("   soft rank is an affine function of bmi. Choose the strength below it.")


def show_sort(bmi: Array) -> None:
    values = bmi[:6]
    print("2. Soft sort (l2) of the first six patients. The sum is kept exactly.")
    print()
    print(f"   {'strength':>10}  {'values':<48}     sum")
    print(f"   {'(input)':>10}  " + "".join(f"{v:8.2f}" for v in values) + f"{values.sum():9.2f}")
    for strength in (0.0, 0.1, 0.5, 2.0):
        y = diffsort.soft_sort(values, regularization_strength=strength)
        print(f"   {strength:10g}  " + "".join(f"{v:8.2f}" for v in y) + f"{y.sum():9.2f}")


def show_gradient(bmi: Array, target: Array) -> None:
    strength, step = 0.03, 1e-6
    goal = diffsort.soft_rank(target, regularization_strength=0.0)
    goal = (goal - goal.mean()) / np.linalg.norm(goal - goal.mean())

    def objective(x: Array) -> float:
        """Covariance of the soft ranks with the hard ranks of the disease progression."""
        return float(goal @ diffsort.soft_rank(x, regularization_strength=strength))

    _, pull_back = diffsort.vjp(diffsort.soft_rank, bmi, regularization_strength=strength)
    gradient = pull_back(goal)

    print("3. A gradient: how the agreement of bmi with the progression of the disease one year")
    print(f"   later changes with one patient's bmi (soft ranks, strength {strength:g}).")
    print()
    print(f"   {'patient':>8}{'bmi':>8}{'diffsort.vjp':>16}{'finite difference':>20}")
    for i in (0, 100, 200, 300, 400):
        up, down = bmi.copy(), bmi.copy()
        up[i] += step
        down[i] -= step
        difference = (objective(up) - objective(down)) / (up[i] - down[i])
        print(f"   {i:8d}{bmi[i]:8.1f}{gradient[i]:16.6f}{difference:20.6f}")


def draw(bmi: Array) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("4. For a figure of these ranks: pip install matplotlib, and run this again.")
        return
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(bmi, kind="stable")
    for strength in STRENGTHS[3:]:  # smaller ones hardly leave the line of the hard ranks
        r = diffsort.soft_rank(bmi, regularization_strength=strength)
        axes.plot(bmi[order], r[order], linewidth=2.5, label=f"{strength:g}")
    hard = diffsort.soft_rank(bmi, regularization_strength=0.0)
    axes.plot(bmi[order], hard[order], color="black", linewidth=1, label="0 (hard)")
    axes.set(
        xlabel="body mass index (kg/m²)",
        ylabel="soft rank",
        title="Hard and soft ranks of 442 patients",
    )
    axes.legend(title="strength (l2)", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(FIGURE, dpi=150)
    except OSError as error:
        print(f"4. The figure {FIGURE} was not written: {error}.")
    else:
        print(f"4. The figure {FIGURE} in this folder shows all ranks.")


def main() -> None:
    data = load_diabetes()
    print(f"diffsort {diffsort.__version__}: differentiable sorting and ranking")
    print()
    print(f"Data: body mass index (bmi) of {len(data.bmi)} diabetes patients, Efron et al. 2004.")
    print()
    show_ranks(data.bmi)
    print()
    show_sort(data.bmi)
    print()
    show_gradient(data.bmi, data.target)
    print()
    draw(data.bmi)
    print()
    print("5. What this installation can do:")
    print()
    diffsort.show_config()


if __name__ == "__main__":
    main()
