"""Uses of rewards side by side."""

import dataclasses

import pytest

from mre_jax.demo.plan import Plan
from mre_jax.demo.scale import FULL
from mre_jax.demo.systems import USES
from mre_jax.demo.uses import UseScore, measure_uses, uses_charts, uses_table
from mre_jax.evaluation.results import append_results
from mre_jax.toyworld.misjudgement import Misjudgement
from tests.demo.rows import rows

SHARES = (0.02, 0.5)


def plan_with_results(folder, *, shares=SHARES, judges=(), seeds=1) -> Plan:
    """Every use scores 2, and 0.25 more at each further share and 0.5 more with each seed."""
    plan = Plan(folder, dataclasses.replace(FULL, shares=shares, judges=judges, seeds=seeds))
    for round_ in plan.rounds:
        value = 2 + 0.25 * shares.index(round_.share) + 0.5 * round_.seed
        for by_its_judge in (False, True)[: 1 + bool(round_.judge)]:
            path = plan.results_of(round_, by_its_judge=by_its_judge) / "results.jsonl"
            path.parent.mkdir(parents=True)
            for use in USES:
                append_results(path, rows(use.edits, use.condition, value + by_its_judge))
    return plan


def measured(plan: Plan) -> list[UseScore]:
    return measure_uses(plan, plan.rounds)


def test_every_use_has_a_score_at_every_share(tmp_path):
    found = measured(plan_with_results(tmp_path))
    assert len(found) == len(USES) * len(SHARES) * 3
    means = {one.triplets: one.mean for one in found}
    assert means == pytest.approx({"2 % clean": 2.0, "50 % clean": 2.25})
    assert all(one.interval.low < one.mean < one.interval.high for one in found)


def test_intervals_of_several_seeds_are_over_the_seeds(tmp_path):
    one = measured(plan_with_results(tmp_path, shares=(None,), seeds=3))[0]
    assert one.mean == pytest.approx(2.5)
    # Student's t of two degrees of freedom, 4.303, times 0.5 / sqrt(3).
    assert one.interval.high - one.mean == pytest.approx(1.242, abs=1e-3)


def test_the_table_has_a_line_a_share_and_use(tmp_path):
    lines = uses_table(measured(plan_with_results(tmp_path))).splitlines()
    assert len(lines) == 2 + len(SHARES) * len(USES)
    assert lines[2].startswith("2 % clean   no reward")
    assert "2.25 [2.2" in lines[-1]


def test_a_figure_a_perspective_with_the_shares_below(tmp_path):
    charts = uses_charts(measured(plan_with_results(tmp_path)))
    assert list(charts) == ["following", "preserving", "quality"]
    for text in ("2 %", "50 %", "filtering", "weighting by score"):
        assert text in charts["quality"]


def test_of_one_share_there_are_bars(tmp_path):
    charts = uses_charts(measured(plan_with_results(tmp_path, shares=(None,))))
    assert list(charts) == ["uses"]
    assert "preserving, filtering: 2.00" in charts["uses"]


def test_beside_the_truth_stands_what_an_erring_judge_believes(tmp_path):
    erring = Misjudgement(noise=1.0)
    found = measured(plan_with_results(tmp_path, shares=(None,), judges=(erring,)))
    believed = {one.triplets: one.by_its_judge - one.mean for one in found}
    assert believed == pytest.approx({"as drawn": 0.0, "noise 1": 1.0})
    lines = uses_table(found, judges=True).splitlines()
    assert lines[-1].startswith("noise 1")
    assert lines[-1].split()[-3:] == ["3.00"] * 3
