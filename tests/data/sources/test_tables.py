"""Tables with named columns, HIVE, and the plain folder."""

import base64
import csv
import json
import re
import tracemalloc
import unicodedata

import pytest

from mre_jax.data.sources import open_source
from mre_jax.errors import ConfigError, DataError
from tests.data.parquet import write_parquet
from tests.data.pictures import AFTER, BEFORE, picture
from tests.data.read import read_triplets

ROW = {"original": "img/a.png", "edited": "img/b.png", "instruction": "make it, blue"}
SCORES = {"following": 5, "preserving": 3.5, "quality": 0}
TEXTS = {"following_text": "", "preserving_text": "blurred", "quality_text": "bad"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(BEFORE)
    (tmp_path / "img" / "b.png").write_bytes(AFTER)
    return tmp_path


def write_jsonl(folder, *rows):
    path = folder / "set.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def write_csv(folder, *rows):
    path = folder / "set.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write(folder, kind, *rows):
    if kind == "parquet":
        return write_parquet(folder / "set.parquet", rows)
    return {"csv": write_csv, "jsonl": write_jsonl}[kind](folder, *rows)


def read(path, **options):
    return list(read_triplets(open_source("table", path, **options), validate=True))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_named_columns_with_rewards(folder, kind):
    full = ROW | {"id": "x1", "edited_caption": "a blue\nsquare"} | SCORES | TEXTS
    other = full | {"id": "x2", "following": 4}
    first, second = read(write(folder, kind, full, other))
    assert (first.id, second.id) == ("x1", "x2")
    assert first.instruction == "make it, blue"
    assert (first.original_caption, first.edited_caption) == (None, "a blue\nsquare")
    assert (first.original, first.edited) == (BEFORE, AFTER)
    assert (first.scores, second.scores) == ((5, 3.5, 0), (4, 3.5, 0))
    assert first.texts == ("", "blurred", "bad")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_names_of_the_users_own_and_no_rewards(folder, kind):
    row = {"source": "a.png", "target": "b.png", "prompt": "p", "number": 7}
    columns = {"original": "source", "edited": "target", "instruction": "prompt"}
    path = write(folder, kind, row, row | {"number": 8})
    first, second = read(path, columns=columns, images=folder / "img", name="mine")
    assert (first.id, second.id) == ("mine-0000000", "mine-0000001")
    assert (first.scores, first.texts) == (None, None)
    first, _ = read(path, columns=columns | {"id": "number"}, images=folder / "img")
    assert first.id == "7"


def test_lists_of_scores_and_bytes_of_pictures(folder):
    row = {
        "original": BEFORE,
        "edited": AFTER,
        "instruction": "e",
        "s": [5, 4, 3],
        "t": ["", "", ""],
    }
    path = write(folder, "parquet", row)
    (triplet,) = read(path, columns={"scores": "s", "texts": "t"})
    assert (triplet.scores, triplet.texts) == ((5, 4, 3), ("", "", ""))


def test_a_folder_with_metadata_stands_for_its_table(folder):
    write_csv(folder, ROW).rename(folder / "metadata.csv")
    assert len(read(folder)) == 1


def test_rows_may_lack_what_is_optional(folder):
    path = write_jsonl(folder, ROW | {"id": "a"} | SCORES, "", ROW | {"id": "b"})
    first, second = read(path)
    assert (first.scores, first.texts, second.scores) == ((5, 3.5, 0), None, None)
    with pytest.raises(DataError, match=r"set\.jsonl:3: nothing in column 'following'"):
        read(path, columns={"scores": ("following", "preserving", "quality")})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"set\.jsonl:2: not JSON"),
        ("[]", r"set\.jsonl:2: want a JSON object"),
        ({"original": "img/a.png", "edited": "img/b.png"}, r":2: nothing in column 'instruction'"),
        (ROW | {"instruction": 3}, ":2: the instruction 3 is not a text"),
        (ROW | {"edited": 3}, ":2: column 'edited' holds neither a picture nor a path"),
        (ROW | {"edited": "img/c.png"}, r":2: no picture .*img/c\.png"),
        (ROW | {"id": 1.5}, ":2: id 1.5 is neither a text nor an integer"),
        (ROW | SCORES | {"quality": 6}, ":2: quality: score 6 is not in 0 to 5"),
        (ROW | SCORES | {"quality": "good"}, ":2: quality: score 'good' is not a number"),
        (ROW | {"following": 3}, ":2: nothing in column 'preserving'"),
    ],
)
def test_a_bad_line_is_named(folder, row, message):
    with pytest.raises(DataError, match=message):
        read(write_jsonl(folder, ROW | {"id": "x"}, row))


