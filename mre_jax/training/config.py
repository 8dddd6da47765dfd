"""The configuration of a training run: its schema, defaults, ranges and documentation.

A file of `configs/` gives what differs from the defaults below; `key=value` on the command line
comes last. Keys are dotted: `data.batch_size` is `TrainConfig.data.batch_size`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from omegaconf import OmegaConf

from mre_jax.data.batches.augment import FILTERS, FITS
from mre_jax.diffusion.schedule import PREDICTION_TYPES
from mre_jax.errors import ConfigError
from mre_jax.io.files import write_atomically
from mre_jax.models.attention import check_implementation
from mre_jax.reward.config import RewardConfig
from mre_jax.reward.text import CUTS
from mre_jax.training import overrides as settings

COMPUTE_DTYPES = ("float32", "bfloat16")
CACHES = ("auto", "required", "never")
SCORE_WEIGHTINGS = ("none", "linear")
SCHEDULES = ("constant", "cosine", "linear")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is trained, and how its arithmetic runs.

    Attributes:
        init_from: weights to start from, in any format that converts: a model folder, a file in
            the original layout, `org/name@REVISION`, `gs://...`. Not for resuming: a run resumes
            from its own directory.
        base: another model for what `init_from` lacks, such as the tokenizer of a weight file;
            null is none.
        in_channels: of the UNet; an editor's is 8, and those that `init_from` lacks start at zero.
        reward: the reward condition; null trains plain InstructPix2Pix. Parts that `init_from`
            lacks are made anew.
        compute_dtype: of activations, "float32" or "bfloat16"; parameters are float32.
        attention: an implementation named in `mre_jax.models.attention`.
        remat: recompute the activations of each block in the backward pass: less memory, slower.
        ema_decay: of the moving average of the parameters, in [0, 1); null keeps none.
    """

    init_from: str
    base: str | None = None
    in_channels: int = 8
    reward: RewardConfig | None = None
    compute_dtype: str = "bfloat16"
    attention: str = "auto"
    remat: bool = False
    ema_decay: float | None = 0.9999

    def __post_init__(self) -> None:
        _check(self.init_from, "model.init_from", bool(self.init_from), "a model's path")
        _check(self.base, "model.base", self.base != "", "a model's path, or null")
        _at_least(self.in_channels, "model.in_channels", 1)
        _one_of(self.compute_dtype, "model.compute_dtype", COMPUTE_DTYPES)
        try:
            check_implementation(self.attention)
        except ConfigError as error:
            raise ConfigError(f"model.attention: {error}") from None
        decay = self.ema_decay
        _check(decay, "model.ema_decay", decay is None or 0 <= decay < 1, "in [0, 1), or null")

    @property
    def takes_reward(self) -> bool:
        """Whether the UNet reads rewards."""
        return self.reward is not None and self.reward.enabled


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The examples, and how they are read.

    Attributes:
        paths: folders of `mre prepare`, local or `gs://...`.
        batch_size: examples of one optimizer step, over all devices and accumulated parts.
        weights: share of each set of `paths`; null takes all examples equally often.
        resolution: side of the pictures in pixels.
        resize: side before a random crop to `resolution`; null is `resolution`.
        fit: "stretch" resizes pictures to squares, as InstructPix2Pix does; "crop" keeps their
            proportions, resizes the shorter side, and crops the longer one at random.
        filter: of resizing, "lanczos" (InstructPix2Pix) or "bicubic" (the released code).
        flip: probability of mirroring.
        min_score: leaves out examples with a lower score in any perspective; null keeps all.
        cache: latents and text states that `mre data cache` may have put beside the pictures:
            "auto" uses them where they are (and refuses those that do not fit), "required" refuses
            to train without, "never" computes them anew.
        none_for_top: "None" stands for the reward text of a perspective with the top score.
        reward_cut: of a reward text that is too long for the text encoder, "end" cuts its end, as
            the released code does, so that the last perspective is lost; "share" cuts of each
            perspective what goes beyond its share.
        threads, workers, ahead: see `data.batches.loader.Reading`; no batch depends on them.
    """

    paths: tuple[str, ...]
    batch_size: int
    weights: tuple[float, ...] | None = None
    resolution: int = 256
    resize: int | None = None
    fit: str = "stretch"
    filter: str = "lanczos"
    flip: float = 0.5
    min_score: float | None = None
    cache: str = "auto"
    none_for_top: bool = True
    reward_cut: str = "end"
    threads: int = 4
    workers: int = 0
    ahead: int = 4

    def __post_init__(self) -> None:
        _check(list(self.paths), "data.paths", bool(self.paths), "one folder or more")
        _at_least(self.batch_size, "data.batch_size", 1)
        if self.weights is not None:
            fits = len(self.weights) == len(self.paths)
            fits = fits and all(0 < weight < math.inf for weight in self.weights)
            wanted = f"{len(self.paths)} numbers above 0, one for each of data.paths"
            _check(list(self.weights), "data.weights", fits, wanted)
        _at_least(self.resolution, "data.resolution", 8)
        if self.resize is not None:
            _at_least(self.resize, "data.resize", self.resolution, "data.resolution")
        _one_of(self.fit, "data.fit", FITS)
        _one_of(self.filter, "data.filter", tuple(FILTERS))
        _share(self.flip, "data.flip")
        score = self.min_score
        _check(score, "data.min_score", score is None or 0 <= score <= 5, "in 0 to 5, or null")
        _one_of(self.cache, "data.cache", CACHES)
        _one_of(self.reward_cut, "data.reward_cut", CUTS)
        _at_least(self.threads, "data.threads", 1)
        _at_least(self.workers, "data.workers", 0)
        _at_least(self.ahead, "data.ahead", 1)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised.

    Attributes:
        dropout: share of the examples that lose the text, share that lose the image, and share
            that lose both, for classifier-free guidance: 0 to 1/3.
        reward_dropout: share that lose the reward, for reward guidance.
        prediction_type: "epsilon", "v_prediction" or "sample"; null is that of `init_from`.
        score_weighting: "linear" weighs an example by its mean score, over the mean of the scale;
            "none" weighs all alike.
        min_snr_gamma: weighs a timestep by min(snr, gamma) / snr (Hang et al. 2023); null is off.
    """

    dropout: float = 0.05
    reward_dropout: float = 0.0
    prediction_type: str | None = None
    score_weighting: str = "none"
    min_snr_gamma: float | None = None

    def __post_init__(self) -> None:
        _check(self.dropout, "loss.dropout", 0 <= 3 * self.dropout <= 1, "in 0 to 1/3")
        _share(self.reward_dropout, "loss.reward_dropout")
        if self.prediction_type is not None:
            _one_of(self.prediction_type, "loss.prediction_type", PREDICTION_TYPES)
        _one_of(self.score_weighting, "loss.score_weighting", SCORE_WEIGHTINGS)
        if self.min_snr_gamma is not None:
            _positive(self.min_snr_gamma, "loss.min_snr_gamma")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), its learning rate, and how a batch is split.

    Attributes:
        learning_rate: after the warm-up.
        reward_rate_scale: times `learning_rate` is the rate of the reward's parts, which start
            from nothing where the rest is pretrained. The paper has one rate for all: 1.
        beta1, beta2, epsilon, weight_decay: of AdamW.
        max_grad_norm: gradients of a larger global norm are scaled down to it; null leaves them.
        schedule: "constant", or "cosine" or "linear" down to 0 at the last step.
        warmup_steps: steps in which the learning rate rises linearly from 0; below `steps`.
        accumulation: parts of a batch that are computed one after another; divides
            `data.batch_size`. The step is the same but for rounding, in less memory.
    """

    learning_rate: float = 5e-5
    reward_rate_scale: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    max_grad_norm: float | None = 1.0
    schedule: str = "constant"
    warmup_steps: int = 0
    accumulation: int = 1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "reward_rate_scale", "epsilon"):
            _positive(getattr(self, name), f"optimizer.{name}")
        if self.max_grad_norm is not None:
            _positive(self.max_grad_norm, "optimizer.max_grad_norm")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _check(value, f"optimizer.{name}", 0 <= value < 1, "in [0, 1)")
        decay = self.weight_decay
        _check(decay, "optimizer.weight_decay", 0 <= decay < math.inf, "0 or more")
        _one_of(self.schedule, "optimizer.schedule", SCHEDULES)
        _at_least(self.warmup_steps, "optimizer.warmup_steps", 0)
        _at_least(self.accumulation, "optimizer.accumulation", 1)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices share the work. Results differ between meshes by rounding only.

    Attributes:
        data: devices along which only the batch is split; -1 takes all that `fsdp` leaves.
        fsdp: devices along which the parameters are split too.
        shard_optimizer: split optimizer state and moving average over `data` (ZeRO-1).
    """

    data: int = -1
    fsdp: int = 1
    shard_optimizer: bool = True

    def __post_init__(self) -> None:
        fits = self.data == -1 or self.data >= 1
        _check(self.data, "mesh.data", fits, "at least 1, or -1 for all devices")
        _at_least(self.fsdp, "mesh.fsdp", 1)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the state is saved, and which saves stay. The last step is always saved.

    Attributes:
        every: steps between saves.
        keep: newest ones that stay.
        keep_every: those at its multiples stay too; null is none.
        pinned: steps that are saved and stay.
    """

    every: int = 1000
    keep: int = 3
    keep_every: int | None = None
    pinned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _at_least(self.every, "checkpoint.every", 1)
        _at_least(self.keep, "checkpoint.keep", 1)
        if self.keep_every is not None:
            _at_least(self.keep_every, "checkpoint.keep_every", 1)
        for step in self.pinned:
            _at_least(step, "checkpoint.pinned", 0)


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """A loss and edits of what is not trained on, with the same noise each time.

    Attributes:
        data: folders of `mre prepare` that are held out: the loss on them is in the metrics. Noise
            and timestep of an example depend on its id alone, so that losses compare between steps
            and runs.
        examples: of these sets, the same ones each time.
        loss_every: steps between such losses; 0 is never.
        every: steps between edits; 0 is never.
        items: JSON lines as `mre sample` reads them.
        count: of its first items.
        steps: of the sampler.
        guidance_scale, image_guidance_scale: as `mre edit` has them.
    """

    data: tuple[str, ...] = ()
    examples: int = 256
    loss_every: int = 0
    every: int = 0
    items: str | None = None
    count: int = 8
    steps: int = 30
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5

    def __post_init__(self) -> None:
        _at_least(self.examples, "validation.examples", 1)
        _at_least(self.loss_every, "validation.loss_every", 0)
        fits = bool(self.data) or not self.loss_every
        wanted = "one folder or more when validation.loss_every is not 0"
        _check(list(self.data), "validation.data", fits, wanted)
        _at_least(self.every, "validation.every", 0)
        fits = bool(self.items) or not self.every
        _check(self.items, "validation.items", fits, "a file when validation.every is not 0")
        _at_least(self.count, "validation.count", 1)
        _at_least(self.steps, "validation.steps", 1)
        for name in ("guidance_scale", "image_guidance_scale"):
            scale = getattr(self, name)
            _check(scale, f"validation.{name}", 1 <= scale < math.inf, "at least 1")


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run tells of itself.

    Attributes:
        every: steps between rows of metrics.
        tensorboard: write them for TensorBoard too, which needs the extra `data`.
        profile_at: the first step of a profiler trace, from 1 to `steps`; null is none.
        profile_steps: its length.
    """

    every: int = 10
    tensorboard: bool = True
    profile_at: int | None = None
    profile_steps: int = 3

    def __post_init__(self) -> None:
        _at_least(self.every, "log.every", 1)
        if self.profile_at is not None:
            _at_least(self.profile_at, "log.profile_at", 1)
        _at_least(self.profile_steps, "log.profile_steps", 1)


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """When a run stops by itself.

    Attributes:
        non_finite_limit: steps in a row with a loss or gradient that is not finite; each of them
            changes nothing.
        max_skipped: such steps in all; a run that has more of them is done with exit code 65.
            Below 1 it is a share of `steps`.
        compare_replicas_every: steps between comparisons of the devices' copies; 0 is never.
        watchdog_seconds: a step that takes longer ends the process; 0 is never.
    """

    non_finite_limit: int = 5
    max_skipped: float = 0.001
    compare_replicas_every: int = 1000
    watchdog_seconds: float = 1800.0

    def __post_init__(self) -> None:
        _at_least(self.non_finite_limit, "guard.non_finite_limit", 1)
        skipped = self.max_skipped
        _check(skipped, "guard.max_skipped", 0 <= skipped < math.inf, "0 or more")
        _at_least(self.compare_replicas_every, "guard.compare_replicas_every", 0)
        seconds = self.watchdog_seconds
        _check(seconds, "guard.watchdog_seconds", 0 <= seconds < math.inf, "0 or more")

    def may_skip(self, count: int, steps: int) -> bool:
        """Whether `max_skipped` lets a run of so many steps have skipped `count` of them."""
        return count <= self.max_skipped * (steps if self.max_skipped < 1 else 1)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        name: of the run, in its logs.
        steps: optimizer steps in all.
        seed: of the order of the data, of every draw, and of parameters that are made anew.

    Raises:
        ConfigError: naming the key of a value that is out of range or does not fit another, here
            and in every section.
    """

    name: str
    steps: int
    model: ModelConfig
    data: DataConfig
    seed: int = 0
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        _check(self.name, "name", bool(self.name), "a word or more")
        _at_least(self.steps, "steps", 1)
        _check(self.seed, "seed", 0 <= self.seed < 2**32, "in 0 to 2**32 - 1")
        if self.data.batch_size % self.optimizer.accumulation:
            raise ConfigError(
                f"data.batch_size={self.data.batch_size} does not split into "
                f"optimizer.accumulation={self.optimizer.accumulation} equal parts"
            )
        warmup, first = self.optimizer.warmup_steps, self.log.profile_at
        _check(warmup, "optimizer.warmup_steps", warmup < self.steps, f"below steps={self.steps}")
        fits = first is None or first <= self.steps
        _check(first, "log.profile_at", fits, f"at most steps={self.steps}")

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], origin: str = "configuration") -> "TrainConfig":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: for a key or value that is not allowed; `origin` begins the message.
        """
        return settings.from_dict(cls, mapping, origin)

    def to_dict(self) -> dict[str, Any]:
        """All values, defaults included, for JSON and YAML."""
        return settings.to_dict(self)

    def save(self, path: epath.PathLike) -> None:
        """Writes all values as a YAML file that `load_config` reads."""
        write_atomically(path, OmegaConf.to_yaml(OmegaConf.create(self.to_dict())))

    @property
    def hash(self) -> str:
        """SHA-256 over all values, in hexadecimal digits.

        Settings that came later do not count where they leave everything as it was before them:
        the hash in an older checkpoint is still that of the same training.
        """
        values = self.to_dict()
        for section, unchanged in _LATER.items():
            items = values[section].items()
            values[section] = {key: v for key, v in items if (key, v) not in unchanged.items()}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: epath.PathLike, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a configuration file, those it is based on, and arguments such as `steps=100`.

    Raises:
        ConfigError: naming file or argument, and key, of what is unknown (with the nearest key),
            missing, of the wrong type or out of range.
    """
    return settings.load(TrainConfig, path, overrides)


_LATER: Mapping[str, Mapping[str, Any]] = {
    "model": {"base": None},
    "data": {"fit": "stretch", "reward_cut": "end"},
    "validation": {"data": [], "examples": 256, "loss_every": 0},
    "guard": {"max_skipped": 0.001},
}


def _check(value: Any, key: str, fits: bool, wanted: str) -> None:
    if not fits:
        raise ConfigError(f"{key}={value!r} must be {wanted}")


def _at_least(value: int, key: str, low: int, name: str = "") -> None:
    _check(value, key, value >= low, f"at least {name and name + '='}{low}")


def _positive(value: float, key: str) -> None:
    _check(value, key, 0 < value < math.inf, "a finite number above 0")


def _share(value: float, key: str) -> None:
    _check(value, key, 0 <= value <= 1, "in 0 to 1")


def _one_of(value: str, key: str, choices: Sequence[str]) -> None:
    _check(value, key, value in choices, f"one of {', '.join(choices)}")
