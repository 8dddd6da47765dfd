"""What identifies tensors, whatever files they are kept in."""

import hashlib
from collections.abc import Iterable

import numpy as np


def tensor_hash(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over name, dtype, shape and values of tensors, in the order that they come in.

    The hash stands in files: it never changes.

    Args:
        tensors: name and values of each; one is held at a time.

    Example:
        >>> tensor_hash([("bias", np.zeros(2, np.float32))])[:8]
        'ae26c03e'
    """
    made = TensorHash()
    for name, array in tensors:
        made.update(name, array)
    return made.hexdigest()


class TensorHash:
    """`tensor_hash`, made tensor by tensor."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, name: str, array: np.ndarray) -> None:
        """Adds the next tensor."""
        self._digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        self._digest.update(as_bytes(array))

    def hexdigest(self) -> str:
        """The hash of all tensors so far."""
        return self._digest.hexdigest()


def as_bytes(array: np.ndarray) -> memoryview:
    """The values of an array in C order, as they stand in a file."""
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data
