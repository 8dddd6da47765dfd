"""Examples of a source that cannot be written, and how many of them may be left out."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.selection import Check, read_checked
from mre_jax.data.sources.source import Source
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import write_atomically

SHOWN = 20
"""Bad examples that are listed on the console."""


@dataclasses.dataclass(frozen=True)
class BadExample:
    """One that is left out.

    Attributes:
        example: position of the example in the source, counted from 0.
        reason: file, row and what is wrong, without the folders above the source.
        id: in its set; "" if that has none, or it is part of what is wrong.
    """

    example: int
    reason: str
    id: str = ""

    @classmethod
    def of(cls, path: str, position: int, error: DataError, id: str = "") -> "BadExample":
        """That of the source at `path` whose reading gave this error."""
        folder = epath.Path(path).parent
        return cls(position, str(error).replace(f"{folder}/", ""), id)

    def __str__(self) -> str:
        return self.reason


class BadExamplesError(DataError):
    """More examples are bad than may be left out.

    Attributes:
        bad: all of them.
    """

    def __init__(self, path: str, bad: Sequence[BadExample], allowed: int, total: int):
        # All of them as arguments, so that the error can be pickled.
        super().__init__(path, bad, allowed, total)
        self.path, self.bad, self.allowed, self.total = path, bad, allowed, total

    def __str__(self) -> str:
        count = f"{self.path}: {len(self.bad)} of {self.total} examples are bad"
        if len(self.bad) == self.total:
            return f"{count}; are layout and columns those of the set?"
        more = f", and {self.allowed} may be left out" if self.allowed else ""
        return f"{count}{more}; mend them, or leave them out with --skip-bad {len(self.bad)}"


def allowed_bad(skip_bad: float, total: int) -> int:
    """How many examples may be left out.

    Args:
        skip_bad: their number, an integer; or a float below 1, their share of `total`.
        total: examples there are.

    Raises:
        ConfigError: if it is neither.
    """
    if skip_bad >= 0 and (isinstance(skip_bad, int) or skip_bad < 1):
        return skip_bad if isinstance(skip_bad, int) else int(skip_bad * total)
    raise ConfigError(f"skip_bad={skip_bad}: want a number of examples, or a share below 1")


def parse_skip_bad(text: str) -> float:
    """Reads "3", "0.01" or "1%" for `allowed_bad`.

    Raises:
        ConfigError: if it is something else.
    """
    try:
        skip_bad = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if text.isdigit():
            skip_bad = int(text)
        allowed_bad(skip_bad, 1)
    except ValueError:
        raise ConfigError(
            f"--skip-bad {text!r}: want a number of examples, or a share as 0.01 or 1%"
        ) from None
    return skip_bad


def find_bad(source: Source, positions: Sequence[int], check: Check) -> Iterator[BadExample | None]:
    """For each position the example if it is bad."""
    for position, item in zip(positions, read_checked(source, positions, check), strict=True):
        yield BadExample.of(source.path, position, item) if isinstance(item, DataError) else None


def with_ids(source: Source, bad: Sequence[BadExample]) -> list[BadExample]:
    """The same examples with the ids that their source has for them."""
    names = source.keys().names if bad else None
    return [dataclasses.replace(one, id=names[one.example] if names else "") for one in bad]


def report_bad(bad: Sequence[Any], out: epath.PathLike) -> Iterator[str]:
    """A line for each of the first, and where all are if there are more.

    Args:
        bad: bad examples, at least one.
        out: folder of the set, beside which the list is written.
    """
    yield from (str(one) for one in bad[:SHOWN])
    if len(bad) > SHOWN:
        path = epath.Path(f"{str(out).rstrip('/')}.bad.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{one}\n" for one in bad))
        yield f"... and {len(bad) - SHOWN} more; all are in {path}"
