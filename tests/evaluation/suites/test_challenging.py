import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import read_results, select
from mre_jax.evaluation.suites.challenging import Challenging
from mre_jax.evaluation.system import SystemSpec
from mre_jax.evaluation.tables.fill import build
from mre_jax.judges.spec import JudgeSpec
from mre_jax.reward.file import read_rewards
from mre_jax.toyworld.dataset import Settings, write_dataset
from tests.evaluation.commands import evaluate


def test_low_examples_are_made_anew_and_both_are_judged(toy, editor, tmp_path):
    out = tmp_path / "out"
    rewards = toy / "RewardEdit.json"
    options = ("--reward-edit", rewards, "--rule", "any", "--count", 3, "--model", editor,
               "--steps", 2, "--size", "keep", "--batch-size", 1, "--judge", "toy")  # fmt: skip
    assert (
        evaluate("challenging", toy / "triplets", "--system", "tiny", *options, "--out", out) == 0
    )
    rows = read_results(out / "results.jsonl")
    items = {row.item for row in rows}
    known = read_rewards(rewards)
    assert len(items) == 3 and all(min(known[item].scores) <= 2 for item in items)
    for column, metric in enumerate(("following", "preserving", "quality")):
        for row in select(rows, system="Original", metric=metric):
            metadata = json.loads((toy / "triplets" / row.item / "metadata.jsonl").read_text())
            assert row.value == pytest.approx(metadata["judged"][column], abs=1e-3)
    assert len(select(rows, system="tiny", condition="5,5,5")) == 9
    table = build(9, rows)
    assert table.missing == () and [row.coverage for row in table.rows] == ["3/3", "3/3"]


def test_the_choice_of_examples_depends_on_the_seed_alone(toy, tmp_path):
    def chosen(count, draw):
        suite = Challenging(
            data=toy / "triplets",
            reward_edit=toy / "RewardEdit.json",
            rule="any",
            count=count,
            draw=draw,
            system=SystemSpec("x"),
            judge=JudgeSpec("toy"),
            out=tmp_path,
        )
        return {case.id for case in suite.parts["challenging"]}

    assert chosen(2, 0) < chosen(4, 0)
    assert chosen(4, 0) != chosen(4, 1)


def test_a_set_without_low_scores_says_so(toy, tmp_path):
    options = ("--reward-edit", toy / "RewardEdit.json", "--judge", "toy", "--out", tmp_path)
    with pytest.raises(DataError, match="no example with all of its scores at most -1"):
        evaluate("challenging", toy / "triplets", "--system", "x", "--max-score", "-1", *options)
    with pytest.raises(ConfigError, match="what the targets are called"):
        evaluate("challenging", toy / "triplets", "--system", "Original", *options)


def test_of_several_edits_of_a_picture_each_is_an_example(tmp_path):
    world = tmp_path / "toy"
    write_dataset(world, Settings(2, size=16, image_format="png", benchmark=1, variants=2))
    suite = Challenging(
        data=world / "triplets",
        reward_edit=world / "RewardEdit.json",
        max_score=5,
        system=SystemSpec("x"),
        judge=JudgeSpec("toy"),
        out=tmp_path,
    )
    cases = suite.parts["challenging"]
    assert {case.id for case in cases} == set(read_rewards(world / "RewardEdit.json"))
    scenes = [json.dumps(case.extra["scene"]) for case in cases]
    assert len(cases) == 4 and len(set(scenes)) == 2
