"""Euler's method on the probability-flow ODE (Karras et al. 2022, Alg. 1)."""

import numpy as np

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
    """Each step goes to the next noise level along one slope."""
    return euler_plan(schedule, num_inference_steps, ancestral=False)


def euler_plan(schedule: NoiseSchedule, num_inference_steps: int, *, ancestral: bool) -> Plan:
    """Latents are in units of x / alpha, whose noise level sigma / alpha runs down to 0.

    Args:
        ancestral: go to a lower noise level than the next, and add fresh noise up to it.
    """
    timesteps = spaced(schedule, num_inference_steps, "linspace").astype(np.float32)
    sigmas = np.append(noise_levels(schedule, timesteps), 0.0)
    here, there = sigmas[:-1], sigmas[1:]
    up = there * np.sqrt(here**2 - there**2) / here if ancestral else np.zeros_like(here)
    return make_plan(
        schedule,
        timesteps,
        abar_of(here),
        Sum(x0=1.0, eps=np.sqrt(there**2 - up**2)),
        noise=up,
        input_scale=np.sqrt(abar_of(here)),
        init_noise_sigma=first_noise_level(schedule, here),
    )


def first_noise_level(schedule: NoiseSchedule, sigmas: np.ndarray) -> float:
    """What diffusers multiplies the first latents by."""
    leading = schedule.timestep_spacing == "leading"
    return float(np.sqrt(sigmas.max() ** 2 + leading))


SAMPLER = Sampler(
    "EulerDiscreteScheduler",
    plan,
    {
        **SIGMAS,
        "final_sigmas_type": ("zero",),
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
    },
)
