"""Readers of the public sets, one small file each, and a registry of them."""

import inspect
from collections.abc import Callable
from typing import Any

from etils import epath

from mre_jax.data.sources.hive import hive
from mre_jax.data.sources.hq_edit import hq_edit
from mre_jax.data.sources.instruct_pix2pix import InstructPix2PixFolder
from mre_jax.data.sources.instruct_pix2pix_parquet import instruct_pix2pix_parquet
from mre_jax.data.sources.magicbrush import magicbrush
from mre_jax.data.sources.magicbrush_folder import MagicBrushFolder
from mre_jax.data.sources.plain_folder import PlainFolder
from mre_jax.data.sources.plain_table import plain_table
from mre_jax.data.sources.source import Source
from mre_jax.data.sources.table import nearest
from mre_jax.errors import ConfigError

SOURCES: dict[str, Callable[..., Source]] = {
    "instruct_pix2pix": InstructPix2PixFolder,
    "instruct_pix2pix_parquet": instruct_pix2pix_parquet,
    "magicbrush": magicbrush,
    "magicbrush_test": MagicBrushFolder,
    "hq_edit": hq_edit,
    "hive": hive,
    "table": plain_table,
    "folder": PlainFolder,
}


def open_source(name: str, path: epath.PathLike, /, **options: Any) -> Source:
    """Opens a set of a known layout.

    Args:
        name: one of `SOURCES`.
        path: of its file or folder, which may be gs://.
        options: of its reader.

    Raises:
        ConfigError: for an unknown name or option; tells the nearest.
        DataError: if what `path` holds is not of this layout.
    """
    if name not in SOURCES:
        raise ConfigError(
            f"source {name!r}: want one of {', '.join(SOURCES)}{nearest(name, list(SOURCES))}"
        )
    known = list(inspect.signature(SOURCES[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"source {name} has no option {option!r}; it has {', '.join(known)}"
                f"{nearest(option, known)}"
            )
    return SOURCES[name](path, **options)
