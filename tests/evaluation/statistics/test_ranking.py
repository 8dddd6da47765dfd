import numpy as np
import pytest

from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.ranking import overall, rank_systems
from tests.evaluation.rows import make_row, series


def test_systems_stand_in_the_order_of_their_means_with_the_ranks_they_may_have():
    rng = np.random.default_rng(0)
    level = rng.normal(3, 0.5, 280)
    rows = [
        *series(level - 1, system="worst"),
        *series(level + 0.02 * rng.normal(size=280), system="middle"),
        *series(level + 0.02 * rng.normal(size=280), system="alike"),
        *series(level + 1, system="best", condition="5,5,5"),
        make_row(system="empty", status="missing"),
    ]
    found = rank_systems(rows, Bootstrap(500))
    assert [one.system for one in found][::3] == ["best", "worst"]
    assert [one.rank for one in found] == [1, 2, 3, 4, 5]
    assert [one.ranks for one in found] == [(1, 1), (2, 3), (2, 3), (4, 4), (5, 5)]
    assert found[0].condition == "5,5,5" and found[-1].summary.mean is None


def test_equal_means_share_the_better_rank():
    rows = [*series([3, 3, 2], system="a"), *series([3, 3, 2], system="b")]
    assert [(one.rank, one.ranks) for one in rank_systems(rows)] == [(1, (1, 1))] * 2


def test_the_overall_score_is_the_mean_of_an_edit_s_perspectives():
    rows = [
        *series([4, 1], metric="following", prompt_hash="f"),
        *series([2, 2], metric="quality", prompt_hash="q"),
        make_row(metric="clip_i", value=0.8, item="0-1"),
        make_row(metric="following", item="9-1", status="refused", group="9"),
        make_row(metric="quality", item="9-1", group="9"),
        make_row(metric="quality", item="9-2", group="9"),
    ]
    found = {row.item: (row.value, row.status) for row in overall(rows)}
    assert found == {
        "0-1": (3, "ok"), "0-2": (1.5, "ok"), "9-1": (None, "refused"), "9-2": (None, "missing")
    }  # fmt: skip
    assert rank_systems(overall(rows))[0].summary.mean == pytest.approx(2.25)
