"""The fault table: every kind of damage is found, named, and does not hide the next one."""

import gzip
import json
import shutil
import struct
import zlib

import numpy as np
import pytest

from mre_jax import cli
from mre_jax.data.records.example import decode_features, encode_features
from mre_jax.data.records.index import index_path, load_index, write_index
from mre_jax.data.records.lengths import lengths_path, load_lengths, write_lengths
from mre_jax.data.records.manifest import check_manifest, load_manifest
from mre_jax.data.records.tfrecord import read_records, record_offsets, write_records
from mre_jax.data.verify import KINDS, VerifySpec, verify, walk
from mre_jax.errors import DataError
from tests.data.pictures import picture
from tests.data.prepared import EXAMPLES, SHARDS, prepare_toy, write_toy

pytest.importorskip("tensorflow_datasets")

PER_SHARD = EXAMPLES // SHARDS
BAD = 3  # the record that is damaged, in the middle one of the shards


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    return prepare_toy(write_toy(folder / "toy"), folder / "out")


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "set")


@pytest.fixture
def shard(folder):
    return folder / load_manifest(folder).shards[1].file


def found(folder):
    return [
        (damage.shard, damage.record, damage.offset, damage.kind)
        for damage in verify(VerifySpec(folder))
    ]


def begin(shard, record=BAD):
    return int(record_offsets(shard)[0][record])


def flip(shard, position, bit=0):
    data = bytearray(shard.read_bytes())
    data[position] ^= 1 << bit
    shard.write_bytes(data)


def change(shard, record=BAD, **features):
    """Writes a shard again, with other features in one record; None removes one."""
    records = list(read_records(shard))
    content = {**decode_features(records[record]), **features}
    records[record] = encode_features({k: v for k, v in content.items() if v is not None})
    with shard.open("wb") as file:
        write_records(file, records)


