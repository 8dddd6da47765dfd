"""The parquet exports: InstructPix2Pix, MagicBrush and HQ-Edit."""

import itertools

import pytest

from mre_jax.data.sources import open_source
from mre_jax.data.sources.source import strict
from mre_jax.errors import DataError
from tests.data.parquet import image, instruct_row, pa, write_parquet
from tests.data.pictures import AFTER, BEFORE
from tests.data.read import read_triplets


def read(name, path, positions=None, **options):
    source = open_source(name, path, **options)
    return list(strict(source.read(range(len(source)) if positions is None else positions)))


def numbers(triplets):
    return [int(triplet.instruction.split()[1]) for triplet in triplets]


@pytest.fixture
def parts(tmp_path):
    """Three files of 7, 1 and 5 rows in row groups of 3."""
    rows = [instruct_row(number) for number in range(13)]
    for part, piece in enumerate((rows[:7], rows[7:8], rows[8:])):
        name = f"train-{part:05d}-of-00262-0123abcd.parquet"
        write_parquet(tmp_path / "data" / name, piece)
    return tmp_path


def test_instruct_pix2pix_full_export(parts):
    triplets = read("instruct_pix2pix_parquet", parts)
    assert numbers(triplets) == list(range(13))
    assert triplets[8].id == "instruct_pix2pix-0000008"
    assert triplets[8].original_caption == "photo 8"
    assert triplets[8].edited_caption == "edited photo 8"
    assert (triplets[8].original, triplets[8].edited) == (BEFORE, AFTER)
    assert triplets[8].where.endswith("train-00002-of-00262-0123abcd.parquet row 0")


@pytest.mark.parametrize("positions", [range(5, 10), [0, 2, 3, 7, 12], range(7, 8), [6]])
def test_any_rows_are_reached_without_the_others(parts, positions):
    triplets = read("instruct_pix2pix_parquet", parts, positions)
    assert numbers(triplets) == list(positions)
    assert [t.id for t in triplets] == [f"instruct_pix2pix-{p:07d}" for p in positions]


def test_shards_cross_files(parts):
    source = open_source("instruct_pix2pix_parquet", parts)
    shards = [
        numbers(read_triplets(source, max_examples=12, shard=(index, 5))) for index in range(5)
    ]
    assert list(itertools.chain(*shards)) == list(range(12))


def test_instruct_pix2pix_small_subset(tmp_path):
    row = {
        "input_image": image(BEFORE),
        "edit_prompt": "make it blue",
        "edited_image": image(AFTER),
    }
    (triplet,) = read("instruct_pix2pix_parquet", write_parquet(tmp_path / "a.parquet", [row]))
    assert (triplet.original_caption, triplet.instruction) == (None, "make it blue")


def test_magicbrush(tmp_path):
    rows = [
        {
            "img_id": "123456",
            "turn_index": turn,
            "source_img": image(BEFORE),
            "mask_img": image(BEFORE),
            "instruction": f"turn {turn}",
            "target_img": image(AFTER),
        }
        for turn in (1, 2)
    ]
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", rows)
    write_parquet(tmp_path / "data" / "dev-00000-of-00001.parquet", rows[:1])
    first, second = read("magicbrush", tmp_path, split="train")
    assert (first.id, second.id) == ("123456-1", "123456-2")
    assert second.edited == AFTER
    assert len(read("magicbrush", tmp_path, split="dev")) == 1
    with pytest.raises(DataError, match=r"several splits, \['dev', 'train'\]; choose one"):
        open_source("magicbrush", tmp_path)
    with pytest.raises(DataError, match=r"no parquet files of split 'test'"):
        open_source("magicbrush", tmp_path, split="test")


def test_hq_edit_forwards_and_backwards(tmp_path):
    row = {
        "input": "a red square",
        "input_image": image(BEFORE),
        "edit": "make it blue",
        "inverse_edit": "make it red",
        "output": "a blue square",
        "output_image": image(AFTER),
    }
    path = write_parquet(tmp_path / "train" / "0000.parquet", [row]).parents[1]
    (there,) = read("hq_edit", path)
    (back,) = read("hq_edit", path, inverse=True)
    assert (there.instruction, there.original_caption) == ("make it blue", "a red square")
    assert (back.instruction, back.original_caption) == ("make it red", "a blue square")
    assert (there.original, there.edited) == (back.edited, back.original) == (BEFORE, AFTER)
    assert there.id != back.id


def test_a_missing_column_is_named_with_those_there(tmp_path):
    row = instruct_row(0)
    del row["edit_prompt"]
    path = write_parquet(tmp_path / "a.parquet", [row])
    with pytest.raises(
        DataError,
        match=r"a\.parquet: no column 'edit_prompt' \(did you mean 'edited_prompt'\?\); it has",
    ):
        open_source("instruct_pix2pix_parquet", path)


def test_a_file_with_other_columns_than_the_first_is_named(tmp_path):
    write_parquet(tmp_path / "a.parquet", [instruct_row(0)])
    write_parquet(tmp_path / "b.parquet", [{"edit_prompt": "x"}])
    with pytest.raises(DataError, match=r"b\.parquet: no column 'original_image'"):
        read("instruct_pix2pix_parquet", tmp_path)


def test_a_gap_among_numbered_files_is_refused(parts):
    (parts / "data" / "train-00001-of-00262-0123abcd.parquet").unlink()
    with pytest.raises(DataError, match="file 1 of 262 is missing"):
        open_source("instruct_pix2pix_parquet", parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edited_image": image(None)}, "column 'edited_image' holds neither a picture nor a path"),
        ({"edited_image": None}, "nothing in column 'edited_image'"),
        ({"edited_image": image(None, "x.png")}, r"no picture .*/x\.png"),
        ({"edit_prompt": None}, "nothing in column 'edit_prompt'"),
        ({"edited_image": image(b"")}, "no edited picture"),
        ({"edited_image": image(b"no")}, "edited picture: not a picture"),
    ],
)
def test_a_bad_cell_is_named_by_file_and_row(tmp_path, change, message):
    rows = [instruct_row(n) for n in range(4)] + [instruct_row(4, **change)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(DataError, match=rf"a\.parquet row 4: {message}"):
        list(read_triplets(open_source("instruct_pix2pix_parquet", path), validate=True))


def test_damaged_and_empty_files_are_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [instruct_row(n) for n in range(4)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"a\.parquet: damaged, or not parquet"):
        open_source("instruct_pix2pix_parquet", path)
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])
    with pytest.raises(DataError, match=r"a\.parquet"):
        read("instruct_pix2pix_parquet", path)
    schema = pa.Table.from_pylist([instruct_row(0)]).schema
    pa.parquet.write_table(schema.empty_table(), path)
    assert len(open_source("instruct_pix2pix_parquet", path)) == 0
    with pytest.raises(DataError, match="no parquet files"):
        (tmp_path / "empty").mkdir()
        open_source("instruct_pix2pix_parquet", tmp_path / "empty")


def test_memory_does_not_grow_with_the_set(tmp_path):
    noise = bytes(range(256)) * 80

    def peak(count):
        path = tmp_path / f"{count}.parquet"
        rows = [instruct_row(n, original_image=image(noise + b"%d" % n)) for n in range(count)]
        write_parquet(path, rows, group=50)
        source = open_source("instruct_pix2pix_parquet", path)
        del rows
        start = pa.total_allocated_bytes()
        return max(pa.total_allocated_bytes() - start for _ in read_triplets(source))

    small, large = peak(200), peak(2000)
    assert large < small + 2**19  # of 40 MB
