"""What a run starts from: the pretrained networks, and what a resume needs of them.

The first start reads `model.init_from`, each tensor once, and leaves in the run's directory what a
later one needs beside its checkpoint: the frozen networks, the UNet's configuration, the tokenizer
and the schedule; in preference training also the UNet, which is the reference. A resume reads
these, and of them only what its steps ask for.

What a SmartEdit has before its UNet no step on cached features asks. It is read for its hash and
not kept: it is 13 GB and more.
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from etils import epath

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.tensor_hash import TensorHash
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import VAEConfig
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE
from mre_jax.smartedit.prompt import PromptWriter
from mre_jax.smartedit.templates import Templates
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.parallel import Layout
from mre_jax.training.pretrained import (
    FURTHER,
    RECORD,
    REFERENCE,
    Hashed,
    Kept,
    check_channels,
    compute_of,
    deciding,
    kept_unet,
    read_record,
    unet_component,
    with_channels,
)
from mre_jax.training.smartedit_start import (
    LoadedParts,
    check_unchanged,
    clip_side,
    further_networks,
    load_parts,
    networks_of,
    opened_again,
    recorded,
    to_record,
    with_templates,
    write_prompts,
)
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.training.trained import TrainedNetworks
from mre_jax.weights.files.folder import COMPONENTS, SMARTEDIT
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
        unet_config: configuration of the UNet.
        unet: the UNet but for its arrays.
        networks: what a step differentiates through, and which of its arrays are trained.
        params: these, float32, where `layout.storage` puts them; none in a resume.
        downscale: pixels per latent along each side.
        encoders, frozen: the networks that a step reads and does not train.
        parts: the frozen networks that the run asks, by name.
        schedule: noise schedule, with the prediction type that is trained.
        files: small files around the networks, by path in a model folder.
        tokenizer: the checkpoint's.
        hashes: identify the encoders, to compare with those of a cache.
        weights: hash of all initial weights.
        prompts: writes what the language model reads; None where a step asks it nothing.
        clip_side: pixels along a side of what its vision tower sees; likewise.
        kept: what a resume needs, still to be saved; None in a resume.
    """

    unet_config: UNetConfig
    unet: Network
    networks: TrainedNetworks
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
    prompts: PromptWriter | None = None
    clip_side: int | None = None
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
            its UNet takes more channels, or it is of another kind, as flow matching; or if a run
            on the cached features of a SmartEdit would ask its language model.
        DataError: if the checkpoint is incomplete or damaged.
    """
    model, names = config.model, further_networks(config)
    with model_at(
        model.init_from,
        base=model.base,
        components=(*COMPONENTS, *names),
        smartedit=not names,
    ) as opened:
        idle = [name for name in SMARTEDIT if name in opened.components and name not in names]
        if idle:
            _check_cached(required)
            opened = _with_templates(opened, config)
        latents = VAEConfig.from_dict(opened.components["vae"].config).latent_channels
        check_channels(model.in_channels, latents)
        digest = TensorHash()
        further = {name: opened.components[name] for name in names}
        editor = {name: opened.components[name] for name in COMPONENTS}
        stored = _read_once(dataclasses.replace(opened, components=editor), digest)
        wide = with_channels(stored, model.in_channels)
        for note in wide.notes:
            warnings.warn(f"{model.init_from}: {note}", stacklevel=2)
        unet = unet_component(wide.components["unet"], model, config.seed)
        compares = config.loss.preference is not None
        if compares:
            unet = dataclasses.replace(unet, source=Kept(unet.source))
        prompts = write_prompts(config, further, stored.files)
        networks = networks_of(config, {**further, "unet": unet}, prompts)
        alone = not names
        params = _load_unet(unet, model, layout) if alone else {}
        frozen = {name: stored.components[name] for name in FROZEN}
        for part in frozen.values():
            for name in part.source.tensors:
                digest.update(f"{part.name}.{name}", part.source.read(name))
        parts: LoadedParts | None = None
        again: dict[str, Any] = {}
        if not alone:
            parts, again = _load_all(unet, further, networks, config, layout, digest)
            params = parts.params
        hashes = hashes_of(_with_hashed(stored, {n: opened.components[n] for n in idle}, digest))
        weights = digest.hexdigest()
        components = {**frozen, "unet": unet} if compares else frozen
        kept = dataclasses.replace(wide, components=components, safety_checker=None, notes=())
        record = {
            "model": deciding(model),
            "unet": dict(unet.config),
            "hashes": {name: made for name, made in hashes._asdict().items() if made is not None},
            "weights": weights,
            **({REFERENCE: True} if compares else {}),
            **again,
        }
        start = _assembled(config, layout, required, unet, kept, hashes, weights)
        start = _joined(start, networks, parts, prompts, clip_side(further))
    files = {
        **with_templates(kept.files, prompts),
        RECORD: (json.dumps(record, indent=2) + "\n").encode(),
    }
    kept = dataclasses.replace(kept, files=files)
    start = dataclasses.replace(start, params=params, kept=kept)
    return _compared(start, params, model, layout) if compares else start


def resumed_start(
    folder: epath.PathLike, config: TrainConfig, layout: Layout, required: RequiredNetworks
) -> Start:
    """What `Start.kept_in` left in a folder, for a run whose parameters are in its checkpoint.

    Raises:
        DataError: if it is incomplete or damaged; or if networks of several are trained, and those
            of `config.model.init_from` are gone, or others.
    """
    record = read_record(folder)
    if record is None:
        raise DataError(f"{folder}: no {RECORD} in it; see that all workers share the directory")
    hashes = EncoderHashes(**record["hashes"])
    if hashes.smartedit is not None:
        _check_cached(required)
    compares = config.loss.preference is not None
    with model_at(folder, components=(*FROZEN, "unet") if compares else FROZEN) as kept:
        unet = kept_unet(record)
        start = _assembled(config, layout, required, unet, kept, hashes, record["weights"])
        if further_networks(config):
            return _read_again(start, unet, record[FURTHER], config, layout)
        if not compares:
            return start
        params = _load_unet(kept.components["unet"], config.model, layout)
        return _compared(start, params, config.model, layout)


def _check_cached(required: RequiredNetworks) -> None:
    """Refuses what a SmartEdit needs its language model for, which steps on a cache leave out."""
    if required.text_encoder:
        raise ConfigError(
            "data.paths: the UNet of a SmartEdit is trained on cached features, and a set has "
            "none; make them with 'mre data cache --text', and set data.cache=required"
        )
    if required.edits:
        raise ConfigError(
            "validation.every: an edit asks SmartEdit's language model, which a run on cached "
            "features leaves out; set validation.every=0, and edit with what 'mre export' writes"
        )


def _with_templates(model: PretrainedModel, config: TrainConfig) -> PretrainedModel:
    """The model with the configuration's templates in the place of its own, if there are any."""
    if config.data.templates is None:
        return model
    templates = Templates.read(config.data.templates)
    files = {**model.files, TEMPLATES_FILE: templates.text.encode()}
    return dataclasses.replace(model, files=files)


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
        unet=(network := Network.of(unet.network(compute_of(config.model)))),
        networks=TrainedNetworks({"unet": network}),
        params={},
        downscale=vae.downscale,
        encoders=Encoders(**networks, scaling_factor=vae.scaling_factor),
        frozen=Frozen(
            arrays["vae"],
            arrays["text_encoder"],
            null_text=null_text.astype(config.model.compute_dtype),
        ),
        parts=parts,
        schedule=_schedule(kept.files, config),
        files=kept.files,
        tokenizer=tokenizer,
        hashes=hashes,
        weights=weights,
    )


