import json

import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.suites.real_edit import parse_instruction, read_real_edit
from mre_jax.reward.edit_types import EDIT_TYPES

SEVEN = [f"{number}. {kind}: do {kind}" for number, kind in enumerate(EDIT_TYPES, 1)]


def write(folder, entries, pictures=("7.jpeg",)):
    (folder / "images").mkdir(exist_ok=True)
    for name in pictures:
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
    (folder / "instructions.json").write_text(json.dumps(entries))
    return folder


def test_every_instruction_is_an_item_of_its_photo(tmp_path):
    cases = read_real_edit(write(tmp_path, {"7.jpeg": SEVEN}))
    assert [case.id for case in cases] == [f"7-{n}" for n in range(1, 8)]
    assert [case.kind for case in cases] == list(EDIT_TYPES)
    assert {case.group for case in cases} == {"7.jpeg"}
    assert cases[1].instruction == "do Remove"
    assert cases[0].original == tmp_path / "images" / "7.jpeg"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Local: Make it red.", ("Local", "Make it red.")),
        ("1. Local Edit: Make it red.", ("Local", "Make it red.")),
        ("3.  Add:  a hat ", ("Add", "a hat")),
        ("7. style: Convert: all of it", ("Style", "Convert: all of it")),
    ],
)
def test_the_forms_that_occur_are_read(text, expected):
    assert parse_instruction(text, "here") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8. Motion: wave", "unknown type 8. Motion"),
        ("1. Motion: wave", "unknown type 1. Motion; want one of 1. Local, 2. Remove"),
        ("2. Local: wave", "number 2 is Remove, not Local"),
        ("Make it red", 'want "NUMBER. TYPE: instruction"'),
        (None, 'want "NUMBER. TYPE: instruction"'),
    ],
)
def test_other_forms_are_named(text, message):
    with pytest.raises(DataError, match=message):
        parse_instruction(text, "here")


def test_scenes_of_the_toy_world_come_along(toy):
    cases = read_real_edit(toy / "benchmark")
    assert len(cases) == 14
    assert all(case.extra.keys() == {"scene", "edit"} for case in cases)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "the set is empty"),
        ({"7.jpeg": []}, "the set is empty"),
        ({"8.jpeg": SEVEN}, "1 of 1 pictures are missing, the first .*8.jpeg"),
        ({"../7.jpeg": SEVEN}, "want a file name"),
        ({"7.jpeg": SEVEN[:1], "7.png": SEVEN[:1]}, "two items are called '7-1'"),
        ({"7.jpeg": ["1. Local:  "]}, "item 7-1 has no instruction"),
        ([], "want an object"),
    ],
)
def test_damaged_sets_are_refused(tmp_path, entries, message):
    with pytest.raises(DataError, match=message):
        read_real_edit(write(tmp_path, entries))


def test_a_folder_of_another_layout_is_named(tmp_path, toy):
    with pytest.raises(DataError, match=r"not laid out as Real-Edit.*instruct.json$"):
        read_real_edit(toy / "triplets")
    with pytest.raises(DataError, match=r"not laid out as Real-Edit.*/benchmark is$"):
        read_real_edit(toy)
    with pytest.raises(DataError, match="no such folder"):
        read_real_edit(tmp_path / "none")


def test_names_as_the_released_code_has_them_and_suffixes_in_capitals(tmp_path):
    folder = write(tmp_path, {"7.jpeg": SEVEN})
    expected = read_real_edit(folder)
    (folder / "images" / "7.jpeg").rename(folder / "images" / "7.JPEG")
    found = read_real_edit(folder)
    assert [case.id for case in found] == [case.id for case in expected]
    assert found[0].original.is_file()
    (folder / "images").rename(folder / "Real-Edit")
    path = folder / "instructions.json"
    path.rename(folder / "real_edit_instruct.json")
    assert [case.instruction for case in read_real_edit(folder)] == [
        c.instruction for c in expected
    ]
