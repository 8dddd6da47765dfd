"""The configuration of a training run: its schema, defaults, ranges and documentation.

A file of `configs/` gives what differs from the defaults below; `key=value` on the command line
comes last. Keys are dotted: `data.batch_size` is `TrainConfig.data.batch_size`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from etils import epath
from pydantic import AfterValidator, ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from mre_jax.errors import ConfigError
from mre_jax.io.bucket import REQUESTS
from mre_jax.io.files import write_atomically
from mre_jax.models.attention import check_implementation
from mre_jax.reward.config import RewardConfig
from mre_jax.training import losses, settings


def _attention(name: str) -> str:
    check_implementation(name)
    return name


def _terms(factors: dict[str, float]) -> dict[str, float]:
    if not factors or not factors.keys() <= losses.TERMS.keys():
        known = ", ".join(losses.TERMS)
        raise ConfigError(f"loss.terms={factors!r} must name one or more of {known}")
    return factors


def _objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ConfigError(f"loss.objective={name!r} must be one of {', '.join(OBJECTIVES)}")
    return name


def _parts(parts: tuple[str, ...]) -> tuple[str, ...]:
    if not parts or len(set(parts)) < len(parts) or not set(parts) <= set(TRAINABLE):
        raise ConfigError(
            f"model.trained={list(parts)} must name one or more of {', '.join(TRAINABLE)}, each "
            "once"
        )
    if "llm" in parts and not {"adapters", "new_tokens"}.isdisjoint(parts):
        raise ConfigError(
            f"model.trained={list(parts)}: llm is the whole language model; leave adapters and "
            "new_tokens out, which are parts of it"
        )
    return parts


def _check(key: str, value: Any, fits: bool, wanted: str) -> None:
    if not fits:
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{key}={shown!r} must be {wanted}")


TRAINABLE = ("unet", "qformer", "bim", "adapters", "new_tokens", "llm", "vision", "projector")
"""What `model.trained` may name: networks, and parts of the language model."""

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "denoising": ("unet",),
    "replies_and_edits": ("unet", "llm", "vision", "projector", "qformer", "bim"),
    "captions": ("llm", "qformer"),
    "instructions": ("llm", "vision", "projector", "qformer"),
}
"""What `loss.objective` may be, with the networks that it can train."""

ALIGNING = ("captions", "instructions")
"""Those that bring the QFormer's states to the text encoder's."""

# The description of a range is what an error says.
Count: TypeAlias = Annotated[int, Field(ge=1, description="at least 1")]
Whole: TypeAlias = Annotated[int, Field(ge=0, description="at least 0")]
Seconds: TypeAlias = Annotated[float, Field(ge=0, description="0 or more")]
Positive: TypeAlias = Annotated[float, Field(gt=0, description="a finite number above 0")]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, description="in 0 to 1")]
Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1, description="in [0, 1)")]
Scale: TypeAlias = Annotated[float, Field(ge=1, description="at least 1")]
Text: TypeAlias = Annotated[str, Strict(False)]
Name: TypeAlias = Annotated[str, Strict(False), Field(min_length=1, description="a word or more")]
Model: TypeAlias = Annotated[str, Field(min_length=1, description="a model's path")]

CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, coerce_numbers_to_str=True)


@dataclass(frozen=True, config=CHECKED)
class ModelConfig:
    """What is trained, and how its arithmetic runs.

    Attributes:
        init_from: weights to start from, in any format that converts: a model folder, a file in
            the original layout, `org/name@REVISION`, `gs://...`. Read once, by the first start: the
            run's directory keeps what a later one needs.
        base: another model for what `init_from` lacks, such as the tokenizer of a weight file;
            null is none.
        trained: what is trained, the rest is frozen: "unet", and of a SmartEdit "qformer", "bim",
            "adapters" (of the language model), "new_tokens" (the rows of its embedding and head
            that SmartEdit adds), or whole "llm", "vision" and "projector".
        in_channels: input channels of the UNet; an editor's is 8, and those that `init_from` lacks
            start at zero.
        reward: the reward condition; null trains plain InstructPix2Pix. Parts that `init_from`
            lacks are made anew.
        compute_dtype: type of the activations; parameters are float32.
        attention: an implementation named in `mre_jax.models.attention`.
        remat: recompute the activations of each block in the backward pass: less memory, slower.
        ema_decay: decay of the parameters' moving average, in [0, 1); null keeps none.
    """

    init_from: Model
    base: Model | None = None
    trained: Annotated[tuple[Text, ...], AfterValidator(_parts)] = ("unet",)
    in_channels: Count = 8
    reward: RewardConfig | None = None
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attention: Annotated[str, AfterValidator(_attention)] = "auto"
    remat: bool = False
    ema_decay: Decay | None = 0.9999

    @property
    def takes_reward(self) -> bool:
        """Whether the UNet reads rewards."""
        return self.reward is not None and self.reward.enabled


@dataclass(frozen=True, config=CHECKED)
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
        filter: filter of resizing: InstructPix2Pix's "lanczos", or the released code's "bicubic".
        flip: probability of mirroring.
        min_score: leaves out examples with a lower score in any perspective; null keeps all.
        cache: latents and text states that `mre data cache` may have put beside the pictures:
            "auto" uses them where they are (and refuses those that do not fit), "required" refuses
            to train without, "never" computes them anew.
        none_for_top: "None" stands for the reward text of a perspective with the top score.
        reward_cut: truncation of a reward text that is too long for the text encoder: "end" cuts
            its end, as the released code does, so that the last perspective is lost; "share" cuts
            of each perspective what goes beyond its share.
        templates: a file of the requests and replies around an instruction, as the released
            weights of SmartEdit know; null is this project's own words.
        template_by: what chooses an example's template: "instruction", as where edits are made, or
            "example", anew in each epoch.
        text_tokens: window of a prompt in tokens, the picture apart.
        threads, workers, ahead: see `data.batches.loader.Reading`; no batch depends on them.
        requests: records of a set in a bucket that each process asks for at a time, where they
            are: of every batch the host's own. 0 copies the set, whole, to `$MRE_DATA_CACHE` (by
            default `~/.cache/mre_jax/sets`) of every host first.
    """

    paths: Annotated[tuple[Text, ...], Field(min_length=1, description="one folder or more")]
    batch_size: Count
    weights: tuple[Positive, ...] | None = None
    resolution: Annotated[int, Field(ge=8, description="at least 8")] = 256
    resize: int | None = None
    fit: Literal["stretch", "crop"] = "stretch"
    filter: Literal["lanczos", "bicubic"] = "lanczos"
    flip: Share = 0.5
    min_score: Annotated[float, Field(ge=0, le=5, description="in 0 to 5")] | None = None
    cache: Literal["auto", "required", "never"] = "auto"
    none_for_top: bool = True
    reward_cut: Literal["end", "share"] = "end"
    templates: str | None = None
    template_by: Literal["instruction", "example"] = "instruction"
    text_tokens: Count = 256
    threads: Count = 4
    workers: Whole = 0
    ahead: Count = 4
    requests: Whole = REQUESTS

    def __post_init__(self) -> None:
        sets = len(self.paths)
        fits = self.weights is None or len(self.weights) == sets
        wanted = f"{sets} numbers above 0, one for each of data.paths"
        _check("data.weights", self.weights, fits, wanted)
        fits = self.resize is None or self.resize >= self.resolution
        _check("data.resize", self.resize, fits, f"at least data.resolution={self.resolution}")


