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
    digest = hashlib.sha256()
    for name, array in tensors:
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(as_bytes(array))
    return digest.hexdigest()


def as_bytes(array: np.ndarray) -> memoryview:
    """The values of an array in C order, as they stand in a file."""
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data
