"""Of the pairs of a folder an epoch reads one, drawn anew in each, as InstructPix2Pix does."""

import json
from collections import Counter

import numpy as np
import pytest

from mre_jax import cli
from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.loader import Loader
from mre_jax.data.batches.order import member, positions
from mre_jax.data.records.index import index_path
from mre_jax.data.records.manifest import check_manifest
from mre_jax.data.records.record_source import RecordSource
from tests.data.sources.test_instruct_pix2pix import write_set

pytest.importorskip("tensorflow_datasets")

FOLDERS = {f"{n:07d}": tuple("0123"[: n % 4 + 1]) for n in range(12)}
PAIRS = sum(map(len, FOLDERS.values()))
DRAWN = [13, 11, 11, 10, 12, 13, 12, 10]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    write_set(root / "in", FOLDERS)
    for folder in FOLDERS:  # the pairs of all folders are of one size here
        for path in (root / "in" / folder).glob("*_0.jpg"):
            path.write_bytes(path.with_name(path.name.replace("_0", "_1")).read_bytes())
    argv = ["prepare", "instruct_pix2pix", root / "in", "--out", root / "out", "--min-shards", "5"]
    assert cli.main([str(arg) for arg in argv]) == 0
    return root / "out"


def loader(source, batch_size=4, **options):
    return Loader([source], batch_size=batch_size, seed=1, augmentation=Augmentation(8), **options)


def read(source, step, **options):
    """The ids that a step reads: instructions are told apart by folder alone."""
    made = loader(source, **options)
    where = positions(step, made.batch_size, made.host, made.hosts)
    return [triplet.id for _, triplet, _ in made.read(where)]


def test_the_set_holds_all_pairs_and_tells_its_groups(prepared):
    source = RecordSource(prepared)
    assert len(source) == PAIRS
    assert source.groups == len(FOLDERS)
    assert check_manifest(prepared).measured["groups"] == len(FOLDERS)
    groups = [list(source.members(group)) for group in range(source.groups)]
    assert [number for group in groups for number in group] == list(range(PAIRS))
    for group, (folder, seeds) in zip(groups, FOLDERS.items(), strict=True):
        wanted = [f"{folder}_{seed}" for seed in seeds] if len(seeds) > 1 else [folder]
        assert [source[number].id for number in group] == wanted


def test_an_epoch_visits_each_folder_once_and_draws_anew(prepared):
    source = RecordSource(prepared)
    assert loader(source).steps_per_epoch == 3
    seen = Counter()
    for epoch in range(20):
        ids = [id_ for step in range(3) for id_ in read(source, 3 * epoch + step)]
        assert sorted(id_[:7] for id_ in ids) == sorted(FOLDERS)
        seen.update(ids)
    assert len(seen) == PAIRS  # in time every pair comes up


def test_the_draw_does_not_depend_on_hosts_or_restarts(prepared):
    source = RecordSource(prepared)
    whole = read(source, 7)
    parts = [read(RecordSource(prepared), 7, host=host, hosts=2) for host in range(2)]
    assert parts[0] + parts[1] == whole


def test_the_draw_of_a_seed_never_changes():
    drawn = [member(7, range(10, 14), epoch, 3) for epoch in range(8)]
    assert drawn == [member(7, range(10, 14), epoch, 3) for epoch in range(8)]
    assert drawn == DRAWN
    assert member(7, range(5, 6), 0, 0) == 5
    many = [member(0, range(4), epoch, group) for epoch in range(40) for group in range(100)]
    np.testing.assert_allclose(np.bincount(many) / len(many), 0.25, atol=0.03)


def test_rewards_by_folder_keep_the_judged_pair_and_others_if_asked(prepared, capsys):
    root = prepared.parent
    judgement = [{"Score": 5, "Negative Prompt": "None"}] * 3
    rewards = root / "rewards.json"
    rewards.write_text(json.dumps(dict.fromkeys(list(FOLDERS)[:10], judgement)))
    argv = ["prepare", "instruct_pix2pix", str(root / "in"), "--rewards", str(rewards)]
    assert cli.main([*argv, "--out", str(root / "judged")]) == 0
    said = capsys.readouterr().out
    assert (
        f"{PAIRS - 10} triplets without a reward are left out (--keep-unjudged keeps them)" in said
    )
    judged = RecordSource(root / "judged")
    assert len(judged) == judged.groups == judged.rewarded_count == 10
    assert cli.main([*argv, "--out", str(root / "kept"), "--keep-unjudged"]) == 0
    assert "without a reward are kept" in capsys.readouterr().out
    kept = RecordSource(root / "kept")
    assert (len(kept), kept.groups, kept.rewarded_count) == (PAIRS, len(FOLDERS), 10)


def test_groups_are_found_in_the_records_if_the_index_was_lost(prepared, capsys):
    source = RecordSource(prepared)
    begins = [source.members(group) for group in range(source.groups)]
    index_path(prepared, source.manifest).unlink()
    again = RecordSource(prepared)
    assert [again.members(group) for group in range(again.groups)] == begins
    assert "reading all" in capsys.readouterr().err


def test_one_pair_a_folder_goes_on_with_a_set_of_an_earlier_version(tmp_path):
    """Which took one without being asked, and so noted no option."""
    write_set(tmp_path / "in", FOLDERS)
    words = ["prepare", "instruct_pix2pix", f"{tmp_path}/in", "--out", f"{tmp_path}/out"]
    words += ["--option", "seeds=one", "--sizes", "any"]
    assert cli.main(words) == 0
    manifest = check_manifest(tmp_path / "out")
    assert manifest.settings["options"] == {}
    assert manifest.count == len(FOLDERS)
