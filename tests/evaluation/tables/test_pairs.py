import pytest

from mre_jax.errors import DataError
from mre_jax.evaluation.results import PAIRS, append_results
from mre_jax.evaluation.statistics.spec import StatisticsSpec
from mre_jax.evaluation.tables.spec import TablesSpec
from tests.evaluation.rows import make_row
from tests.evaluation.statistics.test_pairs import answers


@pytest.fixture
def compared(tmp_path):
    """A folder of comparisons: a beats b in three of four pictures, and one is a tie."""
    rows = [row for n in range(4) for row in answers(f"{n}-1", 1.0, float(n == 3))]
    append_results(tmp_path / PAIRS, rows)
    return tmp_path


def test_a_folder_of_comparisons_alone_gives_their_table(compared):
    (table,) = TablesSpec((compared,)).build()
    first, second = str(table).splitlines()[4:6]
    assert str(table).startswith("Pairs: real-edit, following\n")
    assert first.split() == ["a", "1120", "87.5%", "-", "87.5%", "4"]
    assert second.split() == ["b", "880", "12.5%", "12.5%", "-", "4"]
    assert "Compared by toy-1; pairs: 4/4." in str(table)
    assert "Both orders agree on 75.0%" in str(table)


def test_intervals_stand_beside_every_number(compared):
    (table,) = TablesSpec((compared,), intervals=True).build()
    assert str(table).splitlines()[4].count("[") == 3
    assert "Only 4 groups" in str(table)


def test_tables_of_edits_come_first_and_one_that_is_named_stands_alone(compared):
    append_results(compared / "results.jsonl", [make_row(system=s) for s in "ab"])
    numbers = [table.layout.number for table in TablesSpec((compared,)).build()]
    assert numbers[-1] == 0 and len(numbers) > 1
    assert [t.layout.number for t in TablesSpec((compared,), tables=(1,)).build()] == [1]


def test_statistics_print_comparisons_too(compared):
    lines = StatisticsSpec((compared,), draws=100).lines()
    assert lines[0].startswith("real-edit following: 4/4 pairs, both orders agree on 75.0%")
    assert lines[1].startswith("    1. [1, 1] a: Elo 1120 [")
    assert lines[1].endswith(": 3 won, 1 tied, 0 lost")


def test_two_judges_stand_side_by_side_and_never_in_one_table(compared, tmp_path):
    other = compared / "other"
    other.mkdir()
    rows = [row for n in range(4) for row in answers(f"{n}-1", 0.0, 1.0, measure="j2")]
    append_results(other / PAIRS, rows)
    with pytest.raises(DataError, match="appears twice"):
        TablesSpec((compared, other)).build()
    tables = TablesSpec((compared, other), side_by_side=True).build()
    assert [table.layout.suite for table in tables] == [
        "real-edit [measure toy-1]", "real-edit [measure j2]",
    ]  # fmt: skip
