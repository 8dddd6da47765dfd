"""What identifies a model's weights, whatever files they are kept in."""

import hashlib
from typing import Protocol

import numpy as np
from etils import epath

from mre_jax.weights.checkpoint import Checkpoint, checkpoint_at
from mre_jax.weights.files.source import as_bytes
from mre_jax.weights.lora import Loras


class Digest(Protocol):
    """A hash that is under way, as `hashlib` has them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Adds bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""


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
        model, base, lora, weights: as `checkpoint_at` takes them.

    Raises:
        DataError: when the model cannot be read.
    """
    with checkpoint_at(model, base=base, lora=lora, weights=weights) as opened:
        return checkpoint_hash(opened)


def checkpoint_hash(model: Checkpoint) -> str:
    """`weights_hash` of a model that is open."""
    digest = hashlib.sha256()
    for component in model.components.values():
        for name in sorted(component.source.tensors):
            add_tensor(digest, component.name, name, component.source.read(name))
    return digest.hexdigest()


def add_tensor(digest: Digest, component: str, name: str, array: np.ndarray) -> None:
    """Adds a tensor to the digest of `checkpoint_hash`, whose order is that of the names."""
    digest.update(f"{component}.{name} {array.dtype.name} {list(array.shape)}\n".encode())
    digest.update(as_bytes(array))
