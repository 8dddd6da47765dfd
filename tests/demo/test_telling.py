"""The edits that are shown first."""

import dataclasses

from mre_jax.demo.telling import SHOWN, telling_edits
from tests.demo.rows import rows


def results(best: float = 3.0) -> list:
    return [row for _, system, condition in SHOWN for row in rows(system, condition, best)]


def test_one_of_each_type_in_the_order_of_types():
    found = telling_edits(results())
    assert [one.row.kind for one in found] == ["Local", "Style"]
    assert [[edit["quality"].condition for edit in one.edits] for one in found] == [
        [condition for _, _, condition in SHOWN]
    ] * 2


def test_it_is_the_one_that_5_5_5_does_best_and_0_0_0_worst():
    def turned(row):
        """Picture 2 is edited well under 5,5,5 and badly under 0,0,0."""
        change = {"5,5,5": 1.0, "0,0,0": -1.0}.get(row.condition, 0.0)
        gain = change if row.group == "2" and row.system == "reward" else 0.0
        return dataclasses.replace(row, value=row.value + gain)

    found = telling_edits([turned(row) for row in results()])
    assert [one.row.group for one in found] == ["2", "2"]


def test_an_edit_that_somebody_has_not_made_is_not_shown():
    some = [row for row in results() if row.system != "baseline" or row.kind == "Style"]
    assert [one.row.kind for one in telling_edits(some)] == ["Style"]
