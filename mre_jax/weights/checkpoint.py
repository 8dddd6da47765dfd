"""A model of any supported kind, opened: its components under our names, and the files around them.

Opening reads names, shapes and configurations, not the weights.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.models.clip import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward_config import RewardConfig
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.weights import compvis, infer
from mre_jax.weights.expand import with_input_channels
from mre_jax.weights.folder import COMPONENTS, ModelFolder
from mre_jax.weights.locate import local_path
from mre_jax.weights.lora import Loras, OpenedLora, merge, opened_loras, parse_loras
from mre_jax.weights.lora_file import is_lora
from mre_jax.weights.older import current_text_encoder, current_vae
from mre_jax.weights.orbax_folder import OrbaxComponent
from mre_jax.weights.released import find_reward, from_released
from mre_jax.weights.source import TensorSource, open_tensors, renamed

REWARD_CLASS = "RewardUNet2DConditionModel"

EDITOR = -1
"""Stands for the input channels of an editor, which sees the original's latents beside its own."""


@dataclasses.dataclass(frozen=True)
class Component:
    """One network of a model.

    Attributes:
        name: one of `COMPONENTS`.
        config: its config.json as a dict, foreign keys included.
        text: its config.json as it is to be written; unchanged from the source where `config` is.
        source: its tensors under our modules' names, in PyTorch's layout.
    """

    name: str
    config: Mapping[str, Any]
    text: bytes
    source: TensorSource

    def network(self, compute: Compute | None = None) -> nnx.Module:
        """The abstract module: shapes without values. It is shared, and not to be changed.

        Raises:
            ConfigError: when the configuration asks for a network that is not supported.
        """
        config_class, module_class = _NETWORKS[self.name]
        return _abstract(module_class, config_class.from_dict(self.config), compute or Compute())

    @property
    def reward(self) -> RewardConfig | None:
        """The reward condition of a UNet."""
        stated = self.config.get("reward")
        return None if stated is None else RewardConfig.from_dict(stated)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model.

    Attributes:
        origin: what error messages call it.
        kind: "diffusers", "released", "orbax" or "compvis".
        weights: "ema" where a moving average was there and taken, "raw" where it was left,
            "only" where there was no choice.
        components: by name.
        files: the small files beside them (tokenizer, scheduler, ...), by path in a model folder.
        safety_checker: a folder to copy, or None.
        lone: it is a single component and no model folder.
        notes: what was changed or assumed on opening, for the user.
    """

    origin: str
    kind: str
    weights: str
    components: Mapping[str, Component]
    files: Mapping[str, bytes]
    safety_checker: Path | None = None
    lone: bool = False
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def checkpoint_at(
    model: epath.PathLike,
    *,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    **options: Any,
) -> Iterator[Checkpoint]:
    """`open_checkpoint` of a model wherever it is; its weights can be read inside the `with`.

    Args:
        model: a local path, `org/name@REVISION` or `gs://...`.
        base: a model for what `model` lacks, in any of these places too.
        lora: LoRA files to merge, in any of these places: "FILE", "FILE:SCALE", (FILE, SCALE) or
            several.
        options: those of `open_checkpoint`.

    Raises:
        DataError: when something is missing or damaged, or of another kind.
        ConfigError: for a scale of a LoRA that is not a finite number.
    """
    with contextlib.ExitStack() as places:
        loras = places.enter_context(opened_loras(parse_loras(lora)))
        path = places.enter_context(local_path(model, options.get("weights")))
        below = None if base is None else places.enter_context(local_path(base))
        yield open_checkpoint(path, base=below, loras=loras, **options)


def open_checkpoint(
    path: Path,
    *,
    weights: str | None = None,
    in_channels: int | None = None,
    unet_config: Mapping[str, Any] | None = None,
    base: Path | None = None,
    components: Collection[str] | None = None,
    loras: Sequence[OpenedLora] = (),
) -> Checkpoint:
    """Recognises and opens a model folder, a component's folder, or a file in the original layout.

    Args:
        path: local.
        weights: "ema" or "raw" where there are both; None prefers the moving average.
        in_channels: what the UNet shall take; missing ones get zero weights. `EDITOR` is twice the
            channels of its latents, None leaves it.
        unet_config: entries that replace those of the UNet's configuration.
        base: a model for what `path` lacks, local.
        components: those to open; None is the lone one of a component's folder, else all.
        loras: to merge into these, before the UNet gets more input channels.

    Raises:
        DataError: when something is missing or damaged, or of another kind.
    """
    opened = _open(path, weights, COMPONENTS if components is None else components)
    if base is not None:
        opened = _completed(opened, _open(base, None, COMPONENTS))
    if components is None:
        components = tuple(opened.components) if opened.lone else COMPONENTS
    for name in components:
        if name not in opened.components:
            raise DataError(
                f"{path} lacks {name}/; take a complete folder, or name one that has it with --base"
            )
    chosen = {name: opened.components[name] for name in components}
    if "unet" in chosen:
        chosen["unet"] = changed(chosen["unet"], **(unet_config or {}))
    opened = with_loras(dataclasses.replace(opened, components=chosen), loras)
    return opened if in_channels is None else expanded(opened, in_channels)


def with_loras(model: Checkpoint, loras: Sequence[OpenedLora]) -> Checkpoint:
    """The model with LoRAs merged into its weights as they are read.

    Raises:
        DataError: when one does not fit, or changes nothing.
    """
    if not loras:
        return model
    sources = {name: component.source for name, component in model.components.items()}
    merged, notes = merge(sources, loras, model.origin)
    components = {
        name: dataclasses.replace(component, source=merged[name])
        for name, component in model.components.items()
    }
    return dataclasses.replace(model, components=components, notes=(*model.notes, *notes))


def expanded(model: Checkpoint, in_channels: int) -> Checkpoint:
    """The model with a UNet that takes `in_channels`, as `open_checkpoint` has them.

    Raises:
        ChannelsError: when it takes more.
    """
    unet = model.components.get("unet")
    if unet is None:
        return model
    if in_channels == EDITOR:
        in_channels = 2 * UNetConfig.from_dict(unet.config).out_channels
    source = with_input_channels(unet.source, in_channels)
    notes = model.notes
    if source is not unet.source:
        notes += (
            f"conv_in expanded to {in_channels} input channels, the new ones with zero weights "
            "(--in-channels keeps another number)",
        )
    made = dataclasses.replace(changed(unet, in_channels=in_channels), source=source)
    return dataclasses.replace(model, components={**model.components, "unet": made}, notes=notes)


def changed(component: Component, **entries: Any) -> Component:
    """The component with other entries in its configuration."""
    if all(component.config.get(key, _ABSENT) == value for key, value in entries.items()):
        return component
    config = {**component.config, **entries}
    return dataclasses.replace(component, config=config, text=_json(config))


def _open(path: Path, weights: str | None, names: Collection[str]) -> Checkpoint:
    return _open_file(path, weights) if path.is_file() else _open_folder(path, weights, names)


def _open_folder(path: Path, weights: str | None, names: Collection[str]) -> Checkpoint:
    folder = ModelFolder.open(path, weights)
    components = {name: _OPENERS[name](folder) for name in names if name in folder.components}
    unet = components.get("unet")
    kind = "diffusers"
    if unet is not None and unet.reward is not None and unet.reward.form == "released":
        kind = "released"
    if any(isinstance(folder.tensors(name), OrbaxComponent) for name in components):
        kind = "orbax"
    notes = [note for name in components if (note := folder.taken(name))]
    return Checkpoint(
        origin=str(path),
        kind=kind,
        weights="raw" if weights == "raw" else folder.unet_weights,
        components=components,
        files=folder.files(),
        safety_checker=folder.safety_checker,
        lone=folder.lone,
        notes=tuple(notes),
    )


def _unet(folder: ModelFolder) -> Component:
    stored = folder.tensors("unet")
    component = _stored("unet", folder, renamed(stored, from_released))
    if component.reward is None and (found := find_reward(stored.tensors)) is not None:
        return changed(component, _class_name=REWARD_CLASS, reward=found.to_dict())
    return component


def _vae(folder: ModelFolder) -> Component:
    return _stored("vae", folder, current_vae(folder.tensors("vae")))


def _text_encoder(folder: ModelFolder) -> Component:
    return _stored("text_encoder", folder, current_text_encoder(folder.tensors("text_encoder")))


def _stored(name: str, folder: ModelFolder, source: TensorSource) -> Component:
    text = (folder.components[name] / "config.json").read_bytes()
    return Component(name, folder.config(name), text, source)


def _open_file(path: Path, weights: str | None) -> Checkpoint:
    source = open_tensors(path)
    if is_lora(source):
        raise DataError(f"{path} is a LoRA: give it with --lora, and its base model here")
    if not compvis.is_compvis(source.tensors):
        raise DataError(
            f"{path} is not a whole model in the original layout; for the weights of one component "
            "give its folder, with the config.json"
        )
    parts = compvis.split(source, weights)
    configs = {
        "unet": infer.unet_config(parts.unet.tensors, str(path)),
        "vae": infer.vae_config(parts.vae.tensors, str(path), parts.scaling_factor),
        "text_encoder": infer.text_encoder_config(parts.text_encoder.tensors, str(path)),
    }
    sources = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}
    return Checkpoint(
        origin=str(path),
        kind="compvis",
        weights=parts.weights,
        components={
            name: Component(name, config, _json(config), sources[name])
            for name, config in configs.items()
        },
        files={},
    )


def _completed(model: Checkpoint, base: Checkpoint) -> Checkpoint:
    """`model` with the networks, the tokenizer and the feature extractor that it lacks.

    The scheduler and the safety checker of `base` stay away: they belong to another model.
    """
    networks = [name for name in base.components if name not in model.components]
    own = {_top(name) for name in model.files}
    files = {
        name: data
        for name, data in base.files.items()
        if _top(name) in _SHARED_FOLDERS and _top(name) not in own
    }
    taken = [*networks, *sorted({_top(name) for name in files})]
    note = [f"{', '.join(taken)} taken from {base.origin}"] if taken else []
    return dataclasses.replace(
        model,
        components={**base.components, **model.components},
        files={**files, **model.files},
        lone=False,
        notes=(*model.notes, *note),
    )


def _top(name: str) -> str:
    return name.split("/")[0]


# Tracing a large network takes seconds, and a conversion asks for the same one several times.
@functools.lru_cache(maxsize=8)
def _abstract(module_class: Any, config: Any, compute: Compute) -> nnx.Module:
    return nnx.eval_shape(lambda: module_class(config, compute=compute, rngs=make_rngs(0)))


def _json(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=2) + "\n").encode()


_ABSENT = object()
_SHARED_FOLDERS = ("tokenizer", "feature_extractor")
_OPENERS = {"unet": _unet, "vae": _vae, "text_encoder": _text_encoder}
_NETWORKS: dict[str, tuple[Any, Any]] = {
    "unet": (UNetConfig, UNet),
    "vae": (VAEConfig, AutoencoderKL),
    "text_encoder": (CLIPTextConfig, CLIPTextModel),
}
