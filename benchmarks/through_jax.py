"""Contenders as users of JAX call them, jitted: jnp.sort, jnp.argsort, diffsort, OTT-JAX, jaxopt.

OTT-JAX joins with its default ranks, forward: their gradient is not finite in float32 at the
defaults. jaxopt has no soft sort or rank, only the pooling step that these are built on; it joins
with that alone, without the sorts around it, and pools in Python (packages.py says why).
"""

import warnings

import jax
import jax.numpy as jnp
import measure
import numpy as np
import packages

import diffsort

warnings.filterwarnings("ignore", message="Numba could not be imported")
jax.config.update("jax_platforms", "cpu")


def sorts():
    return {f"jnp.{f.__name__}": hard(f) for f in (jnp.sort, jnp.argsort)}


def hard(function):
    return _timer(jax.jit(function), lambda inputs: zip(map(jnp.asarray, inputs.values)))


def others():
    """name -> timer, for the packages that are here."""
    found = {}
    ott, jaxopt = packages.load("ott-jax"), packages.load("jaxopt")
    if ott is not None:
        found["ott-jax ranks"] = hard(ott.ranks)
    if jaxopt is not None:
        found["jaxopt isotonic_l2_pav"] = hard(jax.vmap(jaxopt.isotonic_l2_pav))
    return found


def timer(case):
    """A timer of `measure.rounds`. With backward: the result, and the gradient for a cotangent."""
    operator = getattr(diffsort, case.operator)

    def forward(x, strength, g):
        return operator(x, regularization=case.regularization, regularization_strength=strength)

    def both(x, strength, g):
        result, pull_back = jax.vjp(lambda x: forward(x, strength, g), x)
        return result, pull_back(g)[0]

    return timer_of(jax.jit(both if case.passes == "fb" else forward), *case[:3])


def timer_of(compiled, operator, regularization, regime):
    """The same for a function of values, a strength, which is an operand, and a cotangent."""

    def prepare(inputs):
        strengths = inputs.strengths(operator, regularization, regime)
        g = jnp.asarray(inputs.cotangent)
        for values, strength in zip(inputs.values, strengths, strict=True):
            yield jnp.asarray(values), jnp.float32(strength), g

    return _timer(compiled, prepare)


def single(function):
    """A timer of small calls, for a function with one result."""
    return measure.looped(
        lambda x: function(x).block_until_ready(),
        lambda inputs: [(jax.block_until_ready(jnp.asarray(a)),) for a in inputs.values],
    )


def _timer(compiled, prepare):
    def run(*arguments):
        outputs = compiled(*arguments)
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            output.block_until_ready()

    def ready(inputs):
        return [jax.block_until_ready(arguments) for arguments in prepare(inputs)]

    return measure.looped(run, ready)


def problem(timer, shape):
    """What a contender raises; None if it works."""
    try:
        timer(measure.Inputs(np.random.default_rng(0), 1, shape, "float32"))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return None
