"""A model that is opened: its components under our names, and the files around them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import to_bytes
from mre_jax.models.adapted_llama import AdaptedLlama, AdaptedLlamaConfig
from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.clip_vision import CLIPPatchEncoder, CLIPVisionConfig
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.projector import Projector, ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.weights.files.source import TensorSource
from mre_jax.weights.llm_tokenizer import require_llm_tokenizer
from mre_jax.weights.lora import OpenedLora, merge
from mre_jax.weights.names.expand import with_input_channels
from mre_jax.weights.tokens import Tokenizer

REWARD_CLASS = "RewardUNet2DConditionModel"

EDITOR = -1
"""Stands for the input channels of an editor, which sees the original's latents beside its own."""


@dataclasses.dataclass(frozen=True)
class Component:
    """One network of a model.

    Attributes:
        name: one of `COMPONENTS`, or of `SMARTEDIT`.
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
        return _abstract(_NETWORKS[self.name][1], self.settings, compute or Compute())

    @property
    def settings(self) -> Any:
        """Its config.json as the network's own configuration.

        Raises:
            ConfigError: when it asks for a network that is not supported.
        """
        try:
            return _NETWORKS[self.name][0].from_dict(self.config)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from None

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold."""
        return sum(info.size for info in self.source.tensors.values())

    @property
    def reward(self) -> RewardConfig | None:
        """The reward condition of a UNet."""
        stated = self.config.get("reward")
        return None if stated is None else RewardConfig.from_dict(stated)


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """A trained model, opened: its weights are read on demand.

    Attributes:
        origin: what error messages call it.
        kind: "diffusers", "released", "orbax", "compvis" or "smartedit".
        weights: "ema" where the moving average was chosen, "raw" where the other weights were,
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

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, for the model's own text encoder; see `Tokenizer.from_files`."""
        config = self.components["text_encoder"].config
        return Tokenizer.from_files(self.files, CLIPTextConfig.from_dict(config))


def with_loras(model: PretrainedModel, loras: Sequence[OpenedLora]) -> PretrainedModel:
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


def expanded(model: PretrainedModel, in_channels: int) -> PretrainedModel:
    """The model with a UNet that takes `in_channels`, as `open_model` has them.

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
            f"conv_in expanded to {in_channels} input channels, the new ones with zero weights",
        )
    made = dataclasses.replace(changed(unet, in_channels=in_channels), source=source)
    return dataclasses.replace(model, components={**model.components, "unet": made}, notes=notes)


def changed(component: Component, **entries: Any) -> Component:
    """The component with other entries in its configuration."""
    if all(component.config.get(key, _ABSENT) == value for key, value in entries.items()):
        return component
    config = {**component.config, **entries}
    return dataclasses.replace(component, config=config, text=to_bytes(config))


def require_editor(model: PretrainedModel) -> None:
    """Refuses what cannot edit a picture.

    Raises:
        DataError: that names what the model is instead, or has no tokenizer.
    """
    takes = UNetConfig.from_dict(model.components["unet"].config).in_channels
    latents = VAEConfig.from_dict(model.components["vae"].config).latent_channels
    if takes != 2 * latents:
        kinds = {
            latents: "a text-to-image model; mre convert makes it one to train an editor from",
            2 * latents + 1: "an inpainting model",
        }
        raise DataError(
            f"{model.origin} is no editor: its UNet takes {takes} input channels, and an "
            f"editor's {2 * latents} ({kinds.get(takes, 'another kind of model')})"
        )
    require_tokenizer(model)


def require_tokenizer(model: PretrainedModel, advice: str = "") -> None:
    """Refuses a model without one, or without that of its language model.

    Raises:
        DataError: that ends with `advice`.
    """
    if "llm" in model.components:
        vocabulary = model.components["llm"].settings.llama.vocab_size
        require_llm_tokenizer(model.files, vocabulary, model.origin)
    if not any(name.startswith("tokenizer/") for name in model.files):
        raise DataError(
            f"{model.origin} has no tokenizer; take it from a Stable Diffusion 1.x folder with "
            f"--base FOLDER{advice}"
        )


# Tracing a large network takes seconds, and a conversion asks for the same one several times.
@functools.lru_cache(maxsize=16)
def _abstract(module_class: Any, config: Any, compute: Compute) -> nnx.Module:
    return nnx.eval_shape(lambda: module_class(config, compute=compute, rngs=make_rngs(0)))


_ABSENT = object()
_NETWORKS: dict[str, tuple[Any, Any]] = {
    "unet": (UNetConfig, UNet),
    "vae": (VAEConfig, AutoencoderKL),
    "text_encoder": (CLIPTextConfig, CLIPTextModel),
    "llm": (AdaptedLlamaConfig, AdaptedLlama),
    "vision": (CLIPVisionConfig, CLIPPatchEncoder),
    "projector": (ProjectorConfig, Projector),
    "qformer": (QFormerConfig, QFormer),
    "bim": (BIMConfig, BIM),
}
