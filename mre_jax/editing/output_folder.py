"""The folder that batch sampling fills, safe to kill and to start again at any moment.

    run.json           what was asked for; starting again with other settings is refused
    images/ID.png      the edits
    rows/*.jsonl       result rows of finished batches, while the run is under way
    results.jsonl      all rows, when it is done (results-I-of-N.jsonl for shard I of N)

A picture is whole or absent, its row is written after it, and a batch's rows appear together. So
whatever has a row is finished, and whatever has none is done again, to the same bits.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.files import locked, write_atomically
from mre_jax.image import write_png


class OutputFolder:
    """One shard's view of the folder.

    Args:
        path: the folder; made if it is not there.
        shard: (index, count) of this process among those that fill the folder.
    """

    def __init__(self, path: epath.PathLike, shard: tuple[int, int] = (0, 1)):
        self.path = epath.Path(path)
        self.index, self.count = shard

    @contextlib.contextmanager
    def opened(
        self, settings: Mapping[str, Any], versions: Mapping[str, str]
    ) -> Iterator["OutputFolder"]:
        """Makes the folder, or continues the one that is there, alone on this shard.

        Args:
            settings: what decides the pixels.
            versions: of the software that began it; for the record.

        Raises:
            ConfigError: if it was begun with other `settings`; names the first that differs.
            BusyError: if another process is filling it.
        """
        for folder in (self.path, self.path / "images", self.path / "rows"):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(self.path, f".lock-{self.index:05d}-of-{self.count:05d}"):
            self._check(settings, versions)
            yield self

    def finished(self) -> dict[str, dict[str, Any]]:
        """The row of every finished edit by id, from all shards."""
        rows: dict[str, dict[str, Any]] = {}
        for path in [*self.path.glob("results*.jsonl"), *self.path.glob("rows/*.jsonl")]:
            rows.update((row["id"], row) for row in _read_rows(path))
        return {id_: row for id_, row in rows.items() if (self.path / row["file"]).exists()}

    def write(self, edits: Sequence[tuple[dict[str, Any], Image.Image]]) -> None:
        """Writes the pictures of a batch, then its rows."""
        for row, image in edits:
            write_png(image, self.path / row["file"])
        name = f"{edits[0][0]['id']}.jsonl"
        write_atomically(self.path / "rows" / name, _to_jsonl(row for row, _ in edits))

    def merge(self, ids: Sequence[str]) -> epath.Path:
        """Puts the rows of `ids`, this shard's items, into one file in their order."""
        finished = self.finished()
        name = "results" if self.count == 1 else f"results-{self.index:05d}-of-{self.count:05d}"
        path = self.path / f"{name}.jsonl"
        write_atomically(path, _to_jsonl(finished[id_] for id_ in ids))
        mine = set(ids)
        for part in list(self.path.glob("rows/*.jsonl")):
            if all(row["id"] in mine for row in _read_rows(part)):
                part.unlink()
        self._clear_leftovers(mine)
        return path

    def _clear_leftovers(self, ids: set[str]) -> None:
        """Removes what writes of these items left when they were killed."""
        for leftover in [*self.path.glob("images/.*.tmp"), *self.path.glob("rows/.*.tmp")]:
            name, _, _ = leftover.name[1:].rsplit(".", 2)  # ID.png, a random part, tmp
            if name.rpartition(".")[0] in ids:
                leftover.unlink()

    def _check(self, settings: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        path = self.path / "run.json"
        if not path.exists():
            record = {"settings": settings, "versions": versions}
            write_atomically(path, json.dumps(record, indent=2) + "\n")
            return
        begun = json.loads(path.read_text())["settings"]
        settings = json.loads(json.dumps(settings))  # as they are read back
        for name in sorted(begun.keys() | settings.keys()):
            if begun.get(name) != settings.get(name):
                raise ConfigError(
                    f"{self.path} was begun with {name} = {begun.get(name)!r}, not "
                    f"{settings.get(name)!r}: take the same, or another --out"
                )


def _read_rows(path: epath.Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON lines ({error.msg}); remove it to go on") from None


def _to_jsonl(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
