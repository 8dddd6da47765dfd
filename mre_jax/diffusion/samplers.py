"""Samplers as tables of coefficients, and the one loop that runs any of them.

In terms of the estimates of the clean latents x0 and of the noise eps, every sampler here is
linear. With abar of the noise schedule, alpha = sqrt(abar), sigma = sqrt(1 - abar), and primes for
the next point of the trajectory:

    DDIM (Song et al. 2021, Eq. 12)       x' = alpha' x0 + sqrt(sigma'^2 - std^2) eps + std z
    Euler (Karras et al. 2022)            x' = x0 + sigma' / alpha' eps                in x / alpha
    Euler ancestral                       x' = x0 + sigma_down eps + sigma_up z        in x / alpha
    DPM-Solver++ 2M (Lu et al. 2022)      x' = (alpha' + k) x0 - k x0_prev + sigma' eps

Since x0 and eps are linear in the latents and the UNet's output, a step is a row of scalars. They
are computed here in float64, as diffusers' schedulers of the same configuration would, and applied
in float32.
"""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Key

from mre_jax.diffusion.noise import step_noise
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError

Denoise = Callable[[Float32[Array, "b h w c"], Float32[Array, ""]], Float32[Array, "b h w c"]]


class Step(NamedTuple):
    """Coefficients of one step, all scalars; with a leading axis, of all steps.

    x0 = clip(x0_latents * latents + x0_output * output, -clip, clip)
    latents' = (next_latents * latents + next_output * output + next_x0 * x0
                + next_x0_prev * x0_prev + next_noise * noise)

    Attributes:
        number: 0, 1, ...; tells the noise of one step from that of another.
        timestep: what the UNet is told, in training timesteps, not always whole.
        input_scale: factor on the latents the UNet sees.
        clip: infinite where there is none.
    """

    number: Int32[Array, "*steps"]
    timestep: Float32[Array, "*steps"]
    input_scale: Float32[Array, "*steps"]
    x0_latents: Float32[Array, "*steps"]
    x0_output: Float32[Array, "*steps"]
    clip: Float32[Array, "*steps"]
    next_latents: Float32[Array, "*steps"]
    next_output: Float32[Array, "*steps"]
    next_x0: Float32[Array, "*steps"]
    next_x0_prev: Float32[Array, "*steps"]
    next_noise: Float32[Array, "*steps"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["steps", "init_noise_sigma"],
    meta_fields=["stochastic"],
)
@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole trajectory. A pytree: an argument of a jitted function, compiled once per length.

    The arrays lie on the host (NumPy) until they are used.

    Attributes:
        steps: the rows, in the order of sampling.
        init_noise_sigma: scalar factor on the standard normal latents before the first step.
        stochastic: whether any step adds noise; static.
    """

    steps: Step
    init_noise_sigma: Any  # as a pytree it may also hold shardings or shapes
    stochastic: bool


class Carry(NamedTuple):
    """What one step hands to the next: latents and the previous estimate of the clean ones."""

    latents: Float32[Array, "b h w c"]
    x0_prev: Float32[Array, "b h w c"]


def start(plan: Plan, latents: Float32[Array, "b h w c"]) -> Carry:
    """The state before the first step, from standard normal latents."""
    return Carry(latents * plan.init_noise_sigma, jnp.zeros_like(latents))


def scale_input(row: Step, latents: Float32[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    """The latents as the UNet takes them in this step."""
    return latents * row.input_scale


def step(
    row: Step,
    carry: Carry,
    output: Float32[Array, "b h w c"],
    noise: Float32[Array, "b h w c"] | None,
) -> Carry:
    """One step, from the UNet's `output`; `noise` is standard normal, None for none."""
    x0 = row.x0_latents * carry.latents + row.x0_output * output
    x0 = jnp.clip(x0, -row.clip, row.clip)
    latents = row.next_latents * carry.latents + row.next_output * output
    latents = latents + row.next_x0 * x0 + row.next_x0_prev * carry.x0_prev
    if noise is not None:
        latents = latents + row.next_noise * noise
    return Carry(latents, x0)


