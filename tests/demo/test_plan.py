"""The plan of a demo: what is printed of each job does the same job."""

import dataclasses

import pytest

from mre_jax import cli
from mre_jax.commands import convert, data, export, prepare, toy, train
from mre_jax.commands.demo import command_line
from mre_jax.demo.jobs import MakeToy, Train
from mre_jax.demo.page import report_spec
from mre_jax.demo.plan import Plan
from mre_jax.demo.rounds import Round
from mre_jax.demo.scale import FULL, QUICK, STANDARD, Scale
from mre_jax.demo.spec import DemoSpec
from mre_jax.demo.systems import PRETRAINED, USES
from mre_jax.errors import ConfigError, MreError
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.suites.real_edit import RealEdit
from mre_jax.report.spec import ReportSpec
from mre_jax.toyworld.misjudgement import Misjudgement
from mre_jax.training.export import ExportSpec


class Caught(MreError):
    """Ends a command where it would begin to work."""


@pytest.fixture
def called(monkeypatch):
    """What a command was about to do, as the demo has it."""
    found = []

    def catch(*args, **kwargs):
        found.append((args, kwargs))
        raise Caught("caught")

    for module, name in (
        (convert, "convert"),
        (toy, "write_dataset"),
        (prepare, "prepare"),
        (data, "cache"),
        (train, "train"),
        (export, "export"),
    ):
        monkeypatch.setattr(module, name, catch)
    monkeypatch.setattr(JudgedSuite, "evaluate", catch)
    monkeypatch.setattr(ReportSpec, "write", catch)
    return found


def jobs(plan: Plan) -> list:
    return [job for chapter in plan.chapters for step in chapter.steps for job in step.jobs]


def small(scale: Scale, **changes) -> Scale:
    return dataclasses.replace(scale, **changes)


@pytest.mark.parametrize("scale", [QUICK, STANDARD, small(FULL, seeds=2)])
def test_every_printed_command_does_what_the_demo_does(scale, tmp_path, called):
    plan = Plan(tmp_path / "a demo", scale)
    for job in [*jobs(plan), report_spec(plan)]:
        if isinstance(job, Train):
            job.save()
        called.clear()
        assert cli.main(command_line(job)) == Caught.exit_code
        ((args, _),) = called
        if isinstance(job, MakeToy):
            assert args == (job.out, job.settings)
        elif isinstance(job, Train):
            assert (args[0], args[1]) == (job.config, str(job.run))
        else:
            assert args[0] == job


def test_the_first_pictures_need_nothing_but_what_ships(tmp_path):
    first = Plan(tmp_path, STANDARD).chapters[0]
    assert not any(isinstance(job, Train | ExportSpec) for step in first.steps for job in step.jobs)


@pytest.mark.parametrize("scale", [STANDARD, small(FULL, seeds=3)])
def test_no_two_steps_share_a_mark_and_no_two_trainings_a_folder(scale, tmp_path):
    plan = Plan(tmp_path, scale)
    names = [step.name for chapter in plan.chapters for step in chapter.steps]
    assert len(set(names)) == len(names)
    runs = [job.run for job in jobs(plan) if isinstance(job, Train)]
    assert len(set(runs)) == len(runs)


def test_uses_that_share_an_editor_train_it_once_a_round(tmp_path):
    plan = Plan(tmp_path, small(FULL, ablations=False, seeds=3))
    trained = [job.config for job in jobs(plan) if isinstance(job, Train)]
    systems = {use.system for use in USES}
    by_shares = len(FULL.shares) * len(systems)
    by_judges = len(FULL.judges) * sum(system.reads_rewards for system in systems)
    assert len(trained) == 3 * (by_shares + by_judges)
    assert {config.seed for config in trained} == {0, 1, 2}


def test_what_reads_no_rewards_is_not_trained_again_for_a_judge_that_errs(tmp_path):
    plan = Plan(tmp_path, small(FULL, ablations=False, seeds=2))
    trained = {job.run for job in jobs(plan) if isinstance(job, Train)}
    assert tmp_path / "noise-1" / "runs" / "reward" in trained
    assert tmp_path / "noise-1" / "runs" / "baseline" not in trained
    exported = {str(job.out) for job in jobs(plan) if isinstance(job, ExportSpec)}
    edits = [job.system for job in jobs(plan) if isinstance(job, RealEdit)]
    used = {str(one.model.model) for one in edits if one.model and one.name != PRETRAINED}
    assert used - {""} == exported  # none where edits of another folder are judged


def test_seeds_of_one_share_have_their_triplets_in_common():
    one, two = Round(0.1, seed=1), Round(0.1, seed=2)
    assert one.data == two.data
    assert one.folder != two.folder
    assert Round(0.25).data != one.data


def test_a_judge_that_errs_gives_the_rewards_and_picks_and_the_exact_one_scores(tmp_path):
    erring = Misjudgement(noise=1.0, bias=0.5)
    plan = Plan(tmp_path, small(FULL, ablations=False, shares=(None,), judges=(erring,)))
    options = {"noise": "1", "bias": "0.5"}
    (toy,) = [j.settings for j in jobs(plan) if isinstance(j, MakeToy) and j.settings.judge_noise]
    assert (toy.judge_noise, toy.judge_bias) == (1.0, 0.5)
    best = [job for job in jobs(plan) if isinstance(job, RealEdit) and job.best_of.count > 1]
    assert [job.best_of.options for job in best] == [{}, options, options]
    scored = [job for job in jobs(plan) if isinstance(job, RealEdit) and "noise" in str(job.out)]
    by_judge = {True: options, False: {}}
    for job in scored:
        assert job.judge.options == by_judge[str(job.out).endswith("results-judge")]
    assert len(scored) == 2 * len(USES)


def test_sizes_that_exclude_each_other_are_refused():
    with pytest.raises(ConfigError, match="--quick and --full"):
        DemoSpec(quick=True, full=True)
    with pytest.raises(ConfigError, match="--seeds 3"):
        DemoSpec(seeds=3)


def test_reward_guidance_is_tried_by_scale_and_by_what_it_leads_away_from(tmp_path):
    plan = Plan(tmp_path, small(FULL, shares=(None,), judges=()))
    edits = {
        job.system.name: job.system.conditions for job in jobs(plan) if isinstance(job, RealEdit)
    }
    one = edits["reward guided 2 from 0,5,5"]
    assert (one.reward_guidance_scale, one.low_reward_scores) == (2.0, (0.0, 5.0, 5.0))
    assert one.low_reward_text.endswith("; None; None")  # what goes with 0 in following alone
    assert edits["reward dropout guided 2 from none"].low_reward_scores is None
    trained = {job.config.name: job.config for job in jobs(plan) if isinstance(job, Train)}
    assert trained["reward dropout"].loss.reward_dropout == 0.1
