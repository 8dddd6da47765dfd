"""What identifies a model's weights, whatever files they are kept in."""

import hashlib

from etils import epath

from mre_jax.weights.checkpoint import open_checkpoint
from mre_jax.weights.locate import local_path
from mre_jax.weights.source import as_bytes


def weights_hash(model: epath.PathLike) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of the names.

    A folder, its copy in our Orbax form and one with older tensor names have the same hash.

    Args:
        model: anything that `open_checkpoint` takes.

    Raises:
        DataError: when the model cannot be read.
    """
    digest = hashlib.sha256()
    with local_path(model) as path:
        opened = open_checkpoint(path)
        for component in opened.components.values():
            for name in sorted(component.source.tensors):
                array = component.source.read(name)
                header = f"{component.name}.{name} {array.dtype.name} {list(array.shape)}\n"
                digest.update(header.encode())
                digest.update(as_bytes(array))
    return digest.hexdigest()
