"""The loop, with a stand-in for editor and trainer: real samples, judges, shards and results."""

import dataclasses
import json
from pathlib import Path

import pytest

from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.stats import StatsSpec, describe
from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.results import read_results
from mre_jax.improvement import stages as job
from mre_jax.improvement.improve import improve
from mre_jax.io.growing_file import rows_so_far
from mre_jax.judges.journal import BudgetError, Journal
from mre_jax.judges.spec import JudgeSpec
from mre_jax.toyworld.judge import score
from tests.improvement.conftest import EXAMPLES, SCENES, NoisyEditor
from tests.judges.server import MODEL

HELD_OUT = SCENES * 7 * 3
"""Answers about the held-out edits of a model."""


def own_edits(number):
    return RecordSource(f"out/round-{number}/set")


def test_own_edits_are_triplets_that_know_where_they_come_from(begun, stand, shards):
    config, spec = begun
    found = improve(config, spec)
    known = {triplet.id: triplet for triplet in RecordSource(shards)}
    for number in (1, 2):
        triplets = list(own_edits(number))
        assert len(triplets) == spec.edits * spec.seeds_per_edit == found.rounds[0].own_edits
        editor = "editor" if number == 1 else "out/round-1/model"
        for triplet in triplets:
            made = triplet.provenance
            assert (made.round, made.judge, made.source) == (number, "toy-1", "instruct_pix2pix")
            assert made.model == NoisyEditor(Path(editor), stand.plan).checkpoint
            assert made.seed in (0, 1) and f"round{number}-" in triplet.id
            example = known[made.example]
            assert (triplet.original, triplet.instruction) == (
                example.original,
                example.instruction,
            )
            assert triplet.edited != example.edited
        assert len({t.edited for t in triplets}) == len(triplets)
    examples = [{t.provenance.example for t in own_edits(number)} for number in (1, 2)]
    assert not examples[0] & examples[1]  # rounds take turns


def test_their_rewards_are_the_judge_s(begun, stand, toy):
    from mre_jax.toyworld.edits import Edits
    from mre_jax.toyworld.scene import Scenes
    from mre_jax.toyworld.triplets import decode

    improve(*begun)
    for triplet in own_edits(1):
        metadata = toy / "triplets" / triplet.provenance.example / "metadata.jsonl"
        row = json.loads(metadata.read_text())
        scenes, edits = Scenes.from_json([row["scene"]]), Edits.from_json([row["edit"]])
        exact = score(scenes, edits, decode(triplet.edited)[None])[0]
        assert triplet.scores == tuple(map(round, exact))
        assert ("None" in triplet.texts) == (5 in triplet.scores)


def test_a_round_goes_on_from_the_one_before_and_reads_all_own_edits(begun, stand, shards):
    config, spec = begun
    found = improve(config, spec)
    first, second = stand.trainings
    assert first.model.init_from == "editor"
    assert second.model.init_from == "out/round-1/model"
    assert first.data.paths == (str(shards), "out/round-1/set")
    assert second.data.paths == (*first.data.paths, "out/round-2/set")
    assert (first.seed, second.seed) == (0, 1)
    assert (found.best, found.model) == (2, "out/round-2/model")
    same = dataclasses.replace(
        first, name=config.name, seed=config.seed, data=config.data, model=config.model
    )
    assert same == config


@pytest.mark.parametrize(
    ("most", "own", "weights"),
    [
        (0.9, (4 / 12, 8 / 16), (None, None)),
        (0.4, (4 / 12, 0.4), (None, (0.6, 0.2, 0.2))),
        (0.1, (0.1, 0.1), ((0.9, 0.1), (0.9, 0.05, 0.05))),
    ],
)
def test_own_edits_are_trained_on_no_more_often_than_they_may(begun, stand, most, own, weights):
    config, spec = begun
    found = improve(config, dataclasses.replace(spec, max_own_share=most))
    assert tuple(result.own_share for result in found.rounds) == pytest.approx(own)
    assert tuple(training.data.weights for training in stand.trainings) == weights


