"""A small real table that ships with the package, for the demonstration and the examples."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Diabetes", "load_diabetes"]


class Diabetes(NamedTuple):
    """Two columns of the diabetes study, one entry per patient."""

    bmi: NDArray[np.float64]
    target: NDArray[np.float64]


def load_diabetes() -> Diabetes:
    """Body mass index and disease progression of 442 diabetes patients.

    Returns
    -------
    Diabetes
        ``bmi``: body mass index in kg/m², to one decimal, so 442 patients share 163 values.
        ``target``: a measure of disease progression one year after baseline (25 to 346).
        Both are float64 arrays of shape (442,).

    References
    ----------
    B. Efron, T. Hastie, I. Johnstone, R. Tibshirani. Least Angle Regression.
    Annals of Statistics 32(2), 407-499, 2004.

    Examples
    --------
    >>> from diffsort.data import load_diabetes
    >>> data = load_diabetes()
    >>> data.bmi.shape, float(data.bmi.min()), float(data.bmi.max())
    ((442,), 18.0, 42.2)
    """
    with files("diffsort.data").joinpath("diabetes.csv").open(encoding="utf-8") as lines:
        # Four lines of source and one of column names come first.
        table = np.loadtxt(lines, delimiter=",", skiprows=5)
    return Diabetes(bmi=table[:, 0].copy(), target=table[:, 1].copy())
