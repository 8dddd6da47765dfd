"""The list of edits: what is wrong with it is said with its line, before any work."""

import json

import pytest
from PIL import Image

from mre_jax.editing.items import read_items
from mre_jax.editing.request import EditConditions
from mre_jax.errors import DataError

GOOD = {"id": "a", "image": "a.png", "prompt": "make it snow"}


def write(tmp_path, *rows):
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_an_item_overrides_the_defaults_and_finds_its_picture_beside_the_list(tmp_path):
    Image.new("RGB", (24, 16), "red").save(tmp_path / "a.png")
    rows = [GOOD | {"seed": 7, "reward_scores": [1, 2, 3], "meta": {"type": "Local"}}]
    conditions = EditConditions(seed=1, guidance_scale=3.0)
    (item,) = read_items(write(tmp_path, *rows, ""), conditions)
    request = item.request
    assert (request.seed, request.guidance_scale) == (7, 3.0)
    assert request.reward_scores == (1.0, 2.0, 3.0)
    assert item.read((16, 16)).size == (16, 16)
    assert item.meta == {"type": "Local"}
    assert item.size("keep", 512) == (24, 16)


def test_size_respects_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 16)).save(tmp_path / "a.jpg", exif=exif)
    (item,) = read_items(write(tmp_path, GOOD | {"image": "a.jpg"}), EditConditions())
    assert item.size("keep", 512) == (16, 32)
    assert item.read((16, 32)).size == (16, 32)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r":2: not JSON"),
        ("[]", r":2: want a JSON object"),
        ({"id": "b", "image": "a.png"}, r":2: 'prompt' is missing"),
        ({"id": 3, "image": "a.png", "prompt": "x"}, r":2: 'id' is missing or not a text"),
        (GOOD, r":2: id 'a' stands on an earlier line"),
        (GOOD | {"id": "b", "type": "Local"}, r":2: unknown field 'type'"),
        (GOOD | {"id": "b/c"}, r":2: item b/c: id 'b/c'"),
        (GOOD | {"id": "b", "reward_scores": [5, 5]}, r":2: item b: reward_scores"),
        (GOOD | {"id": "b", "seed": "0"}, r":2: item b: seed '0'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_items(write(tmp_path, GOOD, row), EditConditions())


def test_missing_and_empty_lists_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_items(tmp_path / "none.jsonl", EditConditions())
    with pytest.raises(DataError, match="no items"):
        read_items(write(tmp_path, ""), EditConditions())


def test_missing_picture_is_named_when_sizes_are_read(tmp_path):
    (item,) = read_items(write(tmp_path, GOOD), EditConditions())
    with pytest.raises(DataError, match=r"a\.png: no such file"):
        item.size("paper", 512)
