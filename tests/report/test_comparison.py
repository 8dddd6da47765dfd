import re

import pytest

from mre_jax.report.comparison import comparison
from mre_jax.report.scores import Scores, Variant
from tests.report.rows import make_row

A, B = Variant("a", ""), Variant("b", "")
CHANGES = {"0-1": 2.0, "1-1": 0.5, "2-1": 0.0, "3-1": -1.0}


@pytest.fixture
def scores():
    rows = []
    for item, change in CHANGES.items():
        fields = {"condition": "", "item": item, "group": item[0], "instruction": f"do {item}"}
        rows.append(make_row(system="a", value=2.0 + change, **fields))
        rows.append(make_row(system="b", value=2.0, **fields))
    rows.append(make_row(system="b", condition="", item="4-1", group="4"))
    return Scores("s", rows)


def test_wins_ties_and_losses_are_counted_over_shared_items(scores):
    section = comparison(scores, A, B)
    assert re.findall(r"<td>(\d)</td>", section) == ["2", "1", "1"]
    assert "62.5 %" in section


def test_gains_and_losses_begin_with_the_biggest(scores):
    section = comparison(scores, A, B)
    gains, losses = section.split("Biggest losses")
    assert re.findall(r'value="([^"]*)"', gains) == ["0-1", "1-1"]
    assert re.findall(r'value="([^"]*)"', losses) == ["3-1"]
    assert "do 3-1" in losses


def test_nothing_is_said_of_systems_that_share_nothing():
    rows = [make_row(system="a", condition=""), make_row(system="b", condition="", item="1-1")]
    assert comparison(Scores("s", rows), A, B) is None