def huge_png():
    """A header that claims 30000 x 30000 pixels; a few bytes."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_a_whole_set_has_no_damage(folder, capsys):
    assert found(folder) == []
    assert cli.main(["data", "verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("3 shards, 24 records: all whole\n")


@pytest.mark.parametrize("bytes_left", [5, 12, 40, -1])
def test_a_cut_inside_a_record(folder, shard, bytes_left):
    start = begin(shard)
    end = begin(shard, BAD + 1) if bytes_left < 0 else start
    shard.write_bytes(shard.read_bytes()[: end + bytes_left])
    assert found(folder) == [
        (shard.name, BAD, start, "cut_record"),
        (shard.name, BAD + 1, end + bytes_left, "wrong_count"),
    ]


def test_a_cut_between_records_which_plain_reading_does_not_notice(folder, shard):
    start = begin(shard)
    shard.write_bytes(shard.read_bytes()[:start])
    assert found(folder) == [(shard.name, BAD, start, "wrong_count")]


@pytest.mark.parametrize("where", ["payload", "its checksum"])
def test_a_flipped_bit_in_a_record(folder, shard, where):
    start = begin(shard)
    flip(shard, start + 200 if where == "payload" else begin(shard, BAD + 1) - 2)
    assert found(folder) == [(shard.name, BAD, start, "bad_content")]


@pytest.mark.parametrize("byte", [0, 1, 3, 7, 8, 11])
@pytest.mark.parametrize("record", [0, BAD, PER_SHARD - 1])
def test_a_flipped_bit_in_a_length_and_the_records_behind_it_are_read(folder, shard, byte, record):
    start = begin(shard, record)
    flip(shard, start + byte, 3)
    assert found(folder) == [(shard.name, record, start, "bad_length")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda data: b"", (None, None, "empty_file")),
        (lambda data: np.random.default_rng(0).bytes(len(data)), (0, 0, "not_tfrecord")),
        (lambda data: bytes(len(data)), (0, 0, "not_tfrecord")),
        (lambda data: gzip.compress(data), (0, 0, "gzip_file")),
        (lambda data: b"\x00" * 7, (0, 0, "not_tfrecord")),
    ],
)
def test_files_that_are_something_else(folder, shard, content, expected):
    shard.write_bytes(content(shard.read_bytes()))
    assert found(folder) == [(shard.name, *expected)]


def test_files_that_are_missing_or_too_many(folder, shard):
    extra = shard.with_name(shard.name.replace("00001-of", "00003-of"))
    shard.rename(extra)
    (folder / "features.json").unlink()
    assert sorted(found(folder)) == sorted(
        [
            ("features.json", None, None, "missing_file"),
            (shard.name, None, None, "missing_file"),
            (extra.name, None, None, "extra_file"),
        ]
    )


def test_a_shard_that_is_a_copy_of_another(folder, shard):
    shutil.copy(folder / load_manifest(folder).shards[0].file, shard)
    assert found(folder) == [(shard.name, None, None, "duplicate_file")]


@pytest.mark.parametrize(
    ("features", "kind", "words"),
    [
        ({"instruction": None}, "bad_features", "no feature 'instruction'"),
        ({"original": None}, "bad_features", "no feature 'original'"),
        ({"scores": [b"5"] * 3}, "bad_features", "'scores' is not 3 floats"),
        ({"scores": np.ones(3, np.int64)}, "bad_features", "'scores' is not 3 floats"),
        ({"scores": np.ones(2, np.float32)}, "bad_features", "'scores' is not 3 floats"),
        ({"scores": np.full(3, 6, np.float32)}, "bad_features", "score 6"),
        ({"scores": np.full(3, np.nan, np.float32)}, "bad_features", "score nan"),
        ({"texts": [b"a"]}, "bad_features", "'texts' has 1 values"),
        ({"id": np.ones(1, np.float32)}, "bad_features", "'id' has 1 values of float32"),
        ({"instruction": [b"\xff"]}, "bad_features", "not UTF-8"),
        ({"edited": [b""]}, "bad_image", "edited picture: no bytes"),
        ({"edited": [b"\xff\xd8\xff\xe0 no"]}, "bad_image", "edited picture"),
        ({"original": [huge_png()]}, "bad_image", "million pixels"),
        ({"original": [picture(size=(32, 32))[:60]]}, "bad_image", "original picture: damaged"),
        ({"original": [picture(size=(16, 32))]}, "bad_image", "differ in size"),
    ],
)
def test_records_whose_checksums_are_right_and_whose_content_is_wrong(
    folder, shard, features, kind, words
):
    change(shard, **features)
    (damage,) = verify(VerifySpec(folder))
    assert (damage.shard, damage.record, damage.offset) == (shard.name, BAD, begin(shard))
    assert damage.kind == kind
    assert words in damage.detail


def test_a_record_that_is_no_example(folder, shard):
    records = [*list(read_records(shard))[:-1], b"\x07 no message"]
    with shard.open("wb") as file:
        write_records(file, records)
    assert [(d.record, d.kind) for d in verify(VerifySpec(folder))] == [
        (PER_SHARD - 1, "bad_features")
    ]


def test_content_that_was_replaced_by_other_whole_records(folder, shard):
    change(shard, instruction=[b"another"])
    assert found(folder) == [(shard.name, None, None, "wrong_hash")]
    change(shard, id=[b"0000000"])
    assert found(folder) == [(shard.name, BAD, begin(shard), "duplicate_id")]


def test_records_too_many(folder, shard):
    records = list(read_records(shard))
    size = shard.stat().st_size
    with shard.open("ab") as file:
        write_records(file, [encode_features({**decode_features(records[0]), "id": [b"new"]})])
    assert found(folder) == [(shard.name, PER_SHARD + 1, shard.stat().st_size, "wrong_count")]
    assert shard.stat().st_size > size


@pytest.mark.parametrize(
    ("content", "words"), [("{", "unreadable"), ("{}", "other shards"), ("[]", "unreadable")]
)
def test_metadata_that_tensorflow_datasets_would_stumble_over(folder, content, words):
    (folder / "dataset_info.json").write_text(content)
    (damage,) = verify(VerifySpec(folder))
    assert (damage.shard, damage.kind) == ("dataset_info.json", "bad_metadata")
    assert words in damage.detail


def test_no_damage_hides_another(folder, capsys):
    """Five at once, three of them in one file; as a user reads them, and a program."""
    first, second, third = (folder / shard.file for shard in load_manifest(folder).shards)
    offsets = [int(offset) for offset in record_offsets(second)[0]]
    flip(second, offsets[1] + 100)
    flip(second, offsets[3])
    second.write_bytes(second.read_bytes()[: offsets[5] + 30])
    first.unlink()
    change(third, 0, edited=[b"no picture"])
    assert cli.main(["data", "verify", str(folder), "--json"]) == 65
    report = json.loads(capsys.readouterr().out)
    places = [(d["shard"], d["record"], d["offset"], d["kind"]) for d in report["damages"]]
    assert places == [
        (first.name, None, None, "missing_file"),
        (second.name, 1, offsets[1], "bad_content"),
        (second.name, 3, offsets[3], "bad_length"),
        (second.name, 5, offsets[5], "cut_record"),
        (second.name, 6, offsets[5] + 30, "wrong_count"),
        (third.name, 0, 0, "bad_image"),
    ]
    assert (report["ok"], report["shards"], report["records"]) == (False, SHARDS, EXAMPLES)
    assert all(damage["kind"] in KINDS and damage["detail"] for damage in report["damages"])
    assert cli.main(["data", "verify", str(folder)]) == 65
    lines = capsys.readouterr().out.splitlines()
    assert f"{second.name}: record 3 at byte {offsets[3]}: bad_length" in "\n".join(lines)
    assert lines[-1].endswith("6 damages")


def test_what_changes_names_or_sizes_is_refused_before_the_first_step(folder, shard):
    shard.write_bytes(shard.read_bytes()[: begin(shard)])
    with pytest.raises(DataError, match=r"00001-of-00003: \d+ bytes, \d+ in the manifest"):
        check_manifest(folder)


def test_several_processes_find_the_same(folder, capsys):
    first, second, third = (folder / shard.file for shard in load_manifest(folder).shards)
    change(second, id=[b"0000000"])
    change(third, 2, edited=[b"no picture"])
    flip(first, begin(first) + 40)
    found = []
    for workers in ("1", "2"):
        assert cli.main(["data", "verify", str(folder), "--json", "--workers", workers]) == 65
        found.append(json.loads(capsys.readouterr().out)["damages"])
    assert found[0] == found[1]
    assert [damage["kind"] for damage in found[0]] == ["bad_content", "duplicate_id", "bad_image"]
    assert cli.main(["data", "verify", str(folder), "--workers", "0"]) == 78


def test_pictures_need_not_be_decoded(folder, shard):
    change(shard, edited=[b"no picture"])
    assert [damage.kind for damage in verify(VerifySpec(folder))] == ["bad_image"]
    assert [damage.kind for damage in verify(VerifySpec(folder, images=False))] == ["wrong_hash"]


def test_every_bit_of_a_small_shard_matters(tmp_path):
    """Whatever bit flips, the walk says so, and loses no other record."""
    path = tmp_path / "shard"
    with path.open("wb") as file:
        write_records(file, [b"one", b"", b"three"])
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (0, 5):
            flip(path, position, bit)
            items = list(walk(path))
            damages = [item for item in items if hasattr(item, "kind")]
            assert len(damages) == 1
            assert len(items) == 3 or damages[0].kind == "bad_length"
            flip(path, position, bit)
    assert path.read_bytes() == whole


def test_an_index_that_is_lost_or_of_another_set_is_found(folder):
    manifest = load_manifest(folder)
    path = index_path(folder, manifest)
    index = load_index(folder, manifest)
    path.unlink()
    assert found(folder) == [(path.name, None, None, "missing_file")]
    index["scores"][3] = 0
    write_index(folder, manifest, index)
    assert found(folder) == [(path.name, None, None, "bad_metadata")]
    path.write_bytes(b"torn")
    assert found(folder) == [(path.name, None, None, "bad_metadata")]


def test_lengths_that_are_of_other_records_are_found(folder):
    manifest = load_manifest(folder)
    path = lengths_path(folder, manifest)
    lengths = np.concatenate(load_lengths(folder, manifest)).tolist()
    lengths[0], lengths[1] = lengths[0] - 1, lengths[1] + 1  # the shard is as long as it was
    write_lengths(folder, manifest, lengths)
    assert found(folder) == [(path.name, None, None, "bad_metadata")]
    write_lengths(folder, manifest, lengths[1:])
    assert found(folder) == [(path.name, None, None, "bad_metadata")]
    path.write_bytes(b"torn")
    assert found(folder) == [(path.name, None, None, "bad_metadata")]
    path.unlink()  # as in sets of earlier versions
    assert found(folder) == []