def test_a_bad_csv_is_named(folder):
    with pytest.raises(DataError, match=r"set\.csv:3: quality: score 'bad' is not a number"):
        read(write_csv(folder, ROW | SCORES, ROW | SCORES | {"quality": "bad"}))
    with pytest.raises(DataError, match=r"no column 'instruction' \(did you mean 'instructions'"):
        read(write_csv(folder, {"original": "a", "edited": "b", "instructions": "c"}))
    path = folder / "set.csv"
    for text, message in {
        "": "no header",
        "original,edited,edited\n": "column 'edited' stands in the header twice",
        "original,edited,instruction\nimg/a.png,img/b.png\n": r"set\.csv:2: 2 cells, 3 in",
        "original,edited,instruction\nimg/a.png,img/b.png,\n": "nothing in column 'instruction'",
        b"original,edited,instruction\n\xff,b,c\n": "not UTF-8 text",
    }.items():
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=message):
            read(path)
    path.write_text("original,edited,instruction\n")
    assert read(path) == []


def test_wrong_columns_and_files_are_refused(folder):
    path = write_csv(folder, ROW)
    with pytest.raises(ConfigError, match=r"unknown field 'orignal'.*did you mean 'original'"):
        read(path, columns={"orignal": "a"})
    with pytest.raises(ConfigError, match="original is read from 1 of them, not 2"):
        read(path, columns={"original": ("original", "edited")})
    with pytest.raises(DataError, match=r"want a table in \.csv, .*\.parquet, \.arrow, \.tar"):
        read(folder / "img" / "a.png")
    with pytest.raises(DataError, match="no such file or folder"):
        read(folder / "none.csv")
    with pytest.raises(ConfigError, match="split 'dev': a single table has no splits"):
        read(path, split="dev")


def test_hive(folder):
    row = {"instruction": "e", "source_img": "img/a.png", "edited_img": "img/b.png"}
    source = open_source("hive", write_jsonl(folder, row, row))
    first, second = read_triplets(source, validate=True)
    assert (first.id, second.id) == ("hive-0000000", "hive-0000001")
    assert (first.original, first.edited) == (BEFORE, AFTER)
    source = open_source("hive", folder / "set.jsonl", images=folder / "img")
    with pytest.raises(DataError, match=r"set\.jsonl:1: no picture .*img/img/a\.png"):
        list(read_triplets(source))


def test_memory_does_not_grow_with_the_set(folder):
    (folder / "img" / "a.png").write_bytes(BEFORE + bytes(50_000))

    def peak(count):
        source = open_source("table", write_jsonl(folder, *[ROW] * count))
        tracemalloc.start()
        try:
            for _ in read_triplets(source):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    small, large = peak(200), peak(2000)
    assert large < small + 2**19  # of 100 MB: the ids that were seen


@pytest.fixture
def plain(tmp_path):
    for name, kind, content in (
        ("b", "original", BEFORE),
        ("b", "edited", AFTER),
        ("a", "original", picture(kind="JPEG")),
        ("a", "edited", AFTER),
    ):
        path = tmp_path / kind / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "original" / "a.png").rename(tmp_path / "original" / "a.JPG")
    (tmp_path / "instruction").mkdir()
    for name in "ab":
        (tmp_path / "instruction" / f"{name}.txt").write_text(f"edit {name}\n")
    return tmp_path


def test_plain_folder(plain):
    first, second = read_triplets(open_source("folder", plain), validate=True)
    assert (first.id, second.id) == ("a", "b")
    assert (second.instruction, second.original) == ("edit b", BEFORE)


def test_a_plain_folder_that_does_not_match_is_refused(plain):
    (plain / "instruction" / "a.txt").write_text(" ")
    with pytest.raises(DataError, match=r"a\.txt: no instruction in it"):
        list(read_triplets(open_source("folder", plain)))
    (plain / "original" / "a.png").write_bytes(BEFORE)
    with pytest.raises(DataError, match="keep one"):
        open_source("folder", plain)
    (plain / "original" / "a.png").unlink()
    (plain / "edited" / "a.png").unlink()
    source = open_source("folder", plain)
    bad, whole = source.read(range(2))
    assert "a: nothing of this name in edited" in str(bad)
    assert whole.id == "b"
    assert source.keys().names == ["a", "b"]
    with pytest.raises(DataError, match="original: no such folder"):
        open_source("folder", plain / "edited")


def test_a_plain_folder_of_two_systems_and_editors(plain):
    for kind, form, suffix in (("original", "NFD", "PNG"), ("edited", "NFC", "png")):
        (plain / kind / f"{unicodedata.normalize(form, 'é')}.{suffix}").write_bytes(BEFORE)
    name = unicodedata.normalize("NFC", "é")
    (plain / "instruction" / f"{name}.txt").write_bytes(b"\xef\xbb\xbfgo\r\n")
    for clutter in (".DS_Store", "._é.png", "Thumbs.db"):
        (plain / "original" / clutter).write_bytes(b"x")
    triplets = list(read_triplets(open_source("folder", plain), validate=True))
    assert [t.instruction for t in triplets] == ["edit a", "edit b", "go"]