def test_edits_below_the_least_score_are_not_counted(begun, stand, capsys):
    config, spec = begun
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, min_score=1))
    said = []
    found = improve(config, dataclasses.replace(spec, rounds=1), said.append)
    assert [path for path in stand.trainings[0].data.paths if "round" in path] == []
    assert found.rounds[0].own_share == 0
    assert any("no edit reaches data.min_score=1; it is left out" in str(line) for line in said)


def test_it_stops_when_the_held_out_score_does_not_rise(begun, stand):
    config, spec = begun
    stand.plan = [0.4, 0.2, 0.2, 0.1]
    said = []
    found = improve(config, dataclasses.replace(spec, rounds=3), said.append)
    assert len(found.rounds) == len(stand.trainings) == 2
    assert (found.best, found.model) == (1, "out/round-1/model")
    assert found.rounds[0].rise > 0.1 > abs(found.rounds[1].rise) + 0.09
    assert "round 2 does not rise by more than 0: it is last" in said


def test_a_rise_must_be_as_large_as_is_asked(begun, stand):
    config, spec = begun
    found = improve(config, dataclasses.replace(spec, min_rise=4.9))
    assert (len(found.rounds), found.best, found.model) == (1, 0, "editor")


def test_more_rounds_go_on_with_what_is_there(begun, stand):
    config, spec = begun
    improve(config, dataclasses.replace(spec, rounds=1))
    found = improve(config, spec)
    assert [result.round for result in found.rounds] == [1, 2]
    assert len(stand.trainings) == 2
    assert improve(config, spec) == found
    assert len(stand.trainings) == 2


def test_a_control_is_trained_as_long_without_own_edits(begun, stand, shards):
    config, spec = begun
    found = improve(config, dataclasses.replace(spec, control=True))
    trained = {training.name: training for training in stand.trainings}
    one, two = trained["loop, round-1/control"], trained["loop, round-2/control"]
    assert one.data == two.data == config.data
    assert one.model.init_from == "editor"
    assert two.model.init_from == "out/round-1/control/model"
    assert (one.steps, one.seed) == (config.steps, trained["loop, round-1"].seed)
    assert str(found).count("own edits gain +0.00") == 2  # the stand-in learns as much from any
    assert {row.system for row in read_results("out/evaluation")} == {
        *("start", "round 1", "round 2"),
        *("round 1 control", "round 2 control"),
    }


@pytest.mark.parametrize("name", ["original", "edited"])
def test_a_held_out_picture_is_not_trained_on(begun, stand, toy, name, monkeypatch):
    config, spec = begun
    picture = next((toy / "benchmark" / "images").iterdir())
    read = RecordSource.__getitem__

    def with_copy(source, number):
        triplet = read(source, number)
        data = {name: picture.read_bytes()} if number == EXAMPLES - 1 else {}
        return dataclasses.replace(triplet, **data)

    monkeypatch.setattr(RecordSource, "__getitem__", with_copy)
    with pytest.raises(DataError, match=f"{picture.name}: held out, and the {name} picture of 00"):
        improve(config, spec)
    assert not stand.trainings and not Path("out/evaluation").exists()


def test_what_was_compared_once_is_not_read_again(begun, stand, monkeypatch):
    config, spec = begun
    improve(config, dataclasses.replace(spec, rounds=1))
    monkeypatch.setattr(RecordSource, "__getitem__", None)
    improve(config, dataclasses.replace(spec, rounds=1))


