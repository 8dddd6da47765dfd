"""What the networks of metrics share: their weight files, and pictures fed to them in batches."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import jax
import numpy as np
from etils import epath
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.batched import Batched
from mre_jax.evaluation.metrics.preprocess import Picture
from mre_jax.io.tensor_hash import tensor_hash
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.weights.files.source import TensorSource, open_tensors
from mre_jax.weights.locate import local_path
from mre_jax.weights.names.rule import load

Model = TypeVar("Model", bound=nnx.Module)

_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


class Inputs(Protocol):
    """How a network is fed; its text stands in the measure of results."""

    def pixels(self, picture: Any, /) -> np.ndarray:
        """The array of a picture, or of several that belong together, on the host."""

    def normalise(self, pixels: jax.Array, /) -> jax.Array:
        """What the network sees of a batch of arrays, on the device."""


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[Model]):
    """What a network's files hold.

    Attributes:
        model: the network.
        name: its architecture and the hash of its weights.
        inputs: how pictures are fed to it.
        tokenizer: from texts and a name for messages to token ids [b t]; None without texts.
    """

    model: Model
    name: str
    inputs: Inputs
    tokenizer: Callable[[list[str], str], np.ndarray] | None = None


class PretrainedNetwork(abc.ABC, Generic[Model]):
    """A metric's network.

    Args:
        loaded: the network.
        batch_size: inputs at a time on each device.
        devices: None takes all of this process.

    Attributes:
        measure: network, weights and preprocessing, for the rows of results.
    """

    def __init__(
        self,
        loaded: Loaded[Model],
        *,
        batch_size: int = 16,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.measure = f"{loaded.name}, {loaded.inputs}"
        self._loaded = loaded
        self._batch_size, self._devices = batch_size, devices

    @classmethod
    def from_pretrained(
        cls,
        path: epath.PathLike,
        inputs: Inputs | None = None,
        *,
        batch_size: int = 16,
        devices: Sequence[jax.Device] | None = None,
    ) -> Self:
        """The network of a file or folder; the class says of which.

        Args:
            path: local or gs://.
            inputs: how pictures are fed to it; None as its authors do.
            batch_size, devices: see the class.

        Raises:
            DataError: when something is missing, damaged, or of another network.
            ConfigError: for a folder whose configuration is that of another network.
        """
        with local_path(path) as local:
            loaded = cls.read(local)
        if inputs is not None:
            loaded = dataclasses.replace(loaded, inputs=inputs)
        return cls(loaded, batch_size=batch_size, devices=devices)

    @classmethod
    @abc.abstractmethod
    def read(cls, path: Path) -> Loaded[Model]:
        """What `from_pretrained` finds in a local file or folder."""

    @staticmethod
    @abc.abstractmethod
    def forward(model: Model, pixels: jax.Array) -> Any:
        """The features of a batch of normalised pixels [b H W 3]."""

    def _batched(
        self, function: Callable[[Model, jax.Array], Any], prepare: Callable[[Any], np.ndarray]
    ) -> Batched[Any]:
        size, devices = self._batch_size, self._devices
        return Batched(self._loaded.model, function, prepare, batch_size=size, devices=devices)

    @functools.cached_property
    def _images(self) -> Batched[Picture]:
        inputs = self._loaded.inputs
        return self._batched(
            lambda model, pixels: self.forward(model, inputs.normalise(pixels)), inputs.pixels
        )


def read_network(build: Callable[..., Model], source: TensorSource) -> Model:
    """The network that `build` makes of `compute` and `rngs`, in float32, with its weights.

    Raises:
        DataError: when they are damaged or of another network.
    """
    return load(nnx.eval_shape(lambda: build(compute=Compute(), rngs=make_rngs(0))), source)


def open_weights(path: Path) -> TensorSource:
    """The tensors of a weight file, or of the one in a folder.

    Raises:
        DataError: when there is none, or it is damaged.
    """
    if not path.is_dir():
        return open_tensors(path)
    for name in _NAMES:
        if (path / name).is_file():
            return open_tensors(path / name)
    raise DataError(f"{path} holds no weights: expected one of {', '.join(_NAMES)}")


def fingerprint(source: TensorSource) -> str:
    """Eight hex digits of the SHA-256 over name, dtype, shape and bytes of every tensor.

    They stand beside each measured value, so that two sets of weights of one architecture are
    never taken for the same metric.
    """
    return tensor_hash((name, source.read(name)) for name in sorted(source.tensors))[:8]
