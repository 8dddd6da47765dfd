"""Which part of a set one process reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.sources.selection import parse_shard, select
from mre_jax.data.sources.source import Keys
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from tests.data.pictures import AFTER, BEFORE, picture
from tests.data.read import read_triplets


class Listed:
    """A source of given ids."""

    name, path = "listed", "set"

    def __init__(self, ids, edited=AFTER):
        self.ids, self.edited = ids, edited

    def __len__(self):
        return len(self.ids)

    def keys(self):
        return Keys(range(len(self.ids)), len(self.ids), self.ids)

    def read(self, positions):
        for position in positions:
            where = f"set:{position}"
            yield Triplet(self.ids[position], BEFORE, self.edited, "edit", where=where)


@given(
    count=st.integers(0, 1000),
    limit=st.none() | st.integers(1, 1200),
    parts=st.integers(1, 40),
)
def test_shards_together_are_what_one_process_reads(count, limit, parts):
    shards = [select(count, limit, (index, parts)) for index in range(parts)]
    assert [p for shard in shards for p in shard] == list(select(count, limit))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert len(select(count, limit)) == (count if limit is None else min(count, limit))


def test_shards_are_read_from_the_command_line():
    assert parse_shard("2/8") == (2, 8)
    for wrong in ("8/8", "2", "2:8", "-1/8", "a/b", ""):
        with pytest.raises(ConfigError, match="want I/N"):
            parse_shard(wrong)


def test_wrong_parts_are_refused():
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ConfigError, match="shard"):
            select(10, shard=shard)
    with pytest.raises(ConfigError, match="max_examples is 0"):
        select(10, 0)


def test_pictures_are_compared_on_demand():
    source = Listed(["a"], picture(size=(8, 8)))
    (triplet,) = read_triplets(source)
    with pytest.raises(DataError, match=r"set:0: .* differ in size"):
        triplet.images()
    with pytest.raises(DataError, match=r"set:0: .* differ in size"):
        list(read_triplets(source, validate=True))
