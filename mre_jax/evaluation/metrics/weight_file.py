"""The weights of a metric's network: one file of PyTorch's, or a folder of transformers'."""

from pathlib import Path

from mre_jax.errors import DataError
from mre_jax.io.tensor_hash import tensor_hash
from mre_jax.weights.files.source import TensorSource, open_tensors

_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


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
