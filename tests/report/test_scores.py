import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.statistics.ranking import lower_is_better
from mre_jax.report.scores import Scores, Variant, by_suite, find_variant
from tests.report.rows import make_row, make_world


def make_scores(conditions):
    return Scores("s", [make_row(condition=condition) for condition in conditions])


def test_rewards_ascend_and_single_perspectives_follow():
    scores = make_scores(["0,0,5", "5,5,5", "", "5,0,0", "10,10,10", "0,5,0", "0,0,0"])
    assert [variant.condition for variant in scores.variants] == [
        *("", "0,0,0", "5,5,5", "10,10,10"),
        *("5,0,0", "0,5,0", "0,0,5"),
    ]


def test_systems_stay_in_their_order():
    rows = [make_row(system=name, condition="") for name in ("b", "a", "c")]
    assert [variant.system for variant in Scores("s", rows).variants] == ["b", "a", "c"]


def test_items_keep_the_order_of_the_benchmark_and_types_that_of_the_paper():
    kinds = {"10-1": "odd", "9-1": "Remove", "a": "Local", "9-2": "Local"}
    scores = Scores("s", [make_row(item=item, kind=kind) for item, kind in kinds.items()])
    assert scores.items == list(kinds)
    assert scores.kinds == ["Local", "Remove", "odd"]


@pytest.mark.parametrize("name", ["reward 5,5,5", "reward:5,5,5"])
def test_a_variant_is_found_by_its_label(name):
    assert find_variant(make_scores(["0,0,0", "5,5,5"]).variants, name) == Variant(
        "reward", "5,5,5"
    )


def test_a_system_asked_in_one_way_is_found_by_its_name():
    assert find_variant(make_scores(["5,5,5"]).variants, "reward") == Variant("reward", "5,5,5")


def test_a_name_that_fits_several_lists_them():
    with pytest.raises(ConfigError, match="more than one; there are 'reward 0,0,0', 'reward 5"):
        find_variant(make_scores(["0,0,0", "5,5,5"]).variants, "reward")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError, match="'rewrd' is not in these results; there are 'reward 5,5"):
        find_variant(make_scores(["5,5,5"]).variants, "rewrd")


def test_a_value_of_a_whole_set_is_no_item():
    rows = [make_row(), make_row(item="all", metric="fid_64", passed=None)]
    scores = Scores("s", rows)
    assert scores.items == ["0-1"]
    assert scores.metrics == ["following", "fid_64"]


def test_scores_of_different_judges_are_refused():
    with pytest.raises(DataError, match="measured by different judges"):
        Scores("s", [make_row(), make_row(item="0-2", measure="judge-2")])


def test_suites_may_have_their_own_judges():
    suites = by_suite([make_row(), make_row(suite="other", measure="judge-2")])
    assert [scores.suite for scores in suites] == ["real-edit", "other"]


def test_a_difference_needs_two_groups(tmp_path):
    scores = Scores("s", make_world(tmp_path))
    low, high = Variant("reward", "0,0,0"), Variant("reward", "5,5,5")
    assert scores.difference(high, low, "following").mean == pytest.approx(3)
    alone = make_scores(["0,0,0", "5,5,5"])
    assert alone.difference(high, low, "following") is None


def test_metrics_of_errors_and_distances_are_better_low():
    assert lower_is_better("l1")
    assert lower_is_better("fid_2048")
    assert not lower_is_better("clip_i")
