"""JSON as people and programs write it, in UTF-8: whole files, and one object a line.

A line ends at a line feed and nowhere else: JSON lets a text hold U+2028, U+2029 and U+0085 as they
are, where `str.splitlines` would break it.
"""

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from etils import epath

from mre_jax.errors import DataError
from mre_jax.io.files import refuse_lfs_pointer


def read_json(path: epath.Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: if it is missing, not JSON, a Git LFS pointer, or repeats a key of an object.
    """
    refuse_lfs_pointer(path)
    try:
        return parse_json(path.read_bytes(), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a JSON file is wanted") from None


def read_object(path: epath.Path) -> dict[str, Any]:
    """`read_json` for a file that holds an object.

    Raises:
        DataError: if it holds anything else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: want a JSON object, got {type(value).__name__}")
    return value


def parse_json(data: bytes, where: object) -> Any:
    """`read_json` for bytes at hand; `where` is what errors call them."""
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        raise DataError(f"{where}: key {error.args[0]!r} stands in it twice") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from None


def read_rows(path: epath.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a file, each with its place, "path:line"; blank lines do not count.

    Raises:
        DataError: if the file cannot be read, or naming the line that is no object.
    """
    try:
        data = epath.Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except (OSError, ValueError) as error:  # a path may hold what no path can
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    for number, line in numbered_lines(data):
        where = f"{path}:{number}"
        yield where, parse_row(line, where)


def numbered_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, counted from 1, without a byte order mark."""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            yield number, line


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """The object of one line; `where` is what errors call it.

    Raises:
        DataError: if it is none, or holds a number that JSON cannot carry.
    """
    try:
        row = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason})") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: want a JSON object, got {type(row).__name__}")
    return row


def to_line(row: Mapping[str, Any]) -> str:
    """The line of an object, its end included, from which `parse_row` reads it again.

    What any reader could take for the end of a line is escaped, and so are surrogates, which UTF-8
    does not have.

    Raises:
        ValueError: for a number that is not finite.
    """
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def to_bytes(value: Any) -> bytes:
    """The content of a file of its own that holds `value`, for programs and for people."""
    return (json.dumps(value, indent=2) + "\n").encode()


class _RepeatedKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


_UNSAFE = re.compile("[\u0085\u2028\u2029\ud800-\udfff]")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is out of range")
    return number


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number there")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_not_json)
