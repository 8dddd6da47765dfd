"""Euler's method to a lower noise level than the next, and fresh noise up to it."""

from mre_jax.diffusion.samplers.euler import euler_plan
from mre_jax.diffusion.samplers.table import Sampler
from mre_jax.diffusion.sampling import Plan
from mre_jax.diffusion.schedule import NoiseSchedule


def plan(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """InstructPix2Pix's sampler."""
    return euler_plan(schedule, num_inference_steps, ancestral=True)


SAMPLER = Sampler("EulerAncestralDiscreteScheduler", plan, {"rescale_betas_zero_snr": (False,)})
