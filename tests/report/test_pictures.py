import base64
import io

import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.report.pictures import embed, place_pictures, put_beside


def decode(uri):
    head, data = uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


@pytest.fixture
def photos(tmp_path):
    """Four files of noise, 300 by 200."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    names = [f"{n}.png" for n in range(4)]
    for name in names:
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path, names


def test_what_fits_is_not_made_smaller_and_not_remarked_on(photos):
    pictures = embed(*photos)
    assert [decode(uri).size for uri in pictures.uris] == [(300, 200)] * 4
    assert pictures.bytes == sum(map(len, pictures.uris))
    assert pictures.notes == []


def test_small_flat_pictures_keep_every_pixel(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[4:9, 4:9] = (200, 10, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (uri,) = embed(tmp_path, ["a.png"]).uris
    np.testing.assert_array_equal(np.asarray(decode(uri).convert("RGB")), pixels)


def test_the_budget_holds_and_says_so_where_it_bites(photos):
    budget = 60_000
    pictures = embed(*photos, budget=budget)
    assert 0 < pictures.bytes <= budget
    assert all(pictures.uris)
    assert max(decode(pictures.uris[0]).size) == pictures.side < 300
    (note,) = pictures.notes
    assert f"at most {pictures.side} pixels" in note


def test_what_does_not_fit_at_all_is_left_out_and_counted(photos):
    pictures = embed(*photos, budget=6_000)
    assert pictures.bytes <= 6_000
    left_out = list(pictures.uris).count("")
    assert 0 < left_out < 4
    assert any(f"{left_out} of 4 pictures are left out" in note for note in pictures.notes)


def test_pictures_that_cannot_be_read_are_named_without_the_machine_s_folders(photos):
    folder, names = photos
    (folder / "bad.png").write_bytes(b"no picture")
    pictures = embed(folder, [names[0], "bad.png", "gone.png"])
    assert [bool(uri) for uri in pictures.uris] == [True, False, False]
    (note,) = pictures.notes
    assert note.startswith("Picture not shown: bad.png: not a picture")
    assert "and 1 more" in note
    assert str(folder) not in note


def test_pictures_beside_the_page_are_the_files_as_they_were(photos):
    folder, names = photos
    found = put_beside(folder / "my page.html", folder, [*names, "gone.png"])
    assert found.uris == [f"my%20page_files/{n:06d}.png" for n in range(4)] + [""]
    for place, name in enumerate(names):
        copy = folder / "my page_files" / f"{place:06d}.png"
        assert copy.read_bytes() == (folder / name).read_bytes()
    assert found.bytes == 4 * (folder / names[0]).stat().st_size
    assert "my page_files" in found.notes[0] and "gone.png: no such file" in found.notes[1]


def test_a_second_report_leaves_no_pictures_of_the_first(photos):
    folder, names = photos
    put_beside(folder / "r.html", folder, names)
    (folder / "r_files" / "notes.txt").write_text("mine")
    put_beside(folder / "r.html", folder, names[:1])
    assert sorted(file.name for file in (folder / "r_files").iterdir()) == [
        "000000.png",
        "notes.txt",
    ]


@pytest.mark.parametrize("form", ["TIFF", "CMYK", "16 bit", "large"])
def test_what_a_browser_would_not_show_becomes_a_jpeg(tmp_path, form):
    picture, name = Image.new("RGB", (40, 30), "red"), "a.png"
    if form == "TIFF":
        name = "a.tiff"
    elif form == "CMYK":
        picture, name = picture.convert("CMYK"), "a.jpg"
    elif form == "16 bit":
        picture = Image.fromarray(np.full((30, 40), 60_000, np.uint16))
    else:
        picture = picture.resize((4000, 3000))
    picture.save(tmp_path / name)
    (uri,) = put_beside(tmp_path / "r.html", tmp_path, [name]).uris
    with Image.open(tmp_path / uri) as shown:
        assert (shown.format, shown.mode) == ("JPEG", "RGB")
        assert shown.size == ((2048, 1536) if form == "large" else (40, 30))


def test_pictures_go_beside_the_page_where_they_do_not_fit_in_it(photos):
    folder, names = photos
    page = folder / "r.html"
    assert place_pictures(page, folder, names).folder == ""
    assert place_pictures(page, folder, names, budget=60_000).folder == "r_files"
    inside = place_pictures(page, folder, names, budget=60_000, place="inside")
    assert inside.uris[0].startswith("data:") and inside.bytes <= 60_000
    assert place_pictures(page, folder, names, place="beside").folder == "r_files"
    with pytest.raises(ConfigError, match="want auto, inside, beside"):
        place_pictures(page, folder, names, place="there")