def sample(
    denoise: Denoise,
    latents: Float32[Array, "b h w c"],
    plan: Plan,
    keys: Key[Array, " b"] | None = None,
) -> tuple[Float32[Array, "b h w c"], Bool[Array, "b steps"]]:
    """Runs a plan as one `lax.scan`.

    Args:
        denoise: the (guided) UNet, from scaled latents and a float32 timestep to its output.
        latents: standard normal, float32.
        plan: from `plan_sampling`.
        keys: the items' keys (`mre_jax.diffusion.noise.item_keys`); only a stochastic plan needs
            them.

    Returns:
        Clean latents, and whether an example's were finite after each step.

    Raises:
        ValueError: if a stochastic plan is run without keys.
    """
    if plan.stochastic and keys is None:
        raise ValueError("this sampler draws noise: pass keys, one per example")

    def body(carry: Carry, row: Step) -> tuple[Carry, Bool[Array, " b"]]:
        output = denoise(scale_input(row, carry.latents), row.timestep)
        noise = None
        if plan.stochastic and keys is not None:
            noise = step_noise(keys, row.number, latents.shape[1:])
        carry = step(row, carry, output, noise)
        return carry, is_finite(carry.latents)

    carry, finite = jax.lax.scan(body, start(plan, latents), plan.steps)
    return carry.latents, finite.T


def is_finite(array: Float[Array, "b ..."]) -> Bool[Array, " b"]:
    """Whether all numbers of an example are."""
    return jnp.isfinite(array).all(axis=tuple(range(1, array.ndim)))


