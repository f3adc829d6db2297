"""Checks on four devices, run by test_sharding.py in a process of its own, once per partitioner.

Each check compares with the same call on one device, and looks into the compiled program for
transfers between the devices. The calls on one device are held to the oracle by the other files.
"""

import sys
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import diffsort
from diffsort.backends.jax.compat import ffi

if hasattr(jax, "shard_map"):
    shard_map = jax.shard_map
else:  # before 0.6
    from jax.experimental.shard_map import shard_map

MESH = Mesh(np.array(jax.devices()), ("d",))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 16))
V = RNG.normal(size=(8, 16))
STRENGTHS = RNG.uniform(0.5, 2, size=(8, 1))
W = RNG.uniform(0.1, 9, size=16)
# Programs for one and for four devices differ by the order of sums over the batch alone.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def put(array, *spec):
    return jax.device_put(array, NamedSharding(MESH, P(*spec)))


# Between them: both operators and both regularizations, with each absent operand.
OPERATORS = [("soft_rank", "kl"), ("soft_sort", "l2")]
OTHERS = [("soft_rank", "l2"), ("soft_sort", "kl")]
ONE = OPERATORS[:1]  # where compiling takes long


def operators(names=OPERATORS):
    return [partial(_apply, *name) for name in names]


def _apply(op, regularization, x, strength=0.7, **options):
    return getattr(diffsort, op)(
        x, regularization=regularization, regularization_strength=strength, **options
    )


def loss(f):
    return lambda x, strength=0.7: (f(x, strength) ** 3).sum()


def second_order(f):
    """The product of the Hessian of the loss and a direction."""

    def product(x, strength, v):
        gradient = jax.grad(loss(f), argnums=(0, 1))
        return jax.jvp(gradient, (x, strength), (v, jnp.ones_like(strength)))[1]

    return product


# Before 0.5 JAX has no way to say so: results are right, but every device computes all of them.
CALLS_ARE_PARTITIONED = hasattr(ffi, "register_ffi_target_as_batch_partitionable")


def compare(f, *arguments, without=("all-gather", "all-to-all", "collective-permute"), spec=None):
    """`f` of sharded arguments, and of the same on one device."""
    program = jax.jit(f).lower(*arguments).compile()
    text = program.as_text()
    for transfer in without if CALLS_ARE_PARTITIONED else ():
        assert transfer not in text, f"{transfer} in the program"
    found = program(*arguments)
    assert_same(found, jax.jit(f)(*(np.asarray(array) for array in arguments)))
    if spec is not None and CALLS_ARE_PARTITIONED:
        first = jax.tree_util.tree_leaves(found)[0]
        assert first.sharding.is_equivalent_to(NamedSharding(MESH, P(*spec)), first.ndim)
    return text