@dataclass(frozen=True, config=CHECKED)
class PreferenceConfig:
    """Diffusion-DPO on pairs of edits, instead of the error of each: see `training.preference`.

    A step also asks the network that training started from, which the run keeps: one copy of the
    UNet more in `compute_dtype`, split as the parameters are (1.7 GB for Stable Diffusion 1.5 in
    bfloat16), and one forward pass.

    Attributes:
        beta: how strongly the network is held to where it started, as the released code has it.
        margin: difference of the mean scores, 0 to 5, below which two edits make no pair; equal
            ones never do.
    """

    beta: Positive = 5000.0
    margin: Annotated[float, Field(ge=0, le=5, description="in 0 to 5")] = 0.0


@dataclass(frozen=True, config=CHECKED)
class LossConfig:
    """What is minimised.

    Attributes:
        objective: "denoising" trains on the error of the UNet's prediction; "replies_and_edits"
            also on the language model's of SmartEdit's reply, through which the UNet's condition
            is made (stages 2a and 2b); "captions" on the language model's, and on the distance of
            the QFormer's states from the text encoder's (stage 1), of a file of captions and
            without pictures; "instructions" on the same, of prepared edits whose pictures stand in
            the prompts, which the official stage 1 does not do.
        language_weight: factor of the language model's loss beside the other.
        dropout: share of the examples that lose the text, share that lose the image, and share
            that lose both, for classifier-free guidance: 0 to 1/3.
        reward_dropout: share that lose the reward, for reward guidance.
        prediction_type: what the UNet predicts; null is that of `init_from`.
        terms: errors of `mre_jax.training.losses` that are added up, each times its factor.
        score_weighting: "linear" weighs an example by its mean score, over the mean of the scale;
            "none" weighs all alike.
        min_snr_gamma: weighs a timestep by min(snr, gamma) / snr (Hang et al. 2023); null is off.
        preference: trains on pairs of edits of one picture and instruction, of which the scores
            prefer one; null trains on each example. `data.batch_size` counts edits, two a pair.
    """

    objective: Annotated[str, AfterValidator(_objective)] = "denoising"
    language_weight: Seconds = 1.0
    dropout: Annotated[float, Field(ge=0, le=1 / 3, description="in 0 to 1/3")] = 0.05
    reward_dropout: Share = 0.0
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    score_weighting: Literal["none", "linear"] = "none"
    min_snr_gamma: Positive | None = None
    terms: Annotated[dict[str, float], AfterValidator(_terms)] = dataclasses.field(
        default_factory=lambda: {"squared_error": 1.0}, hash=False
    )
    preference: PreferenceConfig | None = None

    def __post_init__(self) -> None:
        fits = self.preference is None or self.score_weighting == "none"
        wanted = "none with loss.preference, which takes the scores to prefer by"
        _check("loss.score_weighting", self.score_weighting, fits, wanted)

    @property
    def together(self) -> int:
        """Neighbouring examples of a batch that the loss compares: two in a pair, or one."""
        return 1 if self.preference is None else 2


