"""Pairs of edits: which there are, and that a batch holds them side by side under one chance."""

import dataclasses

import numpy as np
import pytest

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.loader import Loader, Reading
from mre_jax.data.batches.pairs import pair_up
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from tests.data.batches.test_loader import arrays, noise, same
from tests.data.shards import write_set

SCORES = {
    "a1": (1, 2, 3),  # mean 2
    "a2": (5, 5, 5),
    "a3": (4, 0, 2),  # mean 2 again
    "b1": (4.3, 4.3, 4.3),
    "b2": (3.8, 3.8, 3.8),
    "c1": (0, 0, 0),  # another instruction
    "d1": (5, 5, 5),  # another picture
    "e1": None,
    "e2": (3, 3, 3),
}


def triplets():
    asked = {"a": ("A", "x"), "b": ("B", "x"), "c": ("A", "y"), "d": ("D", "x"), "e": ("E", "x")}
    for number, (name, scores) in enumerate(SCORES.items()):
        picture, instruction = asked[name[0]]
        yield Triplet(
            id=name,
            original=noise(ord(picture)),
            edited=noise(number),
            instruction=instruction,
            instructions=(instruction, "or else") if name[0] == "b" else (),
            scores=scores,
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return RecordSource(write_set(tmp_path_factory.mktemp("set"), list(triplets()), shards=1))


def names(source, pairs):
    return [tuple(source[record].id for record in pair) for pair in pairs.records.tolist()]


def make(source, **changes):
    settings = {
        "batch_size": 6,
        "seed": 3,
        "augmentation": Augmentation(16, resize_to=20),
        "dropout": 0.2,
        "pairs": [pair_up(source)],
    }
    return Loader([source], **settings | changes)


def test_the_preferred_comes_first_and_ties_are_left_out_and_counted(source):
    pairs = pair_up(source)
    assert names(source, pairs) == [("a2", "a1"), ("a2", "a3"), ("b1", "b2")]
    assert pairs.alike == 1


@pytest.mark.parametrize(("margin", "left"), [(0.5, 3), (0.51, 2), (3, 2)])
def test_a_margin_is_a_least_difference(source, margin, left):
    """4.3 and 3.8 are half a point apart, though not in float32."""
    pairs = pair_up(source, margin)
    assert (len(pairs), pairs.alike) == (left, 4 - left)


def test_a_set_without_pairs_says_what_it_lacks(source, tmp_path):
    with pytest.raises(DataError, match=r"differ by loss.preference.margin=4 in mean score"):
        pair_up(source, 4)
    single = write_set(tmp_path / "single", list(triplets())[3:4], shards=1)
    with pytest.raises(DataError, match="no two edits of one picture and instruction with a rew"):
        pair_up(RecordSource(single))


def test_an_epoch_reads_each_pair_once(source):
    loader = make(source, batch_size=2)
    assert loader.steps_per_epoch == 3
    for epoch in range(2):
        read = [
            tuple(s[record].id for s, record in loader.find(np.array([2 * step, 2 * step + 1])))
            for step in range(3 * epoch, 3 * epoch + 3)
        ]
        assert sorted(read) == [("a2", "a1"), ("a2", "a3"), ("b1", "b2")]


def test_the_edits_of_a_pair_meet_the_same_chance(source):
    batches = [make(source).batch(step) for step in range(8)]
    for batch in batches:
        for name in ("original", "drop_text", "drop_image", "flip", "key_data"):
            value = getattr(batch, name)
            np.testing.assert_array_equal(value[::2], value[1::2], err_msg=name)
        assert batch.instruction[::2] == batch.instruction[1::2]
        assert (batch.scores[::2].mean(1) > batch.scores[1::2].mean(1)).all()
        assert (batch.edited[::2] != batch.edited[1::2]).any(axis=(1, 2, 3)).all()
        assert len({key.tobytes() for key in batch.key_data}) == 3
    assert len({text for batch in batches for text in batch.instruction}) == 2  # "x", "or else"


@pytest.mark.parametrize("reading", [Reading(), Reading(threads=1, workers=1)])
def test_batches_depend_neither_on_hosts_nor_on_readers(source, reading):
    whole = [make(source, batch_size=12).batch(step) for step in range(2)]
    hosts = [
        list(make(source, batch_size=12, host=h, hosts=3, reading=reading).batches(0, 2))
        for h in range(3)
    ]
    for step, want in enumerate(whole):
        parts = [arrays(batches[step]) for batches in hosts]
        for name, value in arrays(want).items():
            got = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(got, np.asarray(value), err_msg=name)


def test_a_run_goes_on_where_it_was(source):
    loader = make(source)
    same(next(iter(loader.batches(5, 6))), loader.batch(5))


def test_pairs_are_not_split_between_hosts(source):
    with pytest.raises(ConfigError, match="whole pairs over the 2 hosts"):
        make(source, hosts=2)


def test_without_pairs_nothing_has_changed(source):
    plain = make(source, pairs=None)
    assert plain.together == 1
    assert len({key.tobytes() for key in plain.batch(0).key_data}) == 6
    assert dataclasses.replace(make(source), pairs=None).order == plain.order
