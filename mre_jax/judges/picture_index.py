"""Pictures that are made ready when they are sent, known by their hash before.

    JOURNAL.pictures.jsonl    {"made_from": ..., "sent": [sha256, sha256]}

A journal finds an answer by the bytes that were sent. To decode and encode all pictures of a set
again, only to see that every question is answered, would take minutes: what they came to is kept
beside the journal. A version of Pillow that encodes otherwise makes no other question of them.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Self

from mre_jax.errors import DataError
from mre_jax.io.growing_file import GrowingFile

_ENDING = ".pictures.jsonl"


class Picture:
    """A file that is made when it is first wanted.

    Args:
        make: gives its bytes.
        sha256: of them, if it is known.
    """

    def __init__(self, make: Callable[[], bytes], sha256: str | None = None):
        self._make = make
        self._sha256 = sha256

    @functools.cached_property
    def data(self) -> bytes:
        return self._make()

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).hexdigest()
        return self._sha256


class PictureIndex:
    """Remembers what pictures came to, as a context manager, beside a journal that is open.

    Args:
        journal: path of the journal; without one nothing is kept.

    Raises:
        BusyError, DataError: as `GrowingFile`.
    """

    def __init__(self, journal: str | os.PathLike[str] | None = None):
        self._log = None if journal is None else GrowingFile(f"{journal}{_ENDING}", self._load)
        self._known: dict[bytes, list[str]] = {}

    def __enter__(self) -> Self:
        if self._log is not None:
            self._log.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.__exit__()

    def pictures(
        self, files: Sequence[bytes], encoding: str, make: Callable[[], Sequence[bytes]]
    ) -> tuple[Picture, ...]:
        """Pictures that are made together, as soon as one of them is wanted.

        Args:
            files: all that they are made from.
            encoding: how.
            make: gives them, as many as there are files.
        """
        parts = [encoding, *(hashlib.sha256(file).hexdigest() for file in files)]
        key = hashlib.sha256(json.dumps(parts).encode())
        known = self._known.get(key.digest())

        @functools.cache
        def made() -> Sequence[bytes]:
            data = make()
            if known is None:
                self._note(key.hexdigest(), [hashlib.sha256(each).hexdigest() for each in data])
            return data

        def picture(index: int) -> Picture:
            return Picture(lambda: made()[index], known[index] if known else None)

        return tuple(map(picture, range(len(files))))

    def _note(self, key: str, sent: list[str]) -> None:
        if self._log is not None:
            self._log.append({"made_from": key, "sent": sent})
        self._known[bytes.fromhex(key)] = sent

    def _load(self) -> None:
        assert self._log is not None  # noqa: S101 (it is the log that loads)
        for line in self._log.lines():
            match line.row:
                case {"made_from": str(key), "sent": [*sent]}:
                    self._known[bytes.fromhex(key)] = [str(each) for each in sent]
                case _:
                    raise DataError(f"{self._log.path}: no index of pictures; remove it")
