"""jax.jit: the same numbers, one program per shape and dtype, whatever the strength."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from points import NUMBER, PER_ROW, expected, expected_vjp

import diffsort

from .helpers import (
    Counter,
    assert_close,
    compilations,
    cotangent,
    every_case,
    few_cases,
    jax,
    jnp,
    main_cases,
    per_row,
    point,
    same_bits,
    weighted,
)


@every_case
def test_jit_computes_what_eager_calls_compute(case):
    x = point()
    for strength in (NUMBER, per_row()):
        jitted = jax.jit(lambda x, strength=strength: case(x, strength))(x)
        assert_close(jitted, expected(case, x, strength))
        assert same_bits(jitted, case(x, strength))


@few_cases
def test_a_new_strength_is_not_a_new_program(case):
    x, count = point(), Counter(case)
    step = jax.jit(count)
    assert_close(step(x, 0.4), expected(case, x, 0.4))
    with compilations() as compiled:
        for strength in (1.1, 2.3, 0.0):
            assert_close(step(x, strength), expected(case, x, strength))
    assert count.count == 1
    assert compiled == []


@few_cases
def test_a_new_strength_compiles_nothing_outside_jit(case):
    x, g = point(), cotangent()
    gradient = jax.grad(weighted(case), argnums=(0, 1))
    case(x, 0.4), gradient(x, 0.4, g)
    with compilations() as compiled:
        for strength in (1.1, 2.3):
            assert_close(case(x, strength), expected(case, x, strength))
            dx, ds = gradient(x, strength, g)
            wanted = expected_vjp(case, x, strength, g)
            assert_close(dx, wanted[0])
            assert_close(ds, wanted[1].sum())
    assert compiled == []


@pytest.mark.parametrize("shape", [(2, 7), (3, 2, 9)])
def test_an_eager_call_is_one_program(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    with compilations() as compiled:
        diffsort.soft_rank(x, regularization="kl", regularization_strength=0.3)
    assert len(compiled) == 1


@main_cases
def test_a_call_is_one_equation(case):
    strength = jnp.asarray(0.3)
    (equation,) = [
        equation
        for equation in jax.make_jaxpr(case)(point(), strength).eqns
        if case.op != "project" or "_project" in str(equation)  # its w is made by the test
    ]
    assert equation.primitive.name in ("jit", "pjit")


@few_cases
def test_static_strength(case):
    x, count = point(), Counter(case)
    step = jax.jit(count, static_argnums=1)
    for strength in (0.4, 1.1, 0.4):
        assert_close(step(x, strength), expected(case, x, strength))
    assert count.count == 2  # one program per strength: that is what static means


@few_cases
def test_one_program_per_shape_and_dtype(case):
    count = Counter(case)
    step = jax.jit(count)
    x = point()
    for values in (x, x[:2], x, x.astype(jnp.float32), x[:2]):
        assert step(values, 1.1).dtype == values.dtype
    assert count.count == 3
    with compilations() as compiled:
        assert_close(step(x[:2], 1.1), expected(case, x[:2], 1.1))
    assert compiled == []


@few_cases
def test_compiled_ahead_of_time(case):
    x = point()
    program = jax.jit(case).lower(jax.ShapeDtypeStruct(x.shape, x.dtype), 0.4).compile()
    assert_close(program(x, 1.1), expected(case, x, 1.1))


@few_cases
def test_donated_arguments(case):
    x, g = point(), cotangent()
    wanted = expected(case, x, 1.1), expected_vjp(case, x, per_row(), g)
    donated = jnp.array(x)
    assert_close(jax.jit(case, donate_argnums=0)(donated, 1.1), wanted[0])
    assert donated.is_deleted()

    @partial(jax.jit, donate_argnums=(0, 1))
    def gradient(x, strength):
        return jax.grad(weighted(case), argnums=(0, 1))(x, strength, g)

    found = gradient(jnp.array(x), jnp.array(per_row()))
    assert_close(found[0], wanted[1][0])
    assert_close(found[1], wanted[1][1])


@few_cases
def test_arguments_are_left_alone(case):
    x, strength = point(), per_row()
    jax.jit(jax.value_and_grad(weighted(case), argnums=(0, 1)))(x, strength, cotangent())
    assert same_bits((x, strength), (point(), np.array(PER_ROW)))


@few_cases
def test_nested_jit_and_several_calls_in_one_program(case):
    x = point()
    inner = jax.jit(case)

    @jax.jit
    def outer(x):
        return inner(x, 0.4) + case(x, 1.1) * jax.jit(inner)(x[::-1], 2.3)

    wanted = expected(case, x, 0.4) + expected(case, x, 1.1) * expected(case, x[::-1], 2.3)
    assert_close(outer(x), wanted)


@few_cases
def test_without_jit(case):
    x, g = point(), cotangent()
    with jax.disable_jit():
        assert_close(case(x, NUMBER), expected(case, x))
        dx = jax.grad(weighted(case))(x, NUMBER, g)
    assert_close(dx, expected_vjp(case, x, NUMBER, g)[0])


@few_cases
def test_layouts_of_operands(case):
    """Operands that XLA would hold transposed reach the kernel row-major."""
    x = point()

    @jax.jit
    def f(x):
        return case((2 * x.T).T / 2, per_row(), axis=-1), case(x.T + 0, per_row().T, axis=0).T

    for found in f(x):
        assert_close(found, expected(case, x, per_row()))
