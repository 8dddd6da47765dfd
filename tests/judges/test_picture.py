import dataclasses
import hashlib
import io

import pytest
from PIL import Image

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.io.image import decode_image
from mre_jax.judges.picture import (
    Picture,
    PictureIndex,
    at_height,
    mime_type,
    parse_encoding,
    picture_size,
)
from tests.judges.questions import EDITED, ORIGINAL, picture, question

PHOTO = picture(size=(60, 40))


def test_as_is_sends_the_very_bytes():
    assert parse_encoding("as-is").encode(PHOTO, "x") is PHOTO
    assert mime_type(PHOTO) == "image/png"


def test_what_no_judge_reads_becomes_png():
    file = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(file, "BMP")
    assert mime_type(parse_encoding("as-is").encode(file.getvalue(), "x")) == "image/png"


@pytest.mark.parametrize(
    ("text", "size"), [("jpeg:90", (60, 40)), ("jpeg:75:20", (30, 20)), ("jpeg:75:512", (768, 512))]
)
def test_jpeg_of_a_quality_and_height(text, size):
    encoding = parse_encoding(text)
    assert str(encoding) == text
    sent = encoding.encode(PHOTO, "x")
    assert (mime_type(sent), picture_size(sent, "x")) == ("image/jpeg", size)


@pytest.mark.parametrize(
    "text", ["", "png", "jpeg", "jpeg:0", "jpeg:101", "jpeg:75:2", "jpeg:75:x"]
)
def test_bad_encodings_are_named(text):
    with pytest.raises(ConfigError, match="want as-is"):
        parse_encoding(text)


def test_what_is_no_picture_is_named():
    with pytest.raises(DataError, match="row 7"):
        parse_encoding("as-is").encode(b"text", "row 7")


def test_an_original_is_decoded_once_for_all_its_edits(tmp_path, monkeypatch):
    """Seven instructions of a photo decoded, resized and encoded it seven times."""
    path = tmp_path / "a.png"
    path.write_bytes(picture(size=(30, 20)))
    decoded = []

    def decode(data, name):
        decoded.append(name)
        return decode_image(data, name)

    monkeypatch.setattr("mre_jax.judges.picture.decode_image", decode)
    first = at_height(path, 10)
    assert decode_image(first, "first").size == (15, 10)
    assert at_height(path, 10) is first and len(decoded) == 1
    assert at_height(path, 20) == path.read_bytes()
    path.write_bytes(picture((1, 2, 3), size=(40, 20)))  # another picture under the same name
    assert decode_image(at_height(path, 10), "second").size == (20, 10)


def test_a_jpeg_is_sent_as_it_is_unless_it_lies_on_its_side():
    to_jpeg = parse_encoding("to-jpeg:95")
    assert str(to_jpeg) == "to-jpeg:95"
    photo = to_jpeg.encode(picture(size=(40, 20)), "photo")
    assert mime_type(photo) == "image/jpeg" and to_jpeg.encode(photo, "photo") is photo
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned, printed = io.BytesIO(), io.BytesIO()
    Image.open(io.BytesIO(photo)).save(turned, "JPEG", exif=exif)
    Image.new("CMYK", (4, 4)).save(printed, "JPEG")
    assert picture_size(to_jpeg.encode(turned.getvalue(), "turned"), "sent") == (20, 40)
    assert Image.open(io.BytesIO(to_jpeg.encode(printed.getvalue(), "printed"))).mode == "RGB"


def test_what_an_index_knows_is_read_without_a_lock(tmp_path):
    with PictureIndex(tmp_path / "j") as index:
        made = [p.sha256 for p in index.pictures([b"1"], "jpeg:75", lambda: [b"a"])]
        known = PictureIndex.read(tmp_path / "j")  # while a run is under way
    assert [p.sha256 for p in known.pictures([b"1"], "jpeg:75", never)] == made
    PictureIndex.read(tmp_path / "none")
    assert not (tmp_path / "none.pictures.jsonl").exists()


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
    with pytest.raises(DataError, match="no index of pictures; remove the file"):
        PictureIndex(tmp_path / "j").__enter__()
