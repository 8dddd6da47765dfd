"""The folder of a batch run: whatever has a row is whole, whatever has none is done again."""

import json

import filelock
import pytest
from PIL import Image

from mre_jax.editing.output_folder import OutputFolder
from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.io import files

SETTINGS = {"steps": 30, "size": "paper"}
PICTURE = Image.new("RGB", (8, 8), "red")


def row(id_: str) -> dict:
    return {"id": id_, "file": f"images/{id_}.png"}


def names(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def test_rows_are_merged_in_the_order_of_the_list(tmp_path):
    folder = OutputFolder(tmp_path / "out")
    with folder.opened(SETTINGS, {}):
        folder.write([(row("b"), PICTURE), (row("c"), PICTURE)])
        folder.write([(row("a"), PICTURE)])
        path = folder.merge(["a", "b", "c"])
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    assert not list(path.parent.glob("rows/*"))
    assert set(folder.finished()) == {"a", "b", "c"}


def test_what_a_killed_write_left_is_cleared_at_the_end_but_not_other_shards(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.opened(SETTINGS, {}):
        folder.write([(row("a.b"), PICTURE)])
        for name in ("images/.a.b.png.0123abcd.tmp", "images/.c.png.0123abcd.tmp"):
            (tmp_path / name).write_bytes(b"half")
        folder.merge(["a.b"])
    assert [path.name for path in tmp_path.glob("images/.*")] == [".c.png.0123abcd.tmp"]


def test_a_row_without_its_picture_is_not_finished(tmp_path):
    folder = OutputFolder(tmp_path)
    with folder.opened(SETTINGS, {}):
        folder.write([(row("a"), PICTURE), (row("b"), PICTURE)])
        (tmp_path / "images" / "b.png").unlink()
        assert set(folder.finished()) == {"a"}


def test_other_settings_are_refused_by_name(tmp_path):
    with OutputFolder(tmp_path).opened(SETTINGS, {"jax": "1"}):
        pass
    with OutputFolder(tmp_path).opened(SETTINGS, {"jax": "2"}):
        pass
    with (
        pytest.raises(ConfigError, match="steps was 30 and is 20"),
        OutputFolder(tmp_path).opened(SETTINGS | {"steps": 20}, {}),
    ):
        pass


def test_a_second_process_on_the_same_shard_is_refused(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    with (
        filelock.FileLock(str(tmp_path / ".lock-00000-of-00001")),
        pytest.raises(BusyError, match="another process"),
        OutputFolder(tmp_path).opened(SETTINGS, {}),
    ):
        pass


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder = OutputFolder(tmp_path)
    with folder.opened(SETTINGS, {}):
        before = names(tmp_path)

        def no_space(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", no_space)
        with pytest.raises(DataError, match="no space left"):
            folder.write([(row("a"), PICTURE)])
        assert names(tmp_path) == before
