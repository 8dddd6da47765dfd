"""Whatever form a table was given out in, the same examples come out, or the form is named."""

import bz2
import gzip
import io
import json
import lzma
import tarfile

import pytest

from mre_jax.data.provenance import Provenance
from mre_jax.data.sources import SOURCES, open_source, typed_options
from mre_jax.data.sources.tar_rows import TarRows
from mre_jax.errors import ConfigError, DataError
from tests.data.parquet import image, pa, write_parquet
from tests.data.pictures import AFTER, BEFORE
from tests.data.read import read_triplets

COUNT = 5


def row(number):
    """As the InstructPix2Pix exports call their columns."""
    return {
        "original_image": image(BEFORE),
        "edited_image": image(AFTER),
        "edit_prompt": f"edit {number}",
    }


def write_arrow(path, rows, stream=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        for number in range(0, len(table), 2):
            writer.write_table(table.slice(number, 2))
    return path


def add(archive, name, data, **changes):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in changes.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


def write_tar(path, numbers, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for number in numbers:
            add(archive, f"./{number:05d}.original_image.png", BEFORE)
            add(archive, f"./{number:05d}.edited_image.png", AFTER)
            add(archive, f"./{number:05d}.edit_prompt.txt", f"edit {number}\n".encode())
    return path


def read(path, **options):
    return list(read_triplets(open_source("table", path, **options), validate=True))


def check(path, numbers=range(COUNT), **options):
    triplets = read(path, **options)
    assert [triplet.instruction for triplet in triplets] == [f"edit {n}" for n in numbers]
    assert {(triplet.original, triplet.edited) for triplet in triplets} == {(BEFORE, AFTER)}
    return triplets


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(BEFORE)
    (tmp_path / "b c.png").write_bytes(AFTER)
    return tmp_path


def text_rows():
    return [
        {"original": "a.png", "edited": "b c.png", "instruction": f"edit {n}"} for n in range(COUNT)
    ]


def separated(separator):
    lines = ["original", "edited", "instruction"], *(row.values() for row in text_rows())
    return "".join(separator.join(line) + "\n" for line in lines)


@pytest.mark.parametrize("stream", [True, False])
def test_a_folder_of_save_to_disk_and_its_files(tmp_path, stream):
    rows = [row(n) for n in range(COUNT)]
    write_arrow(tmp_path / "data-00000-of-00002.arrow", rows[:3], stream)
    write_arrow(tmp_path / "data-00001-of-00002.arrow", rows[3:], stream)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    write_arrow(tmp_path / "cache-0123456789abcdef.arrow", rows)  # what `map` has kept
    check(tmp_path)
    check(tmp_path / "data-00001-of-00002.arrow", [3, 4])
    source = open_source("table", tmp_path)
    assert [t.instruction for t in source.read([1, 4])] == ["edit 1", "edit 4"]
    (tmp_path / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-\*\.arrow: 1 of 2 files are there; fetch the"):
        read(tmp_path)
    (tmp_path / "data-00000-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"saved with datasets\.save_to_disk, but its \.arrow"):
        read(tmp_path)


def test_a_saved_dictionary_of_splits(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split, numbers in (("train", range(3)), ("test", range(3, 5))):
        write_arrow(tmp_path / split / "data-00000-of-00001.arrow", map(row, numbers))
    check(tmp_path, range(3), split="train")
    check(tmp_path / "test", [3, 4])
    with pytest.raises(DataError, match=r"several splits, \['test', 'train'\]; choose one"):
        read(tmp_path)
    with pytest.raises(DataError, match="no arrow files of split 'dev'; there are of the splits"):
        read(tmp_path, split="dev")
    with pytest.raises(DataError, match="its arrow files are of no split; leave 'train' out"):
        read(tmp_path / "train", split="train")


def test_the_caches_of_the_library_and_of_the_hub(tmp_path):
    cache = tmp_path / "org___set" / "default" / "0.0.0"
    for split in ("train", "test"):
        write_arrow(cache / "0a1b" / f"set-{split}.arrow", map(row, range(COUNT)))
    check(tmp_path / "org___set", split="train")
    write_arrow(cache / "2c3d" / "set-train.arrow", map(row, range(COUNT)))
    with pytest.raises(DataError, match=r"set-train\.arrow is both in .*0a1b and in .*2c3d; give"):
        read(tmp_path / "org___set", split="train")

    hub = tmp_path / "datasets--org--set"
    for revision in ("aaa", "bbb"):
        write_parquet(
            hub / "snapshots" / revision / "data" / "train-00000-of-00001.parquet",
            list(map(row, range(COUNT))),
        )
    with pytest.raises(DataError, match=r"want one revision of \['aaa', 'bbb'\]"):
        read(hub)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("bbb")
    check(hub)


def test_parquet_files_named_after_their_splits(tmp_path):
    write_parquet(tmp_path / "train.parquet", list(map(row, range(COUNT))))
    write_parquet(tmp_path / "test.parquet", [row(9)])
    check(tmp_path, split="train")
    with pytest.raises(DataError, match="several splits"):
        read(tmp_path)


def test_archives_of_webdataset(tmp_path):
    write_tar(tmp_path / "shard-000000.tar", range(2))
    write_tar(tmp_path / "shard-000001.tar", range(2, COUNT))
    triplets = check(tmp_path)
    assert [triplet.id for triplet in triplets] == [f"{n:05d}" for n in range(COUNT)]
    check(tmp_path / "shard-000001.tar", range(2, COUNT))
    check(f"{tmp_path}/shard-{{000000..000001}}.tar")
    with pytest.raises(DataError, match=r"shard-000002\.tar: no such file"):
        read(f"{tmp_path}/shard-{{000000..000002}}.tar")
    source = open_source("table", tmp_path)
    assert [t.instruction for t in source.read([1, 3])] == ["edit 1", "edit 3"]
    write_tar(tmp_path / "train-000000.tar", [7])
    with pytest.raises(DataError, match=r"several splits, \['shard', 'train'\]"):
        read(tmp_path)
    check(tmp_path, [7], split="train")


def test_a_packed_archive_with_a_json_member(tmp_path):
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "a/x.jpg", BEFORE)
        add(archive, "a/x.output.PNG", AFTER)
        add(archive, "a/x.json", json.dumps({"edit": "edit 0", "scores": [5, 4, 3]}).encode())
        add(archive, "a/._x.jpg", b"what a Mac leaves")
    columns = {"original": "jpg", "edited": "output", "instruction": "edit", "scores": "scores"}
    (triplet,) = check(path, [0], columns=columns)
    assert triplet.scores == (5, 4, 3)
    assert triplet.original_id == "a/x" and triplet.id.startswith("a-x-")
    assert TarRows(path).columns[-2:] == ["__key__", "__file__"]


def test_members_of_archives_are_never_written_and_links_not_followed(tmp_path):
    path = tmp_path / "in" / "set.tar"
    write_tar(path, [0])
    with tarfile.open(path, "a") as archive:
        for name in ("../../outside", "/absolute"):
            add(archive, f"{name}.original_image.png", BEFORE)
            add(archive, f"{name}.edited_image.png", AFTER)
            add(archive, f"{name}.edit_prompt.txt", b"edit 1")
        add(archive, "link.original_image.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    before = sorted(tmp_path.rglob("*"))
    *whole, link = open_source("table", path).read(range(4))
    assert [triplet.instruction for triplet in whole] == ["edit 0", "edit 1", "edit 1"]
    assert "key link: original_image.png is a link" in str(link)
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_archives_are_named(tmp_path):
    path = write_tar(tmp_path / "set.tar", range(3))
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 * 8])  # between two members
    with pytest.raises(DataError, match=r"set\.tar: damaged, or not a tar .*no end mark"):
        read(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"set\.tar: damaged, or not a tar archive"):
        read(path)
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"set\.tar: damaged, or not a tar archive"):
        read(path)


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mre_jax.data.sources.tar_rows.MAX_BYTES", len(AFTER) - 1)
    path = write_tar(tmp_path / "set.tar", [0])
    (error,) = TarRows(path).read(range(1), ["edited_image"])
    assert "key 00000: edited_image.png has 0 MiB, more than" in str(error)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["set.json", "metadata.json", "set.jsonl", "set.ndjson"])
def test_lists_and_lines_of_json_whatever_they_are_called(pictures, name, packed):
    rows = text_rows()
    for text in (json.dumps(rows, indent=1), "".join(json.dumps(row) + "\n" for row in rows)):
        for start in (b"", b"\xef\xbb\xbf"):
            path = pictures / (name + ".gz" * packed)
            path.write_bytes(
                gzip.compress(start + text.encode()) if packed else start + text.encode()
            )
            check(path)
            check(pictures)  # the only table in it


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_within_an_object_is_the_table(pictures, indent):
    path = pictures / "set.json"
    path.write_text(json.dumps({"version": 1, "data": text_rows(), "tags": ["x"]}, indent=indent))
    assert [t.instruction for t in read(path)] == [f"edit {n}" for n in range(COUNT)]
    path.write_text(json.dumps({"train": text_rows(), "test": text_rows()}, indent=indent))
    with pytest.raises(DataError, match="it is one dict with train, test"):
        read(path)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
)
def test_packed_tables(pictures, suffix, pack):
    lines = "".join(json.dumps(row) + "\n" for row in text_rows()).encode()
    for name, data in (("set.csv", separated(",").encode()), ("set.jsonl", lines)):
        path = pictures / f"{name}{suffix}"
        path.write_bytes(pack(data))
        assert [t.instruction for t in read(path)] == [f"edit {n}" for n in range(COUNT)]
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"damaged, or not packed as {suffix}"):
            read(path)


