"""UniPC (Zhao et al. 2023): each step is corrected by the evaluation that the next one makes."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mre_jax.diffusion.samplers.table import (
    SIGMAS,
    Sampler,
    Sum,
    abar_of,
    make_plan,
    noise_levels,
    spaced_whole,
)
from mre_jax.diffusion.sampling import Plan
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError


def plan(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """UniPC of the schedule's `solver_order` (2), multistep, predicting x0 with B2 or B1.

    The memory holds the corrected latents of the step before and x0 of the steps before. A row
    corrects the latents by x0 of its own evaluation (UniC) and goes on from there (UniP).

    Raises:
        ConfigError: if two of so many steps fall on the same timestep, or for an option that
            leaves the last step without a finite result.
    """
    order = schedule.option("solver_order", 2)
    fewer_at_end = schedule.option("lower_order_final", True)
    uncorrected = schedule.option("disable_corrector", ())
    is_b1 = schedule.option("solver_type", "bh2") == "bh1"
    timesteps, sigmas = spaced_whole(schedule, num_inference_steps, "unipc")
    to_zero = schedule.option("final_sigmas_type", "zero") == "zero"
    levels = np.append(sigmas, 0.0 if to_zero else noise_levels(schedule, np.zeros(1)))
    if not levels[-1] < levels[-2]:
        raise ConfigError(
            f"num_inference_steps={num_inference_steps} makes unipc stand still in its last step; "
            "take fewer steps"
        )

    # Columns: latents, x0, the memory.
    corrected = np.zeros((num_inference_steps, order + 3))
    following = np.zeros_like(corrected)
    corrected[0, 0] = 1.0
    for step in range(num_inference_steps):
        left = num_inference_steps - step if fewer_at_end else order
        update = _update(levels, step, min(order, left, step + 1), is_b1)
        following[step] = update.latents * corrected[step]
        following[step, 1] += update.predicted[0]
        following[step, 3 : 2 + len(update.predicted)] += update.predicted[1:]
        if step + 1 == num_inference_steps:
            break
        if step in uncorrected:
            corrected[step + 1, 0] = 1.0
        else:
            corrected[step + 1, 1] = update.ahead
            corrected[step + 1, 2] = update.latents
            corrected[step + 1, 3 : 3 + len(update.corrected)] = update.corrected

    one_hot = np.eye(order + 1)
    older = [Sum(memory=tuple(one_hot[i])) for i in range(1, order)]
    return make_plan(
        schedule,
        timesteps,
        abar_of(sigmas),
        _sum(following),
        memory=(_sum(corrected), Sum(x0=1.0), *older),
    )


class _Update(NamedTuple):
    """x at the next noise level, in terms of x here (corrected) and of x0 here and before.

    Attributes:
        latents: the coefficient of x here, of predictor and corrector.
        predicted: factors of x0 here and at the levels before, in the predictor.
        corrected: likewise in the corrector.
        ahead: factor of x0 at the next level, in the corrector.
    """

    latents: float
    predicted: Float[np.ndarray, " order"]
    corrected: Float[np.ndarray, " order"]
    ahead: float


def _update(levels: Float[np.ndarray, " levels"], step: int, order: int, is_b1: bool) -> _Update:
    here, there = levels[step], levels[step + 1]
    alphas = np.sqrt(abar_of(levels[step : step + 2]))
    alpha = alphas[1]
    latents = float(alpha * there / (alphas[0] * here))
    if there == 0.0:
        if order > 1:
            raise ConfigError(
                "lower_order_final=False is not supported by 'unipc' down to noise level 0, where "
                "only its first order is finite; set it to true in scheduler_config.json"
            )
        return _Update(latents, np.ones(1), np.ones(1), 0.0)
    stride = np.log(here / there)
    # Where the levels before lie, in strides; 1 is the next level.
    places = np.append(np.log(here / levels[step - order + 1 : step][::-1]) / stride, 1.0)
    scale = -stride if is_b1 else np.expm1(-stride)
    powers = places ** np.arange(order)[:, None]
    moments = _moments(-stride, order) / scale
    ahead = np.linalg.solve(powers, moments) if order > 1 else np.array([0.5])
    # diffusers solves neither the corrector of order 1 nor the predictor of order 2.
    before = np.array([0.5]) if order == 2 else np.linalg.solve(powers[:-1, :-1], moments[:-1])

    def of_x0(weights: Float[np.ndarray, " weights"]) -> Float[np.ndarray, " weights+1"]:
        """From weights of the differences to x0 here, over their places, to those of x0."""
        differences = -alpha * scale * weights / places[: len(weights)]
        return np.append(-alpha * np.expm1(-stride) - differences.sum(), differences)

    corrector = of_x0(ahead)
    return _Update(latents, of_x0(before), corrector[:-1], float(corrector[-1]))


def _moments(h: float, order: int) -> Float[np.ndarray, " order"]:
    """k! (... ((e^h - 1) / h - 1) / h ... - 1/k!) for k = 1 .. order: the paper's h phi_k+1 k!."""
    values, value = [], np.expm1(h)
    for k in range(1, order + 1):
        value = value / h - 1 / math.factorial(k)
        values.append(math.factorial(k) * value)
    return np.array(values)


def _sum(columns: Float[np.ndarray, "steps terms"]) -> Sum:
    latents, x0, *memory = columns.T
    return Sum(latents=latents, x0=x0, memory=tuple(memory))


SAMPLER = Sampler(
    "UniPCMultistepScheduler",
    plan,
    {
        **SIGMAS,
        "final_sigmas_type": ("zero", "sigma_min"),
        "thresholding": (False,),
        "predict_x0": (True,),
        "solver_order": (2, 1, 3),
        # The other names are those of sibling schedulers, which diffusers reads as the first.
        "solver_type": ("bh2", "bh1", "midpoint", "heun", "logrho"),
        "use_flow_sigmas": (False,),
        "use_dynamic_shifting": (False,),
    },
)
