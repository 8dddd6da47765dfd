import dataclasses
import hashlib

import pytest

from mre_jax.errors import BusyError, DataError
from mre_jax.judges.picture_index import Picture, PictureIndex
from tests.judges.questions import EDITED, ORIGINAL, question


def never():
    raise AssertionError("a picture was decoded")


def test_a_picture_is_made_once_and_only_when_it_is_wanted():
    calls = []

    def make():
        calls.append(1)
        return [b"a", b"b"]

    first, second = PictureIndex().pictures([b"1", b"2"], "jpeg:75", make)
    assert not calls
    assert (first.data, second.data, second.sha256) == (
        b"a",
        b"b",
        hashlib.sha256(b"b").hexdigest(),
    )
    assert len(calls) == 1


def test_the_next_run_knows_its_hash_without_making_it(tmp_path):
    files = [b"1", b"2"]
    with PictureIndex(tmp_path / "j") as index:
        made = [p.sha256 for p in index.pictures(files, "jpeg:75", lambda: [b"a", b"b"])]
    with PictureIndex(tmp_path / "j") as index:
        assert [p.sha256 for p in index.pictures(files, "jpeg:75", never)] == made
        for other in ([b"2", b"1"], "jpeg:75"), (files, "jpeg:80"):
            (first, _) = index.pictures(*other, lambda: [b"c", b"d"])
            assert first.sha256 == hashlib.sha256(b"c").hexdigest()


def test_a_question_is_the_same_whenever_its_pictures_are_made():
    """Journals of before must be worth what was paid for them."""
    asked = question()
    lazy = [Picture(lambda file=file: file) for file in (ORIGINAL, EDITED)]
    later = dataclasses.replace(asked, original=lazy[0], edited=lazy[1])
    assert (later.key, later.pictures) == (asked.key, asked.pictures)


def test_an_index_has_one_writer_and_is_no_other_file(tmp_path):
    with PictureIndex(tmp_path / "j"), pytest.raises(BusyError):
        PictureIndex(tmp_path / "j").__enter__()
    (tmp_path / "j.pictures.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="no index of pictures; remove it"):
        PictureIndex(tmp_path / "j").__enter__()
