"""The journal of a run: every verdict, and what was set aside for the answers still to come.

    {"kind": "verdict", "key": ..., "item": ..., "status": "ok", "score": 4, ...}
    {"kind": "reserved", "key": ..., "usd": 0.004}      before something is sent that costs
    {"kind": "released", "key": ...}                    the end of it, where no verdict is one

The last verdict of a key and item wins. What was reserved and never answered, because the process
was killed in between, may have been paid for and counts as spent.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import Self

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.growing_file import GrowingFile, Line, read_growing
from mre_jax.judges.verdict import FINAL, Verdict


@dataclasses.dataclass(frozen=True)
class Budget:
    """A hard ceiling on what judging may cost, all runs of a journal together.

    Attributes:
        max_usd: ceiling in US dollars; None for none.

    Raises:
        ConfigError: for a negative ceiling.
    """

    max_usd: float | None = None

    def __post_init__(self) -> None:
        if self.max_usd is not None and not self.max_usd >= 0:
            raise ConfigError(f"max-usd {self.max_usd}: want 0 or more")

    def covers(self, spent: float, worst: float) -> bool:
        """Whether something that costs `worst` at most may be sent when `spent` is gone."""
        return self.max_usd is None or worst == 0 or spent + worst <= self.max_usd


class BudgetError(ConfigError):
    """The ceiling of a budget is reached."""


class Journal:
    """The one writer of a journal, as a context manager.

    In memory it holds a short digest and an offset per verdict, whatever the verdicts hold.

    Args:
        path: file on a local disk; it is made if it is not there.

    Attributes:
        path: file of the journal.

    Raises:
        ConfigError, BusyError, DataError: as `GrowingFile`; DataError also for a file that holds
            something else.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._log = GrowingFile(path, self._note)
        self.path = self._log.path
        self._places: dict[bytes, int] = {}
        self._answers: dict[bytes, int] = {}
        self._reserved: dict[str, float] = {}
        self._settled = 0.0

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._log.__exit__()

    @property
    def spent(self) -> float:
        """US dollars spent by all runs, those reserved included."""
        return self._settled + sum(self._reserved.values())

    def reserved(self, key: str) -> bool:
        """Whether something is set aside under this key."""
        return key in self._reserved

    def find(self, key: str, item: str) -> Verdict | None:
        """The last verdict of a key and item."""
        return self._read(self._places.get(_digest(key, item)))

    def find_answer(self, key: str) -> Verdict | None:
        """The last verdict of a key that needs no asking again, whichever item it was for."""
        return self._read(self._answers.get(_digest(key)))

    def reserve(self, key: str, usd: float) -> None:
        """Notes that something is about to be sent that may cost this much."""
        self._write({"kind": "reserved", "key": key, "usd": usd})

    def release(self, key: str) -> None:
        """Ends a reservation whose cost the verdicts bear."""
        self._write({"kind": "released", "key": key})

    def append(self, verdict: Verdict) -> None:
        """Writes a verdict, which ends what was reserved under its key."""
        self._write({"kind": "verdict", **verdict.to_json()})

    def verdicts(self) -> Iterator[Verdict]:
        """The verdicts that hold, in the order they were written."""
        return read_verdicts(self.path)

    def _write(self, record: dict[str, object]) -> None:
        self._note(Line(str(self.path), self._log.append(record), record))

    def _note(self, line: Line) -> None:
        record = line.row
        match record:
            case {"kind": "verdict", "key": str(key), "item": str(item), "usd": int() | float()}:
                self._settled += record["usd"]
                self._reserved.pop(key, None)
                self._places[_digest(key, item)] = line.offset
                if record.get("status") in FINAL:
                    self._answers[_digest(key)] = line.offset
            case {"kind": "reserved", "key": str(key), "usd": int() | float()}:
                self._settled += self._reserved.pop(key, 0.0)  # of a process that was killed
                self._reserved[key] = record["usd"]
            case {"kind": "released", "key": str(key)}:
                self._reserved.pop(key, None)
            case _:
                raise DataError(f"{line.where}: no record of a journal; give another file")

    def _read(self, offset: int | None) -> Verdict | None:
        if offset is None:
            return None
        return _verdict(self._log.read(offset), f"{self.path}: byte {offset}")


def read_verdicts(path: str | os.PathLike[str]) -> Iterator[Verdict]:
    """Yields the verdicts of a journal that hold, also while it is written: two passes.

    Raises:
        DataError: if it is missing, or naming the record that is of another kind.
    """
    last: dict[bytes, int] = {}
    for where, offset, row in read_growing(path):
        if "kind" not in row:
            raise DataError(f"{where}: no record of a journal")
        if row["kind"] == "verdict":
            last[_digest(str(row.get("key")), str(row.get("item")))] = offset
    kept = set(last.values())
    for where, offset, row in read_growing(path):
        if offset in kept:
            yield _verdict(row, where)


def _verdict(record: dict[str, object], where: str) -> Verdict:
    values = {name: value for name, value in record.items() if name != "kind"}
    return Verdict.from_json(values, where)


def _digest(*parts: str) -> bytes:
    data = "\0".join(parts).encode(errors="surrogatepass")  # JSON can hold half a character
    return hashlib.blake2b(data, digest_size=16).digest()
