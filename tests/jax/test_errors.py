"""Bad input on JAX arrays: the same errors, with the same messages, as for the other frameworks."""

from __future__ import annotations

import numpy as np
import pytest

import diffsort
from diffsort import errors

from .helpers import jax, jnp

VALUES = np.array([[0.5, 2.0, 1.0], [3.0, 1.5, -2.0]])
ops = pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])


def call(op, values=None, **options):
    values = jnp.asarray(VALUES) if values is None else values
    if op == "project":
        options.setdefault("w", jnp.array([3.0, 2.0, 1.0]))
    return getattr(diffsort, op)(values, **options)


def check_message(raised, *parts):
    for part in parts:
        assert str(part) in str(raised.value)


class TestJAX:
    @pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
    @ops
    def test_bad_strength_in_an_array(self, op, bad):
        for strength in (bad, jnp.array(bad), jnp.array([[1.0], [bad]]), np.float32(bad)):
            with pytest.raises(ValueError, match="regularization_strength must be ≥ 0") as raised:
                call(op, regularization_strength=strength)
            check_message(raised, f"{op}: ", bad)

    @pytest.mark.parametrize("shape", [(2, 3), (3, 1), (1, 2, 1)])
    @ops
    def test_strength_of_a_wrong_shape(self, op, shape):
        with pytest.raises(ValueError, match="regularization_strength must broadcast") as raised:
            call(op, regularization_strength=jnp.ones(shape))
        check_message(raised, f"{op}: ", (2, 1), shape)

    @pytest.mark.parametrize(
        ("bad", "got"),
        [
            ("0.5", "str"),
            (None, "NoneType"),
            (True, "bool"),
            ([0.5], "list"),
            (1j, "complex"),
            (jnp.array(True), "dtype bool"),
            (jnp.array(1j), "dtype complex"),
        ],
        ids=str,
    )
    @ops
    def test_strength_of_a_wrong_type(self, op, bad, got):
        with pytest.raises(TypeError, match="regularization_strength must be a real") as raised:
            call(op, regularization_strength=bad)
        check_message(raised, f"{op}: ", got)

    @ops
    def test_strength_beyond_floats(self, op):
        with pytest.raises(ValueError, match="regularization_strength must be ≥ 0 and finite"):
            call(op, regularization_strength=10**400)

    @pytest.mark.parametrize("dtype", ["complex64", "complex128"])
    @ops
    def test_complex_values(self, op, dtype):
        with pytest.raises(TypeError) as raised:
            call(op, jnp.ones(3, dtype=dtype))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ", dtype)

    @ops
    def test_0d_values(self, op):
        with pytest.raises(ValueError, match="0-d") as raised:
            call(op, jnp.array(1.0))
        check_message(raised, f"{op}: {'z' if op == 'project' else 'values'} ")

    @pytest.mark.parametrize(("z", "w"), [((2, 3), (2, 4)), ((2, 3), (4, 3)), ((2, 3), (3, 2))])
    def test_z_and_w_that_do_not_fit(self, z, w):
        with pytest.raises(ValueError, match="project: z and w must") as raised:
            diffsort.project(jnp.ones(z), jnp.ones(w))
        check_message(raised, z, w)

    @ops
    def test_array_for_another_backend(self, op):
        for backend in ("numpy", "torch"):
            if backend == "torch":
                pytest.importorskip("torch")
            with pytest.raises(errors.BackendMismatchError, match=f'backend is "{backend}"'):
                call(op, backend=backend)

    @ops
    def test_frameworks_do_not_mix(self, op):
        with pytest.raises(errors.BackendMismatchError) as raised:
            call(op, regularization_strength=np.ones((2, 1)))
        check_message(raised, f"{op}: regularization_strength ", "numpy.ndarray", "jax")
        with pytest.raises(errors.BackendMismatchError) as raised:
            call(op, VALUES, w=VALUES, regularization_strength=jnp.ones((2, 1))) if (
                op == "project"
            ) else call(op, VALUES, regularization_strength=jnp.ones((2, 1)))
        check_message(raised, f"{op}: regularization_strength ", "numpy")

    def test_frameworks_do_not_mix_in_project(self):
        for z, w in ((VALUES, jnp.ones(3)), (jnp.ones(3), np.ones(3))):
            with pytest.raises(errors.BackendMismatchError, match="project: w "):
                diffsort.project(z, w)

    @ops
    def test_errors_are_the_same_under_jit(self, op):
        for options, error in (
            ({"axis": 2}, ValueError),
            ({"regularization": "l1"}, ValueError),
            ({"regularization_strength": -1.0}, ValueError),
            ({"regularization_strength": "1"}, TypeError),
        ):
            with pytest.raises(error) as eager:
                call(op, **options)
            with pytest.raises(error) as traced:
                jax.jit(lambda x, options=options: call(op, x, **options))(jnp.asarray(VALUES))
            assert str(traced.value).splitlines()[0] == str(eager.value).splitlines()[0]

    def test_python_data_for_jax_is_checked(self):
        for bad, error in (
            (["a", "b"], TypeError),
            ([[1, 2], [3]], ValueError),
            (None, TypeError),
            (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError),
            ([jnp.array(1.0), jnp.array(2.0)], errors.BackendMismatchError),
        ):
            with pytest.raises(error, match="soft_rank: values "):
                diffsort.soft_rank(bad, backend="jax")
