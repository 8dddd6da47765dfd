"""Every kind of damage to a shard is found and named, and whole shards read as TensorFlow's."""

import pickle

import pytest

from mre_jax.data.records.tfrecord import (
    RecordError,
    open_shard,
    pread,
    read_record,
    read_records,
    record_offsets,
    write_records,
)
from mre_jax.errors import DataError

RECORDS = [b"first", b"", b"x" * 1000, b"last"]
STARTS = [0, 21, 37, 1053]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "toy-train.tfrecord-00000-of-00001"
    with path.open("wb") as file:
        assert write_records(file, iter(RECORDS)) == 4
    return path


def read_by_index(path):
    offsets, lengths = record_offsets(path)
    with open_shard(path) as file:
        return [
            read_record(pread(file), int(o), int(n), shard=str(path), record=i)
            for i, (o, n) in enumerate(zip(offsets, lengths, strict=True))
        ]


def test_records_come_back_in_order_and_by_offset(shard):
    assert list(read_records(shard)) == read_by_index(shard) == RECORDS
    assert record_offsets(shard)[0].tolist() == STARTS
    assert shard.stat().st_size == 1073


def test_the_framing_is_tensorflows(tmp_path):
    # The length, its checksum, the payload, its checksum; computed bit by bit by hand.
    path = tmp_path / "hello"
    with path.open("wb") as file:
        write_records(file, [b"hello"])
    assert path.read_bytes().hex(" ", -4) == "05000000 00000000 eab2043e 68656c6c 6fbb1f1c 19"


def test_an_empty_file_has_no_records(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert [a.tolist() for a in record_offsets(path)] == [[], []]


@pytest.mark.parametrize(
    ("damage", "record", "offset", "kind"),
    [
        (lambda d: d[:45], 2, 37, "ends inside its header"),
        (lambda d: d[:500], 2, 37, "ends inside it"),
        (lambda d: d[:-1], 3, 1053, "ends inside it"),
        (lambda d: flip(d, 38), 2, 37, "checksum of its length"),
        (lambda d: flip(d, 46), 2, 37, "checksum of its length"),
        (lambda d: flip(d, 600), 2, 37, "checksum of its content"),
        (lambda d: flip(d, 1050), 2, 37, "checksum of its content"),
        (lambda d: b"\x1f\x8b" + d[2:], 0, 0, "checksum of its length"),
    ],
)
def test_damage_is_named_by_shard_record_and_offset(shard, damage, record, offset, kind):
    shard.write_bytes(damage(shard.read_bytes()))
    for read in (read_by_index, lambda path: list(read_records(path))):
        with pytest.raises(RecordError, match=kind) as error:
            read(shard)
        found = pickle.loads(pickle.dumps(error.value))  # noqa: S301
        assert (found.shard, found.record, found.offset) == (str(shard), record, offset)
        assert str(found) == f"{shard}: record {record} at byte {offset}: {found.kind}"


def test_an_index_of_another_file_is_refused(shard):
    with open_shard(shard) as file, pytest.raises(RecordError, match="not that of the index"):
        read_record(pread(file), 0, 6)


def test_shards_that_cannot_be_read_at_random_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        record_offsets(tmp_path / "none")
    with pytest.raises(DataError, match="a folder, where a shard is wanted"):
        record_offsets(tmp_path)
    with pytest.raises(DataError, match=r"gs://b/s: .* copy the folder to a local disk"):
        record_offsets("gs://b/s")


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]
