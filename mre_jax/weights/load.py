"""Modules from the weights of any supported model, and components from modules."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from etils import epath

from mre_jax.io.json_file import to_bytes
from mre_jax.models.adapted_llama import AdaptedLlamaConfig
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.layers import Compute
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from mre_jax.models.unet import UNet
from mre_jax.models.vae import AutoencoderKL
from mre_jax.weights.files.folder import COMPONENTS, SMARTEDIT
from mre_jax.weights.lora import Loras
from mre_jax.weights.model import (
    REWARD_CLASS,
    Component,
    PretrainedModel,
    require_editor,
)
from mre_jax.weights.names.rule import ModuleTensors, Placement, load
from mre_jax.weights.opening import model_at


@dataclasses.dataclass(frozen=True)
class Model:
    """The networks of an editor, and what is needed around them.

    Attributes:
        files: the small files of the model folder (tokenizer, scheduler, ...), by path.
        configs: the config.json of each component as it was read, foreign keys included.
        origin: where it came from.
        weights: "ema", "raw" or "only", as in `PretrainedModel`.
        base: where the rest came from, what `origin` lacked.
        lora: merged into the networks.
        notes: what was changed or assumed on loading, for the user.
        instruction_encoder: what SmartEdit has between an instruction and the UNet; None for an
            InstructPix2Pix, whose text encoder stands there.
    """

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    files: Mapping[str, bytes]
    configs: Mapping[str, Mapping[str, Any]]
    origin: str
    weights: str
    base: epath.PathLike | None = None
    lora: Loras = ()
    notes: tuple[str, ...] = ()
    instruction_encoder: SmartEditEncoder | None = None

    def pretrained(self) -> PretrainedModel:
        """The networks as they are now, as a model to save or convert."""
        networks = {name: getattr(self, name) for name in COMPONENTS}
        kind = "diffusers"
        if self.instruction_encoder is not None:
            networks |= parts_of(self.instruction_encoder)
            kind = "smartedit"
        components = {
            name: from_module(name, network, self.configs.get(name, {}))
            for name, network in networks.items()
        }
        return PretrainedModel(self.origin, kind, self.weights, components, self.files)


def load_unet(path: epath.PathLike, **options: Any) -> UNet:
    """The UNet of a model folder, of a file in the original layout, or of a lone `unet` folder.

    Args:
        path: a local path, `org/name@REVISION` or `gs://...`.
        options: arguments of `load_component`.

    Raises:
        DataError: when the weights are missing, damaged, or do not fit their configuration.
        ConfigError: when the configuration asks for a network that is not supported.

    Example:
        `TOY` is `mre_jax.toyworld.EDITOR`.

        >>> load_unet(TOY).config.in_channels
        48
    """
    return load_component("unet", path, **options)


def load_vae(path: epath.PathLike, **options: Any) -> AutoencoderKL:
    """The VAE, as `load_unet`."""
    return load_component("vae", path, **options)


def load_text_encoder(path: epath.PathLike, **options: Any) -> CLIPTextModel:
    """The CLIP text encoder, as `load_unet`."""
    return load_component("text_encoder", path, **options)


def load_component(
    name: str,
    path: epath.PathLike,
    *,
    compute: Compute | None = None,
    dtype: Any = jnp.float32,
    placement: Placement | None = None,
    weights: str | None = None,
    in_channels: int | None = None,
    base: epath.PathLike | None = None,
    lora: Loras = (),
) -> Any:
    """One network of a model.

    Args:
        name: "unet", "vae" or "text_encoder"; of a SmartEdit also one of `SMARTEDIT`.
        path: model; see `load_unet`.
        compute: how the network runs. SmartEdit's vision, projector, qformer and bim compute in
            float32 all the same, as in the official code.
        dtype: dtype of the parameters. SmartEdit's have those of the official code whatever it is:
            float32, and the language model's own layers what they are stored in, bfloat16.
        placement: where arrays go; see `mre_jax.weights.names.rule.load`.
        weights: "ema" or "raw" where there are both; None prefers the moving average.
        in_channels: what the UNet shall take; missing ones get zero weights. None leaves it.
        base: a model for what `path` lacks, in any of these places too.
        lora: LoRA files to merge, in any of these places: "FILE", "FILE:SCALE", (FILE, SCALE) or
            several. What they hold for other networks is left aside.

    Raises:
        DataError, ConfigError: as `load_unet`.
    """
    with model_at(
        path,
        base=base,
        lora=lora,
        weights=weights,
        in_channels=in_channels,
        components=(name,),
    ) as opened:
        return loaded(opened.components[name], compute, dtype, placement)


def load_model(
    path: epath.PathLike,
    *,
    compute: Compute | None = None,
    dtype: Any = jnp.float32,
    placement: Placement | None = None,
    weights: str | None = None,
    base: epath.PathLike | None = None,
    lora: Loras = (),
) -> Model:
    """All networks of an editor, an InstructPix2Pix or a SmartEdit.

    Args:
        path: a model folder or a file in the original layout; local, hub or bucket.
        compute, dtype, placement, weights, base, lora: arguments of `load_component`. With
            `mre_jax.io.devices.split_longest` for placement SmartEdit's 13 GB of language model
            are spread over a mesh, and never whole on the host.

    Raises:
        DataError, ConfigError: as `load_unet`.

    Example:
        >>> model = load_model(TOY)
        >>> model.unet.config.in_channels, model.vae.config.latent_channels, model.weights
        (48, 24, 'only')
    """
    with model_at(path, base=base, lora=lora, weights=weights, lone=False) as opened:
        require_editor(opened)
        networks: dict[str, Any] = {
            name: loaded(part, compute, dtype, placement)
            for name, part in opened.components.items()
        }
        parts = {name: networks.pop(name) for name in SMARTEDIT if name in networks}
        return Model(
            **networks,
            instruction_encoder=encoder_of(parts) if parts else None,
            files=opened.files,
            configs={name: part.config for name, part in opened.components.items()},
            origin=str(path),
            weights=opened.weights,
            base=base,
            lora=lora,
            notes=opened.notes,
        )


def from_module(name: str, module: Any, config: Mapping[str, Any]) -> Component:
    """A component whose tensors are a module's parameters.

    Args:
        name: as in `load_component`.
        module: an NNX module with its `config`.
        config: the config.json it came with; the module's own entries replace those.
    """
    stated = module.config
    if isinstance(module, LlamaForCausalLM):
        stated = AdaptedLlamaConfig(module.config, module.lora)
    entries = stated.to_dict()
    if "reward" in entries:
        entries["_class_name"] = REWARD_CLASS
    config = {**config, **_CLASSES.get(name, {}), **config, **entries}  # keys stay where they were
    return Component(name, config, to_bytes(config), ModuleTensors(module))


def load_instruction_encoder(
    model: PretrainedModel,
    *,
    compute: Compute | None = None,
    placement: Placement | None = None,
    llm_placement: Placement | None = None,
) -> SmartEditEncoder:
    """What an open SmartEdit has before its UNet; in the dtypes of `load_component`.

    Args:
        model: open with all parts of `SMARTEDIT`.
        compute, placement: arguments of `load_component`.
        llm_placement: that of the language model; None is `placement`.

    Raises:
        ConfigError: if two parts disagree on a width.
        DataError: as `load_component`.
    """
    places = dict.fromkeys(SMARTEDIT, placement) | {"llm": llm_placement or placement}
    return encoder_of(
        {
            name: loaded(model.components[name], compute, jnp.float32, place)
            for name, place in places.items()
        }
    )


def encoder_of(parts: Mapping[str, Any]) -> SmartEditEncoder:
    """SmartEdit's encoder of its networks by component, those of `SMARTEDIT`.

    Raises:
        ConfigError: if two disagree on a width.
    """
    return SmartEditEncoder(**{_ATTRIBUTES.get(name, name): parts[name] for name in SMARTEDIT})


def parts_of(encoder: SmartEditEncoder) -> dict[str, Any]:
    """The networks of SmartEdit's encoder by component: the inverse of `encoder_of`."""
    return {name: getattr(encoder, _ATTRIBUTES.get(name, name)) for name in SMARTEDIT}