@dataclass(frozen=True, config=CHECKED)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), its learning rate, and how a batch is split.

    Attributes:
        learning_rate: rate after the warm-up.
        reward_rate_scale: times `learning_rate` is the rate of the reward's parts, which start
            from nothing where the rest is pretrained. The paper has one rate for all: 1.
        beta1, beta2, epsilon, weight_decay: AdamW's.
        max_grad_norm: gradients of a larger global norm are scaled down to it; null leaves them.
        schedule: "constant", or "cosine" or "linear" down to 0 at the last step.
        warmup_steps: steps in which the learning rate rises linearly from 0; below `steps`.
        accumulation: parts of a batch that are computed one after another; divides
            `data.batch_size`. The step is the same but for rounding, in less memory.
    """

    learning_rate: Positive = 5e-5
    reward_rate_scale: Positive = 1.0
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8
    weight_decay: Seconds = 1e-2
    max_grad_norm: Positive | None = 1.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: Whole = 0
    accumulation: Count = 1


@dataclass(frozen=True, config=CHECKED)
class MeshConfig:
    """How the devices share the work. Results differ between meshes by rounding only.

    Attributes:
        data: devices along which only the batch is split; -1 takes all that `fsdp` leaves.
        fsdp: devices along which the parameters are split too.
        shard_optimizer: split optimizer state and moving average over `data` (ZeRO-1).
    """

    data: int = -1
    fsdp: Count = 1
    shard_optimizer: bool = True

    def __post_init__(self) -> None:
        fits = self.data == -1 or self.data >= 1
        _check("mesh.data", self.data, fits, "at least 1, or -1 for all devices")


@dataclass(frozen=True, config=CHECKED)
class CheckpointConfig:
    """When the state is saved, and which saves stay. The last step is always saved.

    Attributes:
        every: steps between saves.
        keep: how many of the newest stay.
        keep_every: saves at its multiples stay too; null is none.
        pinned: steps that are saved and stay.
    """

    every: Count = 1000
    keep: Count = 3
    keep_every: Count | None = None
    pinned: tuple[Whole, ...] = ()


@dataclass(frozen=True, config=CHECKED)
class ValidationConfig:
    """A loss and edits of what is not trained on, with the same noise each time.

    Attributes:
        data: folders of `mre prepare` that are held out: the loss on them is in the metrics. Noise
            and timestep of an example depend on its id alone, so that losses compare between steps
            and runs.
        examples: how many of these sets' examples, the same ones each time.
        loss_every: steps between such losses; 0 is never.
        every: steps between edits; 0 is never.
        items: JSON lines as `mre sample` reads them.
        count: how many of its first items.
        steps: steps of the sampler.
        guidance_scale, image_guidance_scale: guidance of the pictures; see `mre edit`.
    """

    data: tuple[Text, ...] = ()
    examples: Count = 256
    loss_every: Whole = 0
    every: Whole = 0
    items: str | None = None
    count: Count = 8
    steps: Count = 30
    guidance_scale: Scale = 7.5
    image_guidance_scale: Scale = 1.5

    def __post_init__(self) -> None:
        wanted = "one folder or more when validation.loss_every is not 0"
        _check("validation.data", list(self.data), bool(self.data or not self.loss_every), wanted)
        wanted = "a file when validation.every is not 0"
        _check("validation.items", self.items, bool(self.items or not self.every), wanted)


@dataclass(frozen=True, config=CHECKED)
class LogConfig:
    """What a run says about itself.

    Attributes:
        every: steps between rows of metrics.
        tensorboard: write them for TensorBoard too, which needs the extra `data`.
        profile_at: the first step of a profiler trace, from 1 to `steps`; null is none.
        profile_steps: length of the trace in steps.
    """

    every: Count = 10
    tensorboard: bool = True
    profile_at: Count | None = None
    profile_steps: Count = 3


@dataclass(frozen=True, config=CHECKED)
class GuardConfig:
    """When a run stops by itself.

    Attributes:
        non_finite_limit: steps in a row with a loss or gradient that is not finite; each of them
            changes nothing.
        max_skipped: skipped steps in all; a run that has more of them is done with exit code 65.
            Below 1 it is a share of `steps`.
        compare_replicas_every: steps between comparisons of the devices' copies; 0 is never.
        watchdog_seconds: a step that takes longer ends the process; 0 is never.
    """

    non_finite_limit: Count = 5
    max_skipped: Seconds = 0.001
    compare_replicas_every: Whole = 1000
    watchdog_seconds: Seconds = 1800.0

    def may_skip(self, count: int, steps: int) -> bool:
        """Whether `max_skipped` lets a run of so many steps have skipped `count` of them."""
        return count <= self.max_skipped * (steps if self.max_skipped < 1 else 1)


@dataclass(frozen=True, config=CHECKED)
class TrainConfig:
    """A whole run.

    Attributes:
        name: the run's name in its logs.
        steps: optimizer steps in all.
        seed: decides the order of the data, every draw, and parameters that are made anew.
    """

    name: Name
    steps: Count
    model: ModelConfig
    data: DataConfig
    seed: Annotated[int, Field(ge=0, lt=2**32, description="in 0 to 2**32 - 1")] = 0
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    log: LogConfig = LogConfig()
    guard: GuardConfig = GuardConfig()

    def __post_init__(self) -> None:
        parts, warmup = self.optimizer.accumulation, self.optimizer.warmup_steps
        if self.data.batch_size % (parts * self.loss.together):
            raise ConfigError(
                f"data.batch_size={self.data.batch_size} does not split into "
                f"optimizer.accumulation={parts} equal parts"
                + (" of whole pairs (loss.preference)" if self.loss.preference else "")
            )
        if self.loss.preference and self.model.takes_reward:
            raise ConfigError(
                "loss.preference compares edits that were asked for alike, and model.reward would "
                "tell them apart: set model.reward=null"
            )
        _check_stage(self)
        steps, first = self.steps, self.log.profile_at
        _check("optimizer.warmup_steps", warmup, warmup < steps, f"below steps={steps}")
        _check("log.profile_at", first, (first or 1) <= steps, f"at most steps={steps}")

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], origin: str = "configuration") -> "TrainConfig":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: for a key or value that is not allowed; `origin` begins the message.
        """
        return settings.from_dict(cls, mapping, origin)

    def to_dict(self) -> dict[str, Any]:
        """All values, defaults included, with lists for tuples: for JSON and YAML."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    def save(self, path: epath.PathLike) -> None:
        """Writes all values as a YAML file that `load_config` reads."""
        write_atomically(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    @property
    def hash(self) -> str:
        """SHA-256 over all values, in hexadecimal digits.

        Settings that came later do not count where they leave everything as it was before them:
        the hash in an older checkpoint is still that of the same training.
        """
        values = self.to_dict()
        for name, unchanged in _LATER.items():
            items = values[name].items()
            values[name] = {key: v for key, v in items if (key, v) not in unchanged.items()}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: epath.PathLike, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a configuration file, those it is based on, and arguments such as `steps=100`.

    Raises:
        ConfigError: naming file or argument, and key, of what is unknown (with the nearest key),
            missing, of the wrong type or out of range.

    Example:
        >>> config = load_config("configs/reward_ip2p.yaml", ["steps=100", "data.flip=0"])
        >>> config.steps, config.model.reward.form, config.data.resolution
        (100, 'paper', 256)
        >>> load_config("configs/reward_ip2p.yaml", ["loss.dropout=0.5"])
        Traceback (most recent call last):
        mre_jax.errors.ConfigError: command line: loss.dropout=0.5 must be in 0 to 1/3
    """
    return settings.load(TrainConfig, path, overrides)


