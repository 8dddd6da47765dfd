"""A list is worked through whatever its texts are: into rows, their merging, and a second run."""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mre_jax.editing.items import read_items
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.program import Edited
from mre_jax.editing.request import EditConditions
from mre_jax.editing.sample import sample_items
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_rows

TEXT = st.text(min_size=1).filter(str.strip)
META = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # Half a character cannot be a prompt; whatever else is the caller's may hold it.
    | st.text() | st.just("\udc80"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


class GreyEditor:
    """What `sample_items` asks of a pipeline; its edits are grey."""

    made, device_count, provenance = 0, 1, {"checkpoint": "c"}

    def check(self, requests, settings):
        pass

    def edit_batch(self, requests, pictures, settings, **options):
        self.made += len(requests)
        return Edited(np.full((len(requests), 8, 8, 3), 0.5), np.ones((len(requests), 4), bool))


def work_through(folder, name="items.jsonl") -> int:
    """Edits in one run; returns how many were made."""
    editor, out = GreyEditor(), OutputFolder(folder / "out")
    options = {"size": (8, 8), "resolution": 512, "batch_size": 2, "model": ModelSpec()}
    items = read_items(folder / name, EditConditions())
    sample_items(editor, items, out, sampling=SamplingSettings(), **options)
    return editor.made


def test_a_device_without_room_is_a_setting(tmp_path, monkeypatch):
    """It was a traceback of forty lines that named nothing to change."""

    def full(self, requests, pictures, settings, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr(GreyEditor, "edit_batch", full)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "items.jsonl").write_text('{"id": "a", "image": "a.png", "prompt": "x"}')
    with pytest.raises(ConfigError, match=r"^out of memory: .*; take a smaller size or batch size"):
        work_through(tmp_path)


def result_rows(folder):
    return [row for _, row in read_rows(folder / "out" / "results.jsonl")]


@given(st.lists(st.tuples(TEXT, META), min_size=1, max_size=3), st.booleans())
@example([("make it snow\u2028and keep\u2029the sky\x85", "\x85\u2028")], False)
@example([("\ufeff\u202eleft\u202c \0 end\r\n", {"\u2029": "\ud800"})], True)
@settings(max_examples=30)
def test_any_text_goes_in_and_comes_back(rows, escaped):
    """Escaped in the list or as it is; a second run finds everything finished."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        items = [
            {"id": f"i{number}", "image": "a.png", "prompt": prompt, "meta": meta}
            for number, (prompt, meta) in enumerate(rows)
        ]
        lines = (json.dumps(item, ensure_ascii=escaped) for item in items)
        text = "\ufeff" + "\n".join(lines)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # a surrogate has no bytes of its own: only escaped it is JSON
            data = "\n".join(map(json.dumps, items)).encode()
        (folder / "items.jsonl").write_bytes(data)
        assert work_through(folder) == len(rows)
        found = [(row["request"]["prompt"], row["meta"]) for row in result_rows(folder)]
        assert found == rows
        assert work_through(folder) == 0
        assert not list(folder.glob("out/rows/*"))


def test_rows_with_raw_separators_are_read(tmp_path):
    """As version 0.1 has written them, and then could not read."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    item = {"id": "a", "image": "a.png", "prompt": "snow\u2028sky"}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    work_through(tmp_path)
    (row,) = result_rows(tmp_path)
    (tmp_path / "out" / "results.jsonl").unlink()
    line = json.dumps(row, ensure_ascii=False) + "\n"
    assert len(line.splitlines()) == 2
    (tmp_path / "out" / "rows" / "a.jsonl").write_bytes(line.encode())
    assert work_through(tmp_path) == 0
    assert result_rows(tmp_path) == [row]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "a \ud800 b"}, r":1: item a: prompt .* lone surrogate"),
        ({"image": "a\0.png"}, r":1: 'image' .* holds what no file's name can"),
        ({"image": "\ud800.png"}, r":1: 'image' .* holds what no file's name can"),
        ({"guidance_scale": 10**400}, r":1: item a: guidance_scale 1000.* is too large"),
        ({"reward_scores": [10**400, 5, 5]}, r":1: item a: reward_scores: following: score 1000"),
    ],
)
def test_what_cannot_be_carried_is_named_before_any_work(tmp_path, fields, message):
    item = {"id": "a", "image": "a.png", "prompt": "x"} | fields
    (tmp_path / "items.jsonl").write_text(json.dumps(item))
    with pytest.raises(DataError, match=message):
        read_items(tmp_path / "items.jsonl", EditConditions())