def _load_all(
    unet: Component,
    further: Mapping[str, Component],
    networks: TrainedNetworks,
    config: TrainConfig,
    layout: Layout,
    digest: TensorHash,
) -> tuple[LoadedParts, dict[str, Any]]:
    """The arrays of an objective's networks, and what a resume reads them again by."""
    compute = compute_of(config.model)
    components = {**further, **({"unet": unet} if "unet" in networks.networks else {})}
    whole = {name: part for name, part in components.items() if not networks.freezes(name)}
    partly = {name: part for name, part in components.items() if name not in whole}
    parts = load_parts(partly, networks, compute, layout, digest)
    trained = load_parts(whole, networks, compute, layout, digest)
    both = dataclasses.replace(parts, params={**parts.params, **trained.params})
    return both, {FURTHER: to_record(further, parts.hash)}


def _read_again(
    start: Start, unet: Component, record: Mapping[str, Any], config: TrainConfig, layout: Layout
) -> Start:
    """The start with what is frozen of an objective's networks, from where the run began."""
    components = recorded(record)
    prompts = write_prompts(config, components, start.files, kept=True)
    networks = networks_of(config, {**components, "unet": unet}, prompts)
    names = [*components, *(["unet"] if "unet" in networks.networks else [])]
    partly = tuple(name for name in names if networks.freezes(name))
    with opened_again(config, partly) as opened:
        found = {name: opened.components[name] for name in partly}
        if "unet" in found:
            wide = with_channels(opened, config.model.in_channels)
            found["unet"] = unet_component(wide.components["unet"], config.model, config.seed)
        parts = load_parts(found, networks, compute_of(config.model), layout)
    check_unchanged(parts.hash, record, config)
    for array in parts.params.values():  # The checkpoint has them.
        array.delete()
    return _joined(start, networks, parts, prompts, clip_side(components))


def _joined(
    start: Start,
    networks: TrainedNetworks,
    parts: LoadedParts | None,
    prompts: PromptWriter | None,
    side: int | None,
) -> Start:
    """The start with an objective's networks, and with what makes their prompts and pictures."""
    frozen = start.frozen
    if parts is not None:
        frozen = frozen._replace(networks=parts.frozen)
    return dataclasses.replace(
        start, networks=networks, frozen=frozen, prompts=prompts, clip_side=side
    )


def _with_hashed(
    model: PretrainedModel, further: Mapping[str, Component], digest: TensorHash
) -> PretrainedModel:
    """The model with networks whose tensors are added to a digest as they are read."""
    hashed = {
        name: dataclasses.replace(part, source=Hashed(part.source, digest, component=name))
        for name, part in further.items()
    }
    return dataclasses.replace(model, components={**model.components, **hashed})


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
