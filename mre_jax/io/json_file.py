"""JSON files as people and programs write them, in which no key may stand twice."""

import json
from typing import Any

from etils import epath

from mre_jax.errors import DataError


def read_json(path: epath.Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: if it is missing, not JSON, or repeats a key of an object.
    """
    try:
        return parse_json(path.read_bytes(), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a JSON file is wanted") from None


def parse_json(data: bytes, where: object) -> Any:
    """`read_json` for bytes at hand; `where` is what errors call them."""
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        raise DataError(f"{where}: key {error.args[0]!r} stands in it twice") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from None


class _RepeatedKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found
