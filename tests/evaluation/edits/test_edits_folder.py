from pathlib import Path

import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.edits_folder import find_edits

CASES = [Case(f"7-{n}", "7", "", "do it", Path("7.png")) for n in (1, 2)]


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "names", [("7-1.png", "7-2.jpg"), ("7_1.png", "7_2.webp"), ("7/1.png", "7/2.png"),
              ("images/7-1.png", "images/7-2.png")],
)  # fmt: skip
def test_pictures_are_found_under_the_usual_names(tmp_path, names):
    found = find_edits(fill(tmp_path, *names), CASES)
    assert found == {f"7-{n}": tmp_path / name for n, name in enumerate(names, 1)}


def test_a_suite_may_have_names_of_its_own(tmp_path):
    folder = fill(tmp_path, "x/first.png", "x/second.png")
    names = {"7-1": ["x/first"], "7-2": ["y/second", "x/second"]}
    assert find_edits(folder, CASES, names=names)["7-2"] == tmp_path / "x/second.png"


def test_mismatched_names_are_named(tmp_path):
    with pytest.raises(DataError, match=r"1 of 2 .* first 7-2.png; .*7-two.png belongs to no item"):
        find_edits(fill(tmp_path, "7-1.png", "7-two.png"), CASES)
    found = find_edits(tmp_path, CASES, allow_missing=True)
    assert list(found) == ["7-1"]


def test_a_folder_of_nothing_that_fits_is_refused_even_so(tmp_path):
    with pytest.raises(DataError, match="2 of 2"):
        find_edits(fill(tmp_path, "a.png"), CASES, allow_missing=True)


def test_two_pictures_of_one_item_are_refused(tmp_path):
    with pytest.raises(DataError, match="two pictures"):
        find_edits(fill(tmp_path, "7-1.png", "7-1.jpg", "7-2.png"), CASES)


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        find_edits(tmp_path, CASES)
    with pytest.raises(DataError, match="no such folder"):
        find_edits(tmp_path / "none", CASES)


@pytest.mark.parametrize("suffix", [".JPG", ".Png", ".tif", ".GIF", ".avif", ".HEIC"])
def test_pictures_of_any_format_and_case_of_suffix_are_found(tmp_path, suffix):
    """A camera's DSC1.JPG, a phone's IMG1.HEIC."""
    path = tmp_path / f"7-1{suffix}"
    path.touch()
    assert find_edits(tmp_path, CASES[:1]) == {"7-1": path}
