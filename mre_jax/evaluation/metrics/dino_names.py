"""DINO's tensors in the layout of transformers' ViTModel, under the names of the released file."""

import re
from collections.abc import Mapping

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.source import TensorInfo, TensorSource


def released_names(source: TensorSource) -> TensorSource:
    """`source` under the names of the file that DINO's authors (and timm) publish.

    Transformers keeps queries, keys and values apart; here they are one tensor. A name that
    belongs to neither layout is kept, so that strict loading names it.
    """
    is_transformers = any(name.startswith("embeddings.") for name in source.tensors)
    return _Released(source) if is_transformers else source


class _Released(TensorSource):
    def __init__(self, source: TensorSource):
        self.origin = source.origin
        self._source = source
        parts: dict[str, dict[int, str]] = {}
        for stored in source.tensors:
            name, place = _released(stored)
            twice = parts.setdefault(name, {}).setdefault(place, stored)
            if twice != stored:
                raise DataError(f"{source.origin} holds {name} twice, as {twice} and as {stored}")
        self._parts = {name: [part[i] for i in sorted(part)] for name, part in parts.items()}
        self.tensors: Mapping[str, TensorInfo] = {
            name: self._described(stored) for name, stored in self._parts.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        arrays = [self._source.read(stored) for stored in self._parts[name]]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _described(self, stored: list[str]) -> TensorInfo:
        infos = [self._source.tensors[name] for name in stored]
        if len(infos) == 1:
            return infos[0]
        return TensorInfo((sum(i.shape[0] for i in infos), *infos[0].shape[1:]), infos[0].dtype)


def _released(name: str) -> tuple[str, int]:
    """The released name of a tensor of transformers, and its place along the first axis there."""
    if match := _LAYER.fullmatch(name):
        layer, part, leaf = match.groups()
        if part in _QKV:
            return f"blocks.{layer}.attn.qkv.{leaf}", _QKV.index(part)
        return f"blocks.{layer}.{_PARTS.get(part, part)}.{leaf}", 0
    for theirs, ours in _ENDS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs), 0
    return name, 0


_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_QKV = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
_PARTS = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_ENDS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "layernorm.": "norm.",
}