def assert_same(found, wanted):
    for a, b in zip(*map(jax.tree_util.tree_leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **CLOSE)


def check_forward():
    for f in operators(OPERATORS + OTHERS):
        text = compare(f, put(X, "d", None), spec=("d", None))
        if CALLS_ARE_PARTITIONED:
            assert "f64[2,16]" in text  # each device computes two rows
        compare(f, put(X, "d", None), put(STRENGTHS, "d", None), spec=("d", None))
        compare(f, put(X, "d", None), put(STRENGTHS), spec=("d", None))
        compare(jax.vmap(f), put(X, "d", None), put(STRENGTHS[:, 0], "d"), spec=("d", None))


def check_gradient():
    for f in operators(OPERATORS + OTHERS):
        both = jax.grad(loss(f), argnums=(0, 1))
        compare(both, put(X, "d", None), put(STRENGTHS, "d", None), spec=("d", None))


def check_gradient_of_one_strength_is_summed_over_the_devices():
    for f in operators():
        both = jax.grad(loss(f), argnums=(0, 1))
        text = compare(both, put(X, "d", None), put(np.float64(0.7)))
        assert "all-reduce" in text or not CALLS_ARE_PARTITIONED


def check_jvp():
    for f in operators():
        compare(lambda x, v, f=f: jax.jvp(f, (x,), (v,)), put(X, "d", None), put(V, "d", None))


def check_second_order():
    for f in operators(ONE):
        arrays = put(X, "d", None), put(STRENGTHS, "d", None), put(V, "d", None)
        compare(second_order(f), *arrays, spec=("d", None))


def check_sorted_axis_that_is_not_the_last():
    for f in operators():
        along = partial(f, axis=0)
        compare(along, put(X, None, "d"), spec=(None, "d"))
        compare(jax.grad(lambda x, g=along: (g(x) ** 3).sum()), put(X, None, "d"))
        cube = put(X.reshape(4, 8, 4), "d", None, None)
        compare(partial(f, axis=1), cube, spec=("d", None, None))


def check_more_batch_axes():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
    cube = jax.device_put(X.reshape(4, 2, 16), NamedSharding(mesh, P("a", "b")))
    for f in operators():
        compare(f, cube)
        compare(jax.grad(lambda x, f=f: (f(x) ** 3).sum()), cube)


def check_sharded_rows_are_right_all_the_same():
    """A row over several devices has to be gathered."""
    for f in operators():
        compare(f, put(X, None, "d"), without=())
        compare(jax.grad(loss(f)), put(X, None, "d"), without=())


def check_project_with_one_w_for_all_rows():
    for regularization in ("l2", "kl"):
        f = partial(diffsort.project, regularization=regularization)
        compare(f, put(X, "d", None), put(W), spec=("d", None))
        gradient = jax.grad(lambda z, w, f=f: (f(z, w) ** 3).sum(), argnums=(0, 1))
        text = compare(gradient, put(X, "d", None), put(W))
        assert "all-reduce" in text or not CALLS_ARE_PARTITIONED
        compare(
            lambda z, w, v, f=f: jax.jvp(f, (z, w), (v, w)),
            *(put(X, "d", None), put(W), put(V, "d", None)),
        )


def check_shard_map():
    for f in operators():
        mapped = shard_map(
            lambda x, s, f=f: f(x, s), mesh=MESH, in_specs=(P("d"), P()), out_specs=P("d")
        )
        for strength in (jnp.float64(0.7), jnp.full((1, 1), 0.7)):
            x = put(X, "d", None)
            assert_same(jax.jit(mapped)(x, strength), f(jnp.asarray(X), strength))
            # The strength is replicated: its gradient is summed over the devices.
            gradient, wanted = (jax.grad(loss(g), argnums=(0, 1)) for g in (mapped, f))
            assert_same(jax.jit(gradient)(x, strength), jax.jit(wanted)(X, strength))


def check_shard_map_along_one_of_two_axes():
    """Along the other one Shardy splits the rows, which GSPMD does not. They lie along axis 0."""
    if not (hasattr(jax, "shard_map") and jax.config.jax_use_shardy_partitioner):
        return
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("d", "e"))
    x = jax.device_put(X.T, NamedSharding(mesh, P(None, ("d", "e"))))
    for f in operators(OPERATORS + OTHERS):
        for g in (partial(f, axis=0), jax.grad(loss(lambda x, s, f=f: f(x, s, axis=0)))):
            mapped = shard_map(
                g, mesh=mesh, in_specs=P(None, "d"), out_specs=P(None, "d"), axis_names={"d"}
            )
            compare(mapped, x)


def check_shard_map_with_sharded_strengths():
    for f in operators():
        mapped = shard_map(
            lambda x, s, f=f: f(x, s), mesh=MESH, in_specs=(P("d"), P("d")), out_specs=P("d")
        )
        gradient = jax.jit(jax.grad(loss(mapped), argnums=(0, 1)))
        wanted = jax.jit(jax.grad(loss(f), argnums=(0, 1)))(X, STRENGTHS)
        assert_same(gradient(put(X, "d", None), put(STRENGTHS, "d", None)), wanted)


def check_shard_map_second_order():
    for f in operators(ONE):
        mapped = shard_map(
            lambda x, s, f=f: f(x, s), mesh=MESH, in_specs=(P("d"), P()), out_specs=P("d")
        )
        x, strength = put(X, "d", None), jnp.float64(0.7)

        def product(g, x, strength):
            gradient = jax.grad(loss(g), argnums=(0, 1))
            return jax.jvp(gradient, (x, strength), (jnp.asarray(V), jnp.float64(1.3)))[1]

        def of_gradient(g, x, strength):
            return jax.grad(
                lambda x, s: (jax.grad(loss(g))(x, s) * jnp.asarray(V)).sum(), argnums=(0, 1)
            )(x, strength)

        for second in (product, of_gradient):
            found = jax.jit(partial(second, mapped))(x, strength)
            assert_same(found, jax.jit(partial(second, f))(X, strength))


def check_gradient_inside_shard_map():
    for f in operators():

        def inside(x, s, f=f):
            return jax.lax.psum(jax.grad(lambda x: loss(f)(x, s))(x).sum(), "d")

        mapped = shard_map(inside, mesh=MESH, in_specs=(P("d"), P()), out_specs=P())
        wanted = jax.grad(loss(f))(X, 0.7).sum()
        assert_same(jax.jit(mapped)(put(X, "d", None), jnp.float64(0.7)), wanted)


def check_project_in_shard_map():
    """One w for all devices, which vary in z alone."""
    for regularization in ("l2", "kl"):
        f = partial(diffsort.project, regularization=regularization)
        mapped = shard_map(f, mesh=MESH, in_specs=(P("d"), P()), out_specs=P("d"))
        cubed = lambda g: lambda z, w: (g(z, w) ** 3).sum()  # noqa: E731
        gradient = jax.jit(jax.grad(cubed(mapped), argnums=(0, 1)))
        wanted = jax.grad(cubed(f), argnums=(0, 1))(jnp.asarray(X), jnp.asarray(W))
        assert_same(gradient(put(X, "d", None), jnp.asarray(W)), wanted)


