import io

import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import decode_image
from mre_jax.judges.picture import at_height, mime_type, parse_encoding, picture_size
from tests.judges.questions import picture

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
