"""`mre edit` and `mre sample` with a SmartEdit: the same words, and two options more."""

import json
import shutil

import pytest

from mre_jax.io.image import read_image
from tests.editing.test_commands import pictures, rows, run, write_items
from tests.tiny_smartedit import TEMPLATES, tiny_smartedit

SAMPLING = ("--steps", "1", "--scheduler", "euler", "--size", "keep")


@pytest.fixture
def photo_file(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    return path


@pytest.fixture
def others(tmp_path):
    path = tmp_path / "others.txt"
    path.write_text(TEMPLATES.replace("talk about", "speak of"))
    return path


@pytest.mark.slow
def test_edit_and_its_sweep_take_a_smartedit_and_its_templates(photo_file, others, tmp_path):
    options = ("--model", tiny_smartedit(True), *SAMPLING)
    written = []
    for number, more in enumerate(((), ("--templates", others), ("--reply", "teacher_forced"))):
        out = tmp_path / f"{number}.png"
        assert run("edit", photo_file, "make it red", *options, *more, "-o", out) == 0
        written.append(out.read_bytes())
    assert written[0] == written[2] != written[1]
    out = tmp_path / "grid.png"
    assert run("edit", photo_file, "make it red", *options, "--sweep", "0,5", "-o", out) == 0
    assert read_image(out).width > 3 * 8 * 24


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--templates", "none.txt"), 65, "none.txt is missing; name a file of templates"),
        (("--reward", "5,5,5"), 78, "this checkpoint takes no reward"),
    ],
)
def test_bad_options_are_one_line(photo_file, tmp_path, capsys, more, code, message):
    options = ("--model", tiny_smartedit(), *SAMPLING, "-o", tmp_path / "out.png")
    assert run("edit", photo_file, "make it red", *options, *more) == code
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said


@pytest.mark.slow
def test_sample_goes_on_and_says_what_read_its_instructions(photo, others, tmp_path, capsys):
    items = write_items(tmp_path, photo, 5)
    options = ("--model", tiny_smartedit(), *SAMPLING, "--batch-size", "1")
    assert run("sample", items, "--out", tmp_path / "all", *options) == 0
    done = rows(tmp_path / "all")
    assert {row["reply"] for row in done} == {"teacher_forced"}
    assert {len(row["templates"]) for row in done} == {64}
    settings = json.loads((tmp_path / "all" / "run.json").read_text())["settings"]
    assert settings["templates"] == done[0]["templates"] != settings["checkpoint"]
    # Two of five are there already, and the rest are made beside other companions.
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "all", half)
    kept = (half / "results.jsonl").read_text().splitlines(keepends=True)[:2]
    (half / "results.jsonl").write_text("".join(kept))
    assert run("sample", items, "--out", half, *options) == 0
    assert pictures(half) == pictures(tmp_path / "all")
    capsys.readouterr()
    assert run("sample", items, "--out", half, *options, "--templates", others) == 78
    assert "was begun with other settings: templates was" in capsys.readouterr().err


def test_an_instruction_that_names_a_token_is_refused_before_any_edit(photo, tmp_path, capsys):
    items = write_items(tmp_path, photo, 1)
    row = json.loads(items.read_text())
    items.write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "b", "prompt": "<img_0>"}))
    options = ("--model", tiny_smartedit(), *SAMPLING, "--out", tmp_path / "out")
    assert run("sample", items, *options) == 65
    assert "holds <img_0>, the name of a token; take it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
