"""What a run starts from: the pretrained networks, and what a resume needs of them.

The first start reads `model.init_from`, each tensor once, and leaves in the run's directory what a
later one needs beside its checkpoint: the frozen networks, the UNet's configuration, the tokenizer
and the schedule; in preference training also the UNet, which is the reference. A resume reads
these, and of them only what its steps ask for.
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from etils import epath

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import DataError
from mre_jax.io.tensor_hash import TensorHash
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.layers import Compute
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import VAEConfig
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.parallel import Layout
from mre_jax.training.pretrained import (
    RECORD,
    REFERENCE,
    Hashed,
    Kept,
    check_channels,
    deciding,
    kept_unet,
    read_record,
    unet_component,
    with_channels,
)
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.names.rule import load
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from mre_jax.weights.surroundings import scheduler_config
from mre_jax.weights.tokens import Tokenizer

Part: TypeAlias = tuple[Network, Parameters]
"""A frozen network and its arrays, in the compute dtype, a copy on every device."""

FROZEN = ("vae", "text_encoder")


@dataclasses.dataclass(frozen=True)
class RequiredNetworks:
    """Which frozen networks a run loads; cached examples go through fewer.

    Attributes:
        vae: steps encode pictures.
        text_encoder: steps encode instructions and reward texts.
        edits: the run makes edits of its own, which takes both.
    """

    vae: bool = True
    text_encoder: bool = True
    edits: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """The networks of a run before its first step, or before it goes on.

    Attributes:
        unet_config: configuration of the UNet that is trained.
        unet: the UNet but for its arrays.
        params: its arrays, float32, where `layout.storage` puts them; none in a resume.
        downscale: pixels per latent along each side.
        encoders, frozen: the networks that a step reads and does not train.
        parts: the frozen networks that the run asks, by name.
        schedule: noise schedule, with the prediction type that is trained.
        files: small files around the networks, by path in a model folder.
        tokenizer: the checkpoint's.
        hashes: identify the encoders, to compare with those of a cache.
        weights: hash of all initial weights.
        kept: what a resume needs, still to be saved; None in a resume.
    """

    unet_config: UNetConfig
    unet: Network
    params: Parameters
    downscale: int
    encoders: Encoders
    frozen: Frozen
    parts: Mapping[str, Part]
    schedule: NoiseSchedule
    files: Mapping[str, bytes]
    tokenizer: Tokenizer
    hashes: EncoderHashes
    weights: str
    kept: PretrainedModel | None = None

    def kept_in(self, folder: epath.PathLike | None) -> "Start":
        """Writes what a resume needs, unless the folder is None, and lets go of it."""
        if self.kept is not None and folder is not None:
            save_model(self.kept, folder, force=True)
        return dataclasses.replace(self, kept=None)


def load_start(config: TrainConfig, layout: Layout, required: RequiredNetworks) -> Start:
    """Loads the networks that `config.model.init_from` names.

    Raises:
        ConfigError: if the checkpoint's reward condition is another than the configuration's, or
            its UNet takes more channels, or it is of another kind, as flow matching.
        DataError: if the checkpoint is incomplete or damaged.
    """
    model = config.model
    with model_at(model.init_from, base=model.base, components=COMPONENTS) as opened:
        latents = VAEConfig.from_dict(opened.components["vae"].config).latent_channels
        check_channels(model.in_channels, latents)
        digest = TensorHash()
        stored = _read_once(opened, digest)
        wide = with_channels(stored, model.in_channels)
        for note in wide.notes:
            warnings.warn(f"{model.init_from}: {note}", stacklevel=2)
        unet = unet_component(wide.components["unet"], model, config.seed)
        compares = config.loss.preference is not None
        if compares:
            unet = dataclasses.replace(unet, source=Kept(unet.source))
        params = _load_unet(unet, model, layout)
        frozen = {name: stored.components[name] for name in FROZEN}
        for part in frozen.values():
            for name in part.source.tensors:
                digest.update(f"{part.name}.{name}", part.source.read(name))
        hashes, weights = hashes_of(stored), digest.hexdigest()
        components = {**frozen, "unet": unet} if compares else frozen
        kept = dataclasses.replace(wide, components=components, safety_checker=None, notes=())
        record = {
            "model": deciding(model),
            "unet": dict(unet.config),
            "hashes": hashes._asdict(),
            "weights": weights,
            **({REFERENCE: True} if compares else {}),
        }
        start = _assembled(config, layout, required, unet, kept, hashes, weights)
    files = {**kept.files, RECORD: (json.dumps(record, indent=2) + "\n").encode()}
    kept = dataclasses.replace(kept, files=files)
    start = dataclasses.replace(start, params=params, kept=kept)
    return _compared(start, params, model, layout) if compares else start


def resumed_start(
    folder: epath.PathLike, config: TrainConfig, layout: Layout, required: RequiredNetworks
) -> Start:
    """What `Start.kept_in` left in a folder, for a run whose parameters are in its checkpoint.

    Raises:
        DataError: if it is incomplete or damaged.
    """
    record = read_record(folder)
    if record is None:
        raise DataError(f"{folder}: no {RECORD} in it; see that all workers share the directory")
    hashes = EncoderHashes(**record["hashes"])
    compares = config.loss.preference is not None
    with model_at(folder, components=(*FROZEN, "unet") if compares else FROZEN) as kept:
        unet = kept_unet(record)
        start = _assembled(config, layout, required, unet, kept, hashes, record["weights"])
        if not compares:
            return start
        params = _load_unet(kept.components["unet"], config.model, layout)
        return _compared(start, params, config.model, layout)


def compute_of(model: ModelConfig) -> Compute:
    """How the networks of a run compute."""
    return Compute(jnp.dtype(model.compute_dtype), model.attention, model.remat)


def _assembled(
    config: TrainConfig,
    layout: Layout,
    required: RequiredNetworks,
    unet: Component,
    kept: PretrainedModel,
    hashes: EncoderHashes,
    weights: str,
) -> Start:
    """A start without the UNet's arrays, whose frozen networks are those of `kept`."""
    vae = VAEConfig.from_dict(kept.components["vae"].config)
    tokenizer = kept.tokenizer()
    # The text encoder is asked for the empty prompt at least.
    parts = {"text_encoder": _load_part(kept.components["text_encoder"], config.model, layout)}
    null_text = _null_text(parts["text_encoder"], tokenizer, layout)
    if required.vae or required.edits:
        parts["vae"] = _load_part(kept.components["vae"], config.model, layout)
    if not (required.text_encoder or required.edits):
        del parts["text_encoder"]
    asked = {name: part for name, part in parts.items() if getattr(required, name)}
    networks = {name: asked[name][0] if name in asked else None for name in FROZEN}
    arrays = {name: asked[name][1] if name in asked else {} for name in FROZEN}
    return Start(
        unet_config=UNetConfig.from_dict(unet.config),
        unet=Network.of(unet.network(compute_of(config.model))),
        params={},
        downscale=vae.downscale,
        encoders=Encoders(**networks, scaling_factor=vae.scaling_factor),
        frozen=Frozen(**arrays, null_text=null_text.astype(config.model.compute_dtype)),
        parts=parts,
        schedule=_schedule(kept.files, config),
        files=kept.files,
        tokenizer=tokenizer,
        hashes=hashes,
        weights=weights,
    )


