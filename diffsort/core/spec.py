"""The static half of a call: everything but the arrays and the strength."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any

# The codes of diffsort::Regularization. LOG_KL is KL with w and the result as logarithms.
L2, KL, LOG_KL = 0, 1, 2

# What the options stand for; a direction is the sign of w and the result in `soft_sort`.
REGULARIZATIONS = {"l2": L2, "kl": KL}
DIRECTIONS = {"ascending": -1.0, "descending": 1.0}


class Spec(NamedTuple):
    """How to read the operands: result = w_sign * P(z_sign * z / strength, w_sign * w)."""

    function: str  # the public function, for messages
    argument: str  # its name for the array, for messages
    axis: int  # negative, so that batch axes in front do not move it
    regularization: int
    z_sign: float
    w_sign: float

    def along(self, axis: int) -> Spec:
        return Spec(self.function, self.argument, axis, *self[3:])


def present(z: Array | None, w: Array | None) -> Array:
    """The operand that is there, or z: one of the two may be None, which stands for ρ."""
    values = w if z is None else z
    assert values is not None
    return values
