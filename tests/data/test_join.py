"""Rewards meet their triplets, by folder or by row, or it is said why not."""

import dataclasses
import json

import pytest

from mre_jax.data.join import join
from mre_jax.data.sources import open_source
from mre_jax.data.sources.source import Keys, strict
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.file import Reward, read_rewards
from mre_jax.reward.text import measure_truncation, reward_parts
from mre_jax.toyworld.dataset import Settings, write_dataset
from tests.data.pictures import AFTER, BEFORE
from tests.data.read import read_triplets
from tests.data.sources.test_instruct_pix2pix import write_set


class Named:
    """A source whose examples have these names, in a set of `total` rows."""

    name, path = "named", "set"

    def __init__(self, names, named=True, total=None, **keys):
        self.names = names
        self.index = Keys(range(len(names)), total or len(names), names if named else None, **keys)

    def __len__(self):
        return len(self.names)

    def keys(self):
        return self.index

    def read(self, positions):
        for position in positions:
            yield Triplet(self.names[position], BEFORE, AFTER, f"edit {position}")


def rewards(*keys):
    return {key: Reward((n % 6, 5, 5), (key, "", "")) for n, key in enumerate(keys)}


def joined(judged):
    return [(t.id, t.scores[0], t.texts[0]) for t in read_triplets(judged)]


def test_only_judged_examples_are_read_in_the_order_of_the_set():
    source = Named([f"{n:07d}" for n in range(10)])
    judged = join(source, rewards("0000007", "0000002", "0000005"))
    assert joined(judged) == [
        ("0000002", 1, "0000002"),
        ("0000005", 2, "0000005"),
        ("0000007", 0, "0000007"),
    ]
    assert judged.report.key == "folder"
    assert str(judged.report).startswith(
        "joined by folder: 3 of 3 rewards (100.0%) met one of 10 triplets"
    )
    assert [t.id for t in read_triplets(judged, shard=(1, 2))] == ["0000005", "0000007"]


def test_row_numbers_are_taken_where_nothing_has_a_name():
    judged = join(Named(list("abcdefghijkl"), named=False), rewards("11", "0", "3"))
    assert judged.report.key == "row"
    assert [t.id for t in read_triplets(judged)] == ["a", "d", "l"]


def test_padded_keys_are_rows_only_when_said_so():
    source = Named(list("abcd"), named=False)
    with pytest.raises(DataError, match="this set has row numbers only"):
        join(source, rewards("0000001", "0000002"))
    assert joined(join(source, rewards("0000001"), key="row")) == [("b", 0, "0000001")]


def test_a_join_that_could_be_read_both_ways_has_to_be_decided():
    source = Named(["1", "0"])
    with pytest.raises(DataError, match="fit both as folders and as rows, and differ"):
        join(source, rewards("0", "1"))
    assert joined(join(source, rewards("0", "1"), key="folder")) == [("1", 1, "1"), ("0", 0, "0")]
    assert joined(join(source, rewards("0", "1"), key="row")) == [("1", 0, "0"), ("0", 1, "1")]
    assert join(Named(["0", "1"]), rewards("0", "1")).report.key == "folder"


def test_too_few_that_meet_are_refused_with_examples_of_both():
    source = Named([f"f{n}" for n in range(20)])
    keys = [f"f{n}" for n in range(18)] + ["g0", "g1"]
    with pytest.raises(
        DataError,
        match=r"set: joined by folder: 18 of 20 rewards \(90\.0%\) met one of 20 triplets; missing "
        r"are g0, g1, \.\.\.; the least is 95%; a folder here is called 'f0'",
    ):
        join(source, rewards(*keys))
    judged = join(source, rewards(*keys), threshold=0.9)
    assert len(judged) == 18
    assert judged.report.rate == 0.9


def test_rewards_of_another_split_are_not_missing():
    source = Named(["a", "b"], elsewhere={"c", "d"}, total=4)
    report = join(source, rewards("a", "b", "c")).report
    assert (report.joined, report.elsewhere, report.rate) == (2, 1, 1.0)
    assert "1 belong to other splits" in str(report)
    assert join(source, rewards("0", "3"), key="row").report.elsewhere == 1
    with pytest.raises(DataError, match="joined by folder: 0 of 1"):
        join(source, rewards("c"), key="folder")


def test_pairs_that_a_reward_cannot_tell_apart_are_refused_or_reported():
    with pytest.raises(ConfigError, match=r"several examples are called 'a'.*ids of their own"):
        join(Named(["a", "a", "b"]), rewards("a"))
    report = join(Named(["a", "b"], ambiguous={"a"}), rewards("a", "b")).report
    assert report.ambiguous == 1
    assert "1 have folders of several pairs" in str(report)


