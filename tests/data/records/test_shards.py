"""Shards: planned by size from a sample, each example in exactly one, written whole."""

import errno
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.records.shards import Plan, is_whole, plan_shards, write_shard
from mre_jax.data.records.tfrecord import read_records
from mre_jax.data.sources.selection import Check
from mre_jax.data.sources.source import Keys
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError


class Sized:
    """A source whose pictures have these sizes in bytes."""

    name, path = "sized", "set"

    def __init__(self, sizes):
        self.sizes = sizes
        self.read_positions = []

    def __len__(self):
        return len(self.sizes)

    def keys(self):
        return Keys(range(len(self)), len(self))

    def read(self, positions):
        for position in positions:
            self.read_positions.append(position)
            yield Triplet(f"{position}", bytes(self.sizes[position]), b"x", "edit")


def plan(source, **options):
    return plan_shards(
        source,
        range(len(source)),
        name="sized",
        split="train",
        check=Check(decode=False),
        **options,
    )


def test_shards_come_out_between_two_thirds_and_four_thirds_of_the_size_wanted():
    """As 150 MB gives 100 to 200: sizes as different as those of photos."""
    sizes = np.random.default_rng(0).lognormal(9, 0.5, 3000).astype(int)
    made = plan(Sized(sizes), shard_bytes=10**6)
    parts = [sum(sizes[p] for p in made.part(index)) for index in range(made.shards)]
    assert sum(parts) > 20e6
    assert 0.67e6 < min(parts) <= max(parts) < 1.33e6


def test_what_is_added_to_every_record_counts():
    source = Sized([5000] * 100)
    alone = plan(source, shard_bytes=10**5)
    assert plan(source, shard_bytes=10**5, extra_bytes=15_000).shards == pytest.approx(
        4 * alone.shards, abs=2
    )


def test_a_few_records_are_read_to_plan_and_the_plan_knows_them():
    source = Sized([100] * 5000)
    first = plan(source)
    assert len(source.read_positions) == 64
    assert first == plan(Sized([100] * 5000))
    assert first.sample != plan(Sized([101] * 5000)).sample


@given(count=st.integers(1, 400), shards=st.integers(1, 400), start=st.integers(0, 5))
def test_every_example_is_in_one_shard_in_the_order_of_the_set(count, shards, start):
    shards = min(shards, count)
    made = Plan("a", "train", range(start, start + count), shards, "")
    parts = [made.part(index) for index in range(shards)]
    assert [p for part in parts for p in part] == list(made.positions)
    assert min(map(len, parts)) >= max(map(len, parts)) - 1 >= 0


def test_never_fewer_shards_than_hosts_and_never_an_empty_one():
    assert plan(Sized([10] * 8)).shards == 1
    assert plan(Sized([10] * 8), min_shards=8).shards == 8
    assert plan(Sized([10] * 8), shard_bytes=1).shards == 8
    with pytest.raises(ConfigError, match="9 shards for 8 examples"):
        plan(Sized([10] * 8), min_shards=9)
    with pytest.raises(DataError, match="no examples"):
        plan(Sized([]))
    with pytest.raises(ConfigError, match="at least 1"):
        plan(Sized([10]), shard_bytes=0)


def test_a_shard_is_described_as_it_lies_on_the_disk(tmp_path):
    shard = write_shard(tmp_path / "s", [b"one", b"", b"three"])
    data = (tmp_path / "s").read_bytes()
    assert (shard.file, shard.count, shard.bytes) == ("s", 3, len(data))
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert list(read_records(tmp_path / "s")) == [b"one", b"", b"three"]
    assert is_whole(tmp_path, shard)
    (tmp_path / "s").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert not is_whole(tmp_path, shard)
    (tmp_path / "s").unlink()
    assert not is_whole(tmp_path, shard)


def full():
    yield b"one"
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted():
    yield b"one"
    raise KeyboardInterrupt


@pytest.mark.parametrize("records", [full, interrupted])
def test_nothing_is_left_of_a_shard_that_could_not_be_finished(tmp_path, records):
    with pytest.raises((DataError, KeyboardInterrupt)) as error:
        write_shard(tmp_path / "s", records())
    if records is full:
        assert "no space left to write it" in str(error.value)
    assert not list(tmp_path.iterdir())
