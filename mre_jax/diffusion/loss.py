"""The loss of a diffusion model, and what each example counts in it."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from mre_jax.diffusion.schedule import NoiseSchedule


def squared_error(
    output: Float[Array, "b h w c"], target: Float[Array, "b h w c"]
) -> Float32[Array, " b"]:
    """Mean squared error of each example, in float32 (Eq. 1 and 4 of the paper)."""
    difference = output.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.mean(jnp.square(difference), axis=(1, 2, 3))


def min_snr_weight(
    schedule: NoiseSchedule, timesteps: Int[Array, " b"], gamma: float
) -> Float32[Array, " b"]:
    """The weights of Hang et al. 2023 for what `schedule` predicts.

    Weighing the error of the latents by min(snr, gamma) is weighing that of the noise by
    min(snr, gamma) / snr, and that of v by min(snr, gamma) / (snr + 1).
    """
    snr = schedule.snr(timesteps)
    clipped = jnp.minimum(snr, gamma)
    match schedule.prediction_type:
        case "epsilon":
            return clipped / snr
        case "v_prediction":
            return clipped / (snr + 1)
    return clipped


def score_weight(
    scores: Float[Array, "b p"], present: Bool[Array, " b"], top: float = 5.0
) -> Float32[Array, " b"]:
    """The mean of an example's scores over the middle of the scale; 1 without scores."""
    return jnp.where(present, jnp.mean(scores, axis=-1) / (top / 2), 1.0).astype(jnp.float32)