def test_the_ceiling_is_that_of_the_whole_loop(begun, stand, server):
    """Held-out edits, and those of each round, have journals of their own."""
    config, spec = begun
    judge = JudgeSpec(f"openai:{MODEL}", base_url=server.url, concurrency=1)
    spec = dataclasses.replace(spec, judge=judge, scenes=None, min_rise=-5)

    def spent():
        total = 0.0
        for path in Path("out").rglob("judge.jsonl"):
            with Journal(path) as journal:
                total += journal.spent
        return total

    reached = []
    for most in (0.05, 0.2, 0.25, 0.3, 0.4):
        limited = dataclasses.replace(spec, judge=dataclasses.replace(judge, max_usd=most))
        with pytest.raises(BudgetError, match=rf"^--max-usd {most}: 0\.\d+ USD are spent or may"):
            improve(config, limited)
        assert most - 0.04 < spent() <= most
        reached.append(len(list(Path("out").rglob("judge.jsonl"))))
    assert reached[0] == 1 < reached[-1]
    found = improve(config, dataclasses.replace(spec, judge=dataclasses.replace(judge, max_usd=9)))
    assert found.rounds[-1].usd == pytest.approx(spent())
    answers = 3 * HELD_OUT + 2 * 4 * 3
    assert server.requests.total() <= answers  # equal pictures are asked about once
    for path in Path("out").rglob("judge.jsonl"):
        keys = [row["key"] for row in rows_so_far(path) if row.get("requests")]
        assert len(keys) == len(set(keys))  # nothing was paid for twice


def test_stats_show_the_lineage(begun, stand, capsys):
    config, spec = begun
    found = improve(config, spec)
    stats = describe(StatsSpec("out/round-2/set"))
    model = NoisyEditor(Path("out/round-1/model"), stand.plan).checkpoint[:12]
    origin = f"pictures of instruct_pix2pix, round 2, model {model}, judge toy-1"
    assert stats.lineage == {origin: 4}
    assert f"edits made by models: 4 of 4 (100.0%)\n    4: {origin}\n" in str(stats)
    assert stats.to_dict()["lineage"] == {origin: 4}
    assert len(found.lineage) == 2 and found.lineage[origin] == 4
    lines = str(found).splitlines()
    assert lines[0].split() == [
        "held-out",
        "means",
        *["following", "preserving", "quality", "overall"],
    ]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["start", "round 1", "round 2"]
    assert f"    {EXAMPLES}: {config.data.paths[0]}" in lines
    assert "own edits: 30.0% of what was read; judge: 0.00 USD" in lines
    assert lines[-1] == "best: round 2, out/round-2/model"


def test_edits_that_cannot_be_made_are_left_out(begun, stand, monkeypatch):
    edit = NoisyEditor.edit_batch

    def sometimes(self, requests, pictures, settings, **options):
        edited = edit(self, requests, pictures, settings, **options)
        bad = [request.id.startswith("round1") and request.seed == 1 for request in requests]
        edited.finite[bad] = False
        return edited

    monkeypatch.setattr(NoisyEditor, "edit_batch", sometimes)
    said = []
    with pytest.warns(UserWarning, match="round1-.*-seed1: the edit is not finite"):
        found = improve(*begun, said.append)
    assert [result.own_edits for result in found.rounds] == [2, 4]
    assert "2 edits failed and are left out: out/round-1/samples/failed.jsonl" in said


def test_pictures_are_kept_at_the_size_at_which_they_were_edited(begun, stand, monkeypatch):
    config, spec = begun
    monkeypatch.setattr("tests.improvement.conftest.SIZE", 8)
    improve(config, dataclasses.replace(spec, rounds=1, size="8x8"))
    assert {t.images()[0].size for t in own_edits(1)} == {(8, 8)}


def test_one_process_at_a_time(begun, stand, monkeypatch):
    config, spec = begun
    monkeypatch.setattr(job, "annotate", lambda *_: improve(config, spec))
    with pytest.raises(BusyError, match=r"out: another process is filling it"):
        improve(config, spec)


def test_other_settings_are_another_loop(begun, stand):
    config, spec = begun
    improve(config, dataclasses.replace(spec, rounds=1))
    other = dataclasses.replace(config, steps=3)
    with pytest.raises(ConfigError, match=r"training\.steps was 2 and is 3; take the same, or an"):
        improve(other, spec)
    with pytest.raises(ConfigError, match="edits was 2 and is 3"):
        improve(config, dataclasses.replace(spec, edits=3))