def _check_stage(config: TrainConfig) -> None:
    """Refuses what an objective cannot train, or has no meaning for."""
    objective, parts = config.loss.objective, config.model.trained
    of = {"adapters": "llm", "new_tokens": "llm"}
    can = [part for part in TRAINABLE if of.get(part, part) in OBJECTIVES[objective]]
    wanted = f"of what loss.objective={objective} trains, {', '.join(can)}"
    _check("model.trained", parts, set(parts) <= set(can), wanted)
    if objective == "denoising":
        return
    data, validation = config.data, config.validation
    refused = [
        ("loss.preference=null", config.loss.preference is not None),
        ("data.flip=0", data.flip > 0),  # the instruction may say left or right
        ("data.fit=stretch", data.fit != "stretch"),  # the vision tower sees the whole picture
        ("data.resize=null", data.resize is not None),
        ("validation.every=0", validation.every > 0),
        ("validation.loss_every=0", objective in ALIGNING and validation.loss_every > 0),
        ("data.min_score=null", objective == "captions" and data.min_score is not None),
    ]
    for setting, breaks in refused:
        if breaks:
            raise ConfigError(f"loss.objective={objective} wants {setting}")


_LATER: Mapping[str, Mapping[str, Any]] = {
    "model": {"base": None, "trained": ["unet"]},
    "data": {
        "fit": "stretch",
        "reward_cut": "end",
        "templates": None,
        "template_by": "instruction",
        "text_tokens": 256,
        "requests": REQUESTS,
    },
    "loss": {
        "objective": "denoising",
        "language_weight": 1.0,
        "terms": {"squared_error": 1.0},
        "preference": None,
    },
    "validation": {"data": [], "examples": 256, "loss_every": 0},
    "guard": {"max_skipped": 0.001},
}
