"""What may differ from the truth, and why: every tolerance that several tests share."""

import numpy as np

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


def result_tolerance(dtype, expected, scale):
    """float64: 1e-10 of the scale, as promised; float32: 2^-22 of it, as promised; the half types
    compute in float32 and round once more.
    """
    computed = (1e-10 if dtype == "float64" else 2.0**-22) * scale
    once_more = EPS[dtype] / 2 * np.abs(expected) if dtype in ("float16", "bfloat16") else 0
    return computed + once_more + SMALLEST[dtype]


def derivative_tolerance(dtype, magnitude):
    """float64: 1e-10 of the size of the terms, as promised; else four roundings of half an eps:
    of the saved result, the difference, the product and the gradient.
    """
    return (1e-10 if dtype == "float64" else 2 * EPS[dtype]) * magnitude + SMALLEST[dtype]


def assert_within(found, expected, tolerance):
    """Equal up to the tolerance; NaN and infinities equal themselves."""
    assert found.shape == np.shape(expected)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    tolerance = np.where(np.isinf(tolerance), 0, tolerance)  # relative to an infinite number
    with np.errstate(invalid="ignore"):
        excess = np.where(found == expected, 0, np.abs(found - expected) - tolerance)
    assert not (excess > 0).any(), f"beyond tolerance by {np.nanmax(excess)}:\n{found}\n{expected}"
