"""The model that a run has trained, as a folder for editing with it."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, get_args

import numpy as np
from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE
from mre_jax.training.checkpoints.reading import Restored, restore_params
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.training.frozen import FROZEN
from mre_jax.training.pretrained import kept_unet, read_record
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.trained import EMBEDDING, EMBEDDING_ROWS, HEAD, HEAD_ROWS, by_component
from mre_jax.weights.files.folder import COMPONENTS, SMARTEDIT
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.lora import LoraLike, opened_loras, parse_loras
from mre_jax.weights.model import (
    REWARD_CLASS,
    Component,
    PretrainedModel,
    changed,
    with_loras,
)
from mre_jax.weights.names.rule import to_torch, torch_name, torch_shape
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from mre_jax.weights.surroundings import SCHEDULER

Format: TypeAlias = Literal["diffusers", "orbax", "released"]
EXPORT = "export.json"


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """Which weights of a run, and how they are written.

    Attributes:
        run: the directory of `mre train`, local or gs://...
        out: the model folder to write, local or gs://...
        format: layout of the weights; released is diffusers' with the released code's names, for
            a model of that form.
        step: step of a checkpoint (default: the newest valid one).
        weights: moving average or not (default: ema if there is one).
        base: a model for all but the UNet (default: the run's model.init_from).
        lora: a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated.
        dtype: dtype of the weights; same is float32.
        force: replace what `out` holds.
    """

    run: epath.PathLike = dataclasses.field(metadata={"positional": True, "metavar": "RUN"})
    out: epath.PathLike = dataclasses.field(metadata={"metavar": "DIR"})
    format: Format = "diffusers"
    step: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    weights: Literal["ema", "raw"] | None = None
    base: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "MODEL"})
    lora: tuple[LoraLike, ...] = dataclasses.field(default=(), metadata={"metavar": "FILE[:SCALE]"})
    dtype: Literal["same", "float32", "float16", "bfloat16"] = "same"
    force: bool = False


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        step: step of the checkpoint.
        weights: "ema" or "raw".
        skipped: newer checkpoints that are damaged, a text each.
        notes: what was merged or replaced, for the user.
        files: SHA-256 of each file by its path in the folder.
    """

    step: int
    weights: str
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    files: Mapping[str, str]


class WithTrained(TensorSource):
    """A network's tensors, some of them as a run has trained them.

    Args:
        source: all of the network's tensors.
        params: arrays by dotted path in our module; the rows of added tokens stand for the last
            rows of the vocabulary.
        origin: what error messages call what was trained.
    """

    def __init__(self, source: TensorSource, params: Mapping[str, np.ndarray], origin: str):
        self.origin, self._source = source.origin, source
        rows = {_VOCABULARY[key]: key for key in params if key in _VOCABULARY}
        self._rows = {name: np.asarray(params[key]) for name, key in rows.items()}
        whole = {key: value for key, value in params.items() if key not in _VOCABULARY}
        self._trained = TrainedTensors(whole, origin)
        self.tensors = {**source.tensors, **self._trained.tensors}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        if name in self._trained.tensors:
            return self._trained.read(name)
        array = self._source.read(name)
        if name not in self._rows:
            return array
        rows = self._rows[name].astype(array.dtype)
        return np.concatenate([array[: -len(rows)], rows])


class TrainedTensors(TensorSource):
    """The parameters of a run's checkpoint as PyTorch's tensors.

    Args:
        params: arrays by dotted path in our modules.
        origin: what error messages call them.
    """

    def __init__(self, params: Mapping[str, np.ndarray], origin: str):
        self.origin = origin
        self._params = params
        self._keys = {torch_name(key.split(".")): key for key in params}
        self.tensors = {
            name: TensorInfo(torch_shape(key.split("."), params[key].shape), params[key].dtype)
            for name, key in self._keys.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        key = self._keys[name]
        return to_torch(key.split("."), np.asarray(self._params[key]))[1]


def export(spec: ExportSpec) -> ExportReport:
    """Writes the model of a run as a folder; the run is not changed, and may be under way.

    All that is not trained (VAE, text encoder, tokenizer, scheduler, and what a SmartEdit has
    before its UNet) is that of the run's `model.init_from`, or, where that is gone, what the run
    has kept of it. Of a SmartEdit that is not enough.

    Raises:
        ConfigError: if the run has no such checkpoint or weights, or not that format.
        DataError: if there is no run, or its checkpoint or the base is missing or damaged.
    """
    directory = RunDirectory(spec.run, writes=False)
    identity = directory.identity()
    config = identity.config
    _check_format(spec.format, config.model)
    weights = spec.weights or ("raw" if config.model.ema_decay is None else "ema")
    which = "ema" if weights == "ema" else "params"
    restored = restore_params(directory.checkpoints, spec.step, which)
    with (
        opened_loras(parse_loras(spec.lora)) as loras,
        _surroundings(directory, config, spec.base) as model,
    ):
        trained = with_loras(_trained(model, directory, restored, weights), loras)
        files = save_model(
            trained,
            spec.out,
            format="orbax" if spec.format == "orbax" else "diffusers",
            dtype=spec.dtype,
            force=spec.force,
        )
    return ExportReport(restored.step, weights, tuple(restored.skipped), trained.notes, files)


@contextlib.contextmanager
def _surroundings(
    directory: RunDirectory, config: TrainConfig, base: epath.PathLike | None
) -> Iterator[PretrainedModel]:
    """The model that the run started from; without the UNet's tensors, if the run kept the rest."""
    model, record = config.model, read_record(directory.model)
    cached = record is not None and "smartedit" in record["hashes"]
    further = SMARTEDIT if cached or config.loss.objective != "denoising" else ()
    with contextlib.ExitStack() as stack:
        try:
            opened = model_at(
                model.init_from if base is None else base,
                base=model.base,
                in_channels=model.in_channels,
                components=(*COMPONENTS, *further),
            )
            found = dataclasses.replace(stack.enter_context(opened), notes=())
        except DataError as error:
            if further and base is None:
                raise DataError(
                    f"{error}. A run keeps no language model: name the SmartEdit that it started "
                    "from with --base"
                ) from None
            if record is None or base is not None:
                raise
            kept = stack.enter_context(model_at(directory.model, components=FROZEN))
            components = {"unet": kept_unet(record), **kept.components}
            found = dataclasses.replace(kept, components=components, notes=_note(model))
        yield found


def _note(model: ModelConfig) -> tuple[str, ...]:
    return (f"{model.init_from} cannot be read: all but the UNet is what the run kept of it",)


def _check_format(format: str, model: ModelConfig) -> None:
    if format not in (formats := get_args(Format)):
        raise ConfigError(f"format {format!r} is not one of {', '.join(formats)}")
    reward = model.reward
    if format == "released" and (reward is None or reward.form != "released"):
        form = "no reward condition" if reward is None else f"the form {reward.form!r}"
        raise ConfigError(
            f"format 'released' wants model.reward.form=released, and this run has {form}; "
            "take the format diffusers"
        )


def _trained(
    model: PretrainedModel, directory: RunDirectory, restored: Restored, weights: str
) -> PretrainedModel:
    """`model` with the networks, the prediction type and the origin of a run."""
    identity = directory.identity()
    config = identity.config
    components = _trained_components(model, restored, config.model)
    about = {
        "name": config.name,
        "step": restored.step,
        "weights": weights,
        "config_hash": config.hash,
        "data": list(identity.data),
        "init": identity.init,
    }
    files = {
        **model.files,
        **_templates(directory),
        EXPORT: (json.dumps(about, indent=2) + "\n").encode(),
    }
    if config.loss.prediction_type is not None:
        files[SCHEDULER] = _scheduler(model.files, config.loss.prediction_type)
    return dataclasses.replace(model, components=components, files=files)


def _trained_components(
    model: PretrainedModel, restored: Restored, settings: ModelConfig
) -> dict[str, Component]:
    """The components of `model`, those that a run has trained with its arrays."""
    components, origin = dict(model.components), f"step {restored.step}"
    for name, params in by_component(restored.state, settings.trained).items():
        if name == "unet":
            source: TensorSource = TrainedTensors(params, origin)
            component = _with_reward(components[name], settings)
        else:
            component = components[name]
            source = WithTrained(component.source, params, origin)
        components[name] = dataclasses.replace(component, source=source)
    return components


def _templates(directory: RunDirectory) -> dict[str, bytes]:
    """Those that the run's prompts were written with, if it has any."""
    file = directory.model / TEMPLATES_FILE
    return {TEMPLATES_FILE: file.read_bytes()} if file.exists() else {}


def _with_reward(unet: Component, model: ModelConfig) -> Component:
    if model.reward is None or not model.reward.enabled:
        return unet
    return changed(unet, _class_name=REWARD_CLASS, reward=model.reward.to_dict())


def _scheduler(files: Mapping[str, bytes], prediction_type: str) -> bytes:
    stated = {**json.loads(files[SCHEDULER]), "prediction_type": prediction_type}
    return (json.dumps(stated, indent=2) + "\n").encode()


_VOCABULARY = {
    EMBEDDING_ROWS: torch_name(EMBEDDING.split(".")),
    HEAD_ROWS: torch_name(HEAD.split(".")),
}
"""The tensors that the rows of added tokens are the last rows of."""
