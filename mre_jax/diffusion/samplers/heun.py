"""Heun's method on the probability-flow ODE: two evaluations of the UNet in all steps but one."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mre_jax.diffusion.samplers.euler import first_noise_level
from mre_jax.diffusion.samplers.table import (
    SIGMAS,
    Sampler,
    Sum,
    abar_of,
    make_plan,
    noise_levels,
    spaced,
)
from mre_jax.diffusion.sampling import Plan
from mre_jax.diffusion.schedule import NoiseSchedule


def plan(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """Karras et al. 2022, Alg. 1; n steps cost 2n - 1 evaluations.

    In units of x / alpha the slope at x is d = (x - x0) / s with s the noise level. A step's first
    row goes on to x + (s' - s) d and remembers x + (s' - s) / 2 d; its second adds (s' - s) / 2 d'
    to that. The last step goes to s' = 0 along one slope.
    """
    timesteps = spaced(schedule, num_inference_steps, "linspace").astype(np.float32)
    sigmas = noise_levels(schedule, timesteps)
    strides = np.diff(np.append(sigmas, 0.0))
    # Rows 0, 2, .. are first evaluations; rows 1, 3, .. are second ones, at the next noise level.
    levels = np.repeat(sigmas, 2)[1:]
    first = 1.0 - np.arange(len(levels)) % 2
    half = np.repeat(strides, 2)[:-1] / 2
    clip = schedule.clip(default=False)

    def along(stride: Float[np.ndarray, " rows"], latents: Float[np.ndarray, " rows"]) -> Sum:
        """A multiple of the latents and a stride along the slope."""
        if np.isinf(clip):  # the slope is eps, which is exact also where x nearly equals x0
            return Sum(eps=stride, latents=latents)
        return Sum(x0=-stride / levels, latents=latents + stride / levels)

    return make_plan(
        schedule,
        np.repeat(timesteps, 2)[1:],
        abar_of(levels),
        dataclasses.replace(along((1 + first) * half, first), memory=(1 - first,)),
        memory=(along(half, np.ones_like(first)),),
        input_scale=np.sqrt(abar_of(levels)),
        clip=clip,
        init_noise_sigma=first_noise_level(schedule, sigmas),
        evaluations=2,
    )


SAMPLER = Sampler(
    "HeunDiscreteScheduler",
    plan,
    {key: values for key, values in SIGMAS.items() if key.startswith("use_")},
)
