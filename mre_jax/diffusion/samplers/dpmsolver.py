"""DPM-Solver++ (2M), midpoint (Lu et al. 2022)."""

import numpy as np

from mre_jax.diffusion.samplers.table import SIGMAS, Sampler, Sum, abar_of, make_plan, spaced_whole
from mre_jax.diffusion.sampling import Plan
from mre_jax.diffusion.schedule import NoiseSchedule


def plan(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """Remembers x0 of the step before; the first and the last step are of first order.

    Raises:
        ConfigError: if so many steps are asked that two fall on the same timestep.
    """
    timesteps, sigmas = spaced_whole(schedule, num_inference_steps, "dpmsolver++")
    abar, abar_next = abar_of(sigmas), abar_of(np.append(sigmas[1:], 0.0))
    alpha_next = np.sqrt(abar_next)
    correction = np.zeros(num_inference_steps)
    # lambda = log(alpha / sigma) = -log of the noise level; the inner steps know two of its steps.
    strides = -np.diff(np.log(sigmas))
    ratio = strides[:-1] / strides[1:]
    correction[1:-1] = -0.5 * alpha_next[1:-1] * np.expm1(-strides[1:]) / ratio
    return make_plan(
        schedule,
        timesteps,
        abar,
        Sum(x0=alpha_next + correction, eps=np.sqrt(1 - abar_next), memory=(-correction,)),
        memory=(Sum(x0=1.0),),
    )


SAMPLER = Sampler(
    "DPMSolverMultistepScheduler",
    plan,
    {
        **SIGMAS,
        "final_sigmas_type": ("zero",),
        "thresholding": (False,),
        "solver_order": (2,),
        # The other names are those of sibling schedulers, which diffusers reads as the first.
        "algorithm_type": ("dpmsolver++", "deis"),
        "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
        "use_lu_lambdas": (False,),
        "use_flow_sigmas": (False,),
        "use_dynamic_shifting": (False,),
        "lambda_min_clipped": (-np.inf,),
        "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
)
