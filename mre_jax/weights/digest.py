"""What identifies a model's weights, whatever files they are kept in."""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np
from etils import epath

from mre_jax.io.tensor_hash import TensorHash
from mre_jax.weights.files.source import TensorSource
from mre_jax.weights.lora import Loras
from mre_jax.weights.model import PretrainedModel, model_at


def weights_hash(
    model: epath.PathLike,
    *,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    weights: str | None = None,
) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of the names.

    A folder, its copy in our Orbax form and one with older tensor names have the same hash.

    Args:
        model, base, lora, weights: as `model_at` takes them.

    Raises:
        DataError: when the model cannot be read.
    """
    with model_at(model, base=base, lora=lora, weights=weights) as opened:
        return model_hash(opened)


def model_hash(model: PretrainedModel) -> str:
    """`weights_hash` of a model that is open."""
    return hashed(model)[1].hexdigest()


checkpoint_hash = model_hash  # the name from before, for the rooms that still read it


def hashed(model: PretrainedModel) -> tuple[PretrainedModel, "RunningHash"]:
    """The model, and its `weights_hash`, which is made while its tensors are read.

    Whoever loads the components in their order reads each file once.
    """
    running = RunningHash(
        (f"{component.name}.{name}", component.source, name)
        for component in model.components.values()
        for name in sorted(component.source.tensors)
    )
    components = {
        name: dataclasses.replace(component, source=Watched(component.source, running))
        for name, component in model.components.items()
    }
    return dataclasses.replace(model, components=components), running


class RunningHash:
    """SHA-256 over name, dtype, shape and bytes of tensors, made while others read them.

    Args:
        tensors: in order, each as it is called in the hash, its source, and its name there.
    """

    def __init__(self, tensors: Iterable[tuple[str, TensorSource, str]]):
        self._left = collections.deque(tensors)
        self._hash = TensorHash()

    def see(self, source: TensorSource, name: str, array: np.ndarray) -> None:
        """Hashes the tensor `name` if it is the next; if not, it is left for later."""
        if not self._left or self._left[0][1] is not source or self._left[0][2] != name:
            return
        called, _, _ = self._left.popleft()
        self._hash.update(called, array)

    def hexdigest(self) -> str:
        """The hash; whatever was not seen in its turn is read now."""
        while self._left:
            _, source, name = self._left[0]
            self.see(source, name, source.read(name))
        return self._hash.hexdigest()


class Watched(TensorSource):
    """Another source, of which hashes are made while it is read; `load` reads in their order."""

    def __init__(self, source: TensorSource, *hashes: RunningHash):
        self.origin, self.tensors = source.origin, source.tensors
        self._source, self._hashes = source, hashes

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        array = self._source.read(name)
        for running in self._hashes:
            running.see(self._source, name, array)
        return array
