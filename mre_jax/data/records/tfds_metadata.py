"""The files beside the shards by which TensorFlow Datasets opens them: features and splits.

    builder = tfds.builder_from_directory(DIR)
    builder.as_dataset(split="train")    # pictures decoded; with tfds.decode.SkipDecoding, bytes

They are written by TensorFlow Datasets itself, which does not import TensorFlow for it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from mre_jax.data.cache.description import DTYPES, Cache
from mre_jax.data.cache.features import feature_name
from mre_jax.data.records.manifest import Manifest
from mre_jax.io.extra import of_extra
from mre_jax.io.files import write_atomically
from mre_jax.reward.scores import PERSPECTIVES

FILES = ("dataset_info.json", "features.json")
VERSION = "1.0.0"

_DESCRIPTION = (
    "Image edits: original and edited picture, instruction, captions, and scores from 0 to 5 with "
    "a text for instruction following, detail preserving and generation quality (-1 and '' where "
    "there is no reward)."
)
_TEXTS = ("id", "source", "instruction", "original_caption", "edited_caption")


def write_tfds_metadata(folder: epath.PathLike, manifest: Manifest) -> None:
    """Writes `dataset_info.json` and `features.json`, each whole or not at all.

    Raises:
        ConfigError: if TensorFlow Datasets is not installed.
    """
    tfds = of_extra("tensorflow_datasets")
    with tempfile.TemporaryDirectory() as temporary:
        info = tfds.core.DatasetInfo(
            builder=tfds.core.dataset_info.DatasetIdentity(
                name=manifest.name,
                version=tfds.core.Version(VERSION),
                data_dir=temporary,
                module_name="",
            ),
            features=_features(tfds, Cache.of(manifest)),
            description=_DESCRIPTION,
        )
        info.set_file_format("tfrecord")
        info.set_splits(tfds.core.splits.SplitDict([_split(tfds, manifest, temporary)]))
        info.write_to_directory(temporary)
        for name in FILES:
            write_atomically(epath.Path(folder) / name, (Path(temporary) / name).read_bytes())


def _features(tfds: Any, cache: Cache | None) -> Any:
    cached = {}
    if cache is not None:
        dtype = DTYPES[cache.dtype].type
        cached = {
            feature_name(field): tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")
            for field, shape in cache.shapes.items()
        }
    return tfds.features.FeaturesDict(
        {
            **cached,
            **{name: tfds.features.Text() for name in _TEXTS},
            # The records hold the pictures' files as they came, of any format.
            "original": tfds.features.Image(shape=(None, None, 3)),
            "edited": tfds.features.Image(shape=(None, None, 3)),
            "scores": tfds.features.Tensor(shape=(len(PERSPECTIVES),), dtype=np.float32),
            "texts": tfds.features.Tensor(shape=(len(PERSPECTIVES),), dtype=np.object_),
        }
    )


def _split(tfds: Any, manifest: Manifest, folder: str) -> Any:
    return tfds.core.SplitInfo(
        name=manifest.split,
        shard_lengths=[shard.count for shard in manifest.shards],
        num_bytes=manifest.bytes,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder,
            dataset_name=manifest.name,
            split=manifest.split,
            filetype_suffix="tfrecord",
        ),
    )
