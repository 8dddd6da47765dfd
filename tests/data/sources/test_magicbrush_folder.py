"""The MagicBrush test set as its users fetch it."""

import json

import pytest

from mre_jax.data.sources import open_source
from mre_jax.errors import ConfigError, DataError
from tests.data.pictures import AFTER, BEFORE
from tests.data.read import read_triplets


def turn(image, number):
    before = "input" if number == 1 else f"output{number - 1}"
    return {
        "input": f"{image}-{before}.png",
        "mask": f"{image}-mask{number}.png",
        "output": f"{image}-output{number}.png",
        "instruction": f"turn {number}",
    }


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "test"
    sessions = {"20": [turn("20", 1), turn("20", 2)], "3": [turn("3", 1)]}
    for image, turns in sessions.items():
        (root / "images" / image).mkdir(parents=True)
        (root / "images" / image / f"{image}-input.png").write_bytes(BEFORE)
        for entry in turns:
            (root / "images" / image / entry["output"]).write_bytes(AFTER)
    (root / "edit_sessions.json").write_text(json.dumps(sessions))
    for kind in ("global", "local"):
        captions = {"20": {"20-output1.png": f"{kind} caption"}}
        (root / f"{kind}_captions.json").write_text(json.dumps(captions))
    return tmp_path


def test_every_turn_of_every_session(folder):
    triplets = list(read_triplets(open_source("magicbrush_test", folder), validate=True))
    assert [t.id for t in triplets] == ["20-1", "20-2", "3-1"]
    assert [t.instruction for t in triplets] == ["turn 1", "turn 2", "turn 1"]
    assert [t.original for t in triplets] == [BEFORE, AFTER, BEFORE]
    assert [t.edited_caption for t in triplets] == ["global caption", None, None]
    assert triplets[1].original_caption == "global caption"


def test_local_captions_and_none(folder):
    source = open_source("magicbrush_test", folder / "test", captions="local")
    assert next(read_triplets(source)).edited_caption == "local caption"
    (folder / "test" / "global_captions.json").unlink()
    assert next(read_triplets(open_source("magicbrush_test", folder))).edited_caption is None
    with pytest.raises(ConfigError, match="want 'global' or 'local'"):
        open_source("magicbrush_test", folder, captions="both")


def test_captions_are_found_under_the_names_of_the_test_set_too(folder):
    for kind in ("global", "local"):
        path = folder / "test" / f"{kind}_captions.json"
        path.rename(path.with_name(f"{kind}_descriptions.json"))
        source = open_source("magicbrush_test", folder, captions=kind)
        assert next(read_triplets(source)).edited_caption == f"{kind} caption"
        assert source.notes == []
        (folder / "test" / f"{kind}_descriptions.json").unlink()
        source = open_source("magicbrush_test", folder, captions=kind)
        assert source.notes == [f"{folder / 'test'}: no file of {kind} captions"]


def test_what_is_missing_is_named_by_session_and_turn(folder):
    (folder / "test" / "images" / "3" / "3-output1.png").unlink()
    with pytest.raises(DataError, match=r"session 3, turn 1: no picture .*3-output1\.png"):
        list(read_triplets(open_source("magicbrush_test", folder)))
    with pytest.raises(DataError, match=r"edit_sessions\.json: no such file"):
        open_source("magicbrush_test", folder / "test" / "images")


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ([], "want an object of sessions"),
        ({"3": {}}, "session 3: want a list of turns"),
        ({"3": [{"input": "a", "output": "b"}]}, "session 3, turn 1: no text 'instruction'"),
        ({"3": ["x"]}, "session 3, turn 1: no text 'input'"),
    ],
)
def test_another_shape_is_refused(folder, sessions, message):
    (folder / "test" / "edit_sessions.json").write_text(json.dumps(sessions))
    with pytest.raises(DataError, match=message):
        open_source("magicbrush_test", folder)
