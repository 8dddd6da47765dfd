import numpy as np
import pytest
import scipy.stats

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.statistics.compare import compare, coverage, macro_mean, summarize, win_rate
from mre_jax.evaluation.statistics.intervals import Bootstrap
from tests.evaluation.rows import make_row, series


def test_mean_and_accuracy_are_over_the_same_items():
    rows = [*series([1, 2, 3, 4]), make_row(item="9-1", status="refused")]
    found = summarize(rows)
    assert (found.mean, found.accuracy, found.interval) == (2.5, 0.5, None)
    assert str(found.coverage) == "4/5, 1 refused"


def test_a_series_without_values_has_no_mean():
    found = summarize([make_row(status="invalid"), make_row(item="0-2", status="missing")])
    assert found.mean is None and found.accuracy is None
    assert found.coverage.others == {"invalid": 1, "missing": 1}


def test_metrics_without_an_answer_have_no_accuracy():
    assert summarize([make_row(passed=None)]).accuracy is None


@pytest.mark.parametrize(
    ("field", "message"),
    [("metric", "metrics"), ("system", "systems"), ("condition", "conditions"),
     ("suite", "suites"), ("checkpoint", "checkpoints"), ("measure", "judges"),
     ("prompt_hash", "prompts")],
)  # fmt: skip
def test_no_mean_over_what_does_not_go_together(field, message):
    with pytest.raises(DataError, match=message):
        summarize([make_row(), make_row(item="0-2", **{field: "x"})])
    with pytest.raises(DataError, match="no results"):
        summarize([])


def test_groups_of_one_give_the_bootstrap_of_scipy():
    values = np.random.default_rng(0).gamma(2, 1, 60)
    ours = summarize(series(values, per_group=1), Bootstrap(20_000)).interval
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert abs(ours.low - theirs.low) < 0.02 and abs(ours.high - theirs.high) < 0.02


def test_the_interval_grows_with_what_a_group_shares():
    rng = np.random.default_rng(0)
    alone = rng.normal(size=420)
    shared = np.repeat(rng.normal(size=60), 7)
    width = []
    for values in (alone, shared):
        interval = summarize(series(values), Bootstrap(4000)).interval
        width.append((interval.high - interval.low) / 2 / 1.96 / values.std())
    # The closed form of the standard error: of 420 items, and of 60 groups.
    assert width[0] == pytest.approx(420**-0.5, rel=0.15)
    assert width[1] == pytest.approx(60**-0.5, rel=0.15)


def test_equal_seeds_give_equal_intervals():
    rows = series(np.random.default_rng(0).normal(size=140))
    one, same, other = (summarize(rows, Bootstrap(200, seed=s)).interval for s in (1, 1, 2))
    assert one == same and one != other


def test_blocks_of_draws_do_not_change_them(monkeypatch):
    rows = series(np.random.default_rng(0).normal(size=140))
    whole = summarize(rows, Bootstrap(100)).interval
    monkeypatch.setattr("mre_jax.evaluation.statistics.intervals._CHUNK", 140)
    assert summarize(rows, Bootstrap(100)).interval == whole


def test_a_paired_difference_is_narrower_than_the_systems():
    rng = np.random.default_rng(0)
    level = rng.normal(3, 1, 140)
    better = series(level + 0.2 + 0.1 * rng.normal(size=140), system="new")
    worse = series(level, system="old")
    found = compare(better, worse)
    assert found.mean == pytest.approx(0.2, abs=0.03)
    assert found.interval.low > 0 and found.p < 0.001
    assert (found.items, found.groups, found.unpaired) == (140, 20, 0)


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(5)
    p = [
        compare(
            series(rng.normal(size=140), system="new"),
            series(rng.normal(size=140), system="old"),
            Bootstrap(400),
        ).p
        for _ in range(80)
    ]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_few_groups_cannot_be_significant():
    found = compare(series([5] * 14, system="new"), series([1] * 14, system="old"))
    assert found.p == 0.5  # two coins on one side


def test_items_of_one_system_alone_are_counted_not_compared():
    new = series([1, 2, 3, 4], per_group=1, system="new")
    old = [*series([1, 1, 1], per_group=1, system="old"), make_row(item="8-1", group="8")]
    old = [*old[:2], make_row(item=old[2].item, group="2", system="old", status="refused")]
    found = compare(new, old, Bootstrap(100))
    assert (found.items, found.unpaired) == (2, 2)
    assert found.mean == pytest.approx(0.5)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="two or more"):
        compare(series([1, 2]), series([2, 2], system="b"))
    with pytest.raises(DataError, match="metrics"):
        compare(series([1, 2], per_group=1), series([2, 2], per_group=1, metric="quality"))
    with pytest.raises(DataError, match="judges"):
        compare(series([1, 2], per_group=1), series([2, 2], per_group=1, measure="gpt"))
    moved = [
        make_row(item="0-1", group="7", system="b"),
        make_row(item="1-1", group="1", system="b"),
    ]
    with pytest.raises(DataError, match="of group '0' in a and of '7' in b"):
        compare(series([1, 2], per_group=1), moved)


def test_win_rate_counts_ties_as_halves():
    found = win_rate(
        series([1, 5, 3, 3], per_group=1), series([2, 1, 3, 1], per_group=1, system="b")
    )
    assert (found.wins, found.ties, found.losses, found.rate) == (2, 1, 1, 0.625)
    assert found.interval.low < 0.625 < found.interval.high
    wide = win_rate(
        series([1, 5, 3, 3], per_group=1), series([2, 1, 3, 1], per_group=1, system="b"), margin=2
    )
    assert (wide.wins, wide.ties, wide.losses) == (1, 3, 0)


def test_a_macro_mean_weighs_types_alike():
    rows = [*series([1, 1, 1], per_group=3), make_row(item="9-9", kind="Style", value=5.0)]
    assert macro_mean(rows).mean == 3
    assert macro_mean(rows).kinds == 2


def test_settings_of_the_bootstrap_are_checked():
    for bad in ({"draws": 0}, {"confidence": 1.0}):
        with pytest.raises(ConfigError):
            Bootstrap(**bad)


def test_coverage_counts_every_status():
    rows = [make_row(), make_row(status="missing"), make_row(status="invalid")]
    assert str(coverage(rows)) == "1/3, 1 invalid, 1 missing"
