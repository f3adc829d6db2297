"""Write diffsort/data/diabetes.csv from scikit-learn's copy of the diabetes study.

The table is small and real: body mass index and disease progression one year later of 442
patients. It ships with the package so that the demonstration needs NumPy alone. Run
it with `python tools/make_data.py`.
"""

from pathlib import Path

from sklearn.datasets import load_diabetes

TARGET = Path(__file__).resolve().parent.parent / "diffsort" / "data" / "diabetes.csv"

HEADER = """\
# Body mass index and disease progression one year after baseline, 442 diabetes patients.
# Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression",
# Annals of Statistics 32(2), 407-499, 2004; as distributed with scikit-learn
# (sklearn.datasets.load_diabetes(scaled=False)). Written by tools/make_data.py.
"""


def main() -> None:
    data = load_diabetes(scaled=False)
    bmi = data.data[:, data.feature_names.index("bmi")]
    rows = [f"{b:.1f},{t:.0f}" for b, t in zip(bmi, data.target, strict=True)]
    # Both columns are recorded to these digits: the text loses nothing.
    assert all(
        (float(row.split(",")[0]), float(row.split(",")[1])) == (b, t)
        for row, b, t in zip(rows, bmi, data.target, strict=True)
    )
    TARGET.write_text(HEADER + "bmi,target\n" + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"wrote {len(rows)} rows to {TARGET}")


if __name__ == "__main__":
    main()
