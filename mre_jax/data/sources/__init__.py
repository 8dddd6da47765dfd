"""Readers of the public sets, one small file each, and a registry of them."""

import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from etils import epath

from mre_jax.data.sources.source import Source, nearest
from mre_jax.errors import ConfigError

SOURCES = {
    "instruct_pix2pix": "instruct_pix2pix.InstructPix2PixFolder",
    "instruct_pix2pix_parquet": "instruct_pix2pix_parquet.instruct_pix2pix_parquet",
    "magicbrush": "magicbrush.magicbrush",
    "magicbrush_test": "magicbrush_folder.MagicBrushFolder",
    "hq_edit": "hq_edit.hq_edit",
    "hive": "hive.hive",
    "reason_edit": "reason_edit.ReasonEdit",
    "refcoco": "refcoco.RefCoco",
    "coco_stuff": "coco_stuff.CocoStuff",
    "reason_seg": "reason_seg.ReasonSeg",
    "table": "plain_table.plain_table",
    "folder": "plain_folder.PlainFolder",
}
"""The reader of each layout: a file of this folder, and what in it is called with path and options.
"""


def open_source(name: str, path: epath.PathLike, /, **options: Any) -> Source:
    """Opens a set of a known layout.

    Args:
        name: one of `SOURCES`.
        path: file or folder of the set, which may be gs://.
        options: options of its reader; texts where it wants a number, true or false, or an object
            are read as JSON.

    Example:
        >>> source = open_source("instruct_pix2pix", "toy/triplets", split="train")
        >>> triplet = next(source.read([0]))
        >>> triplet.id, triplet.instruction
        ('0000000', 'make the yellow heart green')

    Raises:
        ConfigError: for an unknown name or option; with the nearest.
        DataError: if what `path` holds is not of this layout.
    """
    return _reader(name)(path, **typed_options(name, options))


def typed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a reader, each as its signature wants it.

    Raises:
        ConfigError: if an option is unknown or of another kind.
    """
    known = dict(list(inspect.signature(_reader(name)).parameters.items())[1:])
    for option in options:
        if option not in known:
            raise ConfigError(
                f"source {name} has no option {option!r}; it has {', '.join(known)}"
                f"{nearest(option, list(known))}"
            )
    return {
        option: _typed(option, value, known[option].annotation) for option, value in options.items()
    }


def parse_options(name: str, texts: Iterable[str]) -> dict[str, Any]:
    """Reads "split=train" and the like, whatever `name` is.

    Raises:
        ConfigError: as `typed_options`, or if there is no "=".
    """
    pairs = [text.partition("=") for text in texts]
    for option, equals, value in pairs:
        if not equals:
            raise ConfigError(f"--option {option + value!r}: want NAME=VALUE")
    options = {option: value for option, _, value in pairs}
    return typed_options(name, options) if name in SOURCES else options


def _reader(name: str) -> Callable[..., Source]:
    if name not in SOURCES:
        raise ConfigError(
            f"source {name!r}: want one of {', '.join(SOURCES)}{nearest(name, list(SOURCES))}"
        )
    module, _, attribute = SOURCES[name].rpartition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def _typed(option: str, value: Any, kind: Any) -> Any:
    kind = dict if option == "columns" else kind
    if not isinstance(value, str) or kind not in (bool, int, dict):
        return value
    try:
        typed = json.loads(value)
    except json.JSONDecodeError:
        typed = None
    if type(typed) is not kind:
        wanted = {bool: "true or false", int: "an integer", dict: "a JSON object"}[kind]
        raise ConfigError(f"--option {option}={value}: want {wanted}")
    return typed
