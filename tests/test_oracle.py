"""The oracle against what was computed without it: 60-digit cases, printed tables, differences."""

import numpy as np
import oracle
import pytest
from cases import GOLDEN, TABLE, TABLE_ATOL

# The oracle computes in the widest float; its result and the reference are rounded to float64 once
# each (2^-53 of the scale), and a division by the strength costs the gradient one unit more.
ROUNDING = 4 * 2.0**-53


@pytest.mark.parametrize("case", GOLDEN, ids=str)
def test_golden_case(case):
    row = oracle.solve(case.op, case.values, strength=case.strength, **case.options)
    assert np.all(np.abs(row.value - case.result) <= ROUNDING * row.scale)
    gradient = case.cotangent @ row.jacobian["values"]
    bound = ROUNDING * (np.abs(case.cotangent) @ row.magnitude["values"])
    assert np.all(np.abs(gradient - case.vjp) <= bound)


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_printed_table(case):
    row = oracle.solve(case.op, case.values, strength=case.strength, **case.options)
    np.testing.assert_allclose(row.value, case.result, rtol=0, atol=TABLE_ATOL)
    if case.vjp is not None:
        gradient = case.cotangent @ row.jacobian["values"]
        np.testing.assert_allclose(gradient, case.vjp, rtol=0, atol=TABLE_ATOL)


# Step of the central differences. With third derivatives below 100, truncation is 100 h^2 / 6 and
# rounding 2^-53 * 10 / h: together below 1e-8.
STEP, DIFFERENCE_ATOL = 2.0**-16, 1e-8


@pytest.mark.parametrize("name", ["values", "w", "regularization_strength"])
@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_jacobian_of_project_against_differences(regularization, name):
    rng = np.random.default_rng(5)
    inputs = {"values": rng.normal(size=8), "w": 3 * rng.random(8), "strength": np.array([0.7])}
    key = "strength" if name == "regularization_strength" else name

    def value(step):
        moved = {**inputs, key: inputs[key] + step}
        strength = moved.pop("strength").item()
        return oracle.solve("project", **moved, strength=strength, regularization=regularization)

    assert 1 < len(set(value(0).block)) < 8
    steps = STEP * np.eye(inputs[key].size)
    columns = [(value(h).value - value(-h).value) / (2 * STEP) for h in steps]
    assert all(np.array_equal(value(h).block, value(0).block) for h in [*steps, *-steps])
    np.testing.assert_allclose(
        value(0).jacobian[name], np.stack(columns, axis=1), rtol=0, atol=DIFFERENCE_ATOL
    )


@pytest.mark.parametrize("direction", ["ascending", "descending"])
@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort"])
def test_strength_jacobian_against_differences(op, regularization, direction):
    x = np.random.default_rng(6).normal(size=9)

    def value(strength):
        options = {"direction": direction, "regularization": regularization}
        return oracle.solve(op, x, strength=strength, **options)

    assert 1 < len(set(value(0.6).block)) < 9
    difference = (value(0.6 + STEP).value - value(0.6 - STEP).value) / (2 * STEP)
    np.testing.assert_allclose(
        oracle.strength_jacobian(
            op, x, strength=0.6, direction=direction, regularization=regularization
        ),
        difference,
        rtol=0,
        atol=DIFFERENCE_ATOL,
    )


def test_ties_pool():
    x = [1.0, 1.0, 2.0, 0.0, 2.0]
    np.testing.assert_allclose(oracle.soft_rank(x), [2.8, 2.8, 3.8, 1.8, 3.8], rtol=1e-15)
    # Gaps of exactly the strength leave the ranks hard; pooling or not shows in the Jacobian only.
    assert np.all(oracle.partition("soft_rank", [0.5, 1.0, 1.5], strength=0.5) == 0)
    assert np.array_equal(oracle.partition("soft_rank", [0.0, 1.0, 2.0], strength=0.5), [2, 1, 0])


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_hard_limit(regularization):
    x = [1.0, 1.0, 2.0, 0.0, 2.0]
    options = {"strength": 0.0, "regularization": regularization}
    assert np.array_equal(oracle.soft_rank(x, **options), [2.5, 2.5, 4.5, 1, 4.5])
    assert not oracle.jacobian("soft_rank", x, **options).any()
    assert np.array_equal(oracle.soft_sort(x, **options), [0, 1, 1, 2, 2])
    permutation = [3, 0, 1, 2, 4]  # stable
    assert np.array_equal(oracle.jacobian("soft_sort", x, **options), np.eye(5)[permutation])


@pytest.mark.parametrize("regularization", ["l2", "kl"])
def test_infinities_are_the_limit_of_huge_values(regularization):
    # 1e6 / 0.5 separates the infinities from the rest entirely; inside they are tied.
    x, huge = np.array([np.inf, 0.2, -np.inf, 0.1, np.inf, 0.9]), 1e6
    infinite = oracle.solve("soft_rank", x, strength=0.5, regularization=regularization)
    finite = oracle.solve(
        "soft_rank", np.clip(x, -huge, huge), strength=0.5, regularization=regularization
    )
    np.testing.assert_allclose(infinite.value, finite.value, rtol=1e-15)
    expected = np.where(np.isinf(x) | np.isinf(x)[:, None], 0, finite.jacobian["values"])
    np.testing.assert_allclose(infinite.jacobian["values"], expected, rtol=1e-15)


def test_top_k_of_zero_weights():
    # softmax(z) * k while all of it stays below 1; an entry above 1 leaves as a block of its own.
    w, z = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.1, 0.2, 0.3, 0.0])
    even = oracle.project(z, w, regularization="kl")
    np.testing.assert_allclose(even, 2 * np.exp(z) / np.exp(z).sum(), rtol=1e-15)
    capped = oracle.project([0.1, 9.0, 0.3, 0.0], w, regularization="kl")
    tail = np.exp(np.delete(z, 1))
    np.testing.assert_allclose(capped, np.insert(tail / tail.sum(), 1, 1.0), rtol=1e-15)


def test_rows_and_batch_apply_along_an_axis():
    rng = np.random.default_rng(7)
    x, strength = rng.normal(size=(2, 5, 3)), rng.random((2, 1, 3))
    g = rng.normal(size=x.shape)
    batch = oracle.Batch("soft_rank", {"values": x, "regularization_strength": strength}, axis=1)

    value = oracle.rows(lambda x, e: oracle.soft_rank(x, e[0]))(x, strength, axis=1)
    assert np.array_equal(value[1, :, 2], oracle.soft_rank(x[1, :, 2], strength[1, 0, 2]))
    assert np.array_equal(batch.value(), value)

    vjp = oracle.rows(lambda x, e, g: g @ oracle.jacobian("soft_rank", x, strength=e[0]))
    assert np.array_equal(batch.vjp(g), vjp(x, strength, g, axis=1))

    of_strength = [
        g[i, :, j] @ oracle.strength_jacobian("soft_rank", x[i, :, j], strength=strength[i, 0, j])
        for i, j in np.ndindex(2, 3)
    ]
    found = batch.vjp(g, "regularization_strength")
    np.testing.assert_allclose(found, np.reshape(of_strength, (2, 1, 3)), rtol=1e-14)
