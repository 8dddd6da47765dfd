"""Our own form of a component's weights: an Orbax checkpoint of the NNX parameters.

Beside it stands `tensors.json` with a checksum per tensor, since Orbax does not notice flipped
bits in array data.
"""

import errno
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.tree_util import DictKey

from mre_jax.errors import DataError
from mre_jax.io.tensor_hash import as_bytes
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.names.rule import from_torch, to_torch, torch_name, torch_shape

FOLDER = "orbax"
CHECKSUMS = "tensors.json"


class OrbaxComponent(TensorSource):
    """The tensors of `<component>/orbax`, under PyTorch's names and in its layout.

    Raises:
        DataError: when the checkpoint is incomplete, damaged, or lacks its checksums.
    """

    def __init__(self, component: Path):
        self.origin = str(component / FOLDER)
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                # Orbax takes absolute paths only.
                metadata = checkpointer.metadata(Path(self.origin).absolute())
            leaves = jax.tree_util.tree_flatten_with_path(metadata.item_metadata.tree)[0]
            self._checksums = json.loads((component / CHECKSUMS).read_text())
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{self.origin} is not a readable checkpoint ({error})") from error
        found = {}
        for keys, leaf in leaves:
            path = tuple(key.key for key in keys if isinstance(key, DictKey))
            info = TensorInfo(torch_shape(path, leaf.shape), np.dtype(leaf.dtype))
            found[torch_name(path)] = path, info
        self._paths = {name: path for name, (path, _) in sorted(found.items())}
        self.tensors = {name: found[name][1] for name in self._paths}
        self._batches = _batches(self.tensors)
        self._restored: dict[str, np.ndarray] = {}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`, compared with its checksum."""
        if name not in self._restored:
            self._restored = {}
            self._restored = self._restore(next(batch for batch in self._batches if name in batch))
        array = self._restored.pop(name)
        if zlib.crc32(as_bytes(array)) != self._checksums.get(name):
            raise DataError(f"{self.origin} is damaged: {name} does not have its saved checksum")
        return array

    def _restore(self, names: list[str]) -> dict[str, np.ndarray]:
        paths = [self._paths[name] for name in names]
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        try:
            with ocp.PyTreeCheckpointer() as checkpointer:
                tree = checkpointer.restore(
                    Path(self.origin).absolute(),
                    args=ocp.args.PyTreeRestore(
                        item=_nested(dict.fromkeys(paths, 0)),
                        restore_args=_nested(dict.fromkeys(paths, as_numpy)),
                        partial_restore=True,
                    ),
                )
        except (OSError, ValueError) as error:
            raise DataError(f"{self.origin} cannot be read ({error})") from error
        return dict(to_torch(path, _leaf(tree, path)) for path in paths)


def write_orbax(
    component: Path,
    paths: Mapping[str, tuple[Any, ...]],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Write tensors as `<component>/orbax` and their checksums.

    The whole tree is in memory at once, unlike a safetensors file's.

    Args:
        component: an existing folder.
        paths: by PyTorch name, the path of the parameter in its module.
        arrays: PyTorch names and tensors in its layout.

    Raises:
        OSError: when the disk is full.
    """
    checksums, leaves = {}, {}
    for name, array in arrays:
        checksums[name] = zlib.crc32(as_bytes(array))
        leaves[paths[name]] = np.asarray(from_torch(paths[name], array), order="C")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((component / FOLDER).absolute(), _nested(leaves))
            checkpointer.wait_until_finished()
    except ValueError as error:
        # The storage library has no error class of its own for a full disk.
        if "No space left" not in str(error):
            raise
        raise OSError(errno.ENOSPC, "No space left on device", str(component)) from error
    (component / CHECKSUMS).write_text(json.dumps(checksums, indent=1, sort_keys=True))


def _batches(tensors: Mapping[str, TensorInfo]) -> list[list[str]]:
    """The names in order, in groups that are worth the fixed cost of a restore."""
    batches: list[list[str]] = [[]]
    size = 0
    for name, info in tensors.items():
        size += int(np.prod(info.shape)) * info.dtype.itemsize
        if size > _BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(name)
    return batches


def _leaf(tree: Any, path: tuple[Any, ...]) -> np.ndarray:
    for key in path:
        tree = tree[key]
    return np.asarray(tree)


def _nested(leaves: Mapping[tuple[Any, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = map(str, path)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


_BATCH_BYTES = 1 << 29
