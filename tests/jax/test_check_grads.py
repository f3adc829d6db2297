"""jax.test_util.check_grads: JAX's own comparison with finite differences."""

from __future__ import annotations

import pytest

from .helpers import jax, main_cases, point

check_grads = pytest.importorskip("jax.test_util").check_grads


@pytest.mark.parametrize("mode", ["fwd", "rev"])
@main_cases
def test_first_order(case, mode):
    # Central differences: their truncation, eps^2 times third derivatives of up to 100, and their
    # rounding, 2^-53 * 10 / eps, are below 1e-8; the check adds such errors of 15 entries.
    check_grads(jax.jit(case), (point(), 1.1), 1, modes=[mode], eps=1e-6, rtol=1e-6, atol=1e-6)
