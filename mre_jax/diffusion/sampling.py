"""The loop that runs any sampler: a table of coefficients, one row for each evaluation of the UNet.

How the samplers come to their tables is said in `mre_jax.diffusion.samplers`.
"""

import dataclasses
import difflib
import functools
import importlib
import json
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Key

from mre_jax.diffusion.noise import step_noise
from mre_jax.diffusion.samplers import SAMPLERS
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError

if TYPE_CHECKING:
    from mre_jax.diffusion.samplers.table import Sampler

Denoise = Callable[[Float32[Array, "b h w c"], Float32[Array, ""]], Float32[Array, "b h w c"]]


class Row(NamedTuple):
    """Coefficients of one evaluation of the UNet; with a leading axis, of all of them.

    x0 = clip(x0_latents * latents + x0_output * output, -clip, clip)
    (latents', *memory') = mix @ (latents, output, x0, *memory)
    latents' += noise * standard normal noise

    Attributes:
        number: 0, 1, ...; each has noise of its own.
        timestep: input of the UNet, in training timesteps, not always whole.
        input_scale: factor on the latents the UNet sees.
        x0_latents, x0_output: the estimate of the clean latents.
        clip: its limit; infinite where there is none.
        mix: from what is there to what is handed on.
        noise: standard deviation of the noise that is added.
    """

    number: Int32[Array | np.ndarray, "*rows"]
    timestep: Float32[Array | np.ndarray, "*rows"]
    input_scale: Float32[Array | np.ndarray, "*rows"]
    x0_latents: Float32[Array | np.ndarray, "*rows"]
    x0_output: Float32[Array | np.ndarray, "*rows"]
    clip: Float32[Array | np.ndarray, "*rows"]
    mix: Float32[Array | np.ndarray, "*rows 1+memory 3+memory"]
    noise: Float32[Array | np.ndarray, "*rows"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["rows", "init_noise_sigma"],
    meta_fields=["stochastic", "evaluations"],
)
@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole trajectory. A pytree: an argument of a jitted function, compiled once per shape.

    The arrays lie on the host (NumPy) until they are used.

    Attributes:
        rows: in the order of sampling.
        init_noise_sigma: scalar factor on the standard normal latents before the first row.
        stochastic: whether any row adds noise; static.
        evaluations: rows of a step, of which the last step may have fewer; static.
    """

    rows: Row
    init_noise_sigma: Any  # as a pytree it may also hold shardings or shapes
    stochastic: bool
    evaluations: int = 1

    @property
    def num_evaluations(self) -> int:
        """How often the UNet runs: once a row, on all branches of the guidance together."""
        return len(self.rows.number)


class Carry(NamedTuple):
    """What one row hands to the next: the latents, and what the sampler remembers."""

    latents: Float32[Array, "b h w c"]
    memory: tuple[Float32[Array, "b h w c"], ...]


def start(plan: Plan, latents: Float32[Array, "b h w c"]) -> Carry:
    """The state before the first row, from standard normal latents."""
    remembered = plan.rows.mix.shape[-2] - 1
    return Carry(latents * plan.init_noise_sigma, (jnp.zeros_like(latents),) * remembered)


def scale_input(row: Row, latents: Float32[Array, "b h w c"]) -> Float32[Array, "b h w c"]:
    """The latents as the UNet takes them in this row."""
    return latents * row.input_scale


def step(
    row: Row,
    carry: Carry,
    output: Float32[Array, "b h w c"],
    noise: Float32[Array, "b h w c"] | None,
) -> Carry:
    """One row, from the UNet's `output`; `noise` is standard normal, None for none."""
    x0 = row.x0_latents * carry.latents + row.x0_output * output
    x0 = jnp.clip(x0, -row.clip, row.clip)
    terms = (carry.latents, output, x0, *carry.memory)
    # Sums, not a matrix product, which accelerators would round to bfloat16.
    latents, *memory = (
        functools.reduce(operator.add, map(operator.mul, factors, terms)) for factors in row.mix
    )
    if noise is not None:
        latents = latents + row.noise * noise
    return Carry(latents, tuple(memory))


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

    Example:
        >>> import jax
        >>> from mre_jax.diffusion.noise import initial_latents, item_keys
        >>> from mre_jax.diffusion.schedule import NoiseSchedule
        >>> plan = plan_sampling("heun", NoiseSchedule.stable_diffusion(), 10)
        >>> plan.num_evaluations
        19
        >>> keys = item_keys([0, 0], ["a.png", "b.png"])
        >>> noise = initial_latents(keys, (4, 4, 4))
        >>> latents, finite = sample(lambda x, timestep: 0.5 * x, noise, plan, keys)
        >>> latents.shape, finite.shape
        ((2, 4, 4, 4), (2, 10))
    """
    if plan.stochastic and keys is None:
        raise ValueError("this sampler draws noise: pass keys, one per example")

    def body(carry: Carry, row: Row) -> tuple[Carry, Bool[Array, " b"]]:
        output = denoise(scale_input(row, carry.latents), jnp.asarray(row.timestep))
        noise = None
        if plan.stochastic and keys is not None:
            noise = step_noise(keys, jnp.asarray(row.number), latents.shape[1:])
        carry = step(row, carry, output, noise)
        return carry, is_finite(carry.latents)

    carry, finite = jax.lax.scan(body, start(plan, latents), plan.rows)
    ends = [*range(plan.evaluations - 1, plan.num_evaluations - 1, plan.evaluations), -1]
    return carry.latents, finite[np.array(ends)].T


def is_finite(array: Float[Array, "b ..."]) -> Bool[Array, " b"]:
    """Whether all numbers of an example are."""
    return jnp.isfinite(array).all(axis=tuple(range(1, array.ndim)))


def plan_sampling(
    scheduler: str, schedule: NoiseSchedule, num_inference_steps: int, *, eta: float = 0.0
) -> Plan:
    """The plan of a named sampler.

    Args:
        scheduler: a name in `mre_jax.diffusion.samplers.SAMPLERS`.
        schedule: noise schedule of the model's training.
        num_inference_steps: 1 .. `schedule.num_train_timesteps`.
        eta: share of fresh noise in "ddim".

    Raises:
        ConfigError: for an unknown name, a number of steps or an eta out of range, or an option of
            the schedule that this sampler does not support.

    Example:
        >>> plan = plan_sampling("unipc", NoiseSchedule.stable_diffusion(), 10)
        >>> plan.num_evaluations, plan.stochastic
        (10, False)
        >>> plan_sampling("unipcm", NoiseSchedule(), 10)
        Traceback (most recent call last):
        ...
        mre_jax.errors.ConfigError: scheduler='unipcm' is unknown; did you mean 'unipc'? The choices are euler_ancestral, euler, ddim, dpmsolver++, heun, unipc
    """  # noqa: E501 (what it prints)
    if scheduler not in SAMPLERS:
        near = difflib.get_close_matches(scheduler.lower(), SAMPLERS, n=1, cutoff=0.0)[0]
        near = scheduler_classes().get(scheduler, near)
        raise ConfigError(
            f"scheduler={scheduler!r} is unknown; did you mean {near!r}? "
            f"The choices are {', '.join(SAMPLERS)}"
        )
    if not 1 <= num_inference_steps <= schedule.num_train_timesteps:
        raise ConfigError(
            f"num_inference_steps={num_inference_steps} must be in "
            f"1 .. {schedule.num_train_timesteps}"
        )
    sampler = load_sampler(scheduler)
    _check_options(scheduler, sampler, schedule)
    if scheduler == "ddim":
        return sampler.plan(schedule, num_inference_steps, eta=eta)
    if eta != 0:
        raise ConfigError(f"eta={eta} is an option of 'ddim' alone; leave it out of {scheduler!r}")
    return sampler.plan(schedule, num_inference_steps)


def load_sampler(name: str) -> "Sampler":
    """The sampler of a name in `SAMPLERS`."""
    module = importlib.import_module(f"mre_jax.diffusion.samplers.{SAMPLERS[name]}")
    sampler: Sampler = module.SAMPLER
    return sampler


def scheduler_classes() -> dict[str, str]:
    """The name of the sampler for each class of diffusers' schedulers that has one."""
    return {load_sampler(name).scheduler_class: name for name in SAMPLERS}


def _check_options(name: str, sampler: "Sampler", schedule: NoiseSchedule) -> None:
    supported = sampler.supported
    for key, value in schedule.sampler_options:
        if key in supported and value not in supported[key]:
            raise ConfigError(
                f"{key}={value!r} is not supported by {name!r}; set it to "
                f"{json.dumps(supported[key][0])} in scheduler_config.json or choose another "
                f"scheduler"
            )
