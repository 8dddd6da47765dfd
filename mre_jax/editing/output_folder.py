"""The folder that batch sampling fills, safe to kill and to start again at any moment.

    run.json           what was asked for; starting again with other settings is refused
    images/ID.png      the edits
    rows/*.jsonl       result rows of finished batches, while the run is under way
    results.jsonl      all rows, when it is done (results-I-of-N.jsonl for shard I of N)
    failed.jsonl       id and error of what could not be edited, if anything; likewise

A picture is whole or absent, its row is written after it, and a batch's rows appear together. So
whatever has a row is finished, and whatever has none, because it failed or the run was killed, is
done again, to the same bits.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.begun_folder import begin
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.image import write_png
from mre_jax.io.json_file import read_rows, to_line


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
            versions: versions of the software that began it; for the record.

        Raises:
            ConfigError: if it was begun with other `settings`; names what differs. Also
                if a file is in the way.
            DataError: if its record is damaged.
            BusyError: if another process is filling it.
        """
        try:
            for folder in (self.path, self.path / "images", self.path / "rows"):
                folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(f"{folder}: a file, where a folder is to be made") from None
        with locked(self.path, f".lock-{self.index:05d}-of-{self.count:05d}"):
            begin(self.path / "run.json", settings, record={"versions": versions})
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
        write_atomically(self.path / "rows" / name, "".join(to_line(row) for row, _ in edits))

    def merge(self, ids: Sequence[str], failed: Mapping[str, str] | None = None) -> epath.Path:
        """Puts the rows of `ids`, this shard's items, into one file in their order.

        Args:
            failed: why some of them have no row; written down for the user.
        """
        failed = failed or {}
        finished = self.finished()
        path = self._file("results")
        rows = [finished[id_] for id_ in ids if id_ not in failed]
        write_atomically(path, "".join(map(to_line, rows)))
        self._note_failed(failed)
        mine = set(ids)
        for part in list(self.path.glob("rows/*.jsonl")):
            if all(row["id"] in mine for row in _read_rows(part)):
                part.unlink()
        self._clear_leftovers(mine)
        return path

    @property
    def failed(self) -> epath.Path:
        """The file of what this shard could not do."""
        return self._file("failed")

    def _note_failed(self, failed: Mapping[str, str]) -> None:
        lines = [to_line({"id": id_, "error": error}) for id_, error in failed.items()]
        if lines:
            write_atomically(self.failed, "".join(lines))
        else:
            self.failed.unlink(missing_ok=True)

    def _file(self, kind: str) -> epath.Path:
        shard = "" if self.count == 1 else f"-{self.index:05d}-of-{self.count:05d}"
        return self.path / f"{kind}{shard}.jsonl"

    def _clear_leftovers(self, ids: set[str]) -> None:
        """Removes what writes of these items left when they were killed."""
        for leftover in [*self.path.glob("images/.*.tmp"), *self.path.glob("rows/.*.tmp")]:
            name, _, _ = leftover.name[1:].rsplit(".", 2)  # ID.png, a random part, tmp
            if name.rpartition(".")[0] in ids:
                leftover.unlink()


def _read_rows(path: epath.Path) -> list[dict[str, Any]]:
    try:
        rows = [row for _, row in read_rows(path)]
    except DataError as error:
        raise DataError(f"{error}; remove it to go on") from None
    if not all(isinstance(row.get(name), str) for row in rows for name in ("id", "file")):
        raise DataError(f"{path}: not written by mre sample; take another --out")
    return rows
