"""What the samplers share: their timesteps, their noise levels, and how a table is written."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Num

from mre_jax.diffusion.sampling import Plan, Row
from mre_jax.diffusion.schedule import NoiseSchedule, Option
from mre_jax.errors import ConfigError

Column: TypeAlias = Num[np.ndarray, " rows"] | float
"""Of a table: a value for each row, or one for all."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampler, as `SAMPLER` of its file.

    Attributes:
        scheduler_class: diffusers' name of it, as `_class_name` of a scheduler_config.json has it.
        plan: from a schedule and a number of steps to the table; further arguments, which have
            defaults, are options that only this sampler has.
        supported: options of a scheduler's file that would change the result, with their values
            that are supported, of which the first is diffusers' default.
    """

    scheduler_class: str
    plan: Callable[..., Plan]
    supported: Mapping[str, tuple[Option, ...]]


@dataclasses.dataclass(frozen=True)
class Sum:
    """A tensor as a sum over those of the step before it.

    Attributes:
        x0: the estimate of the clean latents, clipped where they are.
        eps: the estimate of the noise.
        latents: latents before the step, in their own units.
        memory: each tensor of the memory; none of them if it is shorter.
    """

    x0: Column = 0.0
    eps: Column = 0.0
    latents: Column = 0.0
    memory: tuple[Column, ...] = ()


def make_plan(
    schedule: NoiseSchedule,
    timesteps: np.ndarray,
    abar: Float[np.ndarray, " rows"],
    latents: Sum,
    memory: tuple[Sum, ...] = (),
    *,
    noise: Column = 0.0,
    input_scale: Column = 1.0,
    clip: float = np.inf,
    init_noise_sigma: float = 1.0,
    evaluations: int = 1,
) -> Plan:
    """The table of a trajectory, one row for each evaluation of the UNet.

    Args:
        schedule: says what the UNet predicts.
        timesteps: timestep of each evaluation.
        abar: how much of the latents is left at each.
        latents: what is handed to the next row.
        memory: what is remembered, tensor by tensor.
        noise: the standard deviation of the noise that is added to the latents.
        input_scale: from the latents in their own units to variance 1, which the UNet sees.
        clip: the limit of the clean latents.
        init_noise_sigma: the noise level of the first latents, in their own units.
        evaluations: rows of a step; the last step may have fewer.
    """
    # One tensor at least, so that most samplers share a compiled program.
    memory = memory or (Sum(x0=1.0),)
    x0, eps = _estimates(schedule.prediction_type, abar)
    count = len(timesteps)

    def column(values: Column) -> Float[np.ndarray, " rows"]:
        return np.broadcast_to(np.asarray(values, np.float32), count)

    def terms(total: Sum) -> Float[np.ndarray, "rows terms"]:
        rest = [0.0] * (len(memory) - len(total.memory))
        columns = [
            total.eps * eps[0] * input_scale + total.latents,
            total.eps * eps[1],
            total.x0,
            *total.memory,
            *rest,
        ]
        return np.stack([column(values) for values in columns], axis=-1)

    row = Row(
        number=np.arange(count, dtype=np.int32),
        timestep=column(timesteps),
        input_scale=column(input_scale),
        x0_latents=column(x0[0] * input_scale),
        x0_output=column(x0[1]),
        clip=column(clip),
        mix=np.stack([terms(total) for total in (latents, *memory)], axis=1),
        noise=column(noise),
    )
    return Plan(row, np.float32(init_noise_sigma), bool(row.noise.any()), evaluations)


def spaced(schedule: NoiseSchedule, count: int, default: str) -> Float[np.ndarray, " steps"]:
    """Falling training timesteps of DDIM, Euler and Heun, float64.

    Args:
        default: the spacing of a schedule that names none.
    """
    train_steps = schedule.num_train_timesteps
    spacing = schedule.timestep_spacing or default
    if spacing == "linspace":
        return np.linspace(0, train_steps - 1, count)[::-1]
    if spacing == "leading":
        return np.arange(count)[::-1] * (train_steps // count) + float(schedule.steps_offset)
    return _trailing(train_steps, count)


def spaced_whole(
    schedule: NoiseSchedule, count: int, name: str
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Timesteps and noise levels of the multistep samplers.

    As `spaced`, but of count + 1 points the last is left out, and all are whole.

    Raises:
        ConfigError: naming the sampler, if two of so many steps fall on the same timestep.
    """
    train_steps = schedule.num_train_timesteps
    spacing = schedule.timestep_spacing or "linspace"
    if spacing == "linspace":
        timesteps: np.ndarray = np.linspace(0, train_steps - 1, count + 1).round()[:0:-1]
    elif spacing == "leading":
        stride = train_steps // (count + 1)
        timesteps = np.arange(count + 1)[:0:-1] * stride + float(schedule.steps_offset)
    else:
        timesteps = _trailing(train_steps, count)
    sigmas = noise_levels(schedule, timesteps)
    if not (np.diff(sigmas) < 0).all():
        raise ConfigError(
            f"num_inference_steps={count} makes {name} visit a timestep twice; take fewer steps"
        )
    return timesteps, sigmas


def _trailing(train_steps: int, count: int) -> Float[np.ndarray, " steps"]:
    # For some counts (61, 103, ...) rounding lets arange run one point too far, to timestep -1.
    return np.arange(train_steps, 0, -train_steps / count).round()[:count] - 1


def noise_levels(
    schedule: NoiseSchedule, timesteps: Float[np.ndarray, " steps"]
) -> Float[np.ndarray, " steps"]:
    """sqrt((1 - abar) / abar), interpolated between whole timesteps, float64."""
    abar = schedule.alphas_cumprod.astype(np.float64)
    sigmas = np.sqrt((1 - abar) / abar)
    return np.asarray(np.interp(timesteps, np.arange(len(abar), dtype=np.float64), sigmas))


def abar_of(sigmas: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """abar at noise levels, 0 among them."""
    return 1 / (1 + sigmas**2)


def _estimates(
    prediction_type: str, abar: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "2 rows"], Float[np.ndarray, "2 rows"]]:
    """x0 and eps, each as coefficients of (noisy latents, output), where both have variance 1."""
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
    zero, one = np.zeros_like(abar), np.ones_like(abar)
    if prediction_type == "epsilon":
        return np.stack([1 / alpha, -sigma / alpha]), np.stack([zero, one])
    if prediction_type == "sample":
        return np.stack([zero, one]), np.stack([1 / sigma, -alpha / sigma])
    return np.stack([alpha, -sigma]), np.stack([sigma, alpha])


SIGMAS: Mapping[str, tuple[Option, ...]] = {
    "rescale_betas_zero_snr": (False,),
    "use_karras_sigmas": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
}
"""Options of `Sampler.supported` that stand for other noise levels than these."""