def test_json_that_is_no_table_is_named(pictures):
    path = pictures / "set.json"
    for text, message in (
        (json.dumps({"data": [1]}, indent=1), r"want a list of objects.*one dict with data"),
        (json.dumps({"a": text_rows()[0], "b": text_rows()[1]}), "it is one dict with a, b"),
        (json.dumps({"original": ["a.png"], "edited": ["b.png"]}), "one dict with original, edit"),
        ("[1]", r"set\.json:1: want a JSON object, got int"),
        ("[", r"set\.json: not JSON"),
        ("", r"set\.json: not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read(path)
    packed = pictures / "set.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(text_rows()[0]).encode() * 50)[:-20])
    with pytest.raises(DataError, match=r"set\.jsonl\.gz: damaged, or not packed as"):
        read(packed)


@pytest.mark.parametrize(("name", "separator"), [("t.tsv", "\t"), ("t.csv", ";"), ("t.csv", ",")])
def test_separators_are_taken_from_the_header(pictures, name, separator):
    (pictures / name).write_text(separated(separator))
    check(pictures / name)


def test_a_header_with_two_separators_is_read_by_commas(pictures):
    (pictures / "t.csv").write_text("original,edited,instruction;x\na.png,b c.png,edit 0\n")
    columns = {"instruction": "instruction;x"}
    check(pictures / "t.csv", [0], columns=columns)


def test_a_folder_of_several_or_other_files_tells_what_it_holds(pictures):
    with pytest.raises(DataError, match=r"want a table in \.csv,.*it holds a\.png, b c\.png"):
        read(pictures)
    for name in ("one.csv", "two.csv"):
        (pictures / name).write_text(separated(","))
    with pytest.raises(DataError, match=r"want one table of them; it holds one\.csv, two\.csv"):
        read(pictures)
    with pytest.raises(ConfigError, match="a single table has no splits"):
        read(pictures / "one.csv", split="train")
    write_parquet(pictures / "x" / "a.parquet", [row(0)])
    write_arrow(pictures / "x" / "a.arrow", [row(0)])
    with pytest.raises(DataError, match="holds parquet and arrow files; give the folder of one"):
        read(pictures / "x")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.tar", "a.csv", "a.jsonl"])
def test_a_pointer_of_git_lfs_is_called_so(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / name).write_text(pointer)
    with pytest.raises(DataError, match=rf"{name}: a Git LFS pointer, .*git lfs pull"):
        read(tmp_path / name)


def test_a_picture_that_is_a_pointer_of_git_lfs(pictures):
    (pictures / "t.csv").write_text(separated(","))
    (pictures / "a.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"t\.csv:2: .*a\.png is a Git LFS pointer"):
        read(pictures / "t.csv")


def test_one_of_several_instructions_is_taken_by_the_examples_id(tmp_path):
    prompts = ["one", "two", "three"]
    rows = [row(n) | {"edit_prompt": prompts, "id": f"e{n}"} for n in range(30)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    taken = {triplet.id: triplet.instruction for triplet in read(path)}
    assert set(taken.values()) == set(prompts)
    again = write_parquet(tmp_path / "b.parquet", rows[::-1])
    assert {triplet.id: triplet.instruction for triplet in read(again)} == taken
    path = write_parquet(tmp_path / "c.parquet", [row(0) | {"edit_prompt": [None, None]}])
    with pytest.raises(DataError, match="the instruction None is not a text"):
        read(path)


def test_pictures_in_one_list_are_named_by_their_place(tmp_path):
    images = [image(BEFORE), image(AFTER)]
    path = write_parquet(tmp_path / "a.parquet", [{"images": images, "prompt": "edit 0"}])
    check(path, [0], columns={"original": "images[0]", "edited": "images[1]"})
    with pytest.raises(DataError, match=r"a\.parquet row 0: nothing in column 'images\[2\]'"):
        read(path, columns={"original": "images[0]", "edited": "images[2]"})
    with pytest.raises(DataError, match=r"no column 'image\[0\]'.*it has images, prompt"):
        read(path, columns={"original": "image[0]", "edited": "images[1]"})


def test_ids_of_another_form_get_safe_ones_and_are_kept(pictures):
    names = ["train/0", "train-0", "a b", "x" * 200, "日本", "e1"]
    rows = [row | {"id": name} for row, name in zip(text_rows() * 2, names, strict=False)]
    path = pictures / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source("table", path)
    assert source.keys().names == names  # by which rewards are found
    triplets = read(path)
    assert [triplet.original_id or triplet.id for triplet in triplets] == names
    assert len({triplet.id for triplet in triplets}) == len(names)
    assert [t.id for t in triplets if not t.original_id] == ["train-0", "e1"]
    assert [t.id for t in read(path)] == [t.id for t in triplets]


def test_names_with_spaces_in_a_plain_folder(tmp_path):
    for kind, name, data in (
        ("original", "IMG 0001.JPG", BEFORE),
        ("edited", "IMG 0001.png", AFTER),
        ("instruction", "IMG 0001.TXT", b"edit 0"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_bytes(data)
    (triplet,) = read_triplets(open_source("folder", tmp_path), validate=True)
    assert (triplet.original_id, triplet.instruction) == ("IMG 0001", "edit 0")
    assert triplet.id.startswith("IMG-0001-")


def test_an_archive_whose_first_example_lacks_something(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for number in range(3):
            add(archive, f"{number}.original.png", BEFORE)
            add(archive, f"{number}.edited.png", AFTER)
            if number:
                add(archive, f"{number}.json", b'{"instruction": "go"}')
    bad, *whole = open_source("table", tmp_path / "set.tar").read(range(3))
    assert "set.tar key 0: nothing in column 'instruction'" in str(bad)
    assert [triplet.instruction for triplet in whole] == ["go", "go"]


def test_an_archive_in_the_order_of_a_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for kind, data in (("original", BEFORE), ("edited", AFTER)):
            for number in range(3):
                add(archive, f"{number}.{kind}.png", data)
    with pytest.raises(DataError, match="members of '0' are not side by side; pack it anew"):
        open_source("table", tmp_path / "set.tar")


def test_a_bad_first_line_hides_no_columns(pictures):
    rows = [{"source_img": "a.png", "edited_img": "b c.png", "prompt": "go"}] * 2
    lines = ["{", *map(json.dumps, rows)]
    (pictures / "set.jsonl").write_text("\n".join(lines))
    bad, *whole = open_source("table", pictures / "set.jsonl").read(range(3))
    assert "set.jsonl:1: not JSON" in str(bad)
    assert [triplet.instruction for triplet in whole] == ["go", "go"]


def test_feather_is_arrow(tmp_path):
    write_arrow(tmp_path / "set.feather", [row(n) for n in range(COUNT)], stream=False)
    check(tmp_path / "set.feather")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_an_archive_is_one_bad_row(tmp_path, kind):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for number in range(2):
            add(archive, f"{number}.original.png", BEFORE)
            if number:
                add(archive, f"{number}.edited.png", b"", type=kind, linkname="0.original.png")
            else:
                add(archive, f"{number}.edited.png", AFTER)
            add(archive, f"{number}.instruction.txt", b"go")
    whole, bad = open_source("table", tmp_path / "set.tar").read(range(2))
    assert whole.edited == AFTER
    assert "set.tar key 1: edited.png is a link; pack the file" in str(bad)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "no examples in it"),
        ((("0.original.png", BEFORE), ("0.instruction.txt", b"\xf6")), "key 0: .* not UTF-8 text"),
    ],
)
def test_an_archive_without_a_whole_example_says_what_is_wrong(tmp_path, members, message):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, data in members:
            add(archive, name, data)
    with pytest.raises(DataError, match=message):
        open_source("table", tmp_path / "set.tar")


@pytest.mark.parametrize("layout", SOURCES)
def test_every_layout_has_a_reader_with_named_options(layout):
    assert typed_options(layout, {}) == {}
    with pytest.raises(ConfigError, match=f"source {layout} has no option 'nothing'; it has "):
        typed_options(layout, {"nothing": 1})


def test_where_an_edit_comes_from_is_read_where_its_column_is_named(tmp_path):
    """A public table may have a column of that name for something else."""
    made = {"model": "ab", "round": 1, "seed": 0, "source": "toy", "example": "7", "judge": "j"}
    (tmp_path / "a.png").write_bytes(BEFORE)
    cells = {"original": "a.png", "edited": "a.png", "instruction": "edit"}
    lines = [cells | {"provenance": made}, cells | {"provenance": {"model": "ab"}}]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [triplet.provenance for triplet in read(tmp_path / "set.jsonl")] == [None, None]
    source = open_source("table", tmp_path / "set.jsonl", columns={"provenance": "provenance"})
    first, second = source.read([0, 1])
    assert first.provenance == Provenance(**made)
    assert "set.jsonl:2: provenance has no 'round'" in str(second)
