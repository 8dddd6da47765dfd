"""Where batches stand, on disk, so that a process may end between any two steps.

    JOURNAL.batches/events.jsonl          what has happened to each shard, in order
    JOURNAL.batches/SHARD.jsonl           its requests, as they are uploaded, until it is done with
    JOURNAL.batches/SHARD.items.jsonl     which question each of them is
    JOURNAL.batches/unread.jsonl          lines of answers that could not be read

A shard is named after the hash of its requests, and a number in case they are sent again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from mre_jax.errors import DataError
from mre_jax.io import growing_file
from mre_jax.io.files import full_disk_is_an_error
from mre_jax.io.growing_file import GrowingFile

_BUILDING, _BUILDING_ITEMS = ".building.jsonl", ".building.items.jsonl"


@dataclasses.dataclass(frozen=True)
class Line:
    """A request of a shard and the question it is for.

    Attributes:
        key: `request_key`, its custom id.
        item, perspective, question, prompt_hash, repeat: fields of its verdict.
        pack: name of the prompt pack.
        usd: the most it can cost.
        settings: `Verdict.settings`.
        body: JSON of the request; "" where only the question is wanted.
    """

    key: str
    item: str
    perspective: str
    question: str
    prompt_hash: str
    repeat: int
    pack: str
    usd: float
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    body: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass
class ShardState:
    """Where a shard stands.

    Attributes:
        name: name of the shard.
        usd: the most it can cost.
        round: 0, or how often its requests were sent before.
        parent: the shard whose rest it is; "" for a first one.
        file_id: id of the uploaded file; None before.
        batch_id: id of the batch; None before it is created, and after it failed.
        attempt: how often a batch of it was created and failed.
        done: whether nothing more is to be had from it.
    """

    name: str
    usd: float
    round: int
    parent: str
    file_id: str | None = None
    batch_id: str | None = None
    attempt: int = 0
    done: bool = False


class BatchFolder:
    """The folder of a journal's batches, as a context manager.

    Args:
        path: folder beside the journal.

    Attributes:
        shards: shards by name, in the order they were made.

    Raises:
        BusyError: on entering, if another process works with it.
        DataError: if its files are damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shards: dict[str, ShardState] = {}
        self._log = GrowingFile(path / "events.jsonl", self._note)

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._log.__exit__()

    def unfinished(self) -> list[ShardState]:
        return [shard for shard in self.shards.values() if not shard.done]

    def write_shard(self, lines: Iterable[Line], round_: int = 0, parent: str = "") -> ShardState:
        """Writes a shard's files, then notes that it is there."""
        digest = hashlib.sha256()
        usd = 0.0
        with full_disk_is_an_error(self.path):
            requests = (self.path / _BUILDING).open("wb")
            items = (self.path / _BUILDING_ITEMS).open("wb")
            with requests, items:
                for line in lines:
                    usd += line.usd
                    request = f"{line.body}\n".encode()
                    digest.update(request)
                    requests.write(request)
                    known = {k: v for k, v in vars(line).items() if k != "body"}
                    items.write((json.dumps(known) + "\n").encode())
                for file in (requests, items):
                    file.flush()
                    os.fsync(file.fileno())
        stem = digest.hexdigest()[:32]
        name = f"{stem}-{sum(shard.startswith(stem) for shard in self.shards)}"
        (self.path / _BUILDING_ITEMS).replace(self._items(name))
        (self.path / _BUILDING).replace(self.requests(name))
        self.note("written", name, usd=usd, round=round_, parent=parent)
        return self.shards[name]

    def requests(self, name: str) -> Path:
        """The file to upload."""
        return self.path / f"{name}.jsonl"

    def lines(self, name: str, *, bodies: bool = False) -> Iterator[Line]:
        """The requests of a shard in order, with the JSON to send or without it.

        Raises:
            DataError: if a file is missing or damaged.
        """
        try:
            with contextlib.ExitStack() as stack:
                items = stack.enter_context(self._items(name).open(encoding="utf-8"))
                requests = stack.enter_context(self.requests(name).open(encoding="utf-8"))
                for item in items:
                    body = requests.readline().rstrip("\n") if bodies else ""
                    yield Line(**json.loads(item), body=body)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{self._items(name)}: {error}; remove {self.path} to ask its questions anew"
            ) from None

    def keep_unread(self, line: bytes) -> Path:
        """Keeps a line of answers that nobody can read, since it may be paid for."""
        path = self.path / "unread.jsonl"
        with full_disk_is_an_error(path), path.open("ab") as file:
            file.write(line + b"\n")
        return path

    def note(self, kind: str, name: str, **values: Any) -> None:
        """Writes down what has happened to a shard: "written", "uploaded", "created", "failed" (its
        batch; it may be created again) or "done"."""
        event = {"event": kind, "shard": name, **values}
        self._note(growing_file.Line(str(self._log.path), self._log.append(event), event))

    def _note(self, line: growing_file.Line) -> None:
        name = line.row.get("shard")
        match line.row:
            case {"event": "written", "usd": usd, "round": round_, "parent": parent}:
                self.shards[str(name)] = ShardState(str(name), usd, round_, parent)
            case {"event": "uploaded", "file": file} if name in self.shards:
                self.shards[name].file_id = file
            case {"event": "created", "batch": batch} if name in self.shards:
                self.shards[name].batch_id = batch
            case {"event": "failed"} if name in self.shards:
                self.shards[name].batch_id = None
                self.shards[name].attempt += 1
            case {"event": "done"} if name in self.shards:
                self.shards[name].done = True
                self._remove(name)
            case _:
                raise DataError(f"{line.where}: no event of a batch; remove {self.path}")

    def _items(self, name: str) -> Path:
        return self.path / f"{name}.items.jsonl"

    def _remove(self, name: str) -> None:
        for path in (self.requests(name), self._items(name)):
            path.unlink(missing_ok=True)
