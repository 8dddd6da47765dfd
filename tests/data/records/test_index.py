"""Scores and groups of a set are known without reading its records."""

import numpy as np
import pytest

from mre_jax.data.records import record_source
from mre_jax.data.records.index import index_path, load_index, make_index
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from tests.data.pictures import AFTER, BEFORE
from tests.data.prepared import prepare_toy, write_toy
from tests.data.shards import write_set

SCORES = [None, (5, 4, 3), None, (1, 4.3, 5), (0, 0, 0)]


def triplets():
    return [
        Triplet(id=f"e{n}", original=BEFORE, edited=AFTER, instruction="i", scores=scores)
        for n, scores in enumerate(SCORES)
    ]


@pytest.fixture
def old(tmp_path):
    """A set without an index, as earlier versions have left it."""
    return write_set(tmp_path / "old", triplets(), shards=1)


def no_reading(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a record was read")

    monkeypatch.setattr(record_source, "read_record", refuse)


def test_neighbours_share_a_number_if_they_share_a_group():
    groups = make_index([(None, name) for name in ("a", "a", "", "", "b", "b", "a")])["group"]
    assert groups.tolist() == [0, 0, 1, 2, 3, 3, 4]


def test_a_prepared_set_tells_its_rewards_without_reading_a_record(tmp_path, monkeypatch):
    out = prepare_toy(write_toy(tmp_path / "toy"), tmp_path / "out")
    whole = RecordSource(out)
    scores = [whole[number].scores for number in range(len(whole))]
    no_reading(monkeypatch)
    source = RecordSource(out)
    assert source.rewarded_count == len(source) == 24
    np.testing.assert_array_equal(source.index["scores"], np.array(scores, np.float32))
    best = source.with_min_score(3)
    assert len(best) == best.rewarded_count == sum(min(three) >= 3 for three in scores)


def test_the_manifest_tells_the_number_of_rewards_if_the_index_was_lost(tmp_path, monkeypatch):
    out = prepare_toy(write_toy(tmp_path / "toy"), tmp_path / "out")
    no_reading(monkeypatch)
    index_path(out, RecordSource(out).manifest).unlink()
    assert RecordSource(out).rewarded_count == 24


def test_an_old_set_is_read_once_and_then_never_again(old, capsys, monkeypatch):
    assert RecordSource(old).rewarded_count == 3
    assert "prepared without an index of its scores; reading all 5" in capsys.readouterr().err
    no_reading(monkeypatch)
    assert RecordSource(old).with_min_score(1).rewarded_count == 2
    said = capsys.readouterr().err
    assert "without an index" not in said
    assert (
        "2 of 5 records have three scores of 1 or more; 3 are left out, 2 of them without" in said
    )


def test_an_old_set_that_may_not_be_written_is_read_all_the_same(old, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(record_source, "write_index", refuse)
    assert RecordSource(old).rewarded_count == 3
    assert sorted(path.suffix for path in old.iterdir()) == [".json", ".tfrecord-00000-of-00001"]


def test_the_shortest_numbers_of_scores_decide(old):
    assert [t.id for t in map(RecordSource(old).with_min_score(3).__getitem__, range(1))] == ["e1"]
    scores = [(4.3, 4.3, 4.3), (4.25, 5, 5)]
    records = [
        Triplet(id=f"s{n}", original=BEFORE, edited=AFTER, instruction="i", scores=three)
        for n, three in enumerate(scores)
    ]
    source = RecordSource(write_set(old.parent / "scores", records, shards=1))
    assert len(source.with_min_score(4.3)) == 1


@pytest.mark.parametrize("content", [b"", b"no array", "short"])
def test_a_damaged_index_is_named(old, content):
    source = RecordSource(old)
    path = index_path(old, source.manifest)
    _ = source.index
    if content == "short":
        np.save(path, source.index[:2])
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"index-.*remove it, and it is made anew"):
        load_index(old, source.manifest)
