"""ReasonEdit's pairs: one JSON file, and pictures in folders beside it."""

import json

import pytest

from mre_jax.data.sources import open_source
from mre_jax.errors import DataError
from tests.data.pictures import AFTER, BEFORE
from tests.data.read import read_triplets

PAIR = {"origin_img_path": "a/1.png", "target_img_path": "b/1.png", "instruction": ["go", "run"]}


def write(folder, pairs):
    for name, data in (("a", BEFORE), ("b", AFTER)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "1.png").write_bytes(data)
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return folder / "pairs.json"


def test_pairs_with_all_their_instructions(tmp_path):
    file = write(tmp_path, {"0000": PAIR, "0001": PAIR | {"instruction": ["fly"]}})
    for path in (file, tmp_path):
        first, second = read_triplets(open_source("reason_edit", path), validate=True)
        assert (first.id, first.original, first.edited) == ("0000", BEFORE, AFTER)
        assert first.instruction in ("go", "run") and first.instructions == ("go", "run")
        assert (second.id, second.instruction, second.instructions) == ("0001", "fly", ())
        assert first.source == "reason_edit"


def test_the_instruction_that_stands_alone_goes_by_the_seed(tmp_path):
    file = write(tmp_path, {"0000": PAIR})
    drawn = {
        next(read_triplets(open_source("reason_edit", file, seed=seed))).instruction
        for seed in range(9)
    }
    assert drawn == {"go", "run"}


def test_pictures_are_found_from_another_root(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file = write(tmp_path, {"0000": PAIR}).rename(tmp_path / "elsewhere" / "pairs.json")
    assert "no picture" in str(next(open_source("reason_edit", file).read([0])))
    (triplet,) = read_triplets(open_source("reason_edit", file, root=str(tmp_path)))
    assert triplet.edited == AFTER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_img_path": "b/2.png"}, r"pairs\.json: pair '0000': no picture .*2\.png"),
        ({"origin_img_path": None}, r"pair '0000': no text 'origin_img_path'"),
        ({"instruction": [3]}, r"pair '0000': 'instruction' is \[3\]; want a list of texts"),
        ({"instruction": []}, r"pair '0000': 'instruction' is \[\]"),
    ],
)
def test_a_bad_pair_is_named_and_the_others_are_read(tmp_path, change, message):
    file = write(tmp_path, {"0000": PAIR | change, "0001": PAIR})
    bad, good = open_source("reason_edit", file).read([0, 1])
    assert isinstance(bad, DataError) and good.id == "0001"
    with pytest.raises(DataError, match=message):
        raise bad


def test_a_file_of_another_shape_says_so(tmp_path):
    with pytest.raises(DataError, match="of such files it has none"):
        open_source("reason_edit", tmp_path)
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        open_source("reason_edit", tmp_path / "gone.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="want a JSON object, got list"):
        open_source("reason_edit", tmp_path)
    (tmp_path / "more.json").write_text("{}")
    with pytest.raises(DataError, match=r"it has list\.json, more\.json"):
        open_source("reason_edit", tmp_path)
    with pytest.raises(DataError, match="no pairs in it"):
        open_source("reason_edit", tmp_path / "more.json")