def _read_once(model: PretrainedModel, digest: TensorHash) -> PretrainedModel:
    """The model whose tensors are read once: the UNet's are hashed, the others are kept."""
    components = dict(model.components)
    for name, component in components.items():
        source = Hashed(component.source, digest) if name == "unet" else Kept(component.source)
        components[name] = dataclasses.replace(component, source=source)
    return dataclasses.replace(model, components=components)


def _load_unet(unet: Component, model: ModelConfig, layout: Layout) -> Parameters:
    module = unet.network(compute_of(model))
    loaded = load(module, unet.source, placement=lambda _, leaf: layout.storage(leaf))
    return parameters_of(loaded)


def _compared(start: Start, params: Parameters, model: ModelConfig, layout: Layout) -> Start:
    """The start whose steps compare the UNet that is trained with what it was: with `params`."""

    def copy(params: Parameters) -> Parameters:
        # A copy in any case: the parameters themselves are used up.
        return {k: jnp.copy(x.astype(dtype) if x.ndim > 1 else x) for k, x in params.items()}

    dtype = model.compute_dtype
    places = {name: layout.storage(x) for name, x in params.items()}
    reference = jax.jit(copy, out_shardings=places)(params)
    return dataclasses.replace(start, frozen=start.frozen._replace(reference=reference))


def _load_part(component: Component, model: ModelConfig, layout: Layout) -> Part:
    compute = dataclasses.replace(compute_of(model), remat=False)
    module = component.network(compute)
    loaded = load(module, component.source, dtype=compute.dtype, placement=layout.replicated)
    return Network.of(module), parameters_of(loaded)


def _null_text(text_encoder: Part, tokenizer: Tokenizer, layout: Layout) -> jax.Array:
    network, params = text_encoder

    @jax.jit
    def encode(params: Parameters, ids: jax.Array) -> jax.Array:
        module: CLIPTextModel = network.module(params)
        return module(ids).last_hidden_state[0]

    states: jax.Array = jax.device_put(encode(params, tokenizer([""])), layout.replicated)
    return states


def _schedule(files: Mapping[str, bytes], config: TrainConfig) -> NoiseSchedule:
    stated = scheduler_config(files, config.model.init_from)
    native_sampler(stated)  # refuses models of another kind
    schedule = NoiseSchedule.from_dict(stated)
    wanted = config.loss.prediction_type
    return schedule if wanted is None else dataclasses.replace(schedule, prediction_type=wanted)