def _euler(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """Euler's method on the probability-flow ODE (Karras et al. 2022, Alg. 1)."""
    return _euler_plan(schedule, num_inference_steps, ancestral=False)


def _euler_ancestral(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """Euler's method to a lower noise level than the next, and fresh noise up to it."""
    return _euler_plan(schedule, num_inference_steps, ancestral=True)


def _ddim(schedule: NoiseSchedule, num_inference_steps: int, *, eta: float = 0.0) -> Plan:
    """DDIM; `eta` in 0 .. 1 goes from deterministic to DDPM's variance (Eq. 16).

    Raises:
        ConfigError: for an eta out of range, or a timestep beyond the schedule.
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta={eta} must be in 0 .. 1")
    train_steps = schedule.num_train_timesteps
    timesteps = _timesteps(schedule, num_inference_steps, "leading").round().astype(np.int64)
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
    return _plan(
        schedule,
        timesteps,
        abar,
        to_x0=np.sqrt(abar_next),
        to_eps=np.sqrt(np.maximum(1 - abar_next - std**2, 0)),
        to_noise=std,
        clip=schedule.clip_sample_range if schedule.clip_sample else np.inf,
    )


def _dpmsolver_multistep(schedule: NoiseSchedule, num_inference_steps: int) -> Plan:
    """DPM-Solver++ (2M), midpoint; the first and the last step are of first order.

    Raises:
        ConfigError: if so many steps are asked that two fall on the same timestep.
    """
    timesteps = _dpmsolver_timesteps(schedule, num_inference_steps)
    sigmas = np.append(np.interp(timesteps, *_training_sigmas(schedule)), 0.0)
    if not (np.diff(sigmas) < 0).all():
        raise ConfigError(
            f"num_inference_steps={num_inference_steps} makes dpmsolver++ visit a timestep twice; "
            f"take fewer steps"
        )
    abar, abar_next = _abar(sigmas[:-1]), _abar(sigmas[1:])
    alpha_next = np.sqrt(abar_next)
    correction = np.zeros(num_inference_steps)
    # lambda = log(alpha / sigma) = -log of the noise level; the inner steps know two of its steps.
    strides = -np.diff(np.log(sigmas[:-1]))
    ratio = strides[:-1] / strides[1:]
    correction[1:-1] = -0.5 * alpha_next[1:-1] * np.expm1(-strides[1:]) / ratio
    return _plan(
        schedule,
        timesteps,
        abar,
        to_x0=alpha_next + correction,
        to_x0_prev=-correction,
        to_eps=np.sqrt(1 - abar_next),
    )


SAMPLERS: Mapping[str, Callable[..., Plan]] = {
    "euler_ancestral": _euler_ancestral,
    "euler": _euler,
    "ddim": _ddim,
    "dpmsolver++": _dpmsolver_multistep,
}

# diffusers' name of each sampler, as `_class_name` of a scheduler_config.json has it.
SCHEDULER_CLASSES: Mapping[str, str] = {
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "EulerDiscreteScheduler": "euler",
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmsolver++",
}

_SIGMAS: Mapping[str, tuple[bool | float | str, ...]] = {
    "rescale_betas_zero_snr": (False,),
    "use_karras_sigmas": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "final_sigmas_type": ("zero",),
}

# Options of a scheduler's file that change its result, with the values that are supported.
_SUPPORTED: Mapping[str, Mapping[str, tuple[bool | float | str, ...]]] = {
    "euler_ancestral": {"rescale_betas_zero_snr": (False,)},
    "euler": {**_SIGMAS, "interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    "ddim": {"rescale_betas_zero_snr": (False,), "thresholding": (False,)},
    "dpmsolver++": {
        **_SIGMAS,
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
}


def plan_sampling(
    scheduler: str, schedule: NoiseSchedule, num_inference_steps: int, *, eta: float = 0.0
) -> Plan:
    """The plan of a named sampler.

    Args:
        scheduler: a name in `SAMPLERS`.
        schedule: of the model's training.
        num_inference_steps: 1 .. `schedule.num_train_timesteps`.
        eta: of "ddim".

    Raises:
        ConfigError: for an unknown name, a number of steps or an eta out of range, or an option of
            the schedule that this sampler does not support.
    """
    if scheduler not in SAMPLERS:
        near = difflib.get_close_matches(scheduler.lower(), SAMPLERS, n=1, cutoff=0.0)[0]
        near = SCHEDULER_CLASSES.get(scheduler, near)
        raise ConfigError(
            f"scheduler={scheduler!r} is unknown; did you mean {near!r}? "
            f"The choices are {', '.join(SAMPLERS)}"
        )
    if not 1 <= num_inference_steps <= schedule.num_train_timesteps:
        raise ConfigError(
            f"num_inference_steps={num_inference_steps} must be in "
            f"1 .. {schedule.num_train_timesteps}"
        )
    _check_options(scheduler, schedule)
    if scheduler == "ddim":
        return _ddim(schedule, num_inference_steps, eta=eta)
    if eta != 0:
        raise ConfigError(f"eta={eta} is an option of 'ddim' alone; leave it out of {scheduler!r}")
    return SAMPLERS[scheduler](schedule, num_inference_steps)


def _check_options(scheduler: str, schedule: NoiseSchedule) -> None:
    supported = _SUPPORTED[scheduler]
    for key, value in schedule.sampler_options:
        if key in supported and value not in supported[key]:
            raise ConfigError(
                f"{key}={value!r} is not supported by {scheduler!r}; set it to "
                f"{json.dumps(supported[key][0])} in scheduler_config.json or choose another "
                f"scheduler"
            )


def _euler_plan(schedule: NoiseSchedule, num_inference_steps: int, *, ancestral: bool) -> Plan:
    """Latents are in units of x / alpha, whose noise level sigma / alpha runs down to 0."""
    timesteps = _timesteps(schedule, num_inference_steps, "linspace").astype(np.float32)
    sigmas = np.append(np.interp(timesteps, *_training_sigmas(schedule)), 0.0)
    here, there = sigmas[:-1], sigmas[1:]
    up = there * np.sqrt(here**2 - there**2) / here if ancestral else np.zeros_like(here)
    leading = schedule.timestep_spacing == "leading"
    return _plan(
        schedule,
        timesteps,
        _abar(here),
        input_scale=np.sqrt(_abar(here)),
        to_x0=np.ones_like(here),
        to_eps=np.sqrt(there**2 - up**2),
        to_noise=up,
        init_noise_sigma=np.sqrt(here.max() ** 2 + leading),
    )


def _timesteps(schedule: NoiseSchedule, count: int, default: str) -> Float[np.ndarray, " steps"]:
    """Falling training timesteps of DDIM and Euler, float64."""
    train_steps = schedule.num_train_timesteps
    spacing = schedule.timestep_spacing or default
    if spacing == "linspace":
        return np.linspace(0, train_steps - 1, count)[::-1]
    if spacing == "leading":
        return np.arange(count)[::-1] * (train_steps // count) + float(schedule.steps_offset)
    return _trailing(train_steps, count)


def _dpmsolver_timesteps(schedule: NoiseSchedule, count: int) -> Float[np.ndarray, " steps"]:
    """As `_timesteps`, but of count + 1 points the last is left out, and all are whole."""
    train_steps = schedule.num_train_timesteps
    spacing = schedule.timestep_spacing or "linspace"
    if spacing == "linspace":
        return np.linspace(0, train_steps - 1, count + 1).round()[:0:-1]
    if spacing == "leading":
        stride = train_steps // (count + 1)
        return np.arange(count + 1)[:0:-1] * stride + float(schedule.steps_offset)
    return _trailing(train_steps, count)


def _trailing(train_steps: int, count: int) -> Float[np.ndarray, " steps"]:
    # For some counts (61, 103, ...) rounding lets arange run one point too far, to timestep -1.
    return np.arange(train_steps, 0, -train_steps / count).round()[:count] - 1


def _training_sigmas(
    schedule: NoiseSchedule,
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Training timesteps and the noise level sqrt((1 - abar) / abar) at each, float64."""
    abar = schedule.alphas_cumprod.astype(np.float64)
    return np.arange(len(abar), dtype=np.float64), np.sqrt((1 - abar) / abar)


def _abar(sigmas: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    return 1 / (1 + sigmas**2)


def _estimates(
    prediction_type: str, abar: Float[np.ndarray, " steps"]
) -> tuple[Float[np.ndarray, "2 steps"], Float[np.ndarray, "2 steps"]]:
    """x0 and eps, each as coefficients of (noisy latents, output), where both have variance 1."""
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
    zero, one = np.zeros_like(abar), np.ones_like(abar)
    if prediction_type == "epsilon":
        return np.stack([1 / alpha, -sigma / alpha]), np.stack([zero, one])
    if prediction_type == "sample":
        return np.stack([zero, one]), np.stack([1 / sigma, -alpha / sigma])
    return np.stack([alpha, -sigma]), np.stack([sigma, alpha])


def _plan(
    schedule: NoiseSchedule,
    timesteps: np.ndarray,
    abar: Float[np.ndarray, " steps"],
    *,
    to_x0: Float[np.ndarray, " steps"],
    to_eps: Float[np.ndarray, " steps"],
    to_x0_prev: Float[np.ndarray, " steps"] | float = 0.0,
    to_noise: Float[np.ndarray, " steps"] | float = 0.0,
    input_scale: Float[np.ndarray, " steps"] | float = 1.0,
    clip: float = np.inf,
    init_noise_sigma: float = 1.0,
) -> Plan:
    """The table of latents' = to_x0 x0 + to_x0_prev x0_prev + to_eps eps + to_noise noise."""
    x0, eps = _estimates(schedule.prediction_type, abar)
    columns = {
        "timestep": timesteps,
        "input_scale": input_scale,
        "x0_latents": x0[0] * input_scale,
        "x0_output": x0[1],
        "clip": clip,
        "next_latents": to_eps * eps[0] * input_scale,
        "next_output": to_eps * eps[1],
        "next_x0": to_x0,
        "next_x0_prev": to_x0_prev,
        "next_noise": to_noise,
    }
    count = len(timesteps)
    rows: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(column, np.float32), count)
        for name, column in columns.items()
    }
    rows["number"] = np.arange(count, dtype=np.int32)
    return Plan(Step(**rows), np.float32(init_noise_sigma), bool(rows["next_noise"].any()))