def test_paths_in_another_spelling_of_accents_are_found(tmp_path):
    (tmp_path / f"{unicodedata.normalize('NFD', 'é')}.png").write_bytes(BEFORE)
    name = unicodedata.normalize("NFC", "é")
    table = tmp_path / "set.csv"
    table.write_text(f"original,edited,instruction\n{name}.png,{name}.png,go\n")
    (triplet,) = read_triplets(open_source("table", table))
    assert triplet.original == BEFORE


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("https://example.com/a.png", r"set\.jsonl:1: https://example\.com/a\.png is on the web"),
        ("a\0.png", r"set\.jsonl:1: no picture"),
        ("a" * 300 + ".png", r"set\.jsonl:1: no picture \S{200}$"),
        ("", r"column 'original' holds neither a picture nor a path"),
    ],
)
def test_what_is_no_path_of_a_picture_is_one_bad_row(tmp_path, cell, message):
    (tmp_path / "b.png").write_bytes(AFTER)
    rows = [{"original": name, "edited": "b.png", "instruction": "go"} for name in (cell, "b.png")]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad, whole = open_source("table", tmp_path / "set.jsonl").read(range(2))
    assert re.search(message, str(bad))
    assert whole.original == AFTER


def test_a_set_on_the_web_is_refused():
    with pytest.raises(DataError, match=r"https://example\.com/set\.csv is on the web"):
        open_source("table", "https://example.com/set.csv")


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_pictures_in_base64(tmp_path, prefix):
    large = picture(size=(400, 400), kind="BMP")
    cells = [prefix + base64.b64encode(data).decode() for data in (large, large)]
    table = tmp_path / "set.csv"
    table.write_text(f'original,edited,instruction\n"{cells[0]}","{cells[1]}",go\n')
    (triplet,) = read_triplets(open_source("table", table), validate=True)
    assert (triplet.original, triplet.edited) == (large, large)


@pytest.mark.parametrize(
    "text",
    [
        "original|edited|instruction\nb.png|b.png|a, b; c\n",
        'original;edited;instruction;a note, free\nb.png;b.png;"a, b; c";\n',
        '\n\noriginal,edited,instruction\n\nb.png,b.png,"a, b; c"\n',
    ],
)
def test_separated_in_any_way(tmp_path, text):
    (tmp_path / "b.png").write_bytes(BEFORE)
    (tmp_path / "set.csv").write_text(text)
    (triplet,) = read_triplets(open_source("table", tmp_path / "set.csv"))
    assert triplet.instruction == "a, b; c"


def test_a_quote_left_open_swallows_no_rows(tmp_path):
    (tmp_path / "b.png").write_bytes(BEFORE)
    table = tmp_path / "set.csv"
    table.write_text('original,edited,instruction\nb.png,b.png,"go\nb.png,b.png,run\n')
    with pytest.raises(DataError, match=r"set\.csv:3: not CSV .* a quote may be left open"):
        list(read_triplets(open_source("table", table)))


def test_text_in_utf_16_is_read_and_in_latin_1_refused(tmp_path):
    (tmp_path / "b.png").write_bytes(BEFORE)
    row = {"original": "b.png", "edited": "b.png", "instruction": "größer"}
    header, cells = (",".join(part) for part in (row, row.values()))
    for name, text in (
        ("set.csv", f"{header}\r\n{cells}\r\n"),
        ("set.jsonl", json.dumps(row, ensure_ascii=False) + "\n"),
        ("set.json", json.dumps([row], ensure_ascii=False, indent=1)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-16")
        (triplet,) = read_triplets(open_source("table", tmp_path / name))
        assert triplet.instruction == "größer"
        (tmp_path / name).write_bytes(text.encode("utf-16")[:-1])
        with pytest.raises(DataError, match="not UTF-16 text"):
            list(read_triplets(open_source("table", tmp_path / name)))
    (tmp_path / "set.csv").write_text(f"{header}\n{cells}\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"set\.csv: not UTF-8 text \(.*; save it as UTF-8"):
        list(read_triplets(open_source("table", tmp_path / "set.csv")))


def nested_row(number):
    turns = [{"text": f"edit {number}", "lang": "en"}]
    return {"sample": {"before": "b.png", "after": "b.png"}, "turns": turns, "n.o": number}


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_cells_within_cells(tmp_path, kind):
    (tmp_path / "b.png").write_bytes(BEFORE)
    path = tmp_path / f"set.{kind}"
    if kind == "parquet":
        write_parquet(path, [nested_row(n) for n in range(3)])
    else:
        path.write_text("".join(json.dumps(nested_row(n)) + "\n" for n in range(3)))
    columns = {
        "id": "n.o",
        "original": "sample.before",
        "edited": "sample.after",
        "instruction": "turns[0].text",
    }
    triplets = list(read_triplets(open_source("table", path, columns=columns)))
    assert [(t.id, t.instruction) for t in triplets] == [(str(n), f"edit {n}") for n in range(3)]
    bad, *_ = open_source("table", path, columns=columns | {"edited": "sample.x"}).read(range(3))
    assert "nothing in column 'sample.x'" in str(bad)


def test_a_link_to_itself_is_one_bad_row(tmp_path):
    (tmp_path / "b.png").write_bytes(BEFORE)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "set.csv").write_text(
        "original,edited,instruction\nloop.png,b.png,go\nb.png,b.png,go\n"
    )
    bad, whole = open_source("table", tmp_path / "set.csv").read(range(2))
    assert "set.csv:2: no picture" in str(bad)
    assert whole.instruction == "go"
