"""What is minimised: errors of an example that are added up, and weights they are multiplied by.

A new error is a function of a file of its own and a line in `TERMS`; `loss.terms` takes it by that
name, as `loss.terms={squared_error: 1, huber: 0.1}`. A weight stands in `WEIGHTS` under the setting
of `loss` that it takes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from mre_jax.diffusion.loss import min_snr_weight, score_weight, squared_error
from mre_jax.diffusion.schedule import NoiseSchedule


class Weighed(NamedTuple):
    """What the weight of an example may depend on.

    Attributes:
        schedule: noise schedule, with the prediction type that is trained.
        timesteps: timestep of each example.
        scores: its scores, 0 to 5.
        present: whether it has scores.
    """

    schedule: NoiseSchedule
    timesteps: Int[Array, " b"]
    scores: Float[Array, "b perspectives"]
    present: Bool[Array, " b"]


Term: TypeAlias = Callable[[Float[Array, "b h w c"], Float[Array, "b h w c"]], Float32[Array, " b"]]
"""The error of each example, of (output, target)."""

Weight: TypeAlias = Callable[[Weighed, Any], Float32[Array, " b"]]
"""The weight of each example, of (what it depends on, the value of its setting)."""

TERMS: dict[str, Term] = {"squared_error": squared_error}

WEIGHTS: dict[str, Weight] = {
    "min_snr_gamma": lambda x, gamma: min_snr_weight(x.schedule, x.timesteps, gamma),
    "score_weighting": lambda x, _: score_weight(x.scores, x.present),
}


def errors(
    output: Float[Array, "b h w c"], target: Float[Array, "b h w c"], factors: Mapping[str, float]
) -> Float32[Array, " b"]:
    """The error of each example: the sum of the terms that have a factor.

    Example:
        >>> ones = jnp.ones((2, 4, 4, 3))
        >>> errors(3 * ones, ones, {"squared_error": 0.5}).tolist()
        [2.0, 2.0]
    """
    parts = [
        TERMS[name](output, target) * (1 if factor == 1 else jnp.float32(factor))
        for name, factor in factors.items()
    ]
    return sum(parts[1:], start=parts[0])


def weights(inputs: Weighed, settings: Any) -> Float32[Array, " b"]:
    """The weight of each example: the product of those that a `LossConfig` asks for."""
    product = jnp.ones(inputs.timesteps.shape, jnp.float32)
    for name, weight in WEIGHTS.items():
        value = getattr(settings, name)
        if value not in (None, "none"):
            product *= weight(inputs, value)
    return product
