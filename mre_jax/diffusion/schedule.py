"""The noise schedule: how much of the latents is left at each training timestep.

With abar_t = prod(1 - beta_s, s <= t), noisy latents are sqrt(abar_t) * latents +
sqrt(1 - abar_t) * noise (Ho et al. 2020, Eq. 4). The fields are those of a diffusers
`scheduler_config.json`, and a key that is absent has diffusers' default.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mre_jax.errors import ConfigError

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
TIMESTEP_SPACINGS = ("linspace", "leading", "trailing")

Option: TypeAlias = bool | int | float | str | tuple[int | float, ...]
"""A value of a scheduler's file."""
OptionT = TypeVar("OptionT", bound=Option)


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """What training and sampling must agree on.

    Attributes:
        num_train_timesteps: T; timesteps are 0 .. T - 1.
        beta_start: beta at timestep 0.
        beta_end: beta at timestep T - 1.
        beta_schedule: "linear", "scaled_linear" (linear in sqrt(beta)) or "squaredcos_cap_v2"
            (the cosine schedule of Nichol and Dhariwal 2021, which has no start or end).
        trained_betas: T explicit betas, used instead of the three fields above.
        prediction_type: what the UNet's output means: "epsilon" (the noise), "v_prediction" or
            "sample" (the clean latents).
        timestep_spacing: how a sampler spreads its steps over 0 .. T - 1: "linspace", "leading" or
            "trailing" (Lin et al. 2023, Table 2); None is the sampler's own default.
        steps_offset: added to every timestep under "leading".
        set_alpha_to_one: DDIM's last step goes to abar = 1 rather than to abar_0.
        clip_sample: DDIM and Heun clip their estimate of the clean latents to
            +-`clip_sample_range`; None is the sampler's own default.
        clip_sample_range: limit of the estimate of x0.
        sampler_options: further keys of the file, for the samplers that would have to obey them.

    Raises:
        ConfigError: for a value out of its range or choices.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: str = "epsilon"
    timestep_spacing: str | None = None
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool | None = None
    clip_sample_range: float = 1.0
    sampler_options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        _check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        _check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        if self.timestep_spacing is not None:
            _check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        for name, low in (("num_train_timesteps", 1), ("steps_offset", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {low}")
        if not self.clip_sample_range > 0:
            raise ConfigError(f"clip_sample_range={self.clip_sample_range} must be above 0")
        self._check_betas()

    @classmethod
    def stable_diffusion(cls) -> "NoiseSchedule":
        """The schedule of Stable Diffusion 1.x, InstructPix2Pix and their descendants."""
        return cls(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            set_alpha_to_one=False,
            clip_sample=False,
        )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Reads the mapping of a `scheduler_config.json`, written for any diffusers scheduler.

        A null value counts as absent. Keys that some sampler may read are kept in
        `sampler_options`, where that sampler refuses what it does not support.

        Raises:
            ConfigError: for a value of the wrong type, out of range, or not among the choices.

        Example:
            >>> config = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
            >>> schedule = NoiseSchedule.from_dict(config)
            >>> schedule.prediction_type, round(float(schedule.alphas_cumprod[-1]), 6)
            ('v_prediction', 0.000733)
        """
        # In diffusers' live configs this lists the keys that only hold another class's default.
        absent = set(config.get("_use_default_values") or ())
        given = {k: v for k, v in config.items() if v is not None and k not in absent}
        given = {**_CLASS_DEFAULTS.get(str(given.get("_class_name")), {}), **given}
        known = {name: given.pop(name) for name in _TYPES if name in given}
        known = {name: _typed(name, value) for name, value in known.items()}
        options = {key: _option(value) for key, value in given.items() if not key.startswith("_")}
        kept = sorted((key, value) for key, value in options.items() if value is not None)
        return cls(**known, sampler_options=tuple(kept))

    def to_dict(self) -> dict[str, Any]:
        """The keys of a `scheduler_config.json`; `from_dict` of it gives this schedule again."""
        values = {name: getattr(self, name) for name in _TYPES}
        if self.trained_betas is not None:
            values["trained_betas"] = list(self.trained_betas)
        given = {name: value for name, value in values.items() if value is not None}
        options = dict(self.sampler_options)
        return given | {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}

    def option(self, name: str, default: OptionT) -> OptionT:
        """An option of the file, of the type of its default.

        Raises:
            ConfigError: if it is of another type.
        """
        value = dict(self.sampler_options).get(name, default)
        if not isinstance(value, type(default)):
            raise ConfigError(f"{name}={value!r} must be of type {type(default).__name__}")
        return value

    def clip(self, *, default: bool) -> float:
        """The limit of the clean latents, infinite for none.

        Args:
            default: whether the sampler clips where the file does not say.
        """
        clips = default if self.clip_sample is None else self.clip_sample
        return self.clip_sample_range if clips else math.inf

    @functools.cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " t"]:
        """abar_t for every training timestep, float32, decreasing within (0, 1)."""
        alphas = np.float32(1) - self._betas()
        # PyTorch accumulates a float32 product in float64.
        table = np.cumprod(alphas.astype(np.float64)).astype(np.float32)
        table.flags.writeable = False
        return table

    def add_noise(
        self,
        latents: Float[Array, "b h w c"],
        noise: Float[Array, "b h w c"],
        timesteps: Int[Array, " b"],
    ) -> Float[Array, "b h w c"]:
        """Noisy latents at `timesteps`, each in 0 .. T - 1, in the dtype of `latents`."""
        alpha, sigma = self._alpha_sigma(timesteps, latents.dtype)
        return alpha * latents + sigma * noise

    def target(
        self,
        latents: Float[Array, "b h w c"],
        noise: Float[Array, "b h w c"],
        timesteps: Int[Array, " b"],
    ) -> Float[Array, "b h w c"]:
        """What the UNet should output for `add_noise` of the same arguments.

        v is sqrt(abar) * noise - sqrt(1 - abar) * latents (Salimans and Ho 2022, appendix D).
        """
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        alpha, sigma = self._alpha_sigma(timesteps, latents.dtype)
        return alpha * noise - sigma * latents

    def snr(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """Signal-to-noise ratio abar / (1 - abar) at `timesteps`, float32."""
        abar = jnp.asarray(self.alphas_cumprod)[timesteps]
        return abar / (1 - abar)

    def _alpha_sigma(
        self, timesteps: Int[Array, " b"], dtype: DTypeLike
    ) -> tuple[Float[Array, "b 1 1 1"], Float[Array, "b 1 1 1"]]:
        abar = rearrange(jnp.asarray(self.alphas_cumprod)[timesteps], "b -> b 1 1 1")
        return jnp.sqrt(abar).astype(dtype), jnp.sqrt(1 - abar).astype(dtype)

    def _betas(self) -> Float[np.ndarray, " t"]:
        steps = self.num_train_timesteps
        if self.trained_betas is not None:
            return np.asarray(self.trained_betas, np.float32)
        if self.beta_schedule == "linear":
            return _linspace(self.beta_start, self.beta_end, steps)
        if self.beta_schedule == "scaled_linear":
            roots = _linspace(self.beta_start**0.5, self.beta_end**0.5, steps)
            return np.asarray(np.square(roots))
        return _cosine_betas(steps)

    def _check_betas(self) -> None:
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise ConfigError(
                f"trained_betas has {len(self.trained_betas)} values; num_train_timesteps="
                f"{self.num_train_timesteps} asks for as many"
            )
        for name in ("beta_start", "beta_end"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be between 0 and 1")
        # A schedule that ends in pure noise (abar = 0) would need other formulas in every sampler.
        if not ((self.alphas_cumprod > 0) & (self.alphas_cumprod < 1)).all():
            raise ConfigError(
                "the betas must leave some signal and some noise at every timestep: check "
                "trained_betas, beta_start, beta_end and num_train_timesteps"
            )


# The keys read from a configuration file, with their types there.
_TYPES: Mapping[str, type] = {
    "num_train_timesteps": int,
    "beta_start": float,
    "beta_end": float,
    "beta_schedule": str,
    "trained_betas": list,
    "prediction_type": str,
    "timestep_spacing": str,
    "steps_offset": int,
    "set_alpha_to_one": bool,
    "clip_sample": bool,
    "clip_sample_range": float,
}


# Where the default of a scheduler's class is another than that of its siblings.
_CLASS_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "HeunDiscreteScheduler": {"beta_start": 0.00085, "beta_end": 0.012}
}


def _option(value: Any) -> Option | None:
    """A value that an option of a sampler may have; None for another."""
    if isinstance(value, list) and value and all(type(v) in (int, float) for v in value):
        return tuple(value)
    return value if isinstance(value, bool | int | float | str) else None


def _typed(name: str, value: Any) -> Any:
    if name == "trained_betas" and isinstance(value, (list, tuple, np.ndarray)):
        return tuple(float(beta) for beta in value)
    wanted = _TYPES[name]
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{name}={value!r} must be of type {wanted.__name__}")
    return value


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is not supported; use one of {', '.join(choices)}")


def _linspace(start: float, end: float, count: int) -> Float[np.ndarray, " t"]:
    """float32 points rounded as torch.linspace rounds them: half from either end, fused multiply.

    NumPy's own differ by an ulp, which 1000 factors of a product turn into 1e-6.
    """
    first, last = np.float32(start), np.float32(end)
    index = np.arange(count)
    step = np.float64((last - first) / np.float32(max(count - 1, 1)))
    points = np.where(index < count // 2, first + step * index, last - step * (count - 1 - index))
    return points.astype(np.float32) if count > 1 else np.array([first])


def _cosine_betas(count: int, max_beta: float = 0.999) -> Float[np.ndarray, " t"]:
    """Nichol and Dhariwal 2021, Eq. 17."""

    def abar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [abar((i + 1) / count) / abar(i / count) for i in range(count)]
    return np.array([min(1 - ratio, max_beta) for ratio in ratios], np.float32)
