"""The networks that an objective runs beside the UNet, as a start loads them.

They are read from `model.init_from` at the first start and at every resume: what is frozen of them
may be 13 GB, of which a run keeps no copy but a hash. What a SmartEdit has before its UNet, no step
on cached features asks: it is read for its hash, and not kept.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.tensor_hash import TensorHash
from mre_jax.models.adapted_llama import AdaptedLlamaConfig
from mre_jax.models.clip_vision import CLIPVisionConfig
from mre_jax.models.layers import Compute
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE, prompt_writer
from mre_jax.smartedit.prompt import PromptWriter
from mre_jax.smartedit.templates import Templates
from mre_jax.training.config import OBJECTIVES, TrainConfig
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.parallel import Layout
from mre_jax.training.pretrained import (
    Hashed,
    compute_of,
    unet_component,
    with_channels,
    without_tensors,
)
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.training.trained import TrainedNetworks
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.load import abstract_network, loaded
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.opening import model_at


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedParts:
    """Arrays of several networks.

    Attributes:
        params: what is trained, float32, by its name in the state, where `layout.storage` puts it.
        frozen: what is not, by component, in the dtypes of `mre_jax.weights.load.loaded`; split
            over `fsdp` alone.
        hash: of all tensors that were read.
    """

    params: Parameters
    frozen: Mapping[str, Parameters]
    hash: str


@dataclasses.dataclass(frozen=True, eq=False)
class Further:
    """The networks of an objective, without their arrays, and what writes their prompts.

    Attributes:
        networks: all of them, the UNet too where it is among them.
        components: those beside the UNet.
        prompts: writes what the language model reads; None where a step asks it nothing.
    """

    networks: TrainedNetworks
    components: Mapping[str, Component]
    prompts: PromptWriter | None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        components: Mapping[str, Component],
        unet: Component,
        files: Mapping[str, bytes],
        *,
        kept: bool = False,
    ) -> "Further":
        """What an objective makes of a model's networks.

        Args:
            components: beside the UNet.
            files: small files of the model.
            kept: they are the run's own, in which its templates are (`with_templates`).

        Raises:
            ConfigError, DataError: if tokenizer or templates are missing or do not fit.
        """
        prompts = _prompts(config, components, files, kept)
        networks = _networks(config, {**components, "unet": unet}, prompts)
        return cls(networks, components, prompts)

    @property
    def clip_side(self) -> int | None:
        """Pixels along a side of what the vision tower sees; None without one."""
        if "vision" not in self.components:
            return None
        return CLIPVisionConfig.from_dict(self.components["vision"].config).image_size

    def load(
        self, unet: Component, config: TrainConfig, layout: Layout, digest: TensorHash
    ) -> LoadedParts:
        """All arrays, each tensor read once; the hash is of the networks that are partly frozen.

        Args:
            digest: to which the tensors are added too; the UNet's are in it already.
        """
        components = dict(self.components)
        if "unet" in self.networks.networks:
            components["unet"] = unet
        partly = {name: one for name, one in components.items() if self.networks.freezes(name)}
        whole = {name: one for name, one in components.items() if name not in partly}
        compute = compute_of(config.model)
        parts = _load(partly, self.networks, compute, layout, digest)
        trained = _load(whole, self.networks, compute, layout, digest)
        return dataclasses.replace(parts, params={**parts.params, **trained.params})

    def read_again(
        self, hash: str, config: TrainConfig, layout: Layout
    ) -> Mapping[str, Parameters]:
        """What is frozen, from where the run began.

        Args:
            hash: of `load`.

        Raises:
            DataError: if the networks are gone, or others.
        """
        names = [*self.components, *(["unet"] if "unet" in self.networks.networks else [])]
        partly = tuple(name for name in names if self.networks.freezes(name))
        with _opened_again(config, partly) as opened:
            found = {name: opened.components[name] for name in partly}
            if "unet" in found:
                wide = with_channels(opened, config.model.in_channels)
                found["unet"] = unet_component(wide.components["unet"], config.model, config.seed)
            parts = _load(found, self.networks, compute_of(config.model), layout)
        if parts.hash != hash:
            raise DataError(
                f"{config.model.init_from} holds other weights than when this run began, which "
                "trains beside them; bring those back"
            )
        for array in parts.params.values():  # The checkpoint has them.
            array.delete()
        return parts.frozen


def further_networks(config: TrainConfig) -> tuple[str, ...]:
    """Components that a run's objective takes beside those of every editor."""
    return tuple(name for name in OBJECTIVES[config.loss.objective] if name != "unet")


def idle_networks(model: PretrainedModel, further: Sequence[str]) -> dict[str, Component]:
    """What a SmartEdit has before its UNet, of which a run's objective takes none."""
    names = [name for name in SMARTEDIT if name in model.components and name not in further]
    return {name: model.components[name] for name in names}


