"""Uses of rewards side by side."""

import dataclasses

import pytest

from mre_jax.demo.plan import Plan
from mre_jax.demo.scale import FULL
from mre_jax.demo.systems import USES
from mre_jax.demo.uses import measure_uses, uses_charts, uses_table
from mre_jax.evaluation.results import append_results
from tests.demo.rows import rows

SHARES = (0.02, 0.5)


def plan_with_results(folder, *, shares=SHARES, seeds=1) -> Plan:
    """Every use scores 2, and 0.25 more at each further share and 0.5 more with each seed."""
    plan = Plan(folder, dataclasses.replace(FULL, shares=shares, seeds=seeds))
    for round_ in plan.rounds:
        value = 2 + 0.25 * shares.index(round_.share) + 0.5 * round_.seed
        path = plan.results_of(round_) / "results.jsonl"
        path.parent.mkdir(parents=True)
        for use in USES:
            append_results(path, rows(use.edits, use.condition, value))
    return plan


def test_every_use_has_a_score_at_every_share(tmp_path):
    found = measure_uses(plan_with_results(tmp_path))
    assert len(found) == len(USES) * len(SHARES) * 3
    means = {one.share: one.mean for one in found}
    assert means == pytest.approx({0.02: 2.0, 0.5: 2.25})
    assert all(one.interval.low < one.mean < one.interval.high for one in found)


def test_intervals_of_several_seeds_are_over_the_seeds(tmp_path):
    one = measure_uses(plan_with_results(tmp_path, shares=(None,), seeds=3))[0]
    assert one.mean == pytest.approx(2.5)
    # Student's t of two degrees of freedom, 4.303, times 0.5 / sqrt(3).
    assert one.interval.high - one.mean == pytest.approx(1.242, abs=1e-3)


def test_the_table_has_a_line_a_share_and_use(tmp_path):
    lines = uses_table(measure_uses(plan_with_results(tmp_path))).splitlines()
    assert len(lines) == 2 + len(SHARES) * len(USES)
    assert lines[2].startswith("2 %    no reward")
    assert "2.25 [2.2" in lines[-1]


def test_a_figure_a_perspective_with_the_shares_below(tmp_path):
    charts = uses_charts(measure_uses(plan_with_results(tmp_path)))
    assert list(charts) == ["following", "preserving", "quality"]
    for text in ("2 %", "50 %", "filtering", "weighting by score"):
        assert text in charts["quality"]


def test_of_one_share_there_are_bars(tmp_path):
    charts = uses_charts(measure_uses(plan_with_results(tmp_path, shares=(None,))))
    assert list(charts) == ["uses"]
    assert "preserving, filtering: 2.00" in charts["uses"]