def test_of_several_pairs_a_reward_by_folder_judges_one_and_a_reward_by_pair_its_own():
    source = Named(["a_1", "a_2", "b"], aliases={1: "a"}, ambiguous={"a"})
    by_folder = join(source, rewards("a", "b"))
    assert joined(by_folder) == [("a_2", 0, "a"), ("b", 1, "b")]
    assert by_folder.report.ambiguous == 1
    by_pair = join(source, rewards("a_1", "b"))
    assert joined(by_pair) == [("a_1", 0, "a_1"), ("b", 1, "b")]
    assert by_pair.report.ambiguous == 0


def test_of_several_pairs_in_a_row_a_reward_judges_one():
    source = Named(["a_1", "a_2", "b"], aliases={1: "a"}, ambiguous={"a"})
    source.index = dataclasses.replace(source.index, rows=[0, 0, 1])
    judged = join(source, rewards("0", "1"), key="row")
    assert joined(judged) == [("a_2", 0, "0"), ("b", 1, "1")]
    assert judged.report.ambiguous == 1


def test_examples_without_a_reward_are_left_out_or_kept():
    source = Named(["a", "b", "c"])
    assert join(source, rewards("b")).report.unjudged == 2
    kept = list(read_triplets(join(source, rewards("b"), keep_unjudged=True)))
    assert [(t.id, t.scores is not None) for t in kept] == [("a", False), ("b", True), ("c", False)]


def test_wrong_keys_and_settings_are_refused():
    source = Named(["a"])
    with pytest.raises(DataError, match="key 'a' of the rewards is no row number"):
        join(source, rewards("a"), key="row")
    with pytest.raises(DataError, match="keys '1' and '01' of the rewards are the same row"):
        join(source, rewards("1", "01"), key="row")
    with pytest.raises(ConfigError, match="want 'auto', 'folder' or 'row'"):
        join(source, rewards("a"), key="name")
    with pytest.raises(ConfigError, match="threshold 0"):
        join(source, rewards("a"), threshold=0)


def test_the_toy_world_end_to_end(tmp_path):
    """The public layouts, written by the toy world: read, split, join, and make the texts."""
    toy = tmp_path / "toy"
    write_dataset(toy, Settings(examples=40, size=32, benchmark=1, image_format="png"), workers=1)
    judgements = read_rewards(toy / "RewardEdit.json")
    source = open_source("instruct_pix2pix", toy / "triplets", split="train")
    judged = join(source, judgements)
    assert (judged.report.key, judged.report.joined, judged.report.rate) == ("folder", 36, 1.0)
    triplets = list(read_triplets(judged, validate=True))
    assert [t.id for t in triplets] == [f"{n:07d}" for n in range(36)]
    for triplet in triplets:
        metadata = json.loads((toy / "triplets" / triplet.id / "metadata.jsonl").read_text())
        assert list(triplet.scores) == metadata["scores"]
        assert list(triplet.texts) == metadata["texts"]
        assert triplet.original_image().size == (32, 32)
    shards = [read_triplets(judged, max_examples=10, shard=(i, 3)) for i in range(3)]
    assert [t for shard in shards for t in shard] == triplets[:10]
    parts = [reward_parts(t.texts, t.scores) for t in triplets]
    report = measure_truncation(parts, lambda texts: [len(t.split()) + 2 for t in texts], limit=77)
    assert (report.texts, report.cut) == (36, (0, 0, 0))


@pytest.mark.parametrize("judged_by", ["one", "drawn", "all"])
@pytest.mark.parametrize("read_by", ["one", "drawn", "all"])
def test_rewards_by_folder_or_by_pair_meet_their_pictures_however_pairs_are_read(
    tmp_path, judged_by, read_by
):
    folders = {"0000001": ("5",), "0000002": ("1", "2", "3"), "0000003": ("7", "8")}
    write_set(tmp_path, folders)
    judged, source = (
        {triplet.id: triplet.original for triplet in strict(made.read(range(len(made))))}
        for made in (open_set(tmp_path, judged_by), open_set(tmp_path, read_by))
    )
    met = join(open_set(tmp_path, read_by), rewards(*judged), threshold=0.01)
    assert len(met) == min(len(source), len(judged))
    for triplet in strict(met.read(range(len(met)))):
        assert triplet.texts is not None
        assert judged[triplet.texts[0]] == triplet.original


def open_set(folder, seeds):
    return open_source("instruct_pix2pix", folder, seeds=seeds)