def loaded(
    part: Component, compute: Compute | None, dtype: Any, placement: Placement | None
) -> Any:
    """A component's network with its values; arguments as those of `load_component`."""
    if part.name not in SMARTEDIT:
        return load(part.network(compute), part.source, dtype=dtype, placement=placement)
    return load(
        abstract_network(part, compute),
        part.source,
        as_stored=_is_of_llama if part.name == "llm" else None,
        placement=placement,
    )


def abstract_network(part: Component, compute: Compute | None) -> Any:
    """`Component.network` with the dtype that it computes in: see `load_component`."""
    if part.name in SMARTEDIT and part.name != "llm":
        compute = dataclasses.replace(compute or Compute(), dtype=jnp.float32)
    return part.network(compute)


def _is_of_llama(name: str) -> bool:
    """Whether a tensor of the language model is one that SmartEdit's training leaves alone."""
    return _OF_LLAMA.match(name) is not None and ".lora_" not in name


_CLASSES: dict[str, dict[str, Any]] = {
    "unet": {"_class_name": "UNet2DConditionModel"},
    "vae": {"_class_name": "AutoencoderKL"},
    "text_encoder": {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"},
}
_ATTRIBUTES = {"projector": "mm_projector"}
_OF_LLAMA = re.compile(r"model\.(layers|norm)\.")
