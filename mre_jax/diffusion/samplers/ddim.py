"""DDIM (Song et al. 2021)."""

import numpy as np

from mre_jax.diffusion.samplers.table import Sampler, Sum, make_plan, spaced
from mre_jax.diffusion.sampling import Plan
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError


def plan(schedule: NoiseSchedule, num_inference_steps: int, *, eta: float = 0.0) -> Plan:
    """DDIM; `eta` in 0 .. 1 goes from deterministic to DDPM's variance (Eq. 16).

    Raises:
        ConfigError: for an eta out of range, or a timestep beyond the schedule.
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta={eta} must be in 0 .. 1")
    train_steps = schedule.num_train_timesteps
    timesteps = spaced(schedule, num_inference_steps, "leading").round().astype(np.int64)
    if timesteps[0] >= train_steps:
        raise ConfigError(
            f"num_inference_steps={num_inference_steps} with steps_offset={schedule.steps_offset} "
            f"starts at timestep {timesteps[0]}, beyond {train_steps - 1}; take fewer steps"
        )
    abar = schedule.alphas_cumprod.astype(np.float64)
    final = 1.0 if schedule.set_alpha_to_one else abar[0]
    # The stride is DDIM's own, also where the spacing leaves other gaps between timesteps.
    previous = timesteps - train_steps // num_inference_steps
    abar_next = np.where(previous >= 0, abar[np.maximum(previous, 0)], final)
    abar = abar[timesteps]
    std = eta * np.sqrt((1 - abar_next) / (1 - abar) * (1 - abar / abar_next))
    return make_plan(
        schedule,
        timesteps,
        abar,
        Sum(x0=np.sqrt(abar_next), eps=np.sqrt(np.maximum(1 - abar_next - std**2, 0))),
        noise=std,
        clip=schedule.clip(default=True),
    )


SAMPLER = Sampler(
    "DDIMScheduler", plan, {"rescale_betas_zero_snr": (False,), "thresholding": (False,)}
)
