"""Dense Jacobians: jax.jacrev and jax.jacfwd."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from points import NUMBER, WEIGHTS, expected_jacobian

import diffsort

from .helpers import (
    array,
    assert_close,
    edges,
    few_cases,
    jax,
    main_cases,
    per_row,
    point,
    regularizations,
)

both_modes = pytest.mark.parametrize("transform", [jax.jacrev, jax.jacfwd], ids=["rev", "fwd"])


@both_modes
@main_cases
def test_in_values_and_strength(case, transform):
    x = point()
    jx, js = transform(case, argnums=(0, 1))(x, NUMBER)
    assert_close(jx, expected_jacobian(case, x, NUMBER))
    assert_close(js, np.stack([case.strength_jacobian(row, NUMBER) for row in x]))


@both_modes
@few_cases
def test_in_a_strength_per_row(case, transform):
    x = point()
    js = jax.jit(transform(case, argnums=1))(x, per_row())
    wanted = np.zeros((3, 5, 3, 1))
    for i, (row, (strength,)) in enumerate(zip(x, per_row(), strict=True)):
        wanted[i, :, i, 0] = case.strength_jacobian(row, strength)
    assert_close(js, wanted)


@both_modes
@few_cases
def test_of_edge_rows(case, transform):
    x, strength, _ = edges()
    jacobians = jax.vmap(transform(case))(x, strength)
    pairs = zip(x, strength[:, 0], strict=True)
    assert_close(jacobians, np.stack([case.jacobian(row, s) for row, s in pairs]))


@both_modes
@regularizations
def test_of_project_in_w(regularization, transform):
    z, w = point()[0], array(WEIGHTS)
    options = {"regularization": regularization, "regularization_strength": 1.1}
    jacobian = transform(lambda w: diffsort.project(z, w, **options))(w)
    truth = oracle.jacobian("project", z, wrt="w", w=w, strength=1.1, regularization=regularization)
    assert_close(jacobian, truth)
