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
from typing import Any

from etils import epath

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import DataError
from mre_jax.io.tensor_hash import TensorHash
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import VAEConfig
from mre_jax.smartedit.prompt import PromptWriter
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.training.frozen import FROZEN, Part, RequiredNetworks, load_frozen
from mre_jax.training.further import (
    Further,
    check_cached,
    further_networks,
    idle_networks,
    recorded,
    to_record,
    with_configured_templates,
    with_templates,
)
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.parallel import Layout
from mre_jax.training.preference import reference_of
from mre_jax.training.pretrained import (
    FURTHER,
    RECORD,
    REFERENCE,
    Kept,
    add_tensors,
    check_channels,
    compute_of,
    deciding,
    kept_unet,
    read_once,
    read_record,
    unet_component,
    with_channels,
    with_hashed,
)
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.training.trained import TrainedNetworks
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.names.rule import load
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from mre_jax.weights.surroundings import scheduler_config
from mre_jax.weights.tokens import Tokenizer


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
    compares, digest = config.loss.preference is not None, TensorHash()
    wanted = (*COMPONENTS, *names)
    with model_at(
        model.init_from, base=model.base, components=wanted, smartedit=not names
    ) as opened:
        idle = idle_networks(opened, names)
        if idle:
            check_cached(required)
            opened = with_configured_templates(opened, config)
        editor = read_once(opened, digest)
        wide = _as_editor(editor, model)
        unet = unet_component(wide.components["unet"], model, config.seed)
        if compares:
            unet = dataclasses.replace(unet, source=Kept(unet.source))
        further = Further.of(
            config, {name: opened.components[name] for name in names}, unet, editor.files
        )
        params = {} if names else _load_unet(unet, model, layout)
        add_tensors(digest, editor, FROZEN)
        parts = further.load(unet, config, layout, digest) if names else None
        hashes = hashes_of(with_hashed(editor, idle, digest))
        weights = digest.hexdigest()
        record = {
            "model": deciding(model),
            "unet": dict(unet.config),
            "hashes": {name: made for name, made in hashes._asdict().items() if made is not None},
            "weights": weights,
            **({REFERENCE: True} if compares else {}),
            **({FURTHER: to_record(further.components, parts.hash)} if parts else {}),
        }
        kept = _kept(wide, {"unet": unet} if compares else {}, record, further.prompts)
        start = _assembled(config, layout, required, unet, kept, hashes, weights)
    start = dataclasses.replace(start, params=parts.params if parts else params, kept=kept)
    start = _joined(start, further, parts.frozen if parts else None)
    return _compared(start, start.params, config, layout) if compares else start


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
        check_cached(required)
    compares = config.loss.preference is not None
    with model_at(folder, components=(*FROZEN, "unet") if compares else FROZEN) as kept:
        unet = kept_unet(record)
        start = _assembled(config, layout, required, unet, kept, hashes, record["weights"])
        if further_networks(config):
            components = recorded(record[FURTHER])
            further = Further.of(config, components, unet, start.files, kept=True)
            again = further.read_again(record[FURTHER]["hash"], config, layout)
            return _joined(start, further, again)
        if not compares:
            return start
        params = _load_unet(kept.components["unet"], config.model, layout)
        return _compared(start, params, config, layout)


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
    network = Network.of(unet.network(compute_of(config.model)))
    frozen = load_frozen(kept, config.model, layout, required)
    return Start(
        unet_config=UNetConfig.from_dict(unet.config),
        unet=network,
        networks=TrainedNetworks({"unet": network}),
        params={},
        downscale=frozen.downscale,
        encoders=frozen.encoders,
        frozen=frozen.arrays,
        parts=frozen.parts,
        schedule=_schedule(kept.files, config),
        files=kept.files,
        tokenizer=kept.tokenizer(),
        hashes=hashes,
        weights=weights,
    )


def _joined(start: Start, further: Further, frozen: Mapping[str, Parameters] | None) -> Start:
    """The start with an objective's networks, and with what makes their prompts and pictures."""
    return dataclasses.replace(
        start,
        networks=further.networks,
        frozen=start.frozen._replace(networks=frozen),
        prompts=further.prompts,
        clip_side=further.clip_side,
    )


def _compared(start: Start, params: Parameters, config: TrainConfig, layout: Layout) -> Start:
    """The start whose steps compare the UNet that is trained with what it was: with `params`."""
    reference = reference_of(params, config.model.compute_dtype, layout)
    return dataclasses.replace(start, frozen=start.frozen._replace(reference=reference))


def _as_editor(model: PretrainedModel, settings: ModelConfig) -> PretrainedModel:
    """The model with a UNet that takes the original's latents; says what that changed."""
    latents = VAEConfig.from_dict(model.components["vae"].config).latent_channels
    check_channels(settings.in_channels, latents)
    wide = with_channels(model, settings.in_channels)
    for note in wide.notes:
        warnings.warn(f"{settings.init_from}: {note}", stacklevel=3)
    return wide


def _kept(
    model: PretrainedModel,
    reference: Mapping[str, Component],
    record: Mapping[str, Any],
    prompts: PromptWriter | None,
) -> PretrainedModel:
    """What a resume needs."""
    frozen = {name: model.components[name] for name in FROZEN}
    text = (json.dumps(record, indent=2) + "\n").encode()
    files = {**with_templates(model.files, prompts), RECORD: text}
    components = {**frozen, **reference}
    return dataclasses.replace(
        model, components=components, files=files, safety_checker=None, notes=()
    )


def _load_unet(unet: Component, model: ModelConfig, layout: Layout) -> Parameters:
    module = unet.network(compute_of(model))
    loaded = load(module, unet.source, placement=lambda _, leaf: layout.storage(leaf))
    return parameters_of(loaded)


def _schedule(files: Mapping[str, bytes], config: TrainConfig) -> NoiseSchedule:
    stated = scheduler_config(files, config.model.init_from)
    native_sampler(stated)  # refuses models of another kind
    schedule = NoiseSchedule.from_dict(stated)
    wanted = config.loss.prediction_type
    return schedule if wanted is None else dataclasses.replace(schedule, prediction_type=wanted)