def check_pmap():
    parts = X.reshape(4, 2, 16)
    for f in operators():
        assert_same(jax.pmap(f, in_axes=(0, None))(parts, 0.7), f(parts, 0.7))
        gradient = jax.pmap(jax.grad(loss(f), argnums=(0, 1)), in_axes=(0, None))
        dx, ds = gradient(parts, 0.7)
        wanted = jax.grad(loss(f), argnums=(0, 1))(parts, 0.7)
        assert_same((dx, ds.sum()), wanted)


EXPLICIT = hasattr(jax, "set_mesh") and jax.make_mesh(
    (4,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,)
)
ROWS, ALL = P("d", None), P()


def compare_explicit(f, *arguments, gathers=False):
    """`f` of arrays whose shardings are part of their types; the first result has the rows'."""
    if not EXPLICIT:
        return
    with jax.set_mesh(EXPLICIT):
        program = jax.jit(f).lower(*(jax.device_put(*each) for each in arguments)).compile()
        found = program(*(jax.device_put(*each) for each in arguments))
    for transfer in ("all-gather", "all-to-all", "collective-permute"):
        assert gathers or transfer not in program.as_text(), f"{transfer} in the program"
    assert jax.tree_util.tree_leaves(found)[0].sharding.spec == ROWS
    assert_same(found, jax.jit(f)(*(jnp.asarray(array) for array, _ in arguments)))


def value_and_gradient(f):
    """Results, and the gradient of the loss by every argument."""

    def both(*arguments):
        result, pull_back = jax.vjp(f, *arguments)
        return result, pull_back(3 * result**2)

    return both


def check_explicit_axes():
    for f in operators(OPERATORS + OTHERS):
        compare_explicit(value_and_gradient(f), (X, ROWS), (STRENGTHS, ROWS))
    for f in operators():
        compare_explicit(value_and_gradient(f), (X, ROWS), (np.float64(0.7), ALL))
        # All devices want the gradient of what they all have.
        compare_explicit(value_and_gradient(f), (X, ALL), (STRENGTHS, ROWS), gathers=True)
        along = lambda x, f=f: f(x.T, axis=0).T  # noqa: E731
        compare_explicit(value_and_gradient(along), (X, ROWS))


def check_explicit_axes_project():
    for regularization in ("l2", "kl"):
        f = partial(diffsort.project, regularization=regularization)
        compare_explicit(value_and_gradient(f), (X, ROWS), (W, ALL))
        compare_explicit(value_and_gradient(f), (W, ALL), (abs(X), ROWS))


def check_explicit_axes_second_order():
    for f in operators(ONE):
        compare_explicit(second_order(f), (X, ROWS), (STRENGTHS, ROWS), (V, ROWS))


def check_explicit_axes_vmap():
    for f in operators():
        compare_explicit(jax.vmap(value_and_gradient(f)), (X, ROWS), (STRENGTHS[:, 0], P("d")))
    for f in operators(ONE):
        product = lambda x, v, f=f: jax.jvp(jax.grad(loss(f)), (x,), (v,))[1]  # noqa: E731
        compare_explicit(jax.vmap(product), (X, ROWS), (V, ROWS))


def check_explicit_axes_fallback():
    diffsort.set_solver("fallback")
    try:
        for f in operators(ONE):
            compare_explicit(value_and_gradient(f), (X[:, :4], ROWS), (STRENGTHS, ROWS))
    finally:
        diffsort.set_solver("auto")


def check_explicit_axes_without_jit():
    if not EXPLICIT:
        return
    with jax.set_mesh(EXPLICIT):
        ranks, pull_back = diffsort.vjp(diffsort.soft_rank, jax.device_put(X, ROWS))
        found = ranks, pull_back(jnp.asarray(V))
    assert all(array.sharding.spec == ROWS for array in found)
    ranks, pull_back = diffsort.vjp(diffsort.soft_rank, jnp.asarray(X))
    assert_same(found, (ranks, pull_back(jnp.asarray(V))))


def check_explicit_axes_errors():
    """Nothing is moved between devices that was to stay where it is."""
    if not EXPLICIT:
        return
    cube = np.zeros((4, 4, 4))
    with jax.set_mesh(EXPLICIT):
        first, second = jax.device_put(cube, P("d")), jax.device_put(cube, P(None, "d"))
        with pytest.raises(ValueError, match=r"soft_rank: values must .* along axis -2"):
            diffsort.soft_rank(second, axis=1)
        with pytest.raises(ValueError, match=r"project: w must .* along axis -2"):
            diffsort.project(first, second, axis=1)
        with pytest.raises(ValueError, match="project: all arrays must be sharded alike"):
            diffsort.project(first, second)


def main(partitioner):
    checks = {name: f for name, f in globals().items() if name.startswith("check_")}
    if partitioner == "gspmd":  # where shard_map and pmap run the same programs
        jax.config.update("jax_use_shardy_partitioner", False)
        checks = {name: f for name, f in checks.items() if "map" not in name}
    for name, check in checks.items():
        try:
            check()
        except Exception:
            print("FAILED", name, traceback.format_exc(limit=-6))
        else:
            print("passed", name)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1])
