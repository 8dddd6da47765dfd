"""The record of one example: what it refuses, and how its pictures are decoded."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.triplets import ID, Triplet, safe_id, safe_name
from mre_jax.errors import DataError
from tests.data.pictures import AFTER, BEFORE, picture

GOOD = {"id": "a-1", "original": BEFORE, "edited": AFTER, "instruction": "make it blue"}


def test_pictures_are_decoded_when_asked_for():
    triplet = Triplet(**GOOD, scores=[5, 4.5, 0], texts=["", "a", "b"])
    original, edited = triplet.images()
    assert original.getpixel((0, 0)) == (255, 0, 0)
    assert edited.getpixel((0, 0)) == (0, 0, 255)
    assert (triplet.scores, triplet.texts) == ((5, 4.5, 0), ("", "a", "b"))
    assert pickle.loads(pickle.dumps(triplet)) == triplet  # noqa: S301


def test_bytes_are_kept_as_the_source_has_them():
    jpeg = picture(kind="JPEG")
    triplet = Triplet(**GOOD | {"original": jpeg})
    assert triplet.original is jpeg
    assert triplet.original_image().mode == "RGB"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "a/b"}, "id 'a/b' is not 1 to 100 letters"),
        ({"id": ""}, "id '' is not"),
        ({"id": ".."}, r"id '\.\.' is not"),
        ({"id": "x" * 101}, "is not 1 to 100"),
        ({"id": "a\n"}, "is not 1 to 100"),
        ({"original": b""}, "no original picture"),
        ({"edited": None}, "no edited picture"),
        ({"instruction": None}, "instruction None is not a text"),
        ({"instruction": "a\ud800"}, r"'a\\ud800' is no Unicode text \(surrogates not allowed\)"),
        ({"instructions": ("a", "\udcff")}, r"'\\udcff' is no Unicode text"),
        ({"instructions": ("a", None)}, "instruction None is not a text"),
        ({"original_id": "\udcff"}, r"'\\udcff' is no Unicode text"),
        ({"edited_caption": 3}, "edited_caption 3 is not a text"),
        ({"scores": (5, 5)}, r"scores .5, 5.: want 3 of them \(following"),
        ({"scores": (5, 6, 5)}, "preserving: score 6 is not in 0 to 5"),
        ({"scores": (5, 5, "4")}, "quality: score '4' is not a number"),
        ({"scores": (True, 5, 5)}, "following: score True is not a number"),
        ({"scores": (float("nan"), 5, 5)}, "following: score nan is not in"),
        ({"texts": ("a", "b", None)}, "quality: None is not a text"),
        ({"texts": "abc"}, "texts 'abc': want 3 of them"),
    ],
)
def test_what_is_no_triplet_is_refused_by_file_and_row(change, message):
    with pytest.raises(DataError, match=rf"^set\.csv:4: .*{message}"):
        Triplet(**GOOD | {"where": "set.csv:4"} | change)


def test_damaged_and_mismatched_pictures_are_named():
    with pytest.raises(DataError, match=r"row 3: edited picture: damaged"):
        Triplet(**GOOD | {"edited": AFTER[:-30], "where": "row 3"}).images()
    with pytest.raises(DataError, match=r"row 3: original picture: not a picture"):
        Triplet(**GOOD | {"original": b"text", "where": "row 3"}).images()
    with pytest.raises(DataError, match=r"row 3: .* differ in size, 12x8 and 8x8"):
        Triplet(**GOOD | {"edited": picture(size=(8, 8)), "where": "row 3"}).images()


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_text_has_an_id_and_no_two_share_one(text, other):
    assert ID.fullmatch(safe_id(text))
    assert (safe_id(text) == safe_id(other)) == (text == other)


def test_what_is_an_id_stays_and_the_rest_can_be_recognised():
    assert safe_id("IMG_1.a-b") == "IMG_1.a-b"
    assert safe_id("train/IMG 1").startswith("train-IMG-1-")
    assert safe_name("train/IMG 1") == "train-IMG-1"
    assert safe_name("..") == "unnamed"
