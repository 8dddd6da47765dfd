"""Pretrained weights as a run takes them, and the record of what it keeps of them.

Each tensor is read once; the UNet gets the input channels and the reward that are trained.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.tensor_hash import TensorHash
from mre_jax.models.layers import Compute
from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.fresh_reward import WithFreshReward
from mre_jax.weights.model import (
    REWARD_CLASS,
    Component,
    PretrainedModel,
    changed,
    expanded,
)
from mre_jax.weights.names.expand import ChannelsError

RECORD = "start.json"
FURTHER = "networks"
"""In the record, where the networks are that a resume reads from `model.init_from` again."""
REFERENCE = "reference"
"""In the record where the UNet's tensors are kept too, as preference training compares to them."""

_DECIDING = ("init_from", "base", "in_channels", "reward")
"""Settings of `model` that decide what a run starts from."""


def unet_component(unet: Component, model: ModelConfig, seed: int) -> Component:
    """The UNet of a checkpoint with the reward condition that a run trains.

    Raises:
        ConfigError: if the checkpoint has another one.
    """
    wanted = model.reward if model.takes_reward else None
    if unet.reward == wanted:
        return unet
    if unet.reward is not None:
        raise ConfigError(
            f"model.reward: {unet.source.origin} has {_described(unet.reward)}, and the "
            f"configuration asks for {_described(wanted)}; take the checkpoint's, or start from a "
            "plain editor"
        )
    assert wanted is not None  # noqa: S101  both None is equal
    entries = {"_class_name": REWARD_CLASS, "reward": wanted.to_dict()}
    made = changed(unet, **entries)
    source = WithFreshReward(unet.source, UNetConfig.from_dict(made.config), seed)
    return dataclasses.replace(made, source=source)


def with_channels(model: PretrainedModel, in_channels: int) -> PretrainedModel:
    """The model with a UNet that takes an editor's input channels.

    Raises:
        ConfigError: if it takes more.
    """
    try:
        return expanded(model, in_channels)
    except ChannelsError as error:
        raise ConfigError(
            f"model.in_channels={in_channels}: {error.origin} takes {error.stored} input channels "
            "and cannot be made to take these; start from an editor or a text-to-image model"
        ) from None


def check_channels(given: int, latents: int) -> None:
    """Raises ConfigError unless a UNet takes the noisy latents and the original's."""
    if given != 2 * latents:
        raise ConfigError(
            f"model.in_channels={given} must be {2 * latents}: an editor reads the noisy latents "
            f"and the original's, {latents} channels each"
        )


def compute_of(model: ModelConfig) -> Compute:
    """How the networks of a run compute."""
    return Compute(jnp.dtype(model.compute_dtype), model.attention, model.remat)


def can_resume(folder: epath.PathLike, config: TrainConfig) -> bool:
    """Whether a folder holds what a run of this configuration starts from."""
    record = read_record(folder)
    if record is None or record["model"] != deciding(config.model):
        return False
    if config.loss.objective != "denoising" and FURTHER not in record:
        return False
    return config.loss.preference is None or REFERENCE in record


def read_record(folder: epath.PathLike) -> dict[str, Any] | None:
    """What `Start.kept_in` wrote of a run's networks; None where it did not.

    Raises:
        DataError: if it is damaged.
    """
    file = epath.Path(folder) / RECORD
    try:
        return json.loads(file.read_text()) if file.exists() else None
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error})") from None


def kept_unet(record: Mapping[str, Any]) -> Component:
    """The UNet of `read_record`, without its tensors."""
    return without_tensors("unet", record["unet"])


def without_tensors(name: str, config: Mapping[str, Any]) -> Component:
    """A network of a record, whose tensors are elsewhere."""
    return Component(name, config, (json.dumps(config, indent=2) + "\n").encode(), NoTensors())


def deciding(model: ModelConfig) -> dict[str, Any]:
    """The settings that decide what a run starts from."""
    values = json.loads(json.dumps(dataclasses.asdict(model)))
    return {name: values[name] for name in _DECIDING}


class _Sorted(TensorSource):
    """Tensors in the order of their names, which is the order of a digest."""

    def __init__(self, source: TensorSource):
        self.origin, self._source = source.origin, source
        self.tensors = dict(sorted(source.tensors.items()))


class Hashed(_Sorted):
    """Adds each tensor of a network to digests as it is read."""

    def __init__(self, source: TensorSource, *digests: TensorHash, component: str = "unet"):
        super().__init__(source)
        self._digests, self._component = digests, component

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        array = self._source.read(name)
        for digest in self._digests:
            digest.update(f"{self._component}.{name}", array)
        return array


class Kept(_Sorted):
    """Reads each tensor once, and keeps it."""

    def __init__(self, source: TensorSource):
        super().__init__(source)
        self._kept: dict[str, np.ndarray] = {}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        if name not in self._kept:
            self._kept[name] = self._source.read(name)
        return self._kept[name]


class NoTensors(TensorSource):
    """Stands for those that are in the run's checkpoint."""

    origin = "the run's checkpoint"
    tensors: Mapping[str, TensorInfo] = {}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        raise KeyError(name)


def read_once(model: PretrainedModel, digest: TensorHash) -> PretrainedModel:
    """An editor whose tensors are read once: the UNet's are hashed, the others are kept."""
    components = {name: model.components[name] for name in COMPONENTS}
    for name, component in components.items():
        source = Hashed(component.source, digest) if name == "unet" else Kept(component.source)
        components[name] = dataclasses.replace(component, source=source)
    return dataclasses.replace(model, components=components)


def add_tensors(digest: TensorHash, model: PretrainedModel, names: Sequence[str]) -> None:
    """Adds the tensors of these networks to a digest."""
    for name in names:
        source = model.components[name].source
        for tensor in source.tensors:
            digest.update(f"{name}.{tensor}", source.read(tensor))


def with_hashed(
    model: PretrainedModel, further: Mapping[str, Component], digest: TensorHash
) -> PretrainedModel:
    """The model with networks whose tensors are added to a digest as they are read."""
    hashed = {
        name: dataclasses.replace(part, source=Hashed(part.source, digest, component=name))
        for name, part in further.items()
    }
    return dataclasses.replace(model, components={**model.components, **hashed})


def _described(reward: RewardConfig | None) -> str:
    return "none" if reward is None else str(reward.to_dict())