def check_cached(required: RequiredNetworks) -> None:
    """Refuses what a SmartEdit needs its language model for, which steps on a cache leave out.

    Raises:
        ConfigError: naming the setting.
    """
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


def with_configured_templates(model: PretrainedModel, config: TrainConfig) -> PretrainedModel:
    """The model with the configuration's templates in the place of its own, if there are any."""
    if config.data.templates is None:
        return model
    templates = Templates.read(config.data.templates)
    files = {**model.files, TEMPLATES_FILE: templates.text.encode()}
    return dataclasses.replace(model, files=files)


def with_templates(files: Mapping[str, bytes], prompts: PromptWriter | None) -> dict[str, bytes]:
    """A model's small files with the templates that edits are trained with; None has none."""
    if prompts is None or not prompts.sizes.patches:
        return dict(files)
    return {**files, TEMPLATES_FILE: prompts.templates.text.encode()}


def to_record(components: Mapping[str, Component], hash: str) -> dict[str, Any]:
    """What a run keeps of networks that it reads again, for `recorded`."""
    return {
        "hash": hash,
        "configs": {name: dict(part.config) for name, part in components.items()},
    }


def recorded(record: Mapping[str, Any]) -> dict[str, Component]:
    """The components of `to_record`, without their tensors."""
    return {name: without_tensors(name, config) for name, config in record["configs"].items()}


def _networks(
    config: TrainConfig, components: Mapping[str, Component], prompts: PromptWriter | None
) -> TrainedNetworks:
    compute = compute_of(config.model)
    networks = {
        name: Network.of(abstract_network(components[name], compute))
        for name in OBJECTIVES[config.loss.objective]
    }
    new_tokens = 0
    if prompts is not None:
        new_tokens = prompts.tokenizer.size - prompts.tokenizer.base_size
    return TrainedNetworks(networks, config.model.trained, new_tokens)


def _prompts(
    config: TrainConfig,
    components: Mapping[str, Component],
    files: Mapping[str, bytes],
    kept: bool,
) -> PromptWriter | None:
    if config.loss.objective == "denoising":
        return None
    llm = AdaptedLlamaConfig.from_dict(components["llm"].config)
    if "adapters" in config.model.trained and llm.lora is None:
        raise ConfigError(
            f"model.trained names adapters, and the language model of {config.model.init_from} has "
            "none; leave them out"
        )
    patches, templates = 0, _templates(config, kept)
    if "vision" in components:
        vision = CLIPVisionConfig.from_dict(components["vision"].config)
        patches = vision.num_positions - 1
    return prompt_writer(
        files,
        llm.llama,
        patches,
        templates=templates,
        text_tokens=config.data.text_tokens,
        name=config.model.init_from,
    )


def _templates(config: TrainConfig, kept: bool) -> Templates | None:
    """Those of the configuration; None for the model's own."""
    if config.loss.objective == "captions":
        path = config.data.templates
        return Templates.read(path, "captions") if path else Templates.default("captions")
    if config.data.templates is None or kept:
        return None
    return Templates.read(config.data.templates)


def _load(
    components: Mapping[str, Component],
    networks: TrainedNetworks,
    compute: Compute,
    layout: Layout,
    digest: TensorHash | None = None,
) -> LoadedParts:
    """Reads the tensors of these components, each once, and adds them to the digest."""
    own = TensorHash()
    params: Parameters = {}
    frozen: dict[str, Parameters] = {}
    for name, component in components.items():
        digests = [own] if digest is None or name == "unet" else [own, digest]
        source = Hashed(component.source, *digests, component=name)
        place = layout.storage if name in networks.parts else layout.compute

        def placed(_: str, leaf: Any, place: Any = place) -> Any:
            return place(leaf)

        hashed = dataclasses.replace(component, source=source)
        arrays = parameters_of(loaded(hashed, compute, jnp.float32, placed))
        trained, kept = networks.split(name, arrays)
        wide = {path: x.astype(jnp.float32) for path, x in trained.items()}
        params |= {path: jax.device_put(x, layout.storage(x)) for path, x in wide.items()}
        frozen[name] = kept
    return LoadedParts(params, frozen, own.hexdigest())


@contextlib.contextmanager
def _opened_again(config: TrainConfig, names: tuple[str, ...]) -> Iterator[PretrainedModel]:
    """Networks of `model.init_from`, for a run that goes on."""
    model = config.model
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(
                model_at(model.init_from, base=model.base, components=names)
            )
        except DataError as error:
            raise DataError(
                f"{model.init_from} cannot be read ({error}), and the run keeps no copy of what it "
                f"does not train of {', '.join(names)}: bring it back, or set model.init_from to "
                "where it is now"
            ) from None
        yield opened
