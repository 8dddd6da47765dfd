"""Folders that a job fills over several starts: one that was begun with other settings is refused.

What is half there would otherwise be completed with what does not belong to it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import read_json

SAME_OR_OTHER = "take the same, or another --out"


class Difference(NamedTuple):
    """A setting that is not what it was.

    Attributes:
        key: its name, dotted if it stands in another one.
        was, now: its values; None where it is not set.
    """

    key: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.was!r} and is {self.now!r}"


def differences(
    was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[Difference]:
    """Yields the settings that differ, by name; those within others one by one.

    Example:
        >>> [str(one) for one in differences({"data": {"size": 1}}, {"data": {"size": 2}})]
        ['data.size was 1 and is 2']
    """
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield Difference(f"{prefix}{name}", before, after)


def refuse(folder: object, found: Iterable[Difference], remedy: str = SAME_OR_OTHER) -> None:
    """Refuses to go on with other settings, if there are any.

    Args:
        folder: what it is called.
        found: what `differences` gives.
        remedy: what to do instead.

    Raises:
        ConfigError: naming what differs, with both values.
    """
    if changes := "; ".join(map(str, found)):
        raise ConfigError(f"{folder} was begun with other settings: {changes}; {remedy}")


def begin(
    mark: epath.PathLike,
    settings: Mapping[str, Any],
    *,
    record: Mapping[str, Any] | None = None,
    kind: str = "",
    remedy: str = SAME_OR_OTHER,
) -> None:
    """Marks a folder as begun with these settings, or goes on in one that was begun with the same.

    Args:
        mark: the file that holds the settings, in the folder.
        settings: what decides the content; JSON values.
        record: further values of the file; the settings then stand in it under "settings".
        kind: what the folder is to be, as "prepared set"; one that holds something else is
            refused. "" takes any folder.
        remedy: for a folder that was begun with other settings.

    Raises:
        ConfigError: if it was, or holds something else.
        DataError: if the mark is damaged.
    """
    mark = epath.Path(mark)
    folder = mark.parent
    settings = json.loads(json.dumps(settings))  # as they are read back
    if mark.exists():
        refuse(folder, differences(_begun_with(mark, record is not None), settings), remedy)
        return
    if kind and folder.exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise ConfigError(f"{folder}: holds {others[0]!r} and no {kind}; take another --out")
    folder.mkdir(parents=True, exist_ok=True)
    content = settings if record is None else {"settings": settings, **record}
    write_atomically(mark, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _begun_with(mark: epath.Path, within: bool) -> dict[str, Any]:
    try:
        found = read_json(mark)
        return dict(found["settings"] if within else found)
    except (DataError, LookupError, TypeError, ValueError):
        raise DataError(f"{mark}: damaged; remove its folder, or take another --out") from None
